"""`octocert init` writes a configuration that loads, tells of every setting, and never overwrites anything unasked."""

import re
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot import cli
from bot.operating.configuration import Answers, text
from bot.settings import Settings, load
from tests.unit.test_settings import model_at, settings_of


def init(*arguments: str, typed: str = "") -> Result:
    """Run `octocert init` and return what came of it; what goes wrong is in `exception`."""
    return CliRunner().invoke(cli.octocert, ["init", *arguments], input=typed, standalone_mode=False)


def test_without_questions_it_writes_a_file_that_can_be_read(tmp_path: Path) -> None:
    """--defaults asks nothing; the file is its owner's alone, and the next steps name it."""
    out = tmp_path / "octocert.toml"
    done = init("--defaults", "--out", str(out))
    assert done.exception is None
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    settings = load(out)
    assert settings.octopus.url == "https://octopus.example.com"
    assert f"octocert doctor --config {out}" in done.stdout
    assert f"octocert run --config {out}" in done.stdout
    for _, reference in settings.references():
        assert str(reference) in done.stdout


def test_options_are_answers(tmp_path: Path) -> None:
    """What is said by options stands in the file."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    out = tmp_path / "mine.toml"
    done = init(
        "--defaults", "--out", str(out), "--octopus-url", "https://octo.corp", "--username", r"CORP\bot", "--http",
        "--approver", "U01ADA", "--approver", "U02BEN", "--ca-file", str(ca), "--secrets", "/run/secrets",
        "--database", "postgresql://octocert@db/octocert",
    )  # fmt: skip
    assert done.exception is None
    settings = load(out)
    assert settings.octopus.url == "https://octo.corp"
    assert settings.winrm.username == r"CORP\bot"
    assert settings.winrm.ca_file == ca
    assert settings.policy.approvers == ("U01ADA", "U02BEN")
    assert settings.database.url == "postgresql://octocert@db/octocert"
    assert settings.slack.app_token is None
    assert str(settings.slack.signing_secret) == "file:/run/secrets/slack-signing-secret"
    assert "--http-url" in done.stdout


def test_it_asks_again_until_an_answer_can_be_used(tmp_path: Path) -> None:
    """Each question explains what is wrong with its answer, in the words of the configuration's own check."""
    out = tmp_path / "octocert.toml"
    typed = "octopus\nhttps://octo.corp/app#\nhttps://octo.corp\n\nCORP\\svc\n\nada\nU01ADA U02BEN\n\n"
    done = init("--out", str(out), typed=typed)
    assert done.exception is None, done.stderr
    assert "must be a web address" in done.stderr
    assert "without /app" in done.stderr
    assert "not a Slack user id" in done.stderr
    settings = load(out)
    assert settings.octopus.url == "https://octo.corp"
    assert settings.policy.approvers == ("U01ADA", "U02BEN")


def test_an_option_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Nothing is written then."""
    out = tmp_path / "octocert.toml"
    done = init("--defaults", "--out", str(out), "--octopus-url", "nowhere")
    assert str(done.exception).startswith("--octopus-url must be a web address")
    assert not out.exists()


def test_it_overwrites_nothing_unless_forced(tmp_path: Path) -> None:
    """A file that is there stays as it is; with --force it is replaced as a whole, and is private then."""
    out = tmp_path / "octocert.toml"
    out.write_text("precious")
    out.chmod(0o644)
    done = init("--defaults", "--out", str(out))
    assert "is there already and was not touched" in str(done.exception)
    assert out.read_text() == "precious"
    assert init("--defaults", "--force", "--out", str(out)).exception is None
    assert load(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["octocert.toml"]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """No traceback for a typing mistake."""
    done = init("--defaults", "--out", str(tmp_path / "nowhere" / "octocert.toml"))
    assert "cannot be written: No such file or directory" in str(done.exception)


@pytest.mark.parametrize("transport", ["ntlm", "kerberos", "certificate", "basic"])
def test_every_way_to_log_in_gives_a_complete_file(tmp_path: Path, transport: str) -> None:
    """Each has the settings that it needs."""
    for name in ("winrm.pem", "winrm.key"):
        (tmp_path / name).touch()
    (tmp_path / "x.toml").write_text(text(Answers(transport=transport)), encoding="utf-8")
    assert load(tmp_path / "x.toml").winrm.transport == transport


def test_every_setting_stands_in_it_with_its_sentence() -> None:
    """It is made from the models, so that a new setting turns up by itself; what is commented out is the default."""
    written = text(Answers())
    tables = dict(re.findall(r"(?ms)^(?:# )?\[{1,2}([\w.]+)\]{1,2}$(.*?)(?=^(?:# )?\[|\Z)", written))
    flat = " ".join(written.replace("\n# ", " ").split())
    for table, key in settings_of(Settings, ""):
        assert re.search(rf"(?m)^(# )?{key} = ", tables[table]), (table, key)
        assert " ".join((model_at(table).model_fields[key].description or "").split()) in flat, (table, key)
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = (?!…))", "", written)
    for line in re.findall(r"(?m)^[a-z_]+ = .*$", uncommented):
        tomllib.loads(line)
