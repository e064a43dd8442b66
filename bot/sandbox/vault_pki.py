"""A PKI engine for the sandbox's Vault: it shows its certificate and signs requests by roles.

Sources: developer.hashicorp.com/vault/api-docs/secret/pki (`ca/pem`, `sign/:name`, `roles/:name`, `revoke`);
UNVERIFIED against a real Vault.
"""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from bot.sandbox.pki import Identity


class RoleError(Exception):
    """What a role does not allow, in Vault's words."""


@dataclass(slots=True, kw_only=True)
class Role:
    """What a role allows."""

    allowed_domains: tuple[str, ...] = ()
    """Empty: any name."""
    max_ttl: timedelta = timedelta(days=3650)
    """A longer lifetime is cut to it, with no more than a warning."""
    key_bits: int = 2048
    """The least that it signs."""


@dataclass(slots=True, kw_only=True)
class PkiEngine:
    """An engine with one issuer."""

    issuer: Identity
    roles: dict[str, Role] = field(default_factory=dict)
    serials: set[str] = field(default_factory=set)
    """What it signed and therefore can revoke, as lower-case hex digits."""
    signs_with: Identity | None = None
    """Another issuer than the one that it shows: its default was exchanged a moment ago."""

    def sign(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what `sign/:name` answers; RoleError for what the role does not allow."""
        role = self.roles.get(name)
        if role is None:
            raise RoleError(f"unknown role: {name}")
        try:
            request = x509.load_pem_x509_csr(str(body.get("csr") or "").encode())
        except ValueError:
            raise RoleError("certificate request could not be parsed") from None
        public = request.public_key()
        if not isinstance(public, rsa.RSAPublicKey) or not request.is_signature_valid:
            raise RoleError("role requires keys of type rsa")
        if public.key_size < role.key_bits:
            raise RoleError(f"role requires a minimum of a {role.key_bits}-bit key")
        # use_csr_common_name, on by default: the name in the request counts
        subject = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        common = str(subject[0].value) if subject else str(body.get("common_name") or "")
        names = [n for n in str(body.get("alt_names") or "").split(",") if n]
        for asked in (common, *names):
            if role.allowed_domains and not asked.endswith(tuple(f".{d}" for d in role.allowed_domains)):
                raise RoleError(f"common name {asked} not allowed by this role")
        certificate = self._signed(public, common, names, min(_seconds(body.get("ttl")) or role.max_ttl, role.max_ttl))
        self.serials.add(f"{certificate.serial_number:x}")
        return {
            "request_id": secrets.token_hex(16),
            "data": {
                "certificate": certificate.public_bytes(Encoding.PEM).decode().strip(),
                "issuing_ca": self.issuer.pem.decode().strip(),
                "serial_number": ":".join(f"{b:02x}" for b in certificate.serial_number.to_bytes(20, "big")),
                "expiration": int(certificate.not_valid_after_utc.timestamp()),
            },
        }

    def _signed(self, public: rsa.RSAPublicKey, common: str, names: list[str], ttl: timedelta) -> x509.Certificate:
        issuer = self.signs_with or self.issuer
        now = datetime.now(UTC).replace(microsecond=0)
        if now + ttl > issuer.certificate.not_valid_after_utc:
            raise RoleError(
                "cannot satisfy request, as TTL would result in notAfter that is beyond the expiration of the CA"
            )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)]))
            .issuer_name(issuer.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=30))
            .not_valid_after(now + ttl)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(issuer.key, hashes.SHA256())


def _seconds(ttl: Any) -> timedelta | None:
    """Return what `3600s`, `24h` or a number of seconds means."""
    text = str(ttl or "")
    number = text.rstrip("smh")
    return timedelta(seconds=int(number) * {"h": 3600, "m": 60}.get(text[-1], 1)) if number.isdigit() else None
