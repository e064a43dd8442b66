"""Whatever may be wrong with HashiCorp Vault is found by the doctor under its own name, and told with its mend."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.operating import manifest
from bot.operating.doctor import examine
from bot.operating.examination import Check, Examination
from bot.sandbox.pki import Authority
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.vault import VaultServer
from bot.sandbox.vault_pki import PkiEngine, Role
from tests.scenarios.town import DEADLINES

CONFIGURED = """
[vault]
address = "{url}"
token = "file:{token}"

[certificates.ca.issuing]
engine = "vault"
role = "tentacles"
days = 90
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, VaultServer]]:
    """Return a sandbox whose API key and whose CA are in a Vault."""
    folder = tmp_path_factory.mktemp("vault")
    vault = VaultServer()
    vault.pki = PkiEngine(issuer=Authority(folder / "issuer", name="Vault CA").identity)
    vault.start()
    token = folder / "token"
    token.touch(mode=0o600)
    extra = DEADLINES + CONFIGURED.format(url=vault.url, token=token)
    built = Sandbox(folder / "town", pace=0.02, powershell=None, real_limits=False, extra=extra)
    built.slack.workspace.scopes = frozenset(manifest.scopes())
    text, key = built.config.read_text(), built.state / "secrets" / "octopus-api-key"
    built.config.write_text(text.replace(f"file:{key}", "vault:octocert/octopus#api_key"))
    yield built, vault
    built.close()
    vault.stop()


@pytest.fixture
def vault(shared: tuple[Sandbox, VaultServer]) -> VaultServer:
    """Return the Vault with everything in order."""
    sandbox, found = shared
    found.secrets = {"octocert/octopus": {"api_key": sandbox.octopus.api_key}}
    (sandbox.state.parent / "token").write_text(found.token)
    assert found.pki
    found.pki.roles = {"tentacles": Role()}
    found.sealed, found.denied, found.lease_seconds = False, set(), 0
    return found


def look(shared: tuple[Sandbox, VaultServer]) -> Examination:
    """Have the doctor look; no host is visited."""
    return examine(shared[0].config, clock=SystemClock(), sample=0)


def check(found: Examination, name: str) -> Check:
    """Return one check."""
    return next(c for c in found.checks if c.name == name)


def no_secret(vault: VaultServer) -> None:
    """Take the secret out of the key-value engine."""
    vault.secrets.clear()


def role(**changed: object) -> Callable[[VaultServer], None]:
    """Return what makes the PKI role another one."""

    def change(vault: VaultServer) -> None:
        assert vault.pki
        vault.pki.roles["tentacles"] = Role(**changed)  # type: ignore[arg-type]

    return change


def no_role(vault: VaultServer) -> None:
    """Take the PKI role away."""
    assert vault.pki
    vault.pki.roles.clear()


def deny(path: str) -> Callable[[VaultServer], None]:
    """Return what takes a path out of the policy."""
    return lambda vault: vault.denied.add(path)


def seal(vault: VaultServer) -> None:
    """Seal it."""
    vault.sealed = True


TROUBLES: dict[str, tuple[Callable[[VaultServer], None], str, str, str]] = {
    "sealed": (seal, "vault: address", "is sealed", "vault operator unseal"),
    "no secret": (no_secret, "secret: [octopus] api_key", "has no secret octocert/octopus", "Correct the reference"),
    "policy of the secret": (
        deny("secret/data/octocert/octopus"), "secret: [octopus] api_key", "refuses to show", "needs read on",
    ),
    "policy of the role": (deny("pki/sign/tentacles"), "ca issuing", "does not let it sign", 'path "pki/sign'),
    "no role": (no_role, "ca issuing", "has no role “tentacles”", "make it"),
    "short role": (role(max_ttl=timedelta(days=30)), "ca issuing", "cuts certificates to 30 days", "Lower days"),
    "longer keys": (role(key_bits=4096), "ca issuing", "wants keys of 4096 bits", "Raise key_bits"),
}  # fmt: skip


def test_all_is_well(shared: tuple[Sandbox, VaultServer], vault: VaultServer) -> None:
    """Address, login, the secret and the CA are in order; nothing was signed."""
    found = look(shared)
    assert [c for c in found.checks if not c.ok] == []
    assert check(found, "vault: login").detail.startswith("Logged in by token")
    assert "CN=Vault CA" in check(found, "ca issuing").detail
    assert check(found, "ca issuing").advice == ""
    assert vault.signed == 0


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_found_and_its_mend_is_told(
    shared: tuple[Sandbox, VaultServer], vault: VaultServer, trouble: str
) -> None:
    """It is the only failure; no token and no value is shown."""
    provoke, name, detail, advice = TROUBLES[trouble]
    provoke(vault)
    found = look(shared)
    (failed,) = (c for c in found.checks if not c.ok and not c.skipped)
    assert failed.name == name
    assert detail in failed.detail
    assert advice in failed.advice
    text = str(found.document())
    assert vault.token not in text
    assert shared[0].octopus.api_key not in text


def test_a_token_that_is_refused_is_one_failure(shared: tuple[Sandbox, VaultServer], vault: VaultServer) -> None:
    """What lies in Vault is skipped because of it."""
    (shared[0].state.parent / "token").write_text("hvs.wrong")
    found = look(shared)
    (failed,) = (c for c in found.checks if not c.ok and not c.skipped)
    assert failed.name == "vault: login"
    assert "permission denied" in failed.detail
    assert "[vault]" in failed.advice
    assert "vault: login" in check(found, "secret: [octopus] api_key").detail
    assert vault.token not in str(found.document())


def test_a_vault_that_is_away_is_one_failure(
    tmp_path: Path, shared: tuple[Sandbox, VaultServer], vault: VaultServer
) -> None:
    """Nothing listens at its address."""
    config = tmp_path / "octocert.toml"
    config.touch(mode=0o600)
    config.write_text(shared[0].config.read_text().replace(vault.url, "http://127.0.0.1:9"))
    found = examine(config, clock=SystemClock(), sample=0)
    (failed,) = (c for c in found.checks if not c.ok and not c.skipped)
    assert failed.name == "vault: address"
    assert "cannot be asked" in failed.detail
    assert "[vault] address" in failed.advice


def test_what_would_be_better_is_a_hint(shared: tuple[Sandbox, VaultServer], vault: VaultServer) -> None:
    """A token that ends soon, a role that nobody may read, and no right to revoke: it works all the same."""
    vault.lease_seconds = 3_600
    vault.denied = {"pki/revoke", "pki/roles/tentacles"}
    found = look(shared)
    assert found.ok
    assert "Vault Agent" in check(found, "vault: login").advice
    assert 'path "pki/revoke"' in check(found, "ca issuing").advice
    assert 'path "pki/roles/tentacles"' in check(found, "ca issuing").advice
