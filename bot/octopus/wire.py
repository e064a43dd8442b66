"""The wire to the Octopus Server's REST API: requests, retries, paging, and errors as sentences."""

import random
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from bot import telemetry
from bot.clock import Clock
from bot.domain.errors import SettingsError
from bot.octopus.answers import error_of, json_of
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.secrets import Secret

REQUEST_SECONDS = 30.0
"""How long one request may take to connect, and then to be silent."""
PATIENCE_SECONDS = 30.0
"""How long requests are repeated while the Server is away, restarting or asks for a slower pace."""
PAGE = 500
"""Items asked for at once where Octopus pages; its own default is 30. It may give fewer."""
LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes; five thousand machines have about twenty million."""
CONNECTIONS = 24
"""Connections that are open to the Server at most."""
IDLE_CONNECTIONS = 8
"""Those of them that are kept when nobody uses them: at every request httpcore asks each one whether it still lives."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_TRIES_AFTER_500 = 4
"""An internal error is repeated a few times only: unlike an absent Server it seldom passes by waiting."""
_AWAY = {408, 502, 503, 504}
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "octocert"}

Parameters = Mapping[str, str | int | bool | None]


class Wire:
    """One Octopus Server; may be used by many threads at once.

    Every request reads the API key anew and takes nothing from the environment: no proxies, no .netrc. Redirects are
    never followed, so that the key goes to the configured address only.
    """

    def __init__(
        self,
        url: str,
        api_key: Callable[[], Secret],
        *,
        clock: Clock,
        ca_file: Path | None = None,
        timeout: float = REQUEST_SECONDS,
        patience: float = PATIENCE_SECONDS,
        pool: httpx.HTTPTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.clock = clock
        self._api_key = api_key
        self._ca_file = ca_file
        self._timeout = timeout
        self._patience = patience
        self._owns_pool = pool is None
        self._pool = pool or self._new_pool()

    def with_patience(self, seconds: float) -> "Wire":
        """Return a wire that shares the connections and repeats its requests for so many seconds."""
        return Wire(
            self.url,
            self._api_key,
            clock=self.clock,
            ca_file=self._ca_file,
            timeout=self._timeout,
            patience=seconds,
            pool=self._pool,
        )

    def close(self) -> None:
        """Close all connections, unless they belong to another wire."""
        if self._owns_pool:
            self._pool.close()

    def get(self, path: str, parameters: Parameters | None = None, *, repeat: bool = True) -> Any:
        """Return the JSON document at a path such as `/api/spaces/all`; None for an empty answer."""
        return self._request("GET", path, parameters=parameters, repeat=repeat)

    def get_all(self, path: str, parameters: Parameters | None = None, *, at_most: int | None = None) -> list[Any]:
        """Return all items of a paged collection, or the first `at_most`."""
        found: list[Any] = []
        while True:
            asked = {**(parameters or {}), "skip": len(found), "take": min(PAGE, at_most or PAGE)}
            page = self.get(path, asked)
            if not isinstance(page, dict) or not isinstance(page.get("Items"), list):
                raise self.unexpected(path, "a page of items was expected")
            items = page["Items"]
            found.extend(items)
            total = page.get("TotalResults")
            if at_most is not None and len(found) >= at_most:
                return found[:at_most]
            if not items or (isinstance(total, int) and len(found) >= total):
                return found

    def get_list(self, path: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """Return the documents of an `/all` collection, which Octopus gives as one bare list."""
        documents = self.get(path, parameters)
        if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
            raise self.unexpected(path, "a list of documents was expected")
        return documents

    def get_document(self, path: str, parameters: Parameters | None = None) -> dict[str, Any]:
        """Return one JSON object."""
        document = self.get(path, parameters)
        if not isinstance(document, dict):
            raise self.unexpected(path, "one document was expected")
        return document

    def put(self, path: str, document: Mapping[str, Any]) -> Any:
        """Replace a whole document; repeated after a lost answer, for a PUT of the same document changes nothing."""
        return self._request("PUT", path, document=document)

    def post(self, path: str, document: Mapping[str, Any]) -> Any:
        """Create something; never repeated. After an error look whether it was created: the answer may be lost."""
        return self._request("POST", path, document=document)

    def unexpected(self, path: str, what: str) -> OctopusError:
        """Return the error for an answer that is not what Octopus documents."""
        text = f"{self.url} answered {path} with something unexpected: {what}. Check the address of the Octopus Server."
        return OctopusError(text, kind=OctopusErrorKind.UNEXPECTED)

    def _request(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        document: Mapping[str, Any] | None = None,
        repeat: bool = True,
    ) -> Any:
        give_up = self.clock.monotonic() + self._patience
        tries = 0
        while True:
            tries += 1
            try:
                response, body = self._send(method, path, parameters, document)
            except OctopusError as error:
                pause = _back_off(tries)
                may_pass = error.kind is OctopusErrorKind.UNREACHABLE and repeat and method != "POST"
                if not may_pass or self.clock.monotonic() + pause > give_up:
                    telemetry.FAILURES.labels(part="octopus", kind=error.kind.name.lower()).inc()
                    raise
                telemetry.RETRIES.labels(part="octopus").inc()
                self.clock.sleep(pause)
                continue
            if response.is_success:
                return json_of(response, body, self.url, path)
            failure = error_of(response, body, url=self.url, method=method, path=path)
            wait = self._pause_after(response, method, tries) if repeat else None
            if wait is None or self.clock.monotonic() + wait > give_up:
                telemetry.FAILURES.labels(part="octopus", kind=failure.kind.name.lower()).inc()
                raise failure
            telemetry.RETRIES.labels(part="octopus").inc()
            self.clock.sleep(wait)

    def _pause_after(self, response: httpx.Response, method: str, tries: int) -> float | None:
        """Return how many seconds to wait before the same request is sent again, None if it must not be."""
        if response.status_code == 429:
            # Nothing was carried out, so any method may be repeated.
            return max(self._retry_after(response) or 0.0, _back_off(tries))
        if method == "POST":
            return None
        if response.status_code in _AWAY:
            return max(self._retry_after(response) or 0.0, _back_off(tries))
        if response.status_code >= 500 and tries < _TRIES_AFTER_500:
            return _back_off(tries)
        return None

    def _retry_after(self, response: httpx.Response) -> float | None:
        text = response.headers.get("Retry-After", "").strip()
        if text.isdecimal():
            return float(text)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (at.astimezone(UTC) - self.clock.now()).total_seconds())

    def _send(
        self, method: str, path: str, parameters: Parameters | None, document: Mapping[str, Any] | None
    ) -> tuple[httpx.Response, bytes]:
        """Send one request once and return the answer with its body, of at most LARGEST_ANSWER bytes."""
        given = {
            k: str(v).lower() if isinstance(v, bool) else v for k, v in (parameters or {}).items() if v is not None
        }
        request = httpx.Request(
            method,
            self.url + path,
            params=given or None,
            json=document,
            headers={"X-Octopus-ApiKey": self._key(), **_HEADERS},
            extensions={"timeout": httpx.Timeout(self._timeout).as_dict()},
        )
        deadline = self.clock.monotonic() + self._timeout
        with telemetry.timed(telemetry.OCTOPUS_SECONDS, method=method) as timing:
            timing.labels = {"status": "0"}
            try:
                response = self._pool.handle_request(request)
                response.request = request
                try:
                    body = self._body(response, path, deadline)
                finally:
                    response.close()
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
            timing.labels = {"status": str(response.status_code)}
            return response, body

    def _body(self, response: httpx.Response, path: str, deadline: float) -> bytes:
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise self.unexpected(path, f"more than {LARGEST_ANSWER // 1024 // 1024} MiB")
            if self.clock.monotonic() > deadline + self._timeout:
                raise httpx.ReadTimeout("the answer trickles")
        return bytes(body)

    def _key(self) -> str:
        key = self._api_key().reveal()
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            # The library would print the whole header in its own error.
            raise OctopusError(
                "The API key of the Octopus Server holds spaces or characters that no key has. "
                "Create one on the service account's page in Octopus and store it again.",
                kind=OctopusErrorKind.UNAUTHORISED,
            )
        return key

    def _unreachable(self, error: httpx.HTTPError) -> OctopusError:
        cause = _cause(error)
        kind = OctopusErrorKind.UNREACHABLE
        match error:
            case httpx.ConnectError() if isinstance(cause, ssl.SSLCertVerificationError):
                kind = OctopusErrorKind.UNTRUSTED
                reason = (
                    f"its certificate is not trusted ({cause.verify_message}). "
                    "Name your CA's file as [octopus] ca_file, or correct the address."
                )
            case httpx.ConnectError() if isinstance(cause, ssl.SSLError):
                kind = OctopusErrorKind.UNTRUSTED
                reason = (
                    "it does not speak TLS there. Does its address begin with http:// perhaps, or is the port wrong?"
                )
            case httpx.ConnectError() | httpx.ConnectTimeout():
                reason = "nothing answers there. Check the address and the network, and whether the Server runs."
            case httpx.TimeoutException():
                reason = f"no answer came within {self._timeout:g} seconds. See whether the Server is overloaded."
            case _:
                reason = "the connection broke before the answer was complete. Ask again in a moment."
        return OctopusError(f"The Octopus Server at {self.url} cannot be reached: {reason}", kind=kind)

    def _new_pool(self) -> httpx.HTTPTransport:
        # httpx's client would look at each answer for redirects, cookies and logins, of which there are none here
        return httpx.HTTPTransport(
            verify=_trust(self._ca_file),
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE_CONNECTIONS),
        )


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return a TLS context that trusts the CAs of this file alone, or those of the system."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        reason = (
            error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else "it holds no certificates"
        )
        raise SettingsError(f"[octopus] ca_file = {ca_file} cannot be used: {reason}. Name a PEM file.") from None


def _back_off(tries: int) -> float:
    """Return seconds: twice as long each time, a little scattered so that many threads do not return at once."""
    pause = min(_FIRST_PAUSE * 2.0 ** min(tries - 1, 10), _LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 - nothing depends on who could guess it


def _cause(error: BaseException) -> BaseException:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
