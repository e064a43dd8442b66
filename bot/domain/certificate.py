"""What people want to know of a certificate, without the certificate."""

from dataclasses import dataclass
from datetime import datetime

from bot.domain.thumbprint import Thumbprint


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDetails:
    """The public facts of one X.509 certificate."""

    thumbprint: Thumbprint
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    key_algorithm: str
    """`RSA`, `EC`, … in capitals."""
    key_bits: int
    signature_hash: str
    """`sha256`, `sha1`, … in small letters; `?` where the algorithm names none."""

    @property
    def is_sha1(self) -> bool:
        """Whether it is signed with SHA-1, which Octopus refuses since 2025.3 (docs: deprecations)."""
        return self.signature_hash in {"sha1", "md5"}

    @property
    def is_weak(self) -> bool:
        """Whether its key is too short for Tentacle to serve (seen: RSA 1024 is imported, no handshake succeeds)."""
        return self.key_algorithm == "RSA" and self.key_bits < 2048

    def days_left(self, now: datetime) -> int:
        """Return whole days until it expires, negative when it has."""
        return (self.not_after - now).days
