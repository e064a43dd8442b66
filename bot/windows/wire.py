"""The wire: pywinrm's transport with what it lacks, by ways that pywinrm and requests offer for it.

One TLS context for many sessions, no settings from the environment, no redirects, answers of limited size, time
limits that can change from request to request, and no message in clear where messages must be sealed.
"""

import contextlib
import ssl
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import requests
import spnego
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests_ntlm import HttpNtlmAuth
from spnego._ntlm_raw.crypto import ntowfv1
from winrm.transport import Transport as WinrmTransport

ANSWER_BYTES = 1024 * 1024
"""The longest HTTP answer that is read. We ask for 153600 bytes at most, a host's own default is 500 KB."""
_PIECE = 65_536


class NotWinRm(Exception):  # noqa: N818  # it says what the answer is
    """An answer that no WinRM service gives, in a few words that hold nothing of the answer."""


class _LoginLost(Exception):  # noqa: N818  # it says what happened
    """The connection was made anew meanwhile, and nobody is logged in on it; the host did nothing."""


class Limits:
    """How long the next request may take, in seconds; changed between requests by whoever holds it."""

    def __init__(self, connect: float, read: float) -> None:
        self.connect = connect
        self.read = read


class TlsFiles(NamedTuple):
    """What a TLS context is made of; None for the system's CAs and for no client certificate."""

    ca: Path | None
    certificate: Path | None
    key: Path | None


class TlsContexts:
    """TLS contexts, one for all hosts with the same files: to load a CA bundle costs more than a visit (measured)."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[TlsFiles, tuple[int, ...]], ssl.SSLContext] = {}
        self._lock = Lock()

    def get(self, files: TlsFiles) -> ssl.SSLContext:
        """Return the context of these files, made anew when one has changed; OSError if one cannot be read."""
        ages = tuple(file.stat().st_mtime_ns if file else 0 for file in files)
        with self._lock:
            if (files, ages) not in self._contexts:
                context = ssl.create_default_context(cafile=str(files.ca) if files.ca else None)
                # Under TLS 1.3 Windows asks for a client's certificate after the handshake (pywinrm issue 376).
                context.post_handshake_auth = True
                if files.certificate and files.key:
                    context.load_cert_chain(files.certificate, files.key)
                self._contexts = {key: c for key, c in self._contexts.items() if key[0] != files}
                self._contexts[files, ages] = context
            return self._contexts[files, ages]


class Wire(WinrmTransport):
    """pywinrm's transport for one host. `limits` says how long the next request may take."""

    def __init__(self, limits: Limits, context: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._adapter = _Adapter(limits, context, must_seal=context is None)
        self._must_seal = context is None
        self._is_logged_in = False
        """Whether the adapter's connection belongs to our account: NTLM logs in connections, not requests."""

    @property
    def is_sealed(self) -> bool:
        """Whether messages are sealed by the login instead of TLS."""
        return self._must_seal

    def build_session(self) -> requests.Session:
        """Return the session, logged in where messages are sealed."""
        if self.session is None:
            try:
                self._fit(super().build_session())
            except BaseException:
                # pywinrm keeps the session of a login that failed, and would send the next message unsealed.
                self.forget()
                raise
        assert self.session is not None
        if self._must_seal and self.encryption is None:
            self.forget()
            raise NotWinRm("messages could not be sealed")
        return self.session

    def setup_encryption(self, session: requests.Session) -> None:
        """Log in and get ready to seal; called by pywinrm while it builds the session."""
        self._fit(session)
        super().setup_encryption(session)

    def send_message(self, message: str | bytes) -> bytes:
        """Send a message and return its answer.

        On a connection that NTLM has logged in nothing has to be found out any more: there the request goes without
        what requests does for each one anew, which takes as long as the rest of it (measured).
        """
        if self._is_logged_in:
            with contextlib.suppress(_LoginLost):
                response = self._send_message_request(cast("requests.Session", self), self._prepared(message))
                return self._get_message_response_text(response)
            self._is_logged_in = False
        answer = super().send_message(message)
        self._is_logged_in = (
            self.session is not None and isinstance(self.session.auth, HttpNtlmAuth) and not self.encryption
        )
        return answer

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        """Send a request on the connection that is logged in; in the place of the session's method of this name."""
        response = self._adapter.send(request)
        if response.status_code == requests.codes.unauthorized:
            _ = response.content  # or the connection could not be used again
            raise _LoginLost
        return response

    def _prepared(self, message: str | bytes) -> requests.PreparedRequest:
        assert self.session is not None
        request = requests.PreparedRequest()
        request.method, request.url = "POST", self.endpoint
        request.body = message.encode() if isinstance(message, str) else message
        length = {"Content-Length": str(len(request.body))}
        request.headers = CaseInsensitiveDict({k: str(v) for k, v in self.session.headers.items()} | length)
        return request

    def forget(self) -> None:
        """Drop connection and login; the next message makes them anew.

        Unless the sealing is forgotten, pywinrm sends what was sealed for the dead connection, for ever (measured).
        """
        self.close_session()
        self.encryption = None
        self._is_logged_in = False

    def _fit(self, session: requests.Session) -> None:
        if isinstance(session.auth, HttpNtlmAuth) and isinstance(session.auth.username, str):
            # From a password pyspnego makes the LM hash, too, by DES in Python, which takes as long as a TLS handshake;
            # NTLMv2 does not use it. What stands here goes to spnego.client as it is.
            nt_hash = ntowfv1(session.auth.password or "").hex()
            credential: Any = spnego.NTLMHash(session.auth.username, nt_hash=nt_hash)
            session.auth.username = credential
        session.trust_env = False
        session.proxies = {}
        session.max_redirects = 0
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._adapter)


class _Adapter(HTTPAdapter):
    """Sends requests with a TLS context that exists already, and reads answers with care."""

    def __init__(self, limits: Limits, context: ssl.SSLContext | None, *, must_seal: bool) -> None:
        self._limits = limits
        self._context = context
        self._must_seal = must_seal
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Give the pool our TLS context."""
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)

    def build_connection_pool_key_attributes(  # type: ignore[override]  # the stubs name private types
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Say which connections are alike; requests' own would load its CA bundle here."""
        parts = urlsplit(request.url or "")
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return host, {"ssl_context": self._context} if parts.scheme == "https" else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the connection to the context: it demands and checks the certificate."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request and read its answer, within our limits of time and size."""
        # Each send of a login's three goes through here, so pywinrm's own time limit does not reach us.
        limits = (self._limits.connect, self._limits.read)
        response = super().send(request, stream=True, timeout=limits, verify=True, cert=None, proxies=None)
        try:
            self._read(response)
        except BaseException:
            response.close()
            raise
        return response

    def _read(self, response: requests.Response) -> None:
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > ANSWER_BYTES:
            raise NotWinRm("an answer that is too long")
        if response.is_redirect or response.is_permanent_redirect:
            raise NotWinRm("a redirect")
        if response.status_code == requests.codes.unauthorized:
            # The login looks at the connection of this answer, so it must not be read to its end here.
            if not length.isdigit():
                raise NotWinRm("a refusal of unknown length")
            return
        content = bytearray()
        for piece in response.iter_content(_PIECE):
            content += piece
            if len(content) > ANSWER_BYTES:
                raise NotWinRm("an answer that is too long")
        sealed = response.headers.get("Content-Type", "").lower().startswith("multipart/encrypted")
        if content and self._must_seal and not sealed:
            # Anybody on the way may have written it.
            if response.ok:
                raise NotWinRm("an answer that is not sealed")
            content.clear()
        response._content = bytes(content)  # noqa: SLF001  # what requests itself does after reading
