"""Whatever may be wrong is provoked, found by the doctor under its own name, and told with its mend."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from bot.clock import SystemClock
from bot.operating import manifest
from bot.operating.doctor import examine
from bot.operating.examination import Check, Examination
from bot.sandbox.octopus.permissions import SPACE_PERMISSIONS, SYSTEM_PERMISSIONS
from bot.sandbox.pki import Authority
from bot.sandbox.sandbox import PFX_PASSWORD, Sandbox
from bot.sandbox.slack.model import UserGroup
from bot.sandbox.windows.host import WINDOWS_2012_R2, Host
from tests.scenarios.town import DEADLINES


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Return a sandbox in which every test breaks one thing and leaves it whole."""
    built = Sandbox(tmp_path_factory.mktemp("doctor"), pace=0.02, powershell=None, real_limits=False, extra=DEADLINES)
    built.slack.workspace.scopes = frozenset(manifest.scopes())
    yield built
    built.close()


@pytest.fixture
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    """Return the sandbox, and put its files, its Slack and the host web-01 back afterwards."""
    paths = (*shared.state.glob("secrets/*"), *shared.state.glob("certificates/*"), shared.config)
    files = {p: (p.read_bytes(), p.stat().st_mode) for p in paths}
    web, workspace = host(shared), shared.slack.workspace
    profile, faults = web.profile, replace(web.faults)
    yield shared
    for path, (content, mode) in files.items():
        path.write_bytes(content)
        path.chmod(stat.S_IMODE(mode))
    web.profile, web.faults = profile, faults
    workspace.scopes, workspace.app_scopes = frozenset(manifest.scopes()), frozenset({"connections:write"})
    workspace.groups.pop("S0EMPTY", None)
    shared.slack.hub.enabled = True
    shared.octopus.faults.down = False
    (shared.state / "octocert.sqlite").unlink(missing_ok=True)


def host(sandbox: Sandbox, name: str = "web-01") -> Host:
    """Return the host of a target."""
    return sandbox.estate.instances[name].host


def look(sandbox: Sandbox, *hosts: str, sample: int = 0) -> Examination:
    """Have the doctor look, at these hosts."""
    return examine(sandbox.config, clock=SystemClock(), hosts=hosts, sample=sample)


def failures(found: Examination) -> list[Check]:
    """Return what failed, without what was skipped because of it."""
    return [check for check in found.checks if not check.ok and not check.skipped]


def edit(old: str, new: str) -> Callable[[Sandbox], None]:
    """Return what changes the configuration."""

    def change(sandbox: Sandbox) -> None:
        text = sandbox.config.read_text()
        assert old in text
        sandbox.config.write_text(text.replace(old, new, 1))

    return change


def locked_otherwise(sandbox: Sandbox) -> None:
    """Lock the PFX file named demo with another password than the configuration has."""
    path = sandbox.state / "certificates" / "octocert-demo.pfx"
    found = pkcs12.load_pkcs12(path.read_bytes(), PFX_PASSWORD.encode())
    assert found.cert is not None
    assert isinstance(found.key, rsa.RSAPrivateKey)
    lock = BestAvailableEncryption(b"another one")
    path.write_bytes(pkcs12.serialize_key_and_certificates(None, found.key, found.cert.certificate, None, lock))


def another_ca(sandbox: Sandbox) -> None:
    """Exchange the certificate of the CA named demo, but not its key."""
    (sandbox.state / "certificates" / "ca.pem").write_bytes(Authority(sandbox.state / "another").identity.pem)


def no_ca(sandbox: Sandbox) -> None:
    """Name the certificate of a host as that of the CA."""
    (sandbox.state / "certificates" / "ca.pem").write_bytes(sandbox.world.ca.issue("web-01").pem)


def secret(name: str, value: str, mode: int = 0o600) -> Callable[[Sandbox], None]:
    """Return what changes a secret's file."""

    def change(sandbox: Sandbox) -> None:
        (sandbox.state / "secrets" / name).write_text(value)
        (sandbox.state / "secrets" / name).chmod(mode)

    return change


def fault(**changed: object) -> Callable[[Sandbox], None]:
    """Return what is wrong with the host web-01."""

    def change(sandbox: Sandbox) -> None:
        host(sandbox).faults = replace(host(sandbox).faults, **changed)  # type: ignore[arg-type]

    return change


def profile(**changed: object) -> Callable[[Sandbox], None]:
    """Return what kind of machine web-01 is."""

    def change(sandbox: Sandbox) -> None:
        host(sandbox).profile = replace(host(sandbox).profile, **changed)  # type: ignore[arg-type]

    return change


def granted(*scopes: str) -> Callable[[Sandbox], None]:
    """Return what takes scopes away from the bot."""

    def change(sandbox: Sandbox) -> None:
        sandbox.slack.workspace.scopes = frozenset(manifest.scopes()) - set(scopes)

    return change


def app_granted(sandbox: Sandbox) -> None:
    """Give the app-level token no scope."""
    sandbox.slack.workspace.app_scopes = frozenset()


def no_socket_mode(sandbox: Sandbox) -> None:
    """Switch Socket Mode off in the app's settings."""
    sandbox.slack.hub.enabled = False


def key_without(*permissions: str) -> Callable[[Sandbox], None]:
    """Return what replaces the API key by one whose role lacks something."""

    def change(sandbox: Sandbox) -> None:
        kept = set(SPACE_PERMISSIONS) | set(SYSTEM_PERMISSIONS)
        key = sandbox.octopus.add_api_key("weak", kept - set(permissions))
        secret("octopus-api-key", key)(sandbox)

    return change


def octopus_down(sandbox: Sandbox) -> None:
    """Have the Server answer 503."""
    sandbox.octopus.faults.down = True


def wrong_octopus(sandbox: Sandbox) -> None:
    """Name an address at which nothing listens."""
    edit(f'url = "{sandbox.octopus.url}"', 'url = "http://127.0.0.1:9"')(sandbox)


def database(content: bytes | None, mode: int = 0o600) -> Callable[[Sandbox], None]:
    """Return what puts something in the place of the database; None is an empty one."""

    def change(sandbox: Sandbox) -> None:
        path = sandbox.state / "octocert.sqlite"
        if content is None:
            sqlite3.connect(path).close()
        path.write_bytes(content or b"")
        path.chmod(mode)

    return change


def newer_database(sandbox: Sandbox) -> None:
    """Leave the database of a version to come."""
    connection = sqlite3.connect(sandbox.state / "octocert.sqlite")
    connection.execute("create table octocert_schema (version_num text)")
    connection.execute("insert into octocert_schema values ('9999_future')")
    connection.commit()
    connection.close()
    (sandbox.state / "octocert.sqlite").chmod(0o600)


def address_of_web_01(address: str) -> Callable[[Sandbox], None]:
    """Return what gives web-01 another address in the configuration."""
    return lambda sandbox: edit(f'address = "{host(sandbox).address}"', f'address = "{address}"')(sandbox)


def untrusted_listener(sandbox: Sandbox) -> None:
    """Name a CA that did not issue the hosts' certificates."""
    other = sandbox.state / "other-ca.pem"
    from bot.sandbox.pki import self_signed

    other.write_bytes(self_signed("CN=another").pem)
    edit(f'ca_file = "{sandbox.world.ca.file}"', f'ca_file = "{other}"')(sandbox)


def chmod_config(sandbox: Sandbox) -> None:
    """Let everybody change the configuration."""
    sandbox.config.chmod(0o666)


def empty_group(sandbox: Sandbox) -> None:
    """Name a user group without members as approvers."""
    sandbox.slack.workspace.groups["S0EMPTY"] = UserGroup(id="S0EMPTY", handle="empty", name="Empty", users=())
    edit("approvers = [", 'approvers = ["S0EMPTY", ')(sandbox)


def no_space(sandbox: Sandbox) -> None:
    """Take a key that may enter no space."""
    secret("octopus-api-key", sandbox.octopus.add_api_key("nobody", set()))(sandbox)


def open_pfx(sandbox: Sandbox) -> None:
    """Let everybody read a PFX file."""
    (sandbox.state / "certificates" / "octocert-demo.pfx").chmod(0o644)


def no_postgres(sandbox: Sandbox) -> None:
    """Name a PostgreSQL that does not answer."""
    edit(f"sqlite:///{sandbox.state}/octocert.sqlite", "postgresql://octocert@127.0.0.1:9/octocert")(sandbox)


TROUBLES: dict[str, tuple[Callable[[Sandbox], None], str, str, str]] = {
    "typing mistake": (edit("[winrm]", "[winrm]\nprot = 1"), "configuration", "did you mean port?", "octocert init"),
    "open configuration": (chmod_config, "configuration", "changed by everybody", "chmod 600"),
    "open secret": (secret("winrm-password", "x", 0o644), "secret: [winrm] password", "read by everybody", "chmod 600"),
    "empty secret": (secret("octopus-api-key", "\n"), "secret: [octopus] api_key", "is empty", "Put the secret there"),
    "wrong bot token": (secret("slack-bot-token", "xoxb-1"), "slack: bot token", "invalid_auth", "OAuth & Permissions"),
    "tokens exchanged": (secret("slack-bot-token", "xapp-1"), "slack: bot token", "app-level token", "Exchange"),
    "scope missing": (granted("chat:write"), "slack: scopes", "lacks the scopes chat:write", "octocert manifest"),
    "app token's scope": (app_granted, "slack: Socket Mode", "missing_scope", "connections:write"),
    "Socket Mode off": (no_socket_mode, "slack: Socket Mode", "link_disabled", "Switch Socket Mode on"),
    "bot token twice": (secret("slack-app-token", "xoxb-1"), "slack: Socket Mode", "bot token", "App-Level Tokens"),
    "no such group": (edit("approvers = [", 'approvers = ["S0NOBODY", '), "slack: user groups", "no user group", "S…"),
    "empty group": (empty_group, "slack: user groups", "has no members", "Add members"),
    "Octopus away": (octopus_down, "octopus: address", "503", ""),
    "wrong address": (wrong_octopus, "octopus: address", "nothing answers", "Check the address"),
    "wrong key": (secret("octopus-api-key", "API-" + "0" * 32), "octopus: key and spaces", "not accept", "new key"),
    "no space": (no_space, "octopus: key and spaces", "enters no space", "team"),
    "blind key": (key_without("MachineView", "WorkerView"), "octopus: Tentacles", "", "MachineView"),
    "weak key": (key_without("MachineEdit"), "octopus: permissions", "MachineEdit", "role of the service account"),
    "open database": (database(None, 0o644), "database", "read by others", "chmod 600"),
    "no database": (database(b"not a database, whatever its name says" * 9), "database", "SQLite", "backup"),
    "newer database": (newer_database, "database", "newer octocert", "Install that version"),
    "no PostgreSQL": (no_postgres, "database", "cannot be opened", "[database] url"),
    "open PFX": (open_pfx, "pfx demo", "everybody", "chmod 600"),
    "PFX password": (locked_otherwise, "pfx demo", "password", ""),
    "CA's key of another": (another_ca, "ca demo", "does not belong to its certificate", "[certificates.ca.demo]"),
    "CA that is none": (no_ca, "ca demo", "not that of a CA", "[certificates.ca.demo]"),
    "CA's key open": (secret("ca-key", "x", 0o644), "secret: [certificates.ca.demo] key", "by everybody", "chmod 600"),
    "CA's key is no key": (secret("ca-key", "x"), "ca demo", "cannot be read", "[certificates.ca.demo]"),
    "no such name": (address_of_web_01("no-such-host.invalid"), "host web-01: name", "does not resolve", "[[hosts]]"),
    "no listener": (address_of_web_01("127.0.0.1"), "host web-01: port", "refuses", "winrm enumerate"),
    "untrusted": (untrusted_listener, "host web-01: TLS", "not accepted", "ca_file"),
    "too many shells": (fault(quota_shells=True), "host web-01: login", "too many shells", "MaxShellsPerUser"),
    "no shell": (fault(denied=True), "host web-01: login", "not open a shell", "LocalAccountTokenFilterPolicy"),
    "NTLM off": (fault(no_ntlm=True), "host web-01: login", "offers no login", "use kerberos"),
    "refused login": (fault(wrong_password=True), "host web-01: login", "refused the login", "password reference"),
    "no administrator": (profile(elevated=False), "host web-01: rights", "no administrator", "Administrators"),
    "old PowerShell": (profile(powershell="3.0"), "host web-01: PowerShell", "3.0 is too old", "5.1"),
    "locked down": (
        profile(language_mode="ConstrainedLanguage"), "host web-01: PowerShell", "ConstrainedLanguage", "FullLanguage",
    ),
    "clock": (fault(clock_skew=400), "host web-01: clock", "ahead", "w32tm"),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_found_and_its_mend_is_told(sandbox: Sandbox, trouble: str) -> None:
    """It is the only failure; what depends on it is skipped with the reason; everything before it is in order."""
    provoke, name, detail, advice = TROUBLES[trouble]
    provoke(sandbox)
    found = look(sandbox, "web-01")
    assert not found.ok
    (failed,) = failures(found)
    assert failed.name == name
    assert detail in failed.detail
    assert advice in failed.advice
    assert failed.advice
    assert all("skipped: because" in c.detail for c in found.checks if c.skipped)
    text = str(found.document())
    for value in ("sandbox-bot", "Sandbox-only-2026!", sandbox.octopus.api_key):
        assert value not in text


def test_all_is_well(sandbox: Sandbox) -> None:
    """Every check of a whole estate is in order, and says what was seen."""
    found = look(sandbox, "web-01", "edge-01")
    assert failures(found) == []
    assert found.ok
    names = [check.name for check in found.checks]
    assert names[0] == "configuration"
    assert {"database", "slack: scopes", "slack: Socket Mode", "octopus: permissions", "pfx demo", "ca demo"} <= set(
        names
    )
    assert {
        f"host edge-01: {w}" for w in ("name", "port", "TLS", "login", "PowerShell", "rights", "Tentacle", "clock")
    } <= set(names)
    assert not (sandbox.state / "octocert.sqlite").exists(), "the doctor makes nothing"


def test_windows_server_2012_r2_is_no_failure(sandbox: Sandbox) -> None:
    """Its PowerShell 4.0 runs the scripts; the doctor says that a newer one is better."""
    host(sandbox).profile = WINDOWS_2012_R2
    found = look(sandbox, "web-01")
    assert found.ok
    seen = next(c for c in found.checks if c.name == "host web-01: PowerShell")
    assert seen.detail.startswith("4.0")
    assert "5.1 is better" in seen.advice


def test_a_refused_login_is_not_tried_on_the_next_host(sandbox: Sandbox) -> None:
    """Accounts lock: the second host is skipped, with the name of the first."""
    for name in ("web-01", "web-02"):
        host(sandbox, name).faults.wrong_password = True
    try:
        found = look(sandbox, "web-01", "web-02")
    finally:
        host(sandbox, "web-02").faults.wrong_password = False
    (failed,) = failures(found)
    assert failed.name == "host web-01: login"
    skipped = next(c for c in found.checks if c.name == "host web-02: login")
    assert "web-01 refused the same login" in skipped.detail
    assert next(c for c in found.checks if c.name == "host web-02: TLS").ok


def test_a_tentacle_that_is_another_is_shown_from_both_sides(sandbox: Sandbox) -> None:
    """The record says one thing and the host another."""
    (failed,) = failures(look(sandbox, "moved-01"))
    assert failed.name == "host moved-01: Tentacle"
    assert "Octopus records" in failed.detail
    assert "correct its record" in failed.advice


def test_an_unknown_host_is_a_sentence(sandbox: Sandbox) -> None:
    """With what it may have meant."""
    (failed,) = failures(look(sandbox, "web-1"))
    assert failed.name == "hosts"
    assert "web-01" in failed.detail + failed.advice


def test_the_sample_has_one_of_each_way_to_log_in_first(sandbox: Sandbox) -> None:
    """Listening and polling ones, and no host twice."""
    found = look(sandbox, sample=2)
    assert failures(found) == []
    visited = {c.name.partition(":")[0] for c in found.checks if c.name.startswith("host ")}
    assert len(visited) == 2
    assert any("edge" in name for name in visited)
