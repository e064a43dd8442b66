"""What a certificate says of itself, read as tolerantly as an estate of old machines asks for."""

from collections.abc import Callable
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from bot.domain.certificate import CertificateDetails
from bot.domain.thumbprint import Thumbprint

UNKNOWN = "?"
"""Stands where a certificate names something that nobody here can read."""


@lru_cache(maxsize=10_000)  # a fleet's certificates are seen from several places, again and again
def details(der: bytes) -> CertificateDetails:
    """Return the public facts of one certificate given as DER; ValueError if the bytes are no X.509 certificate.

    Names, keys and algorithms that the library cannot read become `?` and 0 bits: an odd certificate is still one
    whose thumbprint counts. A certificate without a readable validity is garbage.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise ValueError(f"these {len(der)} bytes are not an X.509 certificate") from error
    algorithm, bits = _key(certificate)
    return CertificateDetails(
        thumbprint=Thumbprint.of(der),
        subject=_text(certificate, lambda c: c.subject.rfc4514_string()),
        issuer=_text(certificate, lambda c: c.issuer.rfc4514_string()),
        not_before=not_before,
        not_after=not_after,
        key_algorithm=algorithm,
        key_bits=bits,
        signature_hash=_text(certificate, hash_name),
    )


def hash_name(certificate: x509.Certificate) -> str:
    """Return the hash of the signature algorithm (`sha256`), `?` where it has none of its own (Ed25519)."""
    algorithm = certificate.signature_hash_algorithm
    return algorithm.name if algorithm else UNKNOWN


def _text(certificate: x509.Certificate, read: Callable[[x509.Certificate], str]) -> str:
    # The library parses each part only when it is asked for.
    try:
        return read(certificate)
    except (ValueError, UnsupportedAlgorithm):
        return UNKNOWN


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    """Return algorithm and length of the public key; OpenSSL refuses some keys that certificates carry."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return UNKNOWN, 0
    match key:
        case rsa.RSAPublicKey():
            return "RSA", key.key_size
        case ec.EllipticCurvePublicKey():
            return "EC", key.curve.key_size
        case dsa.DSAPublicKey():
            return "DSA", key.key_size
        case ed25519.Ed25519PublicKey():
            return "ED25519", 256
        case ed448.Ed448PublicKey():
            return "ED448", 456
        case _:
            return UNKNOWN, 0
