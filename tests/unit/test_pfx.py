"""A PFX is opened, or refused in one sentence that says why; the files are made by OpenSSL and others, not by us."""

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.certificates import bags, encoder, pfx
from bot.domain.errors import UserError
from bot.domain.thumbprint import Thumbprint
from bot.sandbox import pki
from bot.secrets import Secret

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on the PATH")

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SHA256 = hashes.SHA256()
PASSWORD = "Secret1 with ümlaut"
LEGACY = ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")

Export = Callable[..., bytes]


def certificate(
    key: CertificateIssuerPrivateKeyTypes,
    name: str = "web-01",
    *,
    issuer: tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes] | None = None,
    begins: datetime = NOW - timedelta(days=10),
    ends: datetime = NOW + timedelta(days=300),
    algorithm: hashes.HashAlgorithm | None = SHA256,
) -> x509.Certificate:
    """Return a certificate for a key, signed by itself or by an issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(issuer[1] if issuer else key, algorithm)
    )


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Make one strong key for all files: it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def other_key() -> rsa.RSAPrivateKey:
    """Make a second strong key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Have OpenSSL's program make a PFX of a key and certificates."""

    def run(
        private: CertificateIssuerPrivateKeyTypes | None,
        certificates: Sequence[x509.Certificate],
        *options: str,
        password: str = PASSWORD,
    ) -> bytes:
        pem = b"".join(c.public_bytes(Encoding.PEM) for c in certificates)
        arguments = ["openssl", "pkcs12", "-export", "-passout", "env:PFX_PASSWORD", *options]
        if private is not None:
            pem += private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        else:
            arguments.append("-nokeys")
        (tmp_path / "input.pem").write_bytes(pem)
        environment = {**os.environ, "PFX_PASSWORD": password}
        arguments += ["-in", str(tmp_path / "input.pem")]
        made = subprocess.run(arguments, capture_output=True, check=False, env=environment)
        assert made.returncode == 0, made.stderr.decode()
        return made.stdout

    return run


def open_(data: bytes, password: str | None = PASSWORD, *, now: datetime = NOW) -> pfx.Pfx:
    """Open a PFX by the name under which these tests configure it."""
    return pfx.open(data, Secret(password) if password else None, name="web", now=now)


def refusal(data: bytes, password: str | None = PASSWORD, *, now: datetime = NOW) -> str:
    """Return the sentence with which a PFX is refused; it names the PFX and tells no secret."""
    with pytest.raises(UserError) as caught:
        open_(data, password, now=now)
    text = str(caught.value)
    assert text.startswith("The PFX “web” ")
    assert text.endswith(".")
    assert PASSWORD not in text
    return text


@pytest.mark.parametrize(
    "options",
    [(), LEGACY, ("-legacy",), ("-name", "Ünser Zertifikat"), ("-nomac",), ("-keypbe", "AES-128-CBC", "-maciter")],
    ids=["AES-256", "3DES", "RC2-40", "friendly name", "no MAC", "AES-128"],
)
def test_each_kind_of_encryption_is_read(
    export: Export, key: rsa.RSAPrivateKey, options: tuple[str, ...], tmp_path: Path
) -> None:
    """What OpenSSL writes today, wrote formerly, and what Windows wrote since 2000, is opened alike."""
    leaf = certificate(key)
    opened = open_(export(key, [leaf], *options))
    assert opened.certificate == leaf
    assert opened.key.private_numbers() == key.private_numbers()
    assert opened.details.thumbprint == Thumbprint.of(leaf.public_bytes(Encoding.DER))
    assert (opened.details.subject, opened.details.key_algorithm, opened.details.key_bits) == ("CN=web-01", "RSA", 2048)


@pytest.mark.parametrize("options", [(), ("-nomac", "-keypbe", "NONE", "-certpbe", "NONE")], ids=["empty", "none"])
def test_a_file_without_a_password_needs_none(export: Export, key: rsa.RSAPrivateKey, options: tuple[str, ...]) -> None:
    """The empty password and no protection at all are both opened without a reference to a password."""
    assert open_(export(key, [certificate(key)], *options, password=""), None).details.subject == "CN=web-01"


def test_the_leaf_is_found_among_its_chain(
    export: Export, key: rsa.RSAPrivateKey, other_key: rsa.RSAPrivateKey
) -> None:
    """A chain may be in the file, in any order: the leaf is the certificate of the key."""
    authority = certificate(other_key, "Example CA")
    leaf = certificate(key, issuer=(authority, other_key))
    for order in ([leaf, authority], [authority, leaf]):
        assert open_(export(key, order)).certificate == leaf


def test_what_the_library_writes_is_read(key: rsa.RSAPrivateKey) -> None:
    """Files of Python's own library are opened, with a name and with a chain."""
    leaf, another = certificate(key), pki.self_signed("Some CA").certificate
    data = pkcs12.serialize_key_and_certificates(
        b"name", key, leaf, [another], BestAvailableEncryption(PASSWORD.encode())
    )
    assert open_(data).certificate == leaf


@pytest.mark.skipif(not shutil.which("pwsh"), reason="pwsh is not on the PATH")
def test_what_dotnet_exports_is_read(tmp_path: Path) -> None:
    """A PFX that .NET exported, as an administrator's PowerShell would, is opened."""
    script = (
        "$k=[Security.Cryptography.RSA]::Create(2048);"
        "$r=[Security.Cryptography.X509Certificates.CertificateRequest]::new('CN=dotnet',$k,"
        "[Security.Cryptography.HashAlgorithmName]::SHA256,[Security.Cryptography.RSASignaturePadding]::Pkcs1);"
        "$c=$r.CreateSelfSigned([DateTimeOffset]::new(2026,1,1,0,0,0,0),[DateTimeOffset]::new(2027,1,1,0,0,0,0));"
        "[Convert]::ToBase64String($c.Export('Pfx','Secret1'))"
    )
    (tmp_path / "make.ps1").write_text(script)
    made = subprocess.run(
        ["pwsh", "-NoProfile", "-File", str(tmp_path / "make.ps1")], capture_output=True, text=True, check=True
    )
    assert open_(base64.b64decode(made.stdout), "Secret1").details.subject == "CN=dotnet"


def test_five_megabytes_of_zeros_are_too_large() -> None:
    """A file that cannot be a PFX by its size alone is refused before it is looked at."""
    assert "larger than 1024 KiB" in refusal(bytes(5 * 1024 * 1024))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 5000,
        b"PK\x03\x04 a zip archive",
        bytes(range(256)) * 9,
        b"\x30\x80" * 2000,
        b"\x30\x84\xff\xff\xff\xff",
    ],
    ids=["empty", "zeros", "zip", "noise", "nested", "huge length"],
)
def test_garbage_is_no_pfx(data: bytes) -> None:
    """Whatever is no PKCS#12 is called so, whether a password is configured or not."""
    assert "is not a PFX (PKCS#12) file" in refusal(data)
    assert "is not a PFX (PKCS#12) file" in refusal(data, None)


def test_pem_text_is_recognised(key: rsa.RSAPrivateKey) -> None:
    """The usual mix-up gets its own sentence."""
    assert "is PEM text, not a PFX" in refusal(certificate(key).public_bytes(Encoding.PEM))


def test_a_damaged_file_is_refused(export: Export, key: rsa.RSAPrivateKey) -> None:
    """A PFX cut short, or with a byte changed, is refused whatever the library makes of it."""
    whole = export(key, [certificate(key)])
    refusal(whole[: len(whole) // 2])
    refusal(whole[:400] + bytes([whole[400] ^ 1]) + whole[401:])


def test_a_wrong_password_is_told(export: Export, key: rsa.RSAPrivateKey) -> None:
    """A wrong password, a missing one and one too many are three sentences."""
    protected = export(key, [certificate(key)])
    assert "cannot be opened with the password" in refusal(protected, "wrong")
    assert "is protected by a password" in refusal(protected, None)
    assert "has no password, but the configuration names one" in refusal(export(key, [certificate(key)], password=""))


def test_missing_parts_are_told(export: Export, key: rsa.RSAPrivateKey) -> None:
    """No key and no certificate are told apart."""
    assert "holds no private key" in refusal(export(None, [certificate(key)]))
    assert "holds no certificate" in refusal(export(key, [certificate(key)], "-nocerts"))


def test_keys_that_are_not_rsa_are_refused(export: Export) -> None:
    """Tentacle says of an EC key that there is none; we say what is the matter."""
    curve = ec.generate_private_key(ec.SECP256R1())
    assert "EC) key, but Tentacle accepts RSA keys only" in refusal(export(curve, [certificate(curve)]))
    edwards = ed25519.Ed25519PrivateKey.generate()
    assert "Tentacle accepts RSA keys only" in refusal(export(edwards, [certificate(edwards, algorithm=None)]))


def test_a_short_key_is_refused(export: Export) -> None:
    """Tentacle imports RSA 1024 with exit code 0, and no handshake succeeds afterwards."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert "RSA key of 1024 bits" in refusal(export(short, [certificate(short)]))


@pytest.mark.parametrize(("version", "spelt"), [("sha1", "SHA-1"), ("md5", "MD5")])
def test_an_outdated_signature_is_refused(
    export: Export, key: rsa.RSAPrivateKey, tmp_path: Path, version: str, spelt: str
) -> None:
    """Octopus refuses SHA-1 since 2025.3, so nothing is planned with it."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    command = ["openssl", "req", "-x509", "-new", "-key", "key.pem", f"-{version}", "-days", "9000", "-subj", "/CN=old"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    old = x509.load_pem_x509_certificate(made.stdout)
    assert f"signed with {spelt}, which Octopus refuses" in refusal(export(key, [old]), now=datetime.now(UTC))


def test_a_signature_without_a_known_hash_is_refused(export: Export, key: rsa.RSAPrivateKey) -> None:
    """An RSA certificate that an Ed25519 authority signed is nothing that old Windows could check."""
    authority_key = ed25519.Ed25519PrivateKey.generate()
    authority = certificate(authority_key, "Modern CA", algorithm=None)
    leaf = certificate(key, issuer=(authority, authority_key), algorithm=None)
    assert "without SHA-256 or better (its hash is unknown)" in refusal(export(key, [leaf]))
    assert "(SHA-224)" in refusal(export(key, [certificate(key, algorithm=hashes.SHA224())]))


def test_the_validity_is_checked_at_the_given_time(export: Export, key: rsa.RSAPrivateKey) -> None:
    """Tentacle serves expired certificates without a word; we refuse them, to the second."""
    leaf = certificate(key, begins=NOW, ends=NOW + timedelta(days=30))
    data = export(key, [leaf])
    assert open_(data, now=NOW).details.days_left(NOW) == 30
    assert open_(data, now=NOW + timedelta(days=30)).details.days_left(NOW) == 30
    assert "expired on 2026-07-01. Renew it" in refusal(data, now=NOW + timedelta(days=30, seconds=1))
    assert "not valid before 2026-06-01 00:00 UTC" in refusal(data, now=NOW - timedelta(seconds=1))


def test_a_key_of_another_certificate_is_refused(key: rsa.RSAPrivateKey, other_key: rsa.RSAPrivateKey) -> None:
    """A key that does not match its certificate would only show at the first handshake."""
    assert "does not belong to its certificate" in refusal(encoder.encode(key, certificate(other_key)), None)


def test_two_certificates_for_one_key_are_refused(export: Export, key: rsa.RSAPrivateKey) -> None:
    """A renewed certificate beside the old one leaves open which is meant."""
    twins = [certificate(key), certificate(key)]
    assert "holds 2 certificates for the same key" in refusal(export(key, twins))
    assert open_(export(key, [twins[0], twins[0]])).certificate == twins[0]


def test_two_keys_are_refused(key: rsa.RSAPrivateKey, other_key: rsa.RSAPrivateKey) -> None:
    """Of two keys Tentacle silently takes the last; we take none. The library shows one of them only."""
    tlv, pairs = encoder._tlv, [(key, certificate(key)), (other_key, certificate(other_key))]
    safes = b""
    for one, leaf in pairs:
        der = leaf.public_bytes(Encoding.DER)
        pairing = encoder._pairing(der)
        safes += encoder._encrypted_safe(encoder._safe_contents(encoder._certificate_bag(der, pairing)))
        safes += encoder._plain_safe(encoder._safe_contents(encoder._key_bag(one, pairing)))
    authenticated = tlv(0x30, safes)
    content = tlv(0x30, encoder._DATA, tlv(0xA0, tlv(0x04, authenticated)))
    both = tlv(0x30, b"\x02\x01\x03", content, encoder._mac_data(authenticated))
    assert pkcs12.load_pkcs12(both, b"").key is not None
    assert "holds 2 private keys" in refusal(both, None)


def test_indefinite_lengths_are_counted(export: Export, key: rsa.RSAPrivateKey) -> None:
    """Browsers and Java write BER with indefinite lengths; keys are counted there as well."""
    plain = export(key, [certificate(key)])
    inner = bags._outer(plain).content
    assert bags.looks_like_pfx(b"\x30\x80" + inner + b"\0\0")
    assert bags.count_keys(b"\x30\x80" + inner + b"\0\0") == bags.count_keys(plain) == 1


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_upset_the_counter(data: bytes) -> None:
    """Whatever the bytes are, counting ends with a number."""
    assert bags.count_keys(data) == 0
    assert bags.count_keys(b"\x30\x80\x02\x01\x03\x30\x80" + data) in {0, 1}


def test_an_opened_pfx_does_not_show_its_key(export: Export, key: rsa.RSAPrivateKey) -> None:
    """Neither repr nor str of what was opened holds anything of the key."""
    shown = repr(open_(export(key, [certificate(key)])))
    assert "RSAPrivateKey" not in shown
    assert str(key.private_numbers().p) not in shown
