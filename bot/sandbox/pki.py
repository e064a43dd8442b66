"""Keys, certificates and PFX files of the sandbox, strong, weak and outdated ones alike.

Generating an RSA 2048 key takes 50 to 100 ms. An estate of hundreds of hosts must start within seconds, so the
certificates that exist from the start share a few keys: their serial numbers, and so their thumbprints, differ.
"""

import ipaddress
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from bot.domain.thumbprint import Thumbprint

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

YEARS = timedelta(days=365)
_SHARED_KEYS = 4
"""How many keys of one size the certificates of a process share."""
_KNOWN_FILES = 2000

# Object identifiers in DER: sha256WithRSAEncryption and sha1WithRSAEncryption differ in their last byte only.
_RSA_SHA256 = bytes.fromhex("06092a864886f70d01010b")
_RSA_SHA1 = bytes.fromhex("06092a864886f70d010105")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A private key with its certificate."""

    key: Key
    certificate: x509.Certificate

    @cached_property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @cached_property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @cached_property
    def key_pem(self) -> bytes:
        """The private key as PEM (PKCS#8, not encrypted)."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @cached_property
    def thumbprint(self) -> Thumbprint:
        """SHA-1 of the certificate's DER."""
        return Thumbprint.of(self.der)

    @property
    def subject(self) -> str:
        """The subject as Windows writes it, such as `CN=Octopus Tentacle`."""
        return self.certificate.subject.rfc4514_string()

    @property
    def bits(self) -> int:
        """Size of the key."""
        return self.key.key_size

    def pfx(self, password: str | None = None, *, chain: Sequence[x509.Certificate] = ()) -> bytes:
        """Return a PFX of key and certificate, encrypted when a password is given."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            protection = serialization.BestAvailableEncryption(password.encode())
        data = pkcs12.serialize_key_and_certificates(None, self.key, self.certificate, list(chain) or None, protection)
        if not password:
            _plain_files.put(data, self)
        return data

    @classmethod
    def from_pfx(cls, data: bytes, password: str | None = None) -> "Identity":
        """Read key and certificate from a PFX; ValueError if it cannot be read or lacks one of them."""
        if not password and (known := _plain_files.get(data)):
            return known
        key, certificate, _ = pkcs12.load_key_and_certificates(data, password.encode() if password else None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or certificate is None:
            raise ValueError("the PFX holds no private key with a certificate")
        return cls(key=key, certificate=certificate)


class _Files:
    """The last PFX files without password that were written: to read one takes 40 ms, as its key is checked."""

    def __init__(self) -> None:
        self._known: dict[bytes, Identity] = {}
        self._lock = threading.Lock()

    def get(self, data: bytes) -> Identity | None:
        """Return what this file holds, if it is known."""
        return self._known.get(data)

    def put(self, data: bytes, identity: Identity) -> None:
        """Remember a file; the oldest is forgotten."""
        with self._lock:
            self._known[data] = identity
            if len(self._known) > _KNOWN_FILES:
                del self._known[next(iter(self._known))]


_plain_files = _Files()


class _KeyPool:
    """Keys that many certificates share, made when first asked for, handed out in turn."""

    def __init__(self) -> None:
        self._keys: dict[int, list[rsa.RSAPrivateKey]] = {}
        self._turn = 0
        self._lock = threading.Lock()

    def take(self, bits: int) -> rsa.RSAPrivateKey:
        """Return one of the shared keys of this size."""
        with self._lock:
            keys = self._keys.setdefault(bits, [])
            self._turn += 1
            if len(keys) < _SHARED_KEYS:
                keys.append(rsa.generate_private_key(65537, bits))
                return keys[-1]
            return keys[self._turn % _SHARED_KEYS]


shared_keys = _KeyPool()
authority_keys = _KeyPool()
"""Apart from the others: a CA and what it issues must not share a key."""
host_keys = _KeyPool()
"""What programs on hosts use as new keys. A host makes its keys itself, on a processor that we do not have: making one
takes longer here than all else that a rotation costs."""


def self_signed(
    common_name: str = "Octopus Tentacle",
    *,
    key: Key | None = None,
    key_bits: int = 2048,
    hash: str = "sha256",  # noqa: A002  # the word of the certificate, used by keyword only
    not_before: datetime | None = None,
    lifetime: timedelta = 100 * YEARS,
) -> Identity:
    """Make a self-signed certificate, as Tentacle makes its own: valid from yesterday, for a hundred years.

    `hash` is `sha256` or `sha1`; without `key` one of the shared RSA keys of `key_bits` is used.
    """
    key = key or shared_keys.take(key_bits)
    builder = _builder(common_name, common_name, key, not_before, lifetime)
    certificate = builder.sign(key, hashes.SHA256())
    if hash == "sha1":
        certificate = _signed_with_sha1(certificate, key)
    return Identity(key=key, certificate=certificate)


class Authority:
    """The estate's internal certification authority."""

    def __init__(self, folder: Path, *, name: str = "Corp Internal CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        key = authority_keys.take(2048)
        builder = (
            _builder(name, name, key, None, 10 * YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
        )
        self.identity = Identity(key=key, certificate=builder.sign(key, hashes.SHA256()))
        self.folder = folder
        self.file = folder / "ca.pem"
        """The CA's certificate as PEM."""
        self.file.write_bytes(self.identity.pem)

    def issue(
        self,
        common_name: str,
        *,
        names: Sequence[str] = (),
        addresses: Sequence[str] = (),
        key: Key | None = None,
        lifetime: timedelta = 2 * YEARS,
    ) -> Identity:
        """Issue a certificate for a server, with its DNS names and IP addresses as alternative names."""
        key = key or shared_keys.take(2048)
        issuer = self.identity
        alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in (names or (common_name,))]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(_public(issuer.key))
        certificate = (
            _builder(common_name, _common_name(issuer.certificate), key, None, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(_public(key)), critical=False)
            .add_extension(issuer_id, critical=False)
            .sign(issuer.key, hashes.SHA256())
        )
        return Identity(key=key, certificate=certificate)

    def issue_files(self, common_name: str, *, addresses: Sequence[str] = ()) -> tuple[Path, Path]:
        """Issue a server certificate and return the PEM files of certificate and key, for `ssl.SSLContext`."""
        identity = self.issue(common_name, addresses=addresses)
        certificate, key = self.folder / f"{common_name}.pem", self.folder / f"{common_name}.key"
        certificate.write_bytes(identity.pem)
        key.touch(mode=0o600)
        key.write_bytes(identity.key_pem)
        return certificate, key


def _public(key: Key) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Return the public half of a key."""
    return key.public_key()


def _builder(
    subject: str, issuer: str, key: Key, not_before: datetime | None, lifetime: timedelta
) -> x509.CertificateBuilder:
    start = (not_before or datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(secrets.randbits(120) | 1 << 119)
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _signed_with_sha1(certificate: x509.Certificate, key: Key) -> x509.Certificate:
    """Sign a certificate anew with SHA-1, which the builder refuses since cryptography 42 or so."""
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("only RSA certificates are signed with SHA-1 here")
    body = certificate.tbs_certificate_bytes.replace(_RSA_SHA256, _RSA_SHA1, 1)
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303  # outdated certificates are what is wanted
    algorithm = _der(0x30, _RSA_SHA1 + b"\x05\x00")
    return x509.load_der_x509_certificate(_der(0x30, body + algorithm + _der(0x03, b"\x00" + signature)))


def _der(tag: int, content: bytes) -> bytes:
    """Encode one DER element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
