"""The Tentacle program's commands about its certificate: import-certificate, new-certificate, show-thumbprint."""

import base64
import json
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity, host_keys, self_signed
from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows import pfx
from bot.sandbox.windows.pfx import Entry
from bot.sandbox.windows.tentacle_agent import StoreRefused, load_identity
from bot.sandbox.windows.tentacle_call import Call, Controlled, Crash

_NO_KEY = (
    "Unable to load X509 Certificate file. The X509 certificate file you provided does not include the private key. "
    "Please make sure the private key is included in your X509 certificate file and try again."
)
_RECOMMENDED_BITS = 2048


class _NotBase64(Exception):  # noqa: N818  # .NET's FormatException
    """A text is no base64."""


def import_certificate(call: Call) -> None:
    """Run `import-certificate`."""
    selected = call.selected
    sources = [call.has("from-registry"), bool(call.value("from-file")), bool(call.value("from-base64"))]
    if not any(sources):
        raise Controlled("Please specify the certificate to import.")
    if sum(sources) > 1:
        raise Controlled("Please specify only one of either from-registry or from-file or from-base64")
    if call.has("from-registry"):
        call.info("Importing the Octopus 1.x certificate stored in the Windows registry...")
        if not call.host.profile.is_windows:
            raise Crash("Registry is not supported on this platform.", "System.PlatformNotSupportedException")
        raise Controlled("No Octopus 1.x Tentacle certificate was found.")
    if file := call.value("from-file"):
        entry = _from_file(call, file)
    else:
        call.info("Importing the certificate via base64...")
        try:
            entry = _from_base64(call.value("from-base64"))
        except _NotBase64 as error:
            raise Crash(str(error), "System.FormatException") from error
    time.sleep(call.host.faults.slow_import)
    if call.host.faults.import_fails:
        raise Crash(call.host.faults.import_fails, "System.Exception")
    thumbprint = _install(call, entry, selected.config)
    call.needs_restart = True
    if isinstance(entry.key, rsa.RSAPrivateKey) and entry.key.key_size < _RECOMMENDED_BITS:
        call.info(
            "The imported certificate's private key is smaller than the currently-recommended bit length; generating a "
            "new key for the tentacle is advised."
        )
    call.info(f"Certificate with thumbprint {thumbprint} imported successfully.")
    call.host.world.record(call.host.name, "import", thumbprint)


def new_certificate(call: Call) -> None:
    """Run `new-certificate`."""
    selected = call.selected
    blank, file, export = call.has("if-blank"), call.value("export-file"), call.value("export-pfx")
    for first, second, together in (
        ("--if-blank", "--export-file", blank and file),
        ("--if-blank", "--export-pfx", blank and export),
        ("--export-file", "--export-pfx", file and export),
    ):
        if together:
            raise Controlled(f"Invalid command: {first} and {second} cannot be specified together")
    if blank and not (file or export) and _read(call) is not None:
        call.info("A certificate already exists, no changes will be applied.")
        return
    if call.host.faults.import_fails:
        raise Crash(call.host.faults.import_fails, "System.Exception")
    identity = self_signed(key=host_keys.take(2048), not_before=None)
    if target := file or export:
        password = None if file else call.value("pfx-password")
        data = identity.pfx(password)
        call.path(target).write_bytes(base64.b64encode(data) if file else data)
        call.info(f"A new certificate has been generated and written to {target}. Thumbprint:")
        call.info(identity.thumbprint)
        return
    _install(call, Entry(certificate=identity.certificate, key=identity.key), selected.config)
    call.needs_restart = True
    call.info("A new certificate has been generated and installed. Thumbprint:")
    call.info(identity.thumbprint)
    call.host.world.record(call.host.name, "make", identity.thumbprint)


def show_thumbprint(call: Call) -> None:
    """Run `show-thumbprint`: what is configured, not what is served."""
    _ = call.selected
    shape = call.check_format()
    thumbprint = _read(call)
    content = json.dumps({"Thumbprint": thumbprint}, separators=(",", ":")) if shape == "json" else thumbprint or ""
    if target := call.value("export-file"):
        call.path(target).write_text(content, encoding="ascii")
    else:
        call.write(content)


def _read(call: Call) -> Thumbprint | None:
    """Return the configured certificate's thumbprint, by way of the certificate store as the program reads it."""
    try:
        identity = load_identity(call.host, call.load())
    except StoreRefused as error:
        raise Crash.cryptographic(str(error)) from error
    except ValueError as error:
        raise Crash("Unable to load certificate", "System.InvalidOperationException") from error
    return identity.thumbprint if identity else None


def _install(call: Call, entry: Entry, config: Path) -> Thumbprint:
    """Write certificate and thumbprint: two writes of the file."""
    der = entry.certificate.public_bytes(Encoding.DER)
    blob = Identity(key=entry.key, certificate=entry.certificate).pfx() if entry.key else der
    configuration = call.load()
    try:
        configuration.set(keys.CERTIFICATE, base64.b64encode(blob).decode())
        configuration.set(keys.THUMBPRINT, Thumbprint.of(der))
    except OSError as error:
        raise call.denied(config) from error
    return Thumbprint.of(der)


def _from_file(call: Call, file: str) -> Entry:
    path = call.path(file)
    if not path.is_file():
        raise Controlled(f"Certificate '{file}' was not found.")
    if path.suffix.lower() != ".pfx":
        call.info(f"Importing the certificate stored in {file}...")
        try:
            return _from_base64(path.read_bytes().decode("utf-8-sig", "replace"))
        except _NotBase64:
            pass
    return _from_pfx(call, file, path.read_bytes(), call.value("pfx-password"))


def _from_pfx(call: Call, file: str, data: bytes, password: str) -> Entry:
    """Take the first certificate that .NET finds in the file, which must have an RSA key."""
    call.info(
        f"Importing the certificate stored in PFX file in {file} using the provided password..."
        if password
        else f"Importing the certificate stored in PFX file in {file}..."
    )
    entries = _entries(call, data, password)
    if not entries:
        raise Crash(f"The PFX file ({file}) does not contain any certificates.", "System.Exception")
    if len(entries) > 1:
        call.info(f"PFX file {file} contains multiple certificates, taking the first one.")
    entry = entries[0]
    if not isinstance(entry.key, rsa.RSAPrivateKey):
        subject = entry.certificate.subject.rfc4514_string()
        call.info(f"The X509 certificate {subject} was loaded but the private key was not loaded.")
        # The message of the platform differs; this one is .NET's on Windows by the sources, UNVERIFIED.
        call.info("Furthermore, the private key file could not be located: Unable to obtain private key file name")
        raise Crash.cryptographic(_NO_KEY)
    return entry


def _entries(call: Call, data: bytes, password: str) -> list[Entry]:
    """Return what the file holds, or crash in the words of the crypto platform.

    Windows' words for garbage are UNVERIFIED; those for a wrong password are from Octopus's documentation.
    """
    windows = call.host.profile.is_windows
    try:
        return pfx.read(data, password)
    except pfx.NotPfx as error:
        if certificates := _pem(data):
            return [Entry(certificate=c, key=None) for c in certificates]
        if windows:
            raise Crash.cryptographic("Cannot find the requested object.") from error
        raise Crash(
            "ASN1 corrupted data.",
            "System.Security.Cryptography.CryptographicException",
            ("The provided data does not represent a valid tag.", "System.Formats.Asn1.AsnContentException"),
        ) from error
    except pfx.PfxError as error:
        if windows:
            raise Crash.cryptographic("The specified network password is not correct.") from error
        raise Crash.cryptographic(
            "The certificate data cannot be read with the provided password, the password may be incorrect.", twice=True
        ) from error


def _pem(data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        return []


def _from_base64(text: str) -> Entry:
    """Read base64 of a PFX without password; a certificate without key is taken too, and bricks the Tentacle."""
    compact = "".join(text.split())
    try:
        data = base64.b64decode(compact, validate=True)
    except ValueError as error:
        raise _NotBase64(
            "The input is not a valid Base-64 string as it contains a non-base 64 character, more than two padding "
            "characters, or an illegal character among the padding characters."
        ) from error
    try:
        return pfx.read(data, "")[0]
    except (pfx.PfxError, IndexError):
        pass
    try:
        return Entry(certificate=x509.load_der_x509_certificate(data), key=None)
    except ValueError as error:
        raise Crash("Unable to load certificate", "System.InvalidOperationException") from error
