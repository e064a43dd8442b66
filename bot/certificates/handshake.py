"""Sees which certificate is served at an address, by a TLS handshake that verifies nothing and proves nothing.

A Tentacle (10933) and a Server (10943) serve their certificate to whoever asks, without a client certificate; trust is
looked at only after a greeting of Halibut's own, which is not spoken here (Halibut: SecureListener, DiscoveryClient).
"""

import socket
import ssl
import time
from contextlib import suppress
from functools import cache

from bot.certificates.x509 import details
from bot.domain.certificate import CertificateDetails
from bot.domain.facts import Sighting
from bot.domain.thumbprint import Thumbprint

COURTESY_SECONDS = 1.0
"""How long the listener may take to answer our farewell and to close; what was seen counts already."""
_FAREWELL = b"GET / HTTP/1.0\r\n\r\n"
"""Anything but Halibut's greeting is answered by a short page; an abrupt reset would be logged there as an error."""
_PAGE_BYTES = 65536
_ALLOW_LEGACY_RENEGOTIATION = 0x4
"""SSL_OP_LEGACY_SERVER_CONNECT, which Python names from 3.12 on: hosts without RFC 5746 are seen too."""


def see(address: str, port: int, *, timeout: float, place: str = "bot") -> Sighting:
    """Return what `address:port` serves, or, as a sentence, why nothing was seen; never raises for the peer's sake.

    `address` is a name or an IPv4 or IPv6 address, with or without brackets. `timeout` is in seconds, for connecting
    and handshake together; only the resolver of the operating system keeps its own time.
    """
    host = address.strip().removeprefix("[").removesuffix("]")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        der = _served(host, port, timeout)
    except (OSError, ValueError, OverflowError) as error:
        return Sighting(place=place, address=shown, thumbprint=None, error=_sentence(error, shown, timeout))
    if not der:
        nothing = f"{shown} showed no certificate."
        return Sighting(place=place, address=shown, thumbprint=None, error=nothing)
    return Sighting(place=place, address=shown, thumbprint=Thumbprint.of(der), certificate=_details(der))


def _served(host: str, port: int, timeout: float) -> bytes | None:
    deadline = time.monotonic() + timeout
    with _connected(host, port, deadline) as connection:
        connection.settimeout(_left(deadline))
        with _context().wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False) as channel:
            channel.do_handshake()
            der = channel.getpeercert(binary_form=True)
            _take_leave(channel)
            return der


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """Return a connection to the first address of the host that accepts one."""
    failure: OSError = OSError("the name has no address")
    if not host or not 0 < port < 65536:
        raise ValueError("no address")
    for family, kind, protocol, _, target in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(target)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _context() -> ssl.SSLContext:
    """Return the most forgiving client that this OpenSSL can be: it looks at a certificate and sends nothing secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Level 0 admits SHA-1 signatures, short keys and TLS 1.0, which old hosts still serve.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= _ALLOW_LEGACY_RENEGOTIATION
    return context


def _take_leave(channel: ssl.SSLSocket) -> None:
    """Say a harmless line, hear the answer out and close in order; whatever goes wrong here changes nothing."""
    deadline = time.monotonic() + COURTESY_SECONDS
    with suppress(OSError, ValueError):
        channel.settimeout(COURTESY_SECONDS)
        channel.sendall(_FAREWELL)
        heard = 0
        while heard < _PAGE_BYTES and (page := channel.recv(4096)):
            heard += len(page)
            channel.settimeout(_left(deadline))
    with suppress(OSError, ValueError):
        channel.settimeout(max(0.05, deadline - time.monotonic()))
        channel.unwrap().close()


def _details(der: bytes) -> CertificateDetails | None:
    # A certificate that cannot be read still has a thumbprint, and that is what counts.
    with suppress(ValueError):
        return details(der)
    return None


def _sentence(error: Exception, shown: str, timeout: float) -> str:
    match error:
        case TimeoutError():
            return f"{shown} did not answer within {timeout:g} seconds."
        case socket.gaierror():
            return f"{shown} cannot be found: the name does not resolve."
        case ConnectionRefusedError():
            return f"{shown} refused the connection: nothing listens there."
        case ConnectionResetError() | BrokenPipeError() | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return f"{shown} broke the connection during the TLS handshake: it may be starting, or not a Tentacle."
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "UNKNOWN_PROTOCOL" | "HTTP_REQUEST" | "RECORD_LAYER_FAILURE"):
            return f"{shown} does not speak TLS, so no Tentacle listens there."
        case ssl.SSLError():
            reason = (error.reason or "no reason given").replace("_", " ").lower()
            return f"The TLS handshake with {shown} failed: {reason}."
        case OSError():
            return f"{shown} cannot be reached: {error.strerror or error}."
        case _:
            return f"{shown} is not an address."
