"""Certificates of the sandbox, and how its Tentacles read PFX files."""

import ipaddress
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from bot.certificates import encoder
from bot.sandbox.pki import Authority, Identity, self_signed
from bot.sandbox.windows import pfx


def test_a_certificate_is_made_as_tentacle_makes_its_own() -> None:
    """Valid from yesterday for a hundred years, RSA 2048, SHA-256, its own issuer."""
    made = self_signed()

    certificate = made.certificate
    assert made.subject == "CN=Octopus Tentacle"
    assert certificate.issuer == certificate.subject
    assert made.bits == 2048
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 36500
    assert certificate.not_valid_before_utc < datetime.now(UTC)


def test_an_outdated_certificate_is_really_signed_with_sha1() -> None:
    """Its signature holds, by the algorithm that it names."""
    made = self_signed(hash="sha1")

    certificate = made.certificate
    certificate.public_key().verify(
        certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA1()
    )
    assert certificate.signature_hash_algorithm.name == "sha1"


def test_the_authority_issues_what_tls_clients_accept(tmp_path: Path) -> None:
    """Names and addresses stand in the certificate, its files load, and the CA's file is a trust anchor."""
    authority = Authority(tmp_path)

    certificate, key = authority.issue_files("web-01", addresses=["127.1.2.3"])

    issued = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web-01"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.1.2.3")]
    issued.verify_directly_issued_by(authority.identity.certificate)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert ssl.create_default_context(cafile=authority.file).cert_store_stats()["x509_ca"] == 1
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("password", [None, "Secret1", "ünlikely & long / = pass"])
def test_a_pfx_is_read_back_with_its_password(password: str | None) -> None:
    """By the sandbox's own reader and by cryptography's, with the same result."""
    made = self_signed()
    data = made.pfx(password)

    (entry,) = pfx.read(data, password or "")

    assert entry.certificate == made.certificate
    assert entry.key is not None
    assert Identity.from_pfx(data, password).thumbprint == made.thumbprint


def test_a_wrong_password_and_garbage_are_told_apart() -> None:
    """The crypto platform has different words for them."""
    data = self_signed().pfx("Secret1")

    with pytest.raises(pfx.WrongPassword):
        pfx.read(data, "secret1")
    for garbage in (b"", b"0", b"\x30\x82\xff\xffabc", b"nothing of the kind", data[:200]):
        with pytest.raises(pfx.NotPfx):
            pfx.read(garbage, "Secret1")


def test_the_last_certificate_of_a_file_comes_first(tmp_path: Path) -> None:
    """As .NET was seen to give them; so a file of leaf and CA gives the CA, which has no key."""
    authority = Authority(tmp_path)
    leaf = authority.issue("web-01")

    entries = pfx.read(leaf.pfx("Secret1", chain=[authority.identity.certificate]), "Secret1")

    assert [(e.certificate.subject == leaf.certificate.subject, e.key is not None) for e in entries] == [
        (False, False),
        (True, True),
    ]


def test_what_the_bot_sends_to_a_host_is_what_a_tentacle_reads() -> None:
    """The file that the bot writes holds one certificate with its key, under the empty password."""
    made = self_signed()

    (entry,) = pfx.read(encoder.encode(made.key, made.certificate), "")

    assert entry.certificate == made.certificate
    assert entry.key is not None
