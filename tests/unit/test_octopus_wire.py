"""The wire to Octopus: what is asked again and how long, what is not, and what people are told."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bot.clock import FakeClock
from bot.domain.errors import SettingsError
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.octopus.wire import LARGEST_ANSWER, Wire
from bot.sandbox import pki
from bot.secrets import Secret

KEY = "API-CANARY123"
Answer = tuple[int, dict[str, str], bytes]


class Server:
    """A real HTTP server on the loopback that gives prepared answers, the last one for ever."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[Answer] = [answer(200, {})]
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        handler = type("Handler", (_Handler,), {"world": self, "protocol_version": "HTTP/1.1"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def next(self) -> Answer:
        """Return the next prepared answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.world.requests.append((self.command, self.path, body))
        self.world.headers.append(dict(self.headers))
        status, headers, content = self.world.next()
        if status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = _answer  # noqa: N815 - the base class looks for these names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class dictates it
        """Be quiet."""


def answer(status: int, document: Any = None, **headers: str) -> Answer:
    """Return an answer with a JSON document, or with bytes as they are; status 0 breaks the connection."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server."""
    started = Server()
    yield started
    started.close()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock on which waiting takes no time."""
    return FakeClock()


Connect = Callable[..., Wire]


@pytest.fixture
def connect(clock: FakeClock) -> Iterator[Connect]:
    """Connect wires and close them at the end."""
    opened: list[Wire] = []

    def open_wire(url: str, key: str = KEY, **options: Any) -> Wire:
        opened.append(Wire(url, lambda: Secret(key), clock=clock, **{"timeout": 5.0, **options}))
        return opened[-1]

    yield open_wire
    for wire in opened:
        wire.close()


def fails(action: Callable[[], Any]) -> OctopusError:
    """Return the error with which an action fails; its sentence never holds the key."""
    with pytest.raises(OctopusError) as caught:
        action()
    assert KEY not in repr(caught.value)
    return caught.value


def test_a_request_carries_the_key_and_asks_for_json(server: Server, connect: Connect) -> None:
    """The key goes into its header, parameters are spelt as Octopus spells them, None is left out."""
    server.answers = [answer(200, {"Version": "2026.2"})]
    wire = connect(server.url + "/")
    assert wire.get("/api", {"active": True, "take": 5, "name": None}) == {"Version": "2026.2"}
    assert server.requests == [("GET", "/api?active=true&take=5", b"")]
    assert server.headers[0]["X-Octopus-ApiKey"] == KEY


def test_a_new_key_is_used_at_once(server: Server, clock: FakeClock) -> None:
    """The key is read for each request, so that it can be changed without a restart."""
    keys = iter(["API-OLD", "API-NEW"])
    wire = Wire(server.url, lambda: Secret(next(keys)), clock=clock)
    wire.get("/api")
    wire.get("/api")
    wire.close()
    assert [h["X-Octopus-ApiKey"] for h in server.headers] == ["API-OLD", "API-NEW"]


@pytest.mark.parametrize("key", ["API-CANARY123\n", "API CANARY123", "API-CANARY123ü", ""])
def test_a_malformed_key_is_not_printed(server: Server, connect: Connect, key: str) -> None:
    """The HTTP library would quote the header in its error; so the key is looked at first, and nothing is sent."""
    error = fails(lambda: connect(server.url, key).get("/api"))
    assert error.kind is OctopusErrorKind.UNAUTHORISED
    assert error.__context__ is None
    assert server.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408, 0])
def test_what_passes_is_asked_again(server: Server, connect: Connect, clock: FakeClock, status: int) -> None:
    """Rate limits, a restarting Server and broken connections are waited out, for GET and for PUT."""
    for action in (lambda w: w.get("/api"), lambda w: w.put("/api/x", {"Id": "x"})):
        server.answers = [answer(status, {}), answer(status, {}), answer(200, {"ok": 1})]
        before = clock.monotonic()
        assert action(connect(server.url)) == {"ok": 1}
        assert 0.75 < clock.monotonic() - before < 3


def test_post_is_never_repeated_but_for_a_rate_limit(server: Server, connect: Connect) -> None:
    """A lost answer to a POST may have created something; 429 says that it did not."""
    for status in (500, 503, 0):
        server.requests.clear()
        server.answers = [answer(status, {}), answer(201, {"Id": "x"})]
        fails(lambda: connect(server.url).post("/api/tasks", {}))
        assert len(server.requests) == 1
    server.answers = [answer(429, {}), answer(201, {"Id": "x"})]
    assert connect(server.url).post("/api/tasks", {}) == {"Id": "x"}


@pytest.mark.parametrize("spelling", ["seconds", "date"])
def test_retry_after_is_honoured(server: Server, connect: Connect, clock: FakeClock, spelling: str) -> None:
    """Octopus tells how long to wait, in seconds or as a date."""
    after = "7" if spelling == "seconds" else format_datetime(clock.now() + timedelta(seconds=7), usegmt=True)
    server.answers = [answer(429, {}, Retry_After=after), answer(200, [])]
    assert connect(server.url).get("/api/spaces/all") == []
    assert clock.monotonic() == pytest.approx(7)


def test_a_wait_beyond_the_patience_is_not_begun(server: Server, connect: Connect, clock: FakeClock) -> None:
    """A Server that wants an hour is an error now, not in an hour; more patience can be asked for."""
    server.answers = [answer(429, {}, Retry_After="3600")]
    wire = connect(server.url, patience=30)
    error = fails(lambda: wire.get("/api"))
    assert (error.kind, error.status, clock.monotonic()) == (OctopusErrorKind.RATE_LIMITED, 429, 0)
    server.answers = [answer(429, {}, Retry_After="3600"), answer(200, {})]
    assert wire.with_patience(4000).get("/api") == {}


def test_an_absent_server_ends_the_patience(connect: Connect, clock: FakeClock) -> None:
    """Nobody there is asked for as long as the patience lasts, and no longer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        free = taken.getsockname()[1]
    error = fails(lambda: connect(f"http://127.0.0.1:{free}", patience=20).get("/api"))
    assert error.kind is OctopusErrorKind.UNREACHABLE
    assert str(error).startswith(f"The Octopus Server at http://127.0.0.1:{free} cannot be reached: nothing answers")
    assert 10 < clock.monotonic() <= 20


def test_an_internal_error_is_not_repeated_for_long(server: Server, connect: Connect) -> None:
    """A 500 seldom passes by waiting: four tries, then its own words."""
    server.answers = [answer(500, {"ErrorMessage": "Deadlock victim"})]
    error = fails(lambda: connect(server.url, patience=3600).get("/api"))
    assert (error.kind, len(server.requests)) == (OctopusErrorKind.SERVER_ERROR, 4)
    assert "“Deadlock victim”" in str(error)


@pytest.mark.parametrize(
    ("status", "document", "kind", "said"),
    [
        (401, {"ErrorMessage": "You must be logged in."}, OctopusErrorKind.UNAUTHORISED, "does not accept the API key"),
        (
            403,
            {"ErrorMessage": "You do not have permission. Missing permission: MachineEdit"},
            OctopusErrorKind.FORBIDDEN,
            "Give its team the permission MachineEdit.",
        ),
        (403, b"<html>proxy</html>", OctopusErrorKind.FORBIDDEN, "may not do this in Octopus (GET /api/x)"),
        (404, {"ErrorMessage": "The resource 'x' was not found."}, OctopusErrorKind.NOT_FOUND, "'x' was not found"),
        (
            400,
            {"ErrorMessage": "There was a problem with your request.", "Errors": ["Please provide a thumbprint."]},
            OctopusErrorKind.REFUSED,
            "Please provide a thumbprint.",
        ),
        (400, {"ErrorMessage": "submitted data was out of date."}, OctopusErrorKind.CONFLICT, "Somebody else changed"),
        (409, [], OctopusErrorKind.CONFLICT, "Somebody else changed"),
        (418, {}, OctopusErrorKind.UNEXPECTED, "unexpected status, 418"),
    ],
)
def test_each_refusal_is_told_once(
    server: Server, connect: Connect, status: int, document: Any, kind: OctopusErrorKind, said: str
) -> None:
    """What waiting does not mend is told at once, in the Server's own words where it has some."""
    server.answers = [answer(status, document)]
    error = fails(lambda: connect(server.url).get("/api/x"))
    assert (error.kind, error.status, len(server.requests)) == (kind, status, 1)
    assert said in str(error)


def test_a_missing_permission_is_named(server: Server, connect: Connect) -> None:
    """The permission that Octopus names can be read off the error."""
    server.answers = [answer(403, {"ErrorMessage": "Missing permission: WorkerView"})]
    assert fails(lambda: connect(server.url).get("/api/x")).permission == "WorkerView"


def test_a_redirect_is_not_followed(server: Server, connect: Connect) -> None:
    """The key goes to the configured address only; the error names the other one."""
    server.answers = [answer(302, b"", Location="https://login.example.com/?from=octopus")]
    error = fails(lambda: connect(server.url).get("/api"))
    assert "redirects GET /api to https://login.example.com, which is not followed" in str(error)
    assert len(server.requests) == 1


def test_a_web_page_instead_of_json_is_told(server: Server, connect: Connect) -> None:
    """A log-in page with status 200 is not taken for an answer; an empty answer is None."""
    server.answers = [answer(200, b"<html>Please log in</html>", Content_Type="text/html; charset=utf-8")]
    error = fails(lambda: connect(server.url).get("/api"))
    assert (error.kind, "with text/html instead of JSON" in str(error)) == (OctopusErrorKind.UNEXPECTED, True)
    server.answers = [answer(204, b"")]
    assert connect(server.url).get("/api") is None


def test_answers_of_another_shape_are_told(server: Server, connect: Connect) -> None:
    """A list where a document belongs, and the other way round, is an unexpected answer."""
    server.answers = [answer(200, [])]
    assert fails(lambda: connect(server.url).get_document("/api")).kind is OctopusErrorKind.UNEXPECTED
    server.answers = [answer(200, {})]
    assert fails(lambda: connect(server.url).get_list("/api")).kind is OctopusErrorKind.UNEXPECTED
    assert fails(lambda: connect(server.url).get_all("/api")).kind is OctopusErrorKind.UNEXPECTED


def test_pages_are_read_to_the_end(server: Server, connect: Connect) -> None:
    """The Server may give fewer items than asked for; the next page begins where the last one ended."""
    pages = [
        {"Items": [1, 2], "TotalResults": 5},
        {"Items": [3, 4], "TotalResults": 5},
        {"Items": [5], "TotalResults": 5},
    ]
    server.answers = [answer(200, page) for page in pages]
    assert connect(server.url).get_all("/api/tasks", {"active": True}) == [1, 2, 3, 4, 5]
    assert [path.partition("skip=")[2] for _, path, _ in server.requests] == ["0&take=500", "2&take=500", "4&take=500"]


def test_only_the_first_items_are_read_where_that_is_enough(server: Server, connect: Connect) -> None:
    """A long history is not read to its beginning."""
    server.answers = [answer(200, {"Items": [1, 2, 3], "TotalResults": 9000})]
    assert connect(server.url).get_all("/api/tasks", at_most=2) == [1, 2]
    assert server.requests[0][1] == "/api/tasks?skip=0&take=2"


def test_a_collection_that_shrinks_ends(server: Server, connect: Connect) -> None:
    """Items deleted between two pages do not make us ask for ever."""
    server.answers = [answer(200, {"Items": [1], "TotalResults": 3}), answer(200, {"Items": [], "TotalResults": 3})]
    assert connect(server.url).get_all("/api/tasks") == [1]


def test_an_endless_answer_is_cut(server: Server, connect: Connect) -> None:
    """An answer has a largest size."""
    server.answers = [answer(200, b"[" + b" " * LARGEST_ANSWER + b"]")]
    assert "more than 64 MiB" in str(fails(lambda: connect(server.url).get("/api")))


def test_a_silent_server_costs_the_timeout(connect: Connect) -> None:
    """A Server that accepts and says nothing is given up after the time for one request."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        wire = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05, patience=0)
        assert "no answer came within 0.05 seconds" in str(fails(lambda: wire.get("/api")))


def test_tls_is_checked_against_the_named_authority(tmp_path: Path, connect: Connect, clock: FakeClock) -> None:
    """An internal CA is trusted when it is named; without it, the error says what to name, and at once."""
    authority = pki.Authority(tmp_path)
    certificate, key = authority.issue_files("octopus", addresses=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(context)
    try:
        assert connect(server.url, ca_file=authority.file).get("/api") == {}
        error = fails(lambda: connect(server.url).get("/api"))
        assert (error.kind, clock.monotonic()) == (OctopusErrorKind.UNTRUSTED, 0)
        assert "its certificate is not trusted" in str(error)
        assert "[octopus] ca_file" in str(error)
    finally:
        server.close()


def test_https_to_a_server_without_tls_is_told(server: Server, connect: Connect) -> None:
    """The usual mix-up of addresses is recognised, and not waited for."""
    error = fails(lambda: connect(server.url.replace("http:", "https:")).get("/api"))
    assert error.kind is OctopusErrorKind.UNTRUSTED
    assert "does not speak TLS there" in str(error)


def test_a_bad_ca_file_is_a_mistake_in_the_settings(tmp_path: Path, connect: Connect) -> None:
    """A CA file that is missing or holds something else is named with its setting."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for file in (tmp_path / "ca.pem", tmp_path / "gone.pem"):
        with pytest.raises(SettingsError, match=r"\[octopus\] ca_file = .* cannot be used"):
            connect("https://octopus.example.com", ca_file=file)
