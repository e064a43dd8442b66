"""Opens a PFX file and says, one sentence for each, what makes it unfit for a Tentacle or a Server.

Tentacle itself takes weak, expired and even unusable certificates with exit code 0 and is then out of reach, and it
takes the wrong certificate out of a file with several: so all of that is found out here, before anything is planned.
"""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs12

from bot.certificates import bags
from bot.certificates.x509 import details
from bot.domain.certificate import CertificateDetails
from bot.domain.errors import UserError
from bot.secrets import Secret

LARGEST = 1024 * 1024
"""Bytes that a PFX file may have: one with a chain of twenty certificates has forty thousand."""
SMALLEST_KEY = 2048
"""Bits of an RSA key; a Tentacle with fewer starts, and every TLS handshake with it fails (seen)."""
_GOOD_HASHES = {"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"}
_BROKEN_HASHES = {"sha1", "md5"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pfx:
    """A leaf certificate and its key, in memory only: never stored, logged or journaled."""

    name: str
    certificate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)
    details: CertificateDetails


def open(data: bytes, password: Secret | None, *, name: str, now: datetime) -> Pfx:  # noqa: A001 - reads pfx.open(…)
    """Return the one leaf certificate of a PFX with its key; UserError, naming the PFX, if it is unfit for use."""
    if len(data) > LARGEST:
        raise _unfit(name, f"is larger than {LARGEST // 1024} KiB, so it is hardly a PFX.", "Check the path.")
    content = _read(data, password, name)
    keys = bags.count_keys(data)
    if keys > 1:
        raise _unfit(
            name, f"holds {keys} private keys, and only one can be meant.", "Export the one that is to be used."
        )
    leaf, key = _only_pair(content, name)
    facts = details(leaf.public_bytes(Encoding.DER))
    confirm_fit(facts, f"The PFX “{name}”", now)
    return Pfx(name=name, certificate=leaf, key=key, details=facts)


def _unfit(name: str, problem: str, advice: str) -> UserError:
    return _unfit_for_use(f"The PFX “{name}”", problem, advice)


def _unfit_for_use(shown: str, problem: str, advice: str) -> UserError:
    return UserError(f"{shown} {problem} {advice}")


def _read(data: bytes, password: Secret | None, name: str) -> pkcs12.PKCS12KeyAndCertificates:
    if not bags.looks_like_pfx(data):
        kind = "is PEM text, not a PFX." if data.lstrip()[:10] == b"-----BEGIN" else "is not a PFX (PKCS#12) file."
        raise _unfit(name, kind, "Export certificate and key as .pfx or .p12, or check the path.")
    try:
        return pkcs12.load_pkcs12(data, password.reveal().encode() if password else None)
    except UnsupportedAlgorithm:
        raise _unreadable(name) from None
    except ValueError as error:
        # The library has one sentence for both: a wrong password, and contents that it cannot read.
        if "password" not in str(error):
            raise _unreadable(name) from None
    if not password:
        raise _unfit(name, "is protected by a password.", "Name a reference to it in the configuration.")
    if _opens_without_password(data):
        raise _unfit(
            name,
            "has no password, but the configuration names one.",
            "Remove the reference to the password, or protect the file with it.",
        )
    raise _unfit(
        name,
        "cannot be opened with the password that the configuration refers to.",
        "Correct the password; if it is right, the file is damaged.",
    )


def _unreadable(name: str) -> UserError:
    return _unfit(
        name,
        "cannot be read: it is damaged, or made with an algorithm that is not supported.",
        "Export it again with AES-256 or TripleDES encryption and an RSA key.",
    )


def _opens_without_password(data: bytes) -> bool:
    try:
        pkcs12.load_pkcs12(data, None)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _only_pair(content: pkcs12.PKCS12KeyAndCertificates, name: str) -> tuple[x509.Certificate, RSAPrivateKey]:
    """Return the one certificate that belongs to the one key."""
    paired = [content.cert.certificate] if content.cert else []
    certificates = paired + [c.certificate for c in content.additional_certs]
    key = content.key
    if not certificates:
        raise _unfit(name, "holds no certificate.", "Export it again together with its certificate.")
    if key is None:
        raise _unfit(name, "holds no private key.", "Export it again, with the private key.")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unfit(
            name,
            "has an elliptic curve (EC) key, but Tentacle accepts RSA keys only.",
            f"Ask your CA for a certificate with an RSA key of at least {SMALLEST_KEY} bits.",
        )
    if not isinstance(key, RSAPrivateKey):
        raise _unfit(
            name,
            "has a key that is not RSA, but Tentacle accepts RSA keys only.",
            f"Ask your CA for a certificate with an RSA key of at least {SMALLEST_KEY} bits.",
        )
    return _leaf_of(key, certificates, name), key


def _leaf_of(key: RSAPrivateKey, certificates: list[x509.Certificate], name: str) -> x509.Certificate:
    mine = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    leaves = {c.public_bytes(Encoding.DER): c for c in certificates if _public_key(c) == mine}
    if not leaves:
        raise _unfit(
            name,
            "holds a private key that does not belong to its certificate.",
            "Export the certificate again together with its own key.",
        )
    if len(leaves) > 1:
        raise _unfit(
            name,
            f"holds {len(leaves)} certificates for the same key, and only one can be meant.",
            "Export the one certificate that is to be used.",
        )
    return next(iter(leaves.values()))


def _public_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def confirm_fit(facts: CertificateDetails, shown: str, now: datetime) -> None:
    """Raise UserError, in one sentence that begins with what is `shown`, if a Tentacle should not get a certificate."""
    if facts.key_bits < SMALLEST_KEY:
        raise _unfit_for_use(
            shown,
            f"has an RSA key of {facts.key_bits} bits: a Tentacle would take it and then be out of reach.",
            f"Ask your CA for a certificate with at least {SMALLEST_KEY} bits.",
        )
    if facts.signature_hash in _BROKEN_HASHES:
        raise _unfit_for_use(
            shown,
            f"has a certificate signed with {_spell(facts.signature_hash)}, which Octopus refuses since 2025.3.",
            "Ask your CA for a certificate signed with SHA-256.",
        )
    if facts.signature_hash not in _GOOD_HASHES:
        raise _unfit_for_use(
            shown,
            f"has a certificate signed by an algorithm without SHA-256 or better ({_spell(facts.signature_hash)}).",
            "Ask your CA for a certificate signed with SHA-256.",
        )
    if now > facts.not_after:
        raise _unfit_for_use(
            shown, f"has a certificate that expired on {facts.not_after:%Y-%m-%d}.", "Renew it at your CA."
        )
    if now < facts.not_before:
        raise _unfit_for_use(
            shown,
            f"has a certificate that is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC.",
            "Wait until then, or check the clock of this machine.",
        )


def _spell(name: str) -> str:
    return {"sha1": "SHA-1", "md5": "MD5", "sha224": "SHA-224", "?": "its hash is unknown"}.get(name, name)
