"""The client of Vault against a stand-in that speaks its HTTP, by the configuration as an administrator writes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.clock import FakeClock
from bot.domain.errors import SettingsError
from bot.sandbox.pki import Authority
from bot.sandbox.vault import ROLE_ID, VaultServer
from bot.settings import load
from bot.settings_vault import Vault as Table
from bot.vault import KEEP_SECONDS, LARGEST_ANSWER, Vault
from tests.unit.test_settings import MINIMAL

CANARY = "canary-in-vault-5d1e"


@pytest.fixture
def server() -> Iterator[VaultServer]:
    """Return a Vault with one secret."""
    vault = VaultServer()
    vault.secrets["octocert/slack"] = {"bot_token": CANARY, "number": 7}
    vault.start()
    yield vault
    vault.stop()


def table(server: VaultServer, folder: Path, auth: str = "token", **changes: object) -> Table:
    """Return a [vault] table; its own secrets stand in files."""
    for name, value in (("token", server.token), ("secret-id", server.secret_id), ("jwt", server.jwt)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(value)
    given = {
        "address": server.url,
        "auth": auth,
        "token": f"file:{folder}/token",
        "role_id": ROLE_ID,
        "secret_id": f"file:{folder}/secret-id",
        "role": ROLE_ID,
        "jwt": f"file:{folder}/jwt",
    }
    return Table.model_validate(given | changes)


@pytest.mark.parametrize("auth", ["token", "approle", "kubernetes"])
def test_a_field_is_read_after_each_kind_of_login(server: VaultServer, tmp_path: Path, auth: str) -> None:
    """The value comes as a Secret."""
    assert Vault(table(server, tmp_path, auth), FakeClock()).read("octocert/slack", "bot_token").reveal() == CANARY


def test_the_configuration_reads_from_vault_and_a_rotated_secret_is_used(server: VaultServer, tmp_path: Path) -> None:
    """vault:PATH#FIELD stands where env: or file: may stand; nothing is restarted."""
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(server.token)
    text = MINIMAL.replace('"env:BOT"', '"vault:octocert/slack#bot_token"')
    (tmp_path / "octocert.toml").write_text(f'{text}\n[vault]\naddress = "{server.url}"\ntoken = "file:token"\n')
    settings = load(tmp_path / "octocert.toml")
    assert "[vault] token" in dict(settings.references())
    assert "[vault] jwt" not in dict(settings.references()), "only a pod has that file, and everything is read at start"
    assert settings.slack.bot_token.read().reveal() == CANARY
    assert CANARY not in repr(settings)


def test_a_secret_is_kept_in_memory_for_seconds_only(server: VaultServer, tmp_path: Path) -> None:
    """Many reads are one request; after a quarter of a minute the new value is seen."""
    clock = FakeClock()
    vault = Vault(table(server, tmp_path), clock)
    for _ in range(20):
        vault.read("octocert/slack", "bot_token")
    assert server.reads == 1
    server.secrets["octocert/slack"] = {"bot_token": "rotated"}
    clock.advance(KEEP_SECONDS + 1)
    assert vault.read("octocert/slack", "bot_token").reveal() == "rotated"


def test_a_token_that_expired_leads_to_a_new_login(server: VaultServer, tmp_path: Path) -> None:
    """Once; a login that is refused is told."""
    clock = FakeClock()
    vault = Vault(table(server, tmp_path, "approle"), clock)
    vault.read("octocert/slack", "bot_token")
    server.revoke()
    clock.advance(KEEP_SECONDS + 1)
    assert vault.read("octocert/slack", "bot_token").reveal() == CANARY
    assert server.logins == 2


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("sealed", "sealed"), ("token", "refuses"), ("path", "has no secret"), ("field", "no text in a field")],
)
def test_what_cannot_be_read_is_a_sentence_with_its_mend(
    server: VaultServer, tmp_path: Path, trouble: str, words: str
) -> None:
    """None of them shows a token or a value."""
    settings = table(server, tmp_path)
    server.sealed = trouble == "sealed"
    if trouble == "token":
        server.token = "another"
    path, field = ("gone" if trouble == "path" else "octocert/slack"), ("number" if trouble == "field" else "bot_token")
    with pytest.raises(SettingsError, match=words) as told:
        Vault(settings, FakeClock()).read(path, field)
    assert CANARY not in str(told.value)
    assert "hvs." not in str(told.value)


def test_a_vault_that_is_away_is_told(server: VaultServer, tmp_path: Path) -> None:
    """Refused connections are one sentence."""
    settings = table(server, tmp_path)
    server.stop()
    with pytest.raises(SettingsError, match="cannot be asked"):
        Vault(settings, FakeClock()).read("octocert/slack", "bot_token")


def test_an_endless_answer_is_cut(server: VaultServer, tmp_path: Path) -> None:
    """Nobody's secret is that long: it is not read to its end."""
    server.secrets["octocert/octopus"] = {"key": "x" * (2 * LARGEST_ANSWER)}
    with pytest.raises(SettingsError, match="cannot be asked"):
        Vault(table(server, tmp_path), FakeClock()).read("octocert/octopus", "key")


def test_a_vault_that_nobody_vouches_for_gets_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the environment names its CA; only [vault] ca_file does."""
    ca = Authority(tmp_path / "ca")
    vault = VaultServer(ca.issue_files("vault", addresses=["127.0.0.1"]))
    vault.secrets["octocert/slack"] = {"bot_token": CANARY}
    vault.start()
    try:
        for name in ("REQUESTS_CA_BUNDLE", "VAULT_CACERT", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(ca.file))
        monkeypatch.setenv("VAULT_SKIP_VERIFY", "1")
        with pytest.raises(SettingsError, match="SSLError"):
            Vault(table(vault, tmp_path), FakeClock()).read("octocert/slack", "bot_token")
        assert vault.reads == 0
        good = table(vault, tmp_path, ca_file=ca.file)
        assert Vault(good, FakeClock()).read("octocert/slack", "bot_token").reveal() == CANARY
    finally:
        vault.stop()


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "http://vault.example.com:8200"},
        {"token": "vault:a#b"},
        {"token": None},
        {"auth": "approle", "role_id": None},
        {"auth": "kubernetes", "role": None},
    ],
)
def test_a_table_that_cannot_work_is_refused(server: VaultServer, tmp_path: Path, changes: dict[str, object]) -> None:
    """Plain http to elsewhere, a token inside Vault itself, and logins with something missing."""
    with pytest.raises(ValueError, match="octocert"):
        table(server, tmp_path, **changes)
