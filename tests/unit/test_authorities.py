"""CAs: what they sign, on which terms, and each thing that makes one unfit."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from bot.certificates.authorities import Authorities
from bot.certificates.local_ca import LocalCa
from bot.domain.authority import Authority
from bot.domain.errors import UserError
from bot.domain.plan import Source
from bot.domain.planner import digest_of
from bot.sandbox import pki
from bot.secrets import SecretReference
from bot.settings_certificates import Ca
from tests.making import NOW, facts, request, thumbprint

TODAY = datetime.now(UTC)


def terms(**changes: object) -> Authority:
    """Return a CA's terms."""
    plain: dict[str, object] = {
        "name": "corp",
        "engine": "local",
        "issuer": "CN=Example CA",
        "thumbprint": thumbprint(99),
        "until": NOW + timedelta(days=3650),
        "common_name": "{target}",
        "alternative_names": ("{target}.corp.example",),
        "allowed": "[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}",
        "days": 365,
        "key_bits": 2048,
    }
    return Authority(**(plain | changes))  # type: ignore[arg-type]


class Files:
    """A CA's files in a folder, and the CA that reads them."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.password = folder / "ca.pem", folder / "ca.key", folder / "password"
        self.identity = pki.Authority(folder / "made").identity
        self.write(self.identity.pem, self.identity.key_pem)

    def write(self, certificate: bytes, key: bytes, password: str = "") -> None:
        """Write them anew."""
        self.certificate.write_bytes(certificate)
        for path, data in ((self.key, key), (self.password, password.encode())):
            path.touch(mode=0o600)
            path.write_bytes(data)

    def authorities(self, *, has_password: bool = False, **changes: object) -> Authorities:
        """Return the CA `corp` as a configuration has it."""
        table = Ca.model_validate(
            {
                "certificate": self.certificate,
                "key": SecretReference(f"file:{self.key}"),
                "key_password": SecretReference(f"file:{self.password}") if has_password else None,
                "alternative_names": ("{target}.corp.example",),
            }
            | changes
        )
        assert table.certificate
        assert table.key
        signer = LocalCa("corp", table.certificate, table.key, table.key_password)
        return Authorities({"corp": table}, {"corp": signer})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return the files of a sound CA."""
    return Files(tmp_path)


def opened(data: bytes) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Return what a PFX with the empty password holds."""
    key, certificate, more = pkcs12.load_key_and_certificates(data, b"")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert certificate
    assert more == []
    return key, certificate


def test_a_certificate_is_signed_on_the_terms_and_travels_as_a_leaf_alone(files: Files) -> None:
    """Names, lifetime, key, purpose, issuer; and the empty password, as every PFX that goes to a host."""
    authorities = files.authorities(days=90, key_bits=3072)
    approved = authorities.terms("corp", TODAY)
    issued = authorities.issue(approved, "web-01", TODAY)
    key, certificate = opened(issued.pfx)
    certificate.verify_directly_issued_by(files.identity.certificate)
    assert key.key_size == issued.details.key_bits == 3072
    assert issued.details.subject == "CN=web-01"
    assert issued.details.not_after == (TODAY + timedelta(days=90)).replace(microsecond=0)
    assert issued.details.not_before == (TODAY - timedelta(hours=1)).replace(microsecond=0)
    assert int(issued.serial, 16) == certificate.serial_number
    purpose = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [p._name for p in purpose] == ["serverAuth", "clientAuth"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == (
        x509.SubjectAlternativeName([x509.DNSName("web-01.corp.example")])
    )


def test_each_certificate_has_a_key_of_its_own(files: Files) -> None:
    """Nothing is kept between two of them, and nothing shows a key by accident."""
    authorities = files.authorities()
    approved = authorities.terms("corp", TODAY)
    first, second = (authorities.issue(approved, "web-01", TODAY) for _ in range(2))
    assert opened(first.pfx)[0].private_numbers() != opened(second.pfx)[0].private_numbers()
    assert first.details.thumbprint != second.details.thumbprint
    assert "pfx" not in repr(first)


def test_a_ca_with_an_elliptic_curve_key_and_a_password_signs_rsa_leaves(files: Files) -> None:
    """The key's password is read where it is used."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "EC CA")])
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(TODAY - timedelta(days=1))
        .not_valid_after(TODAY + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame, please"))
    files.write(own.public_bytes(Encoding.PEM), pem, "sesame, please")
    authorities = files.authorities(has_password=True)
    approved = authorities.terms("corp", TODAY)
    assert approved.is_cut_short(TODAY)
    issued = authorities.issue(approved, "web-01", TODAY)
    assert issued.details.issuer == "CN=EC CA"
    assert issued.details.not_after == own.not_valid_after_utc, "nothing lasts longer than its CA"

    with pytest.raises(UserError, match="key cannot be read"):
        files.authorities().terms("corp", TODAY)
    files.password.write_text("wrong")
    with pytest.raises(UserError, match="key cannot be read"):
        authorities.terms("corp", TODAY)


def test_what_cannot_sign_is_found_before_anything_is_planned(files: Files) -> None:
    """One sentence for each cause, with the table to correct."""
    good, other = files.identity, pki.self_signed("leaf")
    ed = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"  # fmt: skip  # noqa: E501
    for certificate, key, words in (
        (b"no certificate", good.key_pem, "is not a certificate in PEM form"),
        (other.pem, other.key_pem, "is not that of a CA"),
        (good.pem, other.key_pem, "does not belong to its certificate"),
        (good.pem, b"no key", "must be a private key in PEM form"),
        (good.pem, ed, "neither RSA nor elliptic curve"),
    ):
        files.write(certificate, key)
        with pytest.raises(UserError, match=words) as told:
            files.authorities().terms("corp", TODAY)
        assert "Correct [certificates.ca.corp]" in str(told.value)
    files.write(good.pem, good.key_pem)
    files.certificate.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        LocalCa("corp", files.certificate, SecretReference(f"file:{files.key}"), None).certificate()


def test_an_expired_ca_signs_nothing(files: Files) -> None:
    """Its certificate would be worth nothing to whoever looks at its issuer."""
    late = files.identity.certificate.not_valid_after_utc + timedelta(days=1)
    with pytest.raises(UserError, match="expired on"):
        files.authorities().terms("corp", late)


def test_terms_that_changed_since_the_approval_are_refused(files: Files) -> None:
    """Whether the CA or the configuration changed: what was approved is what is done, or nothing is."""
    approved = files.authorities().terms("corp", TODAY)
    with pytest.raises(UserError, match="has changed since the plan was approved"):
        files.authorities(days=3650).issue(approved, "web-01", TODAY)
    fresh = pki.Authority(files.certificate.parent / "fresh").identity
    files.write(fresh.pem, fresh.key_pem)
    with pytest.raises(UserError, match="has changed since the plan was approved"):
        files.authorities().issue(approved, "web-01", TODAY)


def test_a_name_that_is_not_configured_brings_the_nearest_one(files: Files) -> None:
    """As with PFX files."""
    with pytest.raises(UserError, match="Did you mean “corp”"):
        files.authorities().terms("crop", TODAY)
    with pytest.raises(UserError, match="add a table"):
        Authorities({}, {}).terms("corp", TODAY)


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("web-01/../x", {}, "allowed does not match"),
        ("Web Server 1", {}, "is no DNS name"),
        ("w" * 60, {"common_name": "{target}.corp.example", "allowed": ".*"}, "at most 64 characters"),
        ("web-01", {"allowed": "app-.*"}, "allowed does not match"),
        ("évil", {"allowed": ".*"}, "is no DNS name"),
    ],
)
def test_names_that_the_terms_do_not_allow_are_refused(target: str, changes: dict[str, object], words: str) -> None:
    """The sentence names the name that would have been signed."""
    with pytest.raises(UserError, match=re.escape(words)):
        terms(**changes).names_for(target)


def test_a_name_with_spaces_is_fine_where_no_dns_name_is_made_of_it() -> None:
    """Octopus's names are for people."""
    assert terms(alternative_names=()).names_for("Web Server 1").common == "Web Server 1"


def test_the_digest_covers_the_ca_and_its_terms() -> None:
    """An approval of one issuer, lifetime, key or name is none of another."""
    plain = Source(text="ca:corp", authority=terms())
    different = [
        terms(thumbprint=thumbprint(98)),
        terms(days=366),
        terms(key_bits=4096),
        terms(allowed=".*"),
        terms(alternative_names=()),
        terms(common_name="{target}.corp.example"),
    ]
    of = [digest_of(facts(), request(source="ca:corp"), s) for s in [plain, *(Source(text="ca:corp", authority=a) for a in different)]]  # fmt: skip  # noqa: E501
    assert len(set(of)) == len(of)


def test_an_unencrypted_key_with_a_password_beside_it_is_a_mistake(files: Files) -> None:
    """Somebody thinks that the key is protected, and it is not."""
    files.write(
        files.identity.pem,
        files.identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "sesame, please",
    )
    with pytest.raises(UserError, match="exactly if it has one"):
        files.authorities(has_password=True).terms("corp", TODAY)
