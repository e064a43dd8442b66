"""The configuration is checked as a whole, and every problem is a sentence that names file, table and key."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bot.domain.errors import SettingsError
from bot.secrets import SecretReference
from bot.settings import Settings, load
from bot.settings_problems import table_in

EXAMPLE = Path(__file__).parents[2] / "octocert.example.toml"

MINIMAL = """
[slack]
bot_token = "env:BOT"
app_token = "env:APP"
[octopus]
url = "https://octopus.example.com"
api_key = "env:KEY"
[winrm]
username = 'CORP\\svc'
password = "env:PASSWORD"
[policy]
approvers = ["U02ADA", "U03BEN"]
"""


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that reads a configuration from its text."""

    def read(text: str) -> Settings:
        file = tmp_path / "octocert.toml"
        file.write_text(text, encoding="utf-8")
        return load(file)

    return read


@pytest.fixture
def problems(read):
    """Return a function that tells the problems of a configuration, each without the path at its beginning."""

    def problems(text: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            read(text)
        lines = str(caught.value).splitlines()
        assert all(re.match(r"/.*/octocert\.toml, ", line) for line in lines), lines
        return [line.partition("octocert.toml, ")[2] for line in lines]

    return problems


def changed(**lines: str) -> str:
    """Return the minimal configuration with the lines of some keys replaced, or left out where empty."""
    text = MINIMAL
    for key, line in lines.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _, new=line: new, text)
        assert count == 1, key
    return text


def test_the_least_that_is_needed_has_safe_defaults(read):
    """Eight lines are a working configuration; the rest has defaults."""
    settings = read(MINIMAL)
    assert settings.slack.bot_token == SecretReference("env:BOT")
    assert settings.slack.command == "/octocert"
    assert settings.slack.api_url == "https://slack.com/api/"
    assert (settings.winrm.transport, settings.winrm.scheme, settings.winrm.in_flight) == ("ntlm", "https", 64)
    assert settings.policy.approvers == ("U02ADA", "U03BEN")
    assert settings.policy.approval_minutes == 30
    assert settings.database.url == "sqlite:////var/lib/octocert/octocert.sqlite"
    assert (settings.deadlines.idle, settings.deadlines.polling_return) == (1800, 180)
    assert settings.cautions == ()


def test_the_example_can_be_read_as_it_stands():
    """Whoever copies the example has a configuration without problems."""
    assert load(EXAMPLE).octopus.url == "https://octopus.example.com"


def test_the_example_can_be_read_with_every_default_switched_on(tmp_path: Path):
    """What is commented out is right too: it loads when the comment signs go, and shows the defaults."""
    text = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", EXAMPLE.read_text(encoding="utf-8"))
    text = text.replace("url_password =", "# url_password =")  # an SQLite file, the default, has none
    text = text.replace("role =", "# role =")  # a local CA, the default, has none
    for path in set(re.findall(r'"(/etc/octocert/[\w.-]+)"', text)):
        file = tmp_path / Path(path).name
        file.touch()
        text = text.replace(f'"{path}"', f'"{file}"')
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    everything, defaults = load(tmp_path / "all.toml"), load(EXAMPLE)
    late = {"remind_minutes": None, "escalate_minutes": None, "escalate_to": (), "rules": ()}
    assert everything.policy.model_copy(update=late) == defaults.policy
    for table in ("deadlines", "log"):
        assert getattr(everything, table) == getattr(defaults, table), table
    assert everything.slack.model_copy(update={"signing_secret": None}) == defaults.slack
    assert everything.operating.model_copy(update={"listen": None}) == defaults.operating
    assert everything.winrm.port == 5986
    assert everything.access_for("dmz-7").address == "dmz-7.dmz.example.com"
    assert everything.certificates.pfx["web"].path.name == "web-01.pfx"


def test_every_setting_stands_in_the_example():
    """No setting exists that the example does not show, in its table, with a comment above."""
    text = EXAMPLE.read_text(encoding="utf-8")
    tables = dict(re.findall(r"(?ms)^(?:# )?\[{1,2}([\w.]+)\]{1,2}$(.*?)(?=^(?:# )?\[|\Z)", text))
    found: dict[str, str] = {
        re.sub(r"\.(dmz|web|corp|nights|ada)$", ".NAME", name): body for name, body in tables.items()
    }
    missing = [
        f"[{table}] {key}"
        for table, key in settings_of(Settings, "")
        if not re.search(rf"(?m)^(# )?{key} = ", found[table])
    ]
    assert missing == []


def test_every_setting_is_documented():
    """Every table and every setting has a sentence that says what it is."""
    for table, key in settings_of(Settings, ""):
        assert (model_at(table).__doc__ or "").strip().endswith("."), table
        assert (model_at(table).model_fields[key].description or "").endswith((".", ":")), (table, key)


def settings_of(model: type[BaseModel], table: str) -> list[tuple[str, str]]:
    """Return every (table, key) of the configuration, `NAME` standing for names that people choose."""
    found = []
    for key, field in model.model_fields.items():
        inner = table_in(field.annotation)
        if inner is None:
            found.append((table, key))
        else:
            is_named = str(field.annotation).startswith("dict")
            found += settings_of(inner, f"{table}.{key}".lstrip(".") + (".NAME" if is_named else ""))
    return found


def model_at(table: str) -> Any:
    """Return the model of a table, `credentials.NAME` for instance."""
    model: Any = Settings
    for part in table.removesuffix(".NAME").split("."):
        model = table_in(model.model_fields[part].annotation)
    return model


MISTAKES = [
    (MINIMAL.replace("[winrm]", 'ca-file = "x"\n[winrm]'), "[octopus] ca-file is not a setting; did you mean ca_file?"),
    (changed(approvers=""), "[policy] approvers is missing: Slack user ids of those who may approve"),
    (changed(approvers="approvers = []"), "[policy] approvers is empty, so that nothing could ever be approved."),
    (changed(approvers='approvers = ["@ada"]'), "[policy] approvers holds “@ada”, which is not a Slack user id."),
    (changed(approvers='approvers = "U02ADA"'), "[policy] approvers must be a list in brackets"),
    (
        changed(approvers='approvers = ["U02ADA"]\nrequesters = ["U02ADA"]'),
        "[policy] names one and the same person as only requester and only approver",
    ),
    (
        MINIMAL + '[[policy.rules]]\nactions = ["rotate", "unfreeze"]\napprovals = 2',
        "[[policy.rules]] entry 1 is about unfreeze, which needs no approval and happens in no environment.",
    ),
    (
        MINIMAL + '[[policy.rules]]\nactions = ["clean-up"]\nreason_required = true',
        "[[policy.rules]] entry 1 is about clean-up, to which nobody can give a --reason.",
    ),
    (MINIMAL + 'channels = ["#ops"]', "[policy] channels holds “#ops”, which is not a Slack channel id."),
    (MINIMAL + "self_approval = true", "[policy] self_approval is not a setting"),
    (MINIMAL + "approval_minutes = 0", "[policy] approval_minutes must be at least 1."),
    (changed(bot_token="bot_token = 7"), "[slack] bot_token must be a text such as env:NAME"),
    (changed(bot_token='bot_token = "vault:x"'), "[slack] bot_token is not a reference to a secret."),
    (changed(url='url = "octopus"'), "[octopus] url must be a web address such as"),
    (changed(url='url = "https://[x"'), "[octopus] url must be a web address such as"),
    (changed(url='url = "https://a:1234567/"'), "[octopus] url must be a web address such as"),
    (changed(url='url = "https://u:p@octopus/"'), "[octopus] url must not carry a user or a password."),
    (changed(url='url = "https://octopus/app#/Spaces-1"'), "[octopus] url must be the bare address"),
    (changed(url='url = "https://octopus/"\nca_file = "no.pem"'), "[octopus] ca_file names the file"),
    (MINIMAL.replace("[winrm]", '[winrm]\ntransport = "telnet"'), "[winrm] transport must be one of 'ntlm', "),
    (changed(password=""), "[winrm] needs password for the transport ntlm."),
    (MINIMAL.replace("[winrm]", "[winrm]\nport = 70000"), "[winrm] port must be at most 65535."),
    (MINIMAL.replace("[winrm]", '[winrm]\nport = "5986"'), "[winrm] port must be a whole number."),
    (MINIMAL.replace("[winrm]", "[winrm]\nport = true"), "[winrm] port must be a whole number."),
    (MINIMAL.replace("[slack]", '[slack]\ncommand = "octocert"'), "[slack] command must begin with a slash"),
    (MINIMAL + "[slck]\nx = 1", "[slck] is not a table; did you mean [slack]?"),
    ("verbose = true\n" + MINIMAL, "verbose is not a setting. What may stand there: [slack], "),
    (MINIMAL + "[deadlines]\nidel = 4", "[deadlines] idel is not a setting; did you mean idle?"),
    (MINIMAL + "[deadlines]\nidle = inf", "[deadlines] idle must be a number."),
    (MINIMAL + "[deadlines]\nidle = -1", "[deadlines] idle must be more than 0."),
    (MINIMAL + "[deadlines]\nvisit = 100", "[deadlines] visit is 100 s, less than program, service_stop, "),
    (MINIMAL + '[log]\nlevel = "info"', "[log] level must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'."),
    (MINIMAL + "[log]\nlevel = 2026-01-01", "[log] level must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'."),
    (MINIMAL + '[database]\nurl = "mysql://x"', "[database] url must begin with sqlite:// or postgresql://."),
    (MINIMAL + '[database]\nurl = "sqlite://"', "[database] url names no file"),
    (
        MINIMAL + '[database]\nurl = "sqlite:///var/lib/o.sqlite"',
        "[database] url names a path relative to wherever the bot is started. Write sqlite:////var/lib/o.sqlite ",
    ),
    (MINIMAL + '[database]\nurl = "postgresql://u:p@h/d"', "[database] url carries a password."),
    (MINIMAL + '[database]\nurl_password = "env:X"', "[database] url_password is for PostgreSQL"),
    (MINIMAL + '[[hosts]]\nmatch = "a"\n[[hosts]]\nport = 1', "[[hosts]] entry 2 match is missing: A glob"),
    (
        MINIMAL + '[[hosts]]\nmatch = "web-*"\nadress = "x"',
        "[[hosts]] entry 1 (match “web-*”) adress is not a setting; did you mean address?",
    ),
    (
        MINIMAL + '[[hosts]]\nmatch = "web-*"\ncredential = "dmz"',
        "[[hosts]] entry 1 (match “web-*”) credential: there is no table [credentials.dmz]",
    ),
    (MINIMAL + '[hosts]\nmatch = "web-*"', "[[hosts]] must be a list in brackets"),
    (
        MINIMAL + '[credentials."a b"]\ntransport = "kerberos"\nusername = "x"',
        "[credentials.a b] is not a usable name",
    ),
    (MINIMAL + '[credentials.dmz]\ntransport = "basic"', "[credentials.dmz] needs username and password for"),
    (MINIMAL + '[credentials.dmz]\ntransport = "certificate"', "[credentials.dmz] needs certificate and key for"),
    (MINIMAL + '[certificates.pfx.web]\npath = ""', "[certificates.pfx.web] path must not be empty."),
    (MINIMAL + "[certificates.pfx]\nweb = 1", "[certificates.pfx.web] must be a table."),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES, ids=range(1, len(MISTAKES) + 1))
def test_one_mistake_is_one_sentence(problems, text, sentence):
    """Each mistake gives one sentence that begins with its table and key and tells the mend."""
    (told,) = problems(text)
    assert told.startswith(sentence)
    assert told.endswith((".", "?"))


def test_all_problems_are_told_together(problems):
    """Three mistakes in three tables give three sentences in one go."""
    told = problems(changed(bot_token="", approvers="approvers = []") + "[log]\ncolour = true")
    assert [line.split(" is ")[0] for line in told] == ["[slack] bot_token", "[policy] approvers", "[log] colour"]


def test_missing_tables_are_named_with_what_they_need(problems):
    """An empty file is told what has to be there."""
    told = problems("")
    assert told[0] == "[slack] is missing: How the bot reaches Slack. It needs bot_token."
    assert [line.split(" ")[0] for line in told] == ["[slack]", "[octopus]", "[winrm]", "[policy]"]


def test_slack_needs_one_way_to_reach_the_bot(problems, read):
    """An app token for Socket Mode or a signing secret for --http; without both nothing would arrive."""
    (told,) = problems(MINIMAL.replace('app_token = "env:APP"\n', ""))
    assert told.startswith("[slack] needs app_token, for Socket Mode, or signing_secret")
    assert read(MINIMAL.replace("app_token =", "signing_secret =")).slack.app_token is None


@pytest.mark.parametrize("value", ["9464", "127.0.0.1", ":9464", "host:99999", "::1:80", "http://host:80"])
def test_an_address_to_listen_on_has_host_and_port(problems, value):
    """Anything else is told with an example."""
    (told,) = problems(f'{MINIMAL}[operating]\nlisten = "{value}"')
    assert told == "[operating] listen must be HOST:PORT, such as 127.0.0.1:9464."


SECRETS = {
    "bot-token": "xoxb-" + "1234-5678-abcdef",
    "app-token": "xapp-" + "1-A0-1-abcdef",
    "api-key": "API-" + "ABCDEFGHIJKLMNOPQRSTUV",
    "key": "-----BEGIN RSA PRIVATE " + "KEY-----",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize(
    ("place", "table"),
    [
        ("[slack] bot_token", MINIMAL.replace("env:BOT", "SECRET")),
        ("[octopus] apikey", MINIMAL.replace("[winrm]", 'apikey = "SECRET"\n[winrm]')),
        ("[slack] command", MINIMAL.replace("[octopus]", 'command = "SECRET"\n[octopus]')),
        ("[certificates.pfx.web] path", MINIMAL + '[certificates.pfx.web]\npath = "SECRET"'),
        ("[policy] channels", MINIMAL + 'channels = ["SECRET"]'),
    ],
    ids=["reference", "unknown-key", "other-key", "named-table", "list"],
)
def test_a_secret_in_the_file_is_refused_wherever_it_stands(read, secret, place, table):
    """Tokens and keys are recognised in every setting; the sentence tells how to mend it."""
    with pytest.raises(SettingsError) as caught:
        read(table.replace("SECRET", secret))
    told = next(line for line in str(caught.value).splitlines() if "the secret itself" in line)
    assert f"{place} holds the secret itself." in told
    assert "env:NAME or file:/path" in told
    if place != "[policy] channels":
        assert secret not in str(caught.value)


def test_a_password_typed_into_the_file_is_not_repeated(problems):
    """A password has no telling looks; it is refused since it is no reference, and not shown."""
    (told,) = problems(changed(password='password = "hunter2"'))
    assert told.startswith("[winrm] password is not a reference to a secret.")
    assert "hunter2" not in told


@pytest.mark.parametrize("transport", ["basic", "certificate"])
def test_basic_and_certificate_over_http_are_refused_in_every_combination(problems, tmp_path, transport):
    """No password crosses the network in clear, wherever transport and scheme come from."""
    for file in ("c.pem", "k.pem"):
        (tmp_path / file).touch()
    login = f'transport = "{transport}"\nusername = "x"\npassword = "env:X"\ncertificate = "c.pem"\nkey = "k.pem"\n'
    weak = MINIMAL.replace("username = 'CORP\\svc'\npassword = \"env:PASSWORD\"", login)
    (told,) = problems(weak.replace("[winrm]", '[winrm]\nscheme = "http"'))
    assert told.startswith(f"[winrm] scheme: the transport {transport} ")
    (told,) = problems(weak + '[[hosts]]\nmatch = "web-*"\nscheme = "http"')
    assert told.startswith(f"[[hosts]] entry 1 (match “web-*”) scheme: the transport {transport} ")
    entry = '[[hosts]]\nmatch = "web-*"\ncredential = "b"\n[credentials.b]\n' + login
    (told,) = problems(MINIMAL.replace("[winrm]", '[winrm]\nscheme = "http"') + entry)
    assert told.startswith("[[hosts]] entry 1 (match “web-*”) scheme: ")


def test_the_first_entry_that_matches_counts(read):
    """Globs are tried in their order, without regard to case; whoever matches none is reached by [winrm] alone."""
    settings = read(
        MINIMAL
        + '[[hosts]]\nmatch = "web-01"\naddress = "10.0.0.1"\n[[hosts]]\nmatch = "WEB-*"\nport = 1\n'
        + '[[hosts]]\nmatch = "*-0?"\ninstance = "Second"'
    )
    assert settings.host_for("web-01").address == "10.0.0.1"
    assert settings.host_for("Web-02").port == 1
    assert settings.host_for("db-03").instance == "Second"
    assert settings.host_for("db-13") is None


def test_access_joins_winrm_entry_and_credential(read):
    """What an entry leaves out comes from [winrm]; the port follows the scheme."""
    settings = read(
        MINIMAL.replace("[winrm]", "[winrm]\nport = 6000")
        + '[[hosts]]\nmatch = "a-*"\naddress = "{target}.dmz"\ncredential = "dmz"\ninstance = "Second"\n'
        + '[[hosts]]\nmatch = "b-*"\nscheme = "http"\n[[hosts]]\nmatch = "c-*"\nport = 7000\n'
        + '[credentials.dmz]\ntransport = "kerberos"\nusername = "svc@DMZ"'
    )
    dmz = settings.access_for("a-1")
    assert (dmz.address, dmz.scheme, dmz.port, dmz.instance) == ("a-1.dmz", "https", 6000, "Second")
    assert (dmz.login.transport, dmz.login.username, dmz.login.password) == ("kerberos", "svc@DMZ", None)
    assert (settings.access_for("b-1").scheme, settings.access_for("b-1").port) == ("http", 5985)
    assert settings.access_for("c-1").port == 7000
    plain = settings.access_for("z-1")
    assert (plain.address, plain.port, plain.login.username) == (None, 6000, "CORP\\svc")


def test_relative_paths_begin_beside_the_configuration(read, tmp_path):
    """It makes no difference where the bot is started."""
    (tmp_path / "ca.pem").touch()
    settings = read(
        changed(api_key='api_key = "file:key"\nca_file = "ca.pem"')
        + '[certificates.pfx.web]\npath = "pfx/web.pfx"\n[database]\nurl = "sqlite:///./o.sqlite"'
    )
    assert settings.octopus.ca_file == tmp_path / "ca.pem"
    assert settings.octopus.api_key == SecretReference(f"file:{tmp_path}/key")
    assert settings.certificates.pfx["web"].path == tmp_path / "pfx/web.pfx"
    assert settings.database.url == f"sqlite:///{tmp_path}/o.sqlite"


def test_reading_the_secrets_lists_all_that_are_missing(read, monkeypatch):
    """What is missing is told at once and by setting, before anything starts."""
    for name in ("BOT", "APP", "KEY", "PASSWORD", "DMZ", "PFX"):
        monkeypatch.delenv(name, raising=False)
    settings = read(
        MINIMAL
        + '[credentials.dmz]\ntransport = "basic"\nusername = "x"\npassword = "env:DMZ"\n'
        + '[certificates.pfx.web]\npath = "x"\npassword = "env:PFX"'
    )
    monkeypatch.setenv("KEY", "canary-key")
    with pytest.raises(SettingsError) as caught:
        settings.read_secrets()
    told = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "[slack] bot_token",
        "[slack] app_token",
        "[winrm] password",
        "[credentials.dmz] password",
        "[certificates.pfx.web] password",
    ]
    for name in ("BOT", "APP", "PASSWORD", "DMZ", "PFX"):
        monkeypatch.setenv(name, f"canary-{name}")
    assert {secret.reveal() for secret in settings.read_secrets()} >= {"canary-key", "canary-DMZ", "canary-PFX"}
    assert "canary" not in repr(settings)


def test_what_is_allowed_but_risky_is_told_as_a_caution(read):
    """HTTP to Octopus, WinRM over HTTP and a single approver are allowed, and worth a sentence each."""
    text = changed(url='url = "http://octopus"', approvers='approvers = ["U02ADA"]')
    told = read(text.replace("[winrm]", '[winrm]\nscheme = "http"')).cautions
    assert [caution.split(" ")[0] for caution in told] == ["[octopus]", "WinRM", "[policy]"]
    assert read(changed(url='url = "http://127.0.0.1:80"')).cautions == ()


def test_nothing_changes_after_reading(read):
    """Settings are what the file said."""
    with pytest.raises(ValueError, match="frozen"):
        read(MINIMAL).log.level = "DEBUG"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no configuration at .*octocert.toml. Write one by octocert init"),
        (b'[slack]\nbot_token = "x', r"is not valid TOML at .*"),
        (b"[slack]\nbot_token = canary\n", r"is not valid TOML at line 2, column 13\."),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
    ids=["missing", "unclosed", "no-quotes", "utf-16"],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, content, sentence):
    """Missing, broken and foreign files are told by path and place, without quoting them."""
    file = tmp_path / "octocert.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_folder_instead_of_a_file_is_one_sentence(tmp_path):
    """The operating system's reason is passed on."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_byte_order_mark_is_no_problem(tmp_path):
    """Editors on Windows begin a file with one."""
    file = tmp_path / "octocert.toml"
    file.write_text(MINIMAL, encoding="utf-8-sig")
    assert load(file).octopus.url == "https://octopus.example.com"
