"""Health as Octopus sees it: a handshake between certificates, then the greeting; never a flag.

A listening Tentacle is connected to with the Server's certificate; a polling one must be connected to the Server. Texts
are Halibut's (Transport/UnexpectedCertificateException.cs, SecureListeningClient.cs).
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus.documents import signature_algorithm
from bot.sandbox.pki import Identity

GREETING = b"MX\r\n\r\nMX-CLIENT 1.0\r\n\r\n"
ANSWER = b"MX-SERVER 1.0"
CONNECT_SECONDS = 5.0
"""How long a connection, a handshake and an answer may take each."""
SHA1_ENDED = (2025, 3)
"""Version from which Tentacles with a SHA-1 certificate cannot connect (docs: deprecations)."""

_UNEXPECTED = (
    "The server at {uri} presented an unexpected security certificate. We expected the server to present a certificate "
    "with the thumbprint '{expected}'. Instead, it presented a certificate with a thumbprint of '{served}' and subject "
    "'{subject}'. This usually happens when the client has been configured to expect the server to have the wrong "
    "certificate, or when the certificate on the server has been regenerated and the client has not been updated. It "
    "may also happen if someone is performing a man-in-the-middle attack on the remote machine, or if a proxy server "
    "is intercepting requests. Please check the certificate used on the server, and verify that the client has been "
    "configured correctly."
)
_BEFORE = "An error occurred when sending a request to '{uri}', before the request could begin: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a TLS handshake showed of a Tentacle."""

    thumbprint: Thumbprint
    subject: str
    algorithm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the Server could talk to a Tentacle; where not, the error as it stands in the connection log."""

    reached: bool
    error: str = ""
    log: tuple[str, ...] = ()
    algorithm: str | None = None


class Prober:
    """Connects to Tentacles from the Server's own address, presenting the Server's certificate."""

    def __init__(
        self, address: str, identity: Identity, folder: Path, resolve: Callable[[str], str], version: tuple[int, ...]
    ) -> None:
        self._address = address
        self._resolve = resolve
        self._version = version
        self.identity = identity
        folder.mkdir(parents=True, exist_ok=True)
        pem = folder / f"{identity.thumbprint}.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(identity.key_pem + identity.pem)
        self._anonymous = _context()
        self._presenting = _context()
        self._presenting.load_cert_chain(pem)

    def look(self, host: str, port: int) -> Sight:
        """Read the certificate that is served at host:port, without presenting one; OSError if there is none.

        As Octopus's discovery does (Halibut, Transport/DiscoveryClient.cs).
        """
        with self._connect(self._anonymous, host, port) as connection:
            sight = _sight(connection)
            connection.sendall(b"HELLO\r\n\r\n")
            return sight

    def check(self, uri: str, expected: str) -> Verdict:
        """Talk to a listening Tentacle as a health check does."""
        where = urlsplit(uri)
        host, port = where.hostname or "", where.port or 10933
        before = _BEFORE.format(uri=uri)
        try:
            with self._connect(self._presenting, host, port) as connection:
                sight = _sight(connection)
                refusal = self.refusal_of(sight.algorithm)
                if refusal:
                    return Verdict(reached=False, error=before + refusal, algorithm=sight.algorithm)
                if sight.thumbprint != expected:  # ordinal: a record in lower case never matches
                    text = _UNEXPECTED.format(
                        uri=uri, expected=expected, served=sight.thumbprint, subject=sight.subject
                    )
                    return Verdict(reached=False, error=before + text, algorithm=sight.algorithm)
                return self._greet(connection, uri, sight)
        except ConnectionRefusedError:
            text = (
                f"The remote host at {uri} refused the connection. "
                "This may mean that the expected listening service is not running."
            )
            return Verdict(reached=False, error=before + text)
        except (ConnectionResetError, ssl.SSLError) as error:
            return Verdict(reached=False, error=before + f"{error}", log=(self._distrusted(uri),))
        except TimeoutError:
            text = "Unable to connect: the connection attempt timed out."
            return Verdict(reached=False, error=before + text)
        except OSError as error:
            return Verdict(reached=False, error=before + f"{error.strerror or error}")

    def refusal_of(self, algorithm: str | None) -> str | None:
        """Return why a certificate with this signature is refused, None if it is not. The wording is UNVERIFIED."""
        if algorithm == "sha1RSA" and self._version >= SHA1_ENDED:
            return (
                "Authentication failed: the remote certificate is signed with sha1RSA, which this version of Octopus "
                "no longer supports."
            )
        return None

    def _greet(self, connection: ssl.SSLSocket, uri: str, sight: Sight) -> Verdict:
        before = _BEFORE.format(uri=uri)
        try:
            connection.sendall(GREETING)
            heard = connection.recv(len(ANSWER))
        except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
            heard = b""
        if heard.startswith(ANSWER):
            return Verdict(reached=True, algorithm=sight.algorithm)
        text = "Unable to receive the remote identity; the identity line was empty."
        return Verdict(reached=False, error=before + text, log=(self._distrusted(uri),), algorithm=sight.algorithm)

    def _distrusted(self, uri: str) -> str:
        return (
            f"The remote host at {uri} reset the connection. This may mean that the expected listening service does "
            f"not trust the thumbprint {self.identity.thumbprint} or was shut down."
        )

    def _connect(self, context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
        """Connect and shake hands. Bound to the Server's address, so that a host can tell who comes."""
        raw = socket.create_connection((self._resolve(host), port), CONNECT_SECONDS, (self._address, 0))
        try:
            return context.wrap_socket(raw, server_hostname=None)
        except BaseException:
            raw.close()
            raise


def _context() -> ssl.SSLContext:
    """Return a client's context that accepts whatever is served, outdated signatures included."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _sight(connection: ssl.SSLSocket) -> Sight:
    der = connection.getpeercert(binary_form=True) or b""
    certificate = x509.load_der_x509_certificate(der)
    return Sight(
        thumbprint=Thumbprint.of(der),
        subject=certificate.subject.rfc4514_string(),
        algorithm=signature_algorithm(certificate),
    )
