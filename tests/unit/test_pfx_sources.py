"""The PFX files of the configuration: checked before a plan, read anew when they are used, never kept."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from structlog.testing import capture_logs

from bot.certificates.sources import Sources
from bot.certificates.x509 import details
from bot.domain.errors import SettingsError, UserError
from bot.domain.thumbprint import Thumbprint
from bot.sandbox import pki
from bot.secrets import SecretReference

NOW = datetime.now(UTC)


@pytest.fixture
def identity() -> pki.Identity:
    """Make a key with its certificate."""
    return pki.self_signed("web-01")


@pytest.fixture
def sources(identity: pki.Identity, tmp_path: Path) -> Sources:
    """Configure one PFX with its password in a file, both for the bot's eyes only."""
    (tmp_path / "web.pfx").write_bytes(identity.pfx("Secret1"))
    (tmp_path / "web.password").write_text("Secret1\n")
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return Sources({"web": (tmp_path / "web.pfx", SecretReference(f"file:{tmp_path / 'web.password'}"))})


def test_a_source_is_checked_and_encoded(sources: Sources, identity: pki.Identity) -> None:
    """What was checked for the plan is what travels: the same certificate, under the empty password."""
    facts = sources.check("web", NOW)
    assert facts == details(identity.der)
    travelling = sources.encoded("web", NOW, facts.thumbprint)
    assert pkcs12.load_pkcs12(travelling, b"").cert is not None
    assert sources.names == ("web",)
    assert sources.cautions("web") == ()


def test_an_exchanged_file_is_refused(sources: Sources, tmp_path: Path, identity: pki.Identity) -> None:
    """A file that was exchanged after the approval is not what was approved."""
    approved = sources.check("web", NOW).thumbprint
    other = pki.self_signed("other")
    (tmp_path / "web.pfx").write_bytes(other.pfx("Secret1"))
    with pytest.raises(UserError, match=f"now holds the certificate {other.thumbprint}, but {approved} was approved"):
        sources.encoded("web", NOW, approved)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    """A path that leads nowhere, to a folder or to a pipe ends in a sentence, at once."""
    os.mkfifo(tmp_path / "pipe")
    known = Sources({n: (tmp_path / p, None) for n, p in {"gone": "no.pfx", "folder": "", "pipe": "pipe"}.items()})
    with pytest.raises(UserError, match=r"“gone” cannot be read from .*no.pfx: No such file or directory"):
        known.check("gone", NOW)
    for name in ("folder", "pipe"):
        with pytest.raises(UserError, match=f"“{name}” is not a file"):
            known.check(name, NOW)


def test_an_unknown_name_is_answered_with_a_near_one(sources: Sources) -> None:
    """A mistyped name gets the nearest one; a strange one gets the list."""
    with pytest.raises(UserError, match=r"names no PFX “wep”\. Did you mean “web”\?"):
        sources.check("wep", NOW)
    with pytest.raises(UserError, match=r"It names: web\."):
        sources.check("payroll", NOW)
    with pytest.raises(UserError, match="It names none"):
        Sources({}).check("web", NOW)


def test_a_file_that_everybody_may_read_is_warned_of(sources: Sources, tmp_path: Path) -> None:
    """Loose permissions are a warning with the command that mends them, in the log as well."""
    (tmp_path / "web.pfx").chmod(0o644)
    with capture_logs() as logs:
        sources.check("web", NOW)
    assert [entry["event"] for entry in logs] == ["pfx_readable_by_everybody"]
    assert sources.cautions("web")[0].endswith(f"Run: chmod 600 {tmp_path / 'web.pfx'}")


def test_a_password_that_is_not_there_is_told(sources: Sources, tmp_path: Path) -> None:
    """The reference is read at each use: a password file that went away is named."""
    (tmp_path / "web.password").unlink()
    with pytest.raises(SettingsError, match=r"web\.password cannot be read"):
        sources.check("web", NOW)


def test_details_survive_an_odd_certificate() -> None:
    """What cannot be read becomes a question mark; the thumbprint is that of the bytes as they are."""
    plain = pki.self_signed("Octopus Tentacle").der
    marker = bytes.fromhex("06092a864886f70d010101")  # rsaEncryption
    odd = plain.replace(marker, bytes.fromhex("06092a864886f70d01017f"))
    seen = details(odd)
    assert (seen.key_algorithm, seen.key_bits) == ("?", 0)
    assert seen.thumbprint == Thumbprint.of(odd)
    assert seen.subject == "CN=Octopus Tentacle"


def test_details_name_what_is_signed_and_how() -> None:
    """Subject, issuer, key and hash are named as people know them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name.from_rfc4514_string("CN=web-01,O=Example")
    begins, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2126, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, begins, ends).sign(key, hashes.SHA384())
    ).public_bytes(Encoding.DER)
    seen = details(made)
    assert (seen.subject, seen.issuer) == ("CN=web-01,O=Example", "CN=web-01,O=Example")
    assert (seen.not_before, seen.not_after) == (begins, ends)
    assert (seen.key_algorithm, seen.key_bits, seen.signature_hash) == ("RSA", 2048, "sha384")


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"-----BEGIN CERTIFICATE-----", b"\x30\x03\x02\x01\x01"])
def test_garbage_has_no_details(garbage: bytes) -> None:
    """Bytes that are no certificate are a ValueError, never something half read."""
    with pytest.raises(ValueError, match=r"not an X\.509 certificate"):
        details(garbage)


def test_a_folder_has_a_file_for_each_target(tmp_path: Path, identity: pki.Identity) -> None:
    """A missing file is told with its path, and no name leads out of the folder."""
    (tmp_path / "web-01.pfx").write_bytes(identity.pfx(""))
    folder = Sources({"each": (tmp_path / "{target}.pfx", None)})
    assert folder.is_folder("each")
    thumbprint = folder.check("each", NOW, target="web-01").thumbprint
    assert folder.encoded("each", NOW, thumbprint, target="web-01")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "web-02.pfx"))):
        folder.check("each", NOW, target="web-02")
    with pytest.raises(UserError, match="cannot be the name of a PFX file"):
        folder.check("each", NOW, target="../web-01")
