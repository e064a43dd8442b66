"""CAs: each signs a certificate for a key that the bot makes in memory and never stores.

What comes of it takes the same way as a PFX file: the same checks, the same leaf-only PFX with the empty password.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bot.certificates import encoder, pfx
from bot.certificates.local_ca import LocalCa
from bot.certificates.vault_ca import VaultCa
from bot.certificates.x509 import details
from bot.clock import Clock
from bot.domain.authority import Authority, Names
from bot.domain.certificate import CertificateDetails
from bot.domain.errors import UserError
from bot.settings import Settings
from bot.settings_certificates import Ca
from bot.vault import Vault

TOLERANCE = timedelta(days=1)
"""By how much the end of a certificate may differ from what was approved: CAs round, and their clocks differ."""


class Signer(Protocol):
    """What has the CA's key."""

    def certificate(self) -> x509.Certificate:
        """Return the CA's certificate as it is now; UserError if it cannot be had or is none of a CA."""
        ...

    def sign(
        self, request: x509.CertificateSigningRequest, names: Names, now: datetime, end: datetime
    ) -> x509.Certificate:
        """Return a certificate for the key of this request; UserError if the CA refuses."""
        ...

    def revoke(self, serial: str) -> None:
        """Revoke a certificate by its serial number in hex digits; UserError where it cannot be done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was just signed, with its key in the form that goes to a host."""

    details: CertificateDetails
    serial: str
    """In hex digits, as CAs list it."""
    pfx: bytes = field(repr=False)
    """Leaf only, with the empty password: as secret as the key. It is nowhere else."""


class Authorities:
    """All CAs by their configured names."""

    def __init__(self, tables: Mapping[str, Ca], signers: Mapping[str, Signer]) -> None:
        self._tables = dict(tables)
        self._signers = dict(signers)

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "Authorities":
        """Return the CAs of a configuration; nothing is read or asked before it is needed."""
        signers: dict[str, Signer] = {}
        vault = Vault(settings.vault, clock) if settings.vault else None
        for name, table in settings.certificates.ca.items():
            if table.engine == "local":
                assert table.certificate is not None, "a local CA without its certificate was refused"
                assert table.key is not None, "a local CA without its key was refused"
                signers[name] = LocalCa(name, table.certificate, table.key, table.key_password)
            else:
                assert vault is not None, "a CA in Vault without [vault] was refused"
                signers[name] = VaultCa(name, vault, table.mount, table.role or "")
        return cls(settings.certificates.ca, signers)

    @property
    def names(self) -> tuple[str, ...]:
        """The configured names, sorted."""
        return tuple(sorted(self._tables))

    def terms(self, name: str, now: datetime) -> Authority:
        """Return the CA and the terms on which it signs now; UserError if it is not known, or cannot sign."""
        table, signer = self._find(name)
        own = signer.certificate()
        if now > own.not_valid_after_utc:
            raise UserError(
                f"The certificate of the CA “{name}” expired on {own.not_valid_after_utc:%Y-%m-%d}. Renew it first."
            )
        facts = details(own.public_bytes(Encoding.DER))
        return Authority(
            name=name,
            engine=table.engine,
            issuer=facts.subject,
            thumbprint=facts.thumbprint,
            until=facts.not_after,
            common_name=table.common_name,
            alternative_names=table.alternative_names,
            allowed=table.allowed,
            days=table.days,
            key_bits=table.key_bits,
        )

    def issue(self, approved: Authority, target: str, now: datetime) -> Issued:
        """Make a key and have it certified on the terms that were approved; UserError if they are others by now.

        Each call makes another key: nothing can be repeated, so the caller notes what came of it before it is used.
        """
        current = self.terms(approved.name, now)
        if current != approved:
            raise UserError(
                f"The CA “{approved.name}”, or what the configuration says of it, has changed since the plan was "
                "approved. Ask for a new plan."
            )
        names = approved.names_for(target)
        key = rsa.generate_private_key(public_exponent=65_537, key_size=approved.key_bits)
        own = self._signers[approved.name].certificate()
        end = approved.ends(now).replace(microsecond=0)
        certificate = self._signers[approved.name].sign(request_for(key, names), names, now, end)
        facts = _checked(certificate, key, own, approved, names, end, now)
        return Issued(details=facts, serial=f"{certificate.serial_number:X}", pfx=encoder.encode(key, certificate))

    def revoke(self, name: str, serial: str) -> None:
        """Revoke what a CA signed and nobody uses; UserError, with the reason, where it cannot be done."""
        self._find(name)[1].revoke(serial)

    def _find(self, name: str) -> tuple[Ca, Signer]:
        if name in self._tables:
            return self._tables[name], self._signers[name]
        near = difflib.get_close_matches(name, self._tables, n=1)
        if near:
            known = f"Did you mean “{near[0]}”?"
        elif self._tables:
            known = "It names: " + ", ".join(self.names) + "."
        else:
            known = "It names none: add a table [certificates.ca.NAME]."
        raise UserError(f"The configuration names no CA “{name}”. {known}")


def request_for(key: rsa.RSAPrivateKey, names: Names) -> x509.CertificateSigningRequest:
    """Return the request by which a CA learns the public key and the names, and nothing of the private key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names.common)])
    )
    if names.alternative:
        alternative = x509.SubjectAlternativeName([x509.DNSName(n) for n in names.alternative])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256())


def _checked(
    certificate: x509.Certificate,
    key: rsa.RSAPrivateKey,
    own: x509.Certificate,
    approved: Authority,
    names: Names,
    end: datetime,
    now: datetime,
) -> CertificateDetails:
    """Return what a new certificate says; UserError if it is not what was approved, whoever signed it."""
    shown = f"The CA “{approved.name}” signed a certificate that"
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != wanted:
        raise UserError(f"{shown} is for another key than was asked for. It was not used; look at the CA.")
    try:
        certificate.verify_directly_issued_by(own)
    except (ValueError, TypeError, InvalidSignature):
        raise UserError(
            f"{shown} does not come from {approved.issuer} ({approved.thumbprint}), which was approved. It was not "
            "used. If the CA has a new certificate, ask for a new plan."
        ) from None
    facts = details(certificate.public_bytes(Encoding.DER))
    pfx.confirm_fit(facts, f"The answer of the CA “{approved.name}”", now)
    common = [str(a.value) for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    strange = [n for n in _alternative(certificate) if n not in {names.common, *names.alternative}]
    missing = [n for n in names.alternative if n not in _alternative(certificate)]
    if common != [names.common] or strange or missing:
        raise UserError(
            f"{shown} is made out to {', '.join([*common, *_alternative(certificate)]) or 'nobody'}, not to "
            f"{', '.join([names.common, *names.alternative])} as was approved. It was not used. Correct the role or "
            "the names in the configuration."
        )
    if abs(facts.not_after - end) > TOLERANCE:
        raise UserError(
            f"{shown} ends on {facts.not_after:%Y-%m-%d}, not on {end:%Y-%m-%d} as was approved. It was not used. "
            "Correct the role's longest lifetime, or days in the configuration."
        )
    return facts


def _alternative(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]
