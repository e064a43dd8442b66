"""Logins at a sandbox host's WinRM: NTLM by pyspnego's acceptor (alone or within Negotiate), Basic and certificates.

NTLM authenticates a TCP connection, so one `Login` belongs to one connection; over plain HTTP it also seals messages.
"""

import atexit
import base64
import binascii
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import spnego
from spnego._ntlm_raw.crypto import ntowfv1
from spnego.channel_bindings import GssChannelBindings

MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
"""What stands in the Authorization header of a login by certificate (MS-WSMV)."""
SOAP_TYPE = "application/soap+xml;charset=UTF-8"
PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
SEALED_TYPE = f'multipart/encrypted;protocol="{PROTOCOL}";boundary="Encrypted Boundary"'
_BOUNDARY = b"--Encrypted Boundary"
_OCTETS = b"Content-Type: application/octet-stream\r\n"
_LENGTH = re.compile(rb"Length=(\d+)")
_USER_FILE = "NTLM_USER_FILE"
_SLASH = "\\"
_BARE = spnego.NegotiateOptions.use_ntlm
_WRAPPED = spnego.NegotiateOptions.use_negotiate


class State(Enum):
    """How far a login is."""

    REFUSED = "refused"
    CONTINUED = "continued"
    ACCEPTED = "accepted"


class Step(NamedTuple):
    """What an Authorization header led to."""

    state: State
    challenge: str = ""
    """For the WWW-Authenticate header, where there is something to say."""


class Unsealable(Exception):  # noqa: N818  # it says what the message is
    """A message that was not sealed for this connection; answered with HTTP 400."""


def bindings(certificate: bytes) -> GssChannelBindings:
    """Return the channel bindings of a TLS server that shows this certificate (RFC 5929), signed with SHA-256."""
    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.sha256(certificate).digest())


class Login:
    r"""Who a connection belongs to. `accounts` maps `DOMAIN\user` to a password; it may change between logins.

    With `channel`, NTLM must be bound to it: CbtHardeningLevel Strict.
    """

    def __init__(self, accounts: Mapping[str, str], channel: GssChannelBindings | None) -> None:
        self._accounts = accounts
        self._channel = channel
        self._context: spnego.ContextProxy | None = None
        self.user = ""
        """The account, once it is known."""

    def step(self, header: str, *, basic: bool, certificate: str = "", refuse: bool = False) -> Step:
        """Take an Authorization header.

        `basic` says whether Basic is allowed; `certificate` is the common name of a verified client certificate;
        `refuse` has all passwords be wrong.
        """
        scheme, _, token = header.partition(" ")
        if scheme.lower() in {"negotiate", "ntlm"}:
            return self._negotiate(scheme, token, refuse=refuse)
        user = ""
        if header == MUTUAL:
            user = self._account(certificate)
        elif scheme.lower() == "basic" and basic:
            user = self._by_password(token)
        return self._finish("" if refuse else user)

    def unseal(self, body: bytes) -> bytes:
        """Return the SOAP in a `multipart/encrypted` body; Unsealable if it is not for this connection."""
        head, found, sealed = body.partition(_OCTETS)
        length = _LENGTH.search(head)
        if self._context is None or not found or not length or len(sealed) < 4:
            raise Unsealable
        end = 4 + int.from_bytes(sealed[:4], "little")
        try:
            return self._context.unwrap_winrm(sealed[4:end], sealed[end : end + int(length[1])])
        except Exception:  # noqa: BLE001  # several kinds; all mean that it was sealed for another connection
            raise Unsealable from None

    def seal(self, soap: bytes) -> bytes:
        """Return the `multipart/encrypted` body around an answer."""
        assert self._context is not None
        sealed = self._context.wrap_winrm(soap)
        return (
            _BOUNDARY + b"\r\n\tContent-Type: " + PROTOCOL.encode() + b"\r\n"
            b"\tOriginalContent: type=" + SOAP_TYPE.encode() + b";Length=" + str(len(soap)).encode() + b"\r\n"
            + _BOUNDARY + b"\r\n\t" + _OCTETS
            + len(sealed.header).to_bytes(4, "little") + sealed.header + sealed.data + _BOUNDARY + b"--\r\n"
        )  # fmt: skip

    def _negotiate(self, scheme: str, token: str, *, refuse: bool) -> Step:
        try:
            data = base64.b64decode(token, validate=True)
        except binascii.Error:
            return self._finish("")
        with _known.accounts(self._accounts):
            try:
                if self._context is None or self._context.complete:
                    # Windows takes bare NTLM messages under "Negotiate" as well.
                    is_bare = data.startswith(b"NTLMSSP\0")
                    self._context = spnego.server(
                        protocol="ntlm" if is_bare else "negotiate",
                        options=_BARE if is_bare else _WRAPPED,
                        channel_bindings=self._channel,
                    )
                reply = self._context.step(data) or b""
            except Exception:  # noqa: BLE001  # several kinds; to the client all look like a wrong password
                return self._finish("")
        challenge = f"{scheme} {base64.b64encode(reply).decode()}" if reply else ""
        if not self._context.complete:
            return Step(State.CONTINUED, challenge)
        if refuse:
            return self._finish("")
        self.user = self._context.client_principal or "?"
        return Step(State.ACCEPTED, challenge)

    def _finish(self, user: str) -> Step:
        """Log an account in, or refuse where there is none."""
        self.user = user
        self._context = None
        return Step(State.ACCEPTED if user else State.REFUSED)

    def _by_password(self, token: str) -> str:
        try:
            name, _, password = base64.b64decode(token, validate=True).decode("utf-8", "replace").partition(":")
        except binascii.Error:
            return ""
        account = self._account(name)
        return account if account and self._accounts[account] == password else ""

    def _account(self, name: str) -> str:
        """Return the account that a name stands for, with or without its domain."""
        wanted = name.casefold()
        for account in self._accounts:
            if wanted and wanted in {account.casefold(), account.rpartition("\\")[2].casefold()}:
                return account
        return ""


class _Known:
    """pyspnego's acceptor finds its accounts in a file that a variable of the process names: one login step at a time.

    The variable stays set: who goes through the environment while it is changed meets an error.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._text = ""

    @contextmanager
    def accounts(self, accounts: Mapping[str, str]) -> Iterator[None]:
        """Let the acceptor know these accounts, each with its domain and without, and nobody else."""
        with self._lock:
            if self._file is None:
                folder = tempfile.mkdtemp(prefix="octocert-ntlm-")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                self._file = Path(folder) / "users"
                self._file.touch(mode=0o600)
                os.environ[_USER_FILE] = str(self._file)
            text = "".join(_lines(*one) for one in accounts.items())
            if text != self._text:
                self._file.write_text(text, encoding="utf-8")
                self._text = text
            yield


_known = _Known()


@lru_cache(maxsize=1000)
def _lines(account: str, password: str) -> str:
    """Return an account's lines, in the format of smbpasswd: with hashes, or both would be made anew at each login.

    Windows keeps no LM hash either.
    """
    if ":" in account:
        raise ValueError("no colon in names of accounts, please: pyspnego's file is split there")
    rest = f":0:{bytes(16).hex()}:{ntowfv1(password).hex()}:[U]:LCT-0\n"
    return f"{account}{rest}{account.rpartition(_SLASH)[2]}{rest}"
