"""A CA whose own key is at hand: read by reference for each certificate that it signs, and forgotten again."""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from bot.domain.authority import BACKDATED, Names
from bot.domain.errors import UserError
from bot.secrets import SecretReference

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class LocalCa:
    """Signs with the key that a reference leads to."""

    def __init__(self, name: str, certificate: Path, key: SecretReference, password: SecretReference | None) -> None:
        self._name = name
        self._certificate = certificate
        self._key = key
        self._password = password

    def certificate(self) -> x509.Certificate:
        """Return the CA's certificate; UserError if the file is none, or not that of a CA whose key is at hand."""
        own = self._read()
        self._matching_key(own)
        return own

    def sign(
        self, request: x509.CertificateSigningRequest, names: Names, now: datetime, end: datetime
    ) -> x509.Certificate:
        """Sign a certificate for a Tentacle or a Server: it serves with it, and is a client with it when it polls."""
        own = self._read()
        public = request.public_key()
        assert isinstance(public, rsa.RSAPublicKey), "the bot asks for RSA keys only"
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(own.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, own.not_valid_before_utc).replace(microsecond=0))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(_PURPOSE, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_authority(own), critical=False)
        )
        if names.alternative:
            alternative = x509.SubjectAlternativeName([x509.DNSName(n) for n in names.alternative])
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(self._matching_key(own), hashes.SHA256())

    def revoke(self, serial: str) -> None:
        """Refuse: nobody keeps a list of what it revoked."""
        raise UserError(
            f"The CA “{self._name}” has no list of revocations here: add {serial} to yours, if there is one."
        )

    def _read(self) -> x509.Certificate:
        try:
            own = x509.load_pem_x509_certificate(self._certificate.read_bytes())
        except OSError as error:
            raise self._unfit(f"certificate cannot be read: {error.strerror or type(error).__name__}.") from None
        except ValueError:
            raise self._unfit(f"certificate, {self._certificate}, is not a certificate in PEM form.") from None
        try:
            is_ca = own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            is_ca = False
        if not is_ca or not _may_sign(own):
            raise self._unfit("certificate is not that of a CA: it may not sign others (basic constraints, key usage).")
        return own

    def _matching_key(self, own: x509.Certificate) -> Key:
        password = self._password.read().reveal().encode() if self._password else None
        try:
            key = load_pem_private_key(self._key.read().reveal().encode(), password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # the library's own words may quote what it could not read
            raise self._unfit(
                "key cannot be read: it must be a private key in PEM form, with a key_password exactly if it has one."
            ) from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise self._unfit("key is neither RSA nor elliptic curve (EC).")
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
            raise self._unfit("key does not belong to its certificate.")
        return key

    def _unfit(self, what: str) -> UserError:
        return UserError(f"The CA “{self._name}” cannot sign: its {what} Correct [certificates.ca.{self._name}].")


_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_encipherment=True,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def _may_sign(own: x509.Certificate) -> bool:
    try:
        return own.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _authority(own: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return what names the CA's key in what it signs: as the CA's own certificate calls it, where it does."""
    try:
        known = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = own.public_key()
        assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey), "its private key is one of these"
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
