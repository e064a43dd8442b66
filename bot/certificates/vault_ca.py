"""A CA that is a PKI engine of HashiCorp Vault: it gets a request and returns a certificate, the key stays here."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bot.domain.authority import Names
from bot.domain.errors import UserError
from bot.vault import Vault


class VaultCa:
    """Signs by a role of a PKI engine. The role's own rules count, too; what comes of it is checked by the caller."""

    def __init__(self, name: str, vault: Vault, mount: str, role: str) -> None:
        self._name = name
        self._vault = vault
        self._mount = mount
        self._role = role

    def certificate(self) -> x509.Certificate:
        """Return the engine's own certificate; UserError if it cannot be had."""
        return self._read(self._vault.authority(self._mount))

    def sign(
        self, request: x509.CertificateSigningRequest, names: Names, now: datetime, end: datetime
    ) -> x509.Certificate:
        """Have the role sign; it begins when the engine says, and ends when we ask if the role allows that."""
        wanted = {
            "ttl": f"{int((end - now).total_seconds())}s",
            "alt_names": ",".join(names.alternative),
            "exclude_cn_from_sans": True,
        }
        pem = request.public_bytes(Encoding.PEM).decode()
        return self._read(self._vault.certify(self._mount, self._role, pem, names.common, wanted))

    def revoke(self, serial: str) -> None:
        """Have the engine revoke it, if the bot's policy allows that."""
        self._vault.revoke(self._mount, serial)

    def _read(self, pem: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            raise UserError(
                f"Vault shows no certificate under {self._mount}, so the CA “{self._name}” cannot sign. "
                "Has the PKI engine an issuer?"
            ) from None
