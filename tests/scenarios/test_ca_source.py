"""Certificates that a CA signs: its own key at hand, or Vault's; one source for a whole fleet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Authority
from bot.sandbox.vault import VaultServer
from bot.sandbox.vault_pki import PkiEngine, Role
from tests.scenarios.town import Town


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultServer]:
    """Return a Vault with a PKI engine whose role `tentacles` signs."""
    made = VaultServer()
    issuer = Authority(tmp_path / "issuer", name="Vault CA").identity
    made.pki = PkiEngine(issuer=issuer, roles={"tentacles": Role()})
    made.start()
    yield made
    made.stop()


def configured(vault: VaultServer, folder: Path) -> str:
    """Return the tables that lead a bot to this Vault."""
    token = folder / "vault-token"
    token.touch(mode=0o600)
    token.write_text(vault.token)
    return f"""
[vault]
address = "{vault.url}"
token = "file:{token}"

[certificates.ca.issuing]
engine = "vault"
role = "tentacles"
days = 90
"""


def served(town: Town, name: str) -> x509.Certificate:
    """Return the certificate with which a Tentacle runs."""
    agent = town.tentacle(name).agent
    assert agent
    assert agent.identity
    return agent.identity.certificate


def test_the_ca_signs_what_the_approver_read(town: Town) -> None:
    """The plan shows the terms; the certificate keeps them; its thumbprint is in thread and audit; no key stays."""
    web = town.tentacle("web-01")
    root = town.ask("rita", "rotate web-01 --with ca:demo")
    for words in ("CN=Corp Internal CA", "web-01", "web-01.corp.example", "RSA 2048", "known only afterwards"):
        assert words in root.content
    assert str(town.world.ca.identity.thumbprint) in root.content

    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-01")
    certificate = served(town, "web-01")
    certificate.verify_directly_issued_by(town.world.ca.identity.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web-01.corp.example"]
    assert str(web.configured) in town.says(root, "healthy")
    assert f"serial number {certificate.serial_number:X}" in town.ask_quietly("rita", "history web-01", "issued")
    assert not list(web.host.root.rglob("*.pfx"))


def test_every_target_of_a_fleet_gets_a_certificate_of_its_own(town: Town) -> None:
    """Listening and polling, target and worker: one source, four certificates of one CA."""
    names = ["web-01", "edge-01", "worker-01", "web-02"]
    town.rotate(" ".join(names) + " --with ca:demo", seconds=120)
    for name in names:
        town.assert_good(name)
        served(town, name).verify_directly_issued_by(town.world.ca.identity.certificate)
    assert len({str(town.tentacle(n).configured) for n in names}) == 4


def test_vault_signs_and_never_sees_the_key(tmp_path: Path, vault: VaultServer) -> None:
    """A request goes there, a certificate comes back; the lifetime is what the plan said."""
    with Town(tmp_path, extra=configured(vault, tmp_path)) as town:
        root = town.ask("rita", "rotate web-01 --with ca:issuing")
        assert "CN=Vault CA" in root.content
        assert vault.signed == 0, "nothing is signed before an approval"
        town.press("ada", root, "Approve")
        town.end(root)
        town.assert_good("web-01")
        certificate = served(town, "web-01")
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 90
        assert vault.signed == 1


@pytest.mark.parametrize("trouble", ["token", "role", "cut", "issuer", "sealed"])
def test_whatever_vault_refuses_or_changes_the_target_keeps_its_certificate(
    tmp_path: Path, vault: VaultServer, trouble: str
) -> None:
    """Nothing is touched on the host, and the sentence says what to do."""
    with Town(tmp_path, extra=configured(vault, tmp_path)) as town:
        web = town.tentacle("web-01")
        old, process = str(web.configured), web.service.process
        root = town.ask("rita", "rotate web-01 --with ca:issuing")
        said = {
            "token": "refuses our token",
            "role": "not allowed by this role",
            "cut": "Correct the role",
            "issuer": "does not come from CN=Vault CA",
            "sealed": "Vault is sealed",
        }[trouble]
        assert vault.pki
        role = vault.pki.roles["tentacles"]
        match trouble:
            case "token":
                vault.token = "hvs.another"
            case "role":
                role.allowed_domains = ("elsewhere.example",)
            case "cut":
                role.max_ttl /= 100
            case "issuer":
                vault.pki.signs_with = Authority(tmp_path / "other", name="Vault CA").identity
            case _:
                vault.sealed = True
        town.press("ada", root, "Approve")
        town.end(root)
        assert said in town.thread(root)
        assert (str(web.configured), web.service.process) == (old, process)


@pytest.mark.parametrize("may_revoke", [True, False])
def test_a_certificate_that_was_signed_and_not_used_is_revoked(
    tmp_path: Path, vault: VaultServer, may_revoke: bool
) -> None:
    """The import fails, so the target is put back: Vault revokes what it signed, or the thread says what to allow."""
    if not may_revoke:
        vault.denied.add("pki/revoke")
    with Town(tmp_path, extra=configured(vault, tmp_path)) as town:
        web = town.tentacle("web-01")
        old = str(web.configured)
        web.host.faults.import_fails = "The process cannot access the file"
        root = town.ask("rita", "rotate web-01 --with ca:issuing")
        town.press("ada", root, "Approve")
        town.end(root)
        assert str(web.configured) == old
        assert vault.pki
        (serial,) = vault.pki.serials
        thread = town.says(root, "was signed and never put in force")
        if may_revoke:
            assert vault.revoked == [serial]
            assert "the CA revoked it" in thread
        else:
            assert vault.revoked == []
            assert f"not revoked, serial number {serial.upper()}" in thread
            assert "allows update on pki/revoke" in thread
        assert "never put in force" in town.ask_quietly("rita", "history web-01", "never put in force")

        web.host.faults.import_fails = None
        town.press("ada", town.slack.message(root.ts) or root, "Retry")
        town.wait(lambda: len(vault.pki.serials) == 2 if vault.pki else None)
        town.wait(lambda: "is rotated and healthy" in town.slack.transcript())
        town.assert_good("web-01")
        assert len(vault.revoked) == int(may_revoke), "what is in force stays"


def test_nothing_is_signed_for_a_host_that_is_gone_or_at_work(tmp_path: Path, vault: VaultServer) -> None:
    """Both were there and idle when the plan was made: one is skipped, the other gets its one certificate later."""
    with Town(tmp_path, extra=configured(vault, tmp_path)) as town:
        gone, busy = town.tentacle("web-01"), town.tentacle("web-02")
        old = str(gone.configured)
        root = town.ask("rita", "rotate web-01 web-02 --with ca:issuing")
        gone.host.faults.unreachable = True
        assert busy.service.process
        pid = busy.service.process.pid
        busy.host.begin_child(pid, "Calamari.exe")
        town.press("ada", root, "Approve")
        town.wait(lambda: "waiting for the program Calamari.exe" in town.slack.message(root.ts).content)
        assert vault.pki
        assert not vault.pki.serials
        busy.host.end_child(pid, "Calamari.exe")
        town.end(root, 90)
        assert "web-01 was skipped" in town.says(root, "web-01 was skipped")
        town.assert_good("web-02")
        assert len(vault.pki.serials) == 1
        assert str(gone.configured) == old
        assert town.bot
        left = {name for _, name in town.bot.ledger.copies(due=False)}
        assert left == {"web-02"}, "on the other host lies nothing that would have to be swept"


def test_a_ca_that_changed_since_the_approval_is_not_asked(town: Town) -> None:
    """Approved were another issuer's terms, so no key is made; a new plan has the new ones."""
    web = town.tentacle("web-01")
    old = str(web.configured)
    root = town.ask("rita", "rotate web-01 --with ca:demo")
    fresh = Authority(town.sandbox.state / "fresh", name="Corp Internal CA")
    (town.sandbox.state / "certificates" / "ca.pem").write_bytes(fresh.identity.pem)
    (town.sandbox.state / "secrets" / "ca-key").write_bytes(fresh.identity.key_pem)
    town.press("ada", root, "Approve")
    town.end(root)
    assert "has changed since the plan was approved" in town.thread(root)
    assert str(web.configured) == old
    assert str(fresh.identity.thumbprint) in town.ask("rita", "rotate web-01 --with ca:demo").content


def test_names_that_the_ca_may_not_sign_are_refused_by_target(tmp_path: Path) -> None:
    """The pattern decides; the others may go on."""
    state = tmp_path / "town" / "secrets" / "ca-key"
    extra = f"""
[certificates.ca.narrow]
certificate = "{tmp_path}/town/world/ca/ca.pem"
key = "file:{state}"
allowed = "web-.*"
"""
    with Town(tmp_path, extra=extra) as town:
        root = town.ask("rita", "rotate web-01 worker-01 --with ca:narrow")
        assert "worker-01: its certificate would be made out to “worker-01”".casefold() in root.content.casefold()
        assert "Approve" in root.buttons
        answer = town.ask_quietly("rita", "rotate web-01 --with ca:narow", "no CA")
        assert "Did you mean “narrow”?" in answer


def test_a_roll_back_puts_the_former_certificate_back(town: Town) -> None:
    """What a CA signed is undone like everything else."""
    web = town.tentacle("web-01")
    old = str(web.configured)
    root = town.rotate("web-01 --with ca:demo")
    town.press("rita", root, "Roll back")
    back = town.wait(lambda: next((m for m in town.slack.messages() if "Approve" in m.buttons), None))
    town.press("ada", back, "Approve")
    town.end(back)
    assert Thumbprint(old) == web.configured
    town.assert_good("web-01")
