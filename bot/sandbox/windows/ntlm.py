"""Logging in to a sandbox host: real NTLM by pyspnego, sealing on http, channel binding on https; Basic on https."""

import base64
import hashlib
import os
from pathlib import Path

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

BOUNDARY = b"--Encrypted Boundary"
PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
SOAP_TYPE = "application/soap+xml;charset=UTF-8"
SEALED_TYPE = f'multipart/encrypted;protocol="{PROTOCOL}";boundary="Encrypted Boundary"'
VARIABLE = "NTLM_USER_FILE"


def publish(folder: Path, user: str, password: str) -> None:
    """Name the account to pyspnego's acceptor, which reads a file that an environment variable names.

    Its lines are split at colons, so neither name nor password may hold one.
    """
    domain, _, name = user.partition("\\")
    path = folder / "ntlm-users"
    path.touch(mode=0o600)
    path.write_text(f"{domain}:{name}:{password}\n")
    os.environ[VARIABLE] = str(path)


def bindings(der: bytes) -> GssChannelBindings:
    """Return the channel bindings of a TLS server certificate (RFC 5929, tls-server-end-point)."""
    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.sha256(der).digest())


class Login:
    """The login of one TCP connection: NTLM authenticates the connection, not the request."""

    def __init__(self, accounts: dict[str, str], channel: GssChannelBindings | None, *, refused: bool) -> None:
        self._accounts = accounts
        self._channel = channel
        self._refused = refused
        self._context: spnego.ContextProxy | None = None
        self.is_complete = False

    @property
    def seals(self) -> bool:
        """Whether messages can be sealed under this login."""
        return self._context is not None and self.is_complete

    def step(self, header: str) -> tuple[str, ...]:
        """Take an Authorization header; return the challenges to answer with, none once the login is complete."""
        scheme, _, token = header.partition(" ")
        try:
            data = base64.b64decode(token, validate=True)
        except ValueError:
            return self.challenges
        if scheme.casefold() == "basic" and self._channel is not None:
            user, _, password = data.decode("utf-8", "replace").partition(":")
            names = {k.rpartition("\\")[2].casefold(): v for k, v in self._accounts.items()}
            self.is_complete = not self._refused and names.get(user.rpartition("\\")[2].casefold()) == password
            return () if self.is_complete else self.challenges
        if scheme.casefold() not in {"negotiate", "ntlm"}:
            return self.challenges
        if self._context is None or self.is_complete:
            self.is_complete = False
            self._context = spnego.server(
                protocol="ntlm" if scheme.casefold() == "ntlm" else "negotiate",
                options=spnego.NegotiateOptions.use_ntlm,
                channel_bindings=self._channel,
            )
        try:
            reply = self._context.step(data)
        except (SpnegoError, ValueError):  # a wrong password, other channel bindings, a broken token
            self._context = None
            return self.challenges
        if self._context.complete:
            if self._refused:
                self._context = None
                return self.challenges
            self.is_complete = True
            return ()
        return (f"{scheme} {base64.b64encode(reply or b'').decode('ascii')}",)

    @property
    def challenges(self) -> tuple[str, ...]:
        """The ways to log in that are offered to who has none yet."""
        return ("Negotiate", 'Basic realm="WSMAN"') if self._channel is not None else ("Negotiate",)

    def unseal(self, body: bytes) -> bytes:
        """Return the message inside a sealed body; ValueError if it was sealed under another login."""
        if self._context is None:
            raise ValueError("not logged in")
        try:
            part = body.split(BOUNDARY + b"\r\n", 2)[2]
            payload = part.split(b"\tContent-Type: application/octet-stream\r\n", 1)[1]
            payload = payload.removesuffix(BOUNDARY + b"--\r\n")
            size = int.from_bytes(payload[:4], "little")
            return self._context.unwrap_winrm(payload[4 : 4 + size], payload[4 + size :])
        except (IndexError, SpnegoError) as error:
            raise ValueError(type(error).__name__) from None

    def seal(self, message: bytes) -> bytes:
        """Return a sealed body around a message."""
        assert self._context is not None
        sealed = self._context.wrap_winrm(message)
        head = f"\tContent-Type: {PROTOCOL}\r\n\tOriginalContent: type={SOAP_TYPE};Length={len(message)}\r\n".encode()
        return b"".join(
            (
                BOUNDARY,
                b"\r\n",
                head,
                BOUNDARY,
                b"\r\n\tContent-Type: application/octet-stream\r\n",
                len(sealed.header).to_bytes(4, "little"),
                sealed.header,
                sealed.data,
                BOUNDARY,
                b"--\r\n",
            )
        )
