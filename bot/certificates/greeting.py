"""Greets a listening Tentacle as a Server with a given certificate would, to hear whether it trusts that certificate.

After the handshake a Server says `MX` and `MX-CLIENT 1.0`; a Tentacle whose running process trusts the certificate that
was shown answers `MX-SERVER 1.0`, any other says nothing and closes (seen with the real program; Halibut:
MessageExchangeStream). This is the proof of trust that no list in a file can give. pyOpenSSL, because Python's own
`ssl` takes a client's key from files only, and no key of ours is ever written to a disk.
"""

import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from OpenSSL import SSL

from bot.domain.errors import UserError

_HELLO = b"MX\r\n\r\nMX-CLIENT 1.0\r\n\r\n"
_ANSWER = b"MX-SERVER 1.0"
_CHUNK = 16_384
_MOST = 65_536
"""Bytes of an answer that are read at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What came of a greeting."""

    trusted: bool | None
    """Whether the certificate is trusted; None where nobody could be asked."""
    error: str = ""
    """Why nobody could be asked, as a sentence."""


def greet(address: str, port: int, *, certificate: x509.Certificate, key: RSAPrivateKey, timeout: float) -> Greeting:
    """Return whether the Tentacle at `address:port` trusts a certificate; never raises for the peer's sake.

    `timeout` is in seconds, for everything together. A peer that stays silent until then does not trust it.
    """
    host = address.strip().removeprefix("[").removesuffix("]")
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            return Greeting(trusted=_exchange(connection, _context(certificate, key), deadline))
    except (OSError, SSL.Error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Greeting(trusted=None, error=f"{host}:{port} could not be greeted: {reason}.")


def _context(certificate: x509.Certificate, key: RSAPrivateKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    try:
        context.use_certificate(certificate)
        context.use_privatekey(key)
    except SSL.Error:
        raise UserError("The new certificate cannot be shown in a TLS handshake: its key does not fit.") from None
    return context


def _exchange(connection: socket.socket, context: SSL.Context, deadline: float) -> bool:
    """Talk over memory, so that every wait is bounded by the socket's time-out."""
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    heard = b""
    is_open = False
    while len(heard) < _MOST:
        try:
            if not is_open:
                tls.do_handshake()
                is_open = True
                tls.sendall(_HELLO)
            heard += tls.recv(_CHUNK)
            if _ANSWER in heard:
                _leave(connection, tls)
                return True
        except SSL.WantReadError:
            _send(connection, tls)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            connection.settimeout(left)
            try:
                data = connection.recv(_CHUNK)
            except TimeoutError:
                if not is_open:
                    raise
                return False
            if not data:
                if not is_open:
                    raise ConnectionResetError("it broke the connection during the TLS handshake") from None
                return False
            tls.bio_write(data)
        except SSL.ZeroReturnError:
            return False
        except SSL.Error:
            if not is_open:
                raise
            return False  # a refused client may be told so by an alert, or by a broken stream
    return False


def _send(connection: socket.socket, tls: SSL.Connection) -> None:
    with suppress(SSL.WantReadError):
        while True:
            connection.sendall(tls.bio_read(_CHUNK))


def _leave(connection: socket.socket, tls: SSL.Connection) -> None:
    with suppress(SSL.Error, OSError):
        tls.shutdown()
        _send(connection, tls)
