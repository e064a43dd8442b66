"""What .NET reads in a PFX with the empty password, and how it words what it cannot read."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.windows import pfx
from bot.sandbox.windows.twin_common import JsonObject

_SEQUENCE = 0x30
"""First byte of every DER file."""


def read_pfx(data: bytes) -> JsonObject:
    """Return the `thumbprint` in a PFX, or as `error` why it is of no use."""
    try:
        certificate, has_key = _loaded(data)
    except (pfx.PfxError, ValueError, IndexError) as error:
        return {"thumbprint": None, "error": f"this host cannot read the PFX: {_pfx_message(error, data)}"}
    if not has_key:
        return {"thumbprint": None, "error": "the PFX holds no private key that this host can read"}
    return {"thumbprint": str(certificate), "error": None}


def _loaded(data: bytes) -> tuple[Thumbprint, bool]:
    """Return the certificate that X509Certificate2 takes from some bytes, and whether it has its key."""
    try:
        entries = pfx.read(data, "")
    except pfx.NotPfx:
        certificate = x509.load_der_x509_certificate(data)
        return Thumbprint.of(certificate.public_bytes(Encoding.DER)), False
    chosen = next((e for e in entries if e.key is not None), entries[0])
    return Thumbprint.of(chosen.certificate.public_bytes(Encoding.DER)), chosen.key is not None


def _pfx_message(error: Exception, data: bytes) -> str:
    """Return how .NET words it."""
    if not data:
        return "Array may not be empty or null. (Parameter 'rawData')"
    if data[0] != _SEQUENCE:
        kind = ("Universal", "Application", "ContextSpecific", "Private")[data[0] >> 6]
        return (
            f"The provided data is tagged with '{kind}' class value '{data[0] & 0x1F}', "
            "but it should have been 'Universal' class value '16'."
        )
    if isinstance(error, pfx.WrongPassword):
        return "The certificate data cannot be read with the provided password, the password may be incorrect."
    return "ASN1 corrupted data."
