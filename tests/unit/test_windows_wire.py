"""The wire: nothing in clear, nothing from the environment, nothing without a limit."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from winrm.exceptions import WinRMTransportError

from bot.windows.wire import ANSWER_BYTES, Limits, NotWinRm, TlsContexts, TlsFiles, Wire, _Adapter

SECRET_BODY = "<soap>with a key in it</soap>"


class Answering(http.server.ThreadingHTTPServer):
    """Answers every POST with the same, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.kind = 200, b"", "text/plain"
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.server_port}/wsman"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        """Answer."""
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.server.headers.append(dict(self.headers))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Answering]:
    """Serve on a free port."""
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wire(url: str) -> Wire:
    """Return a wire that must seal."""
    options = {"auth_method": "ntlm", "username": "CORP\\x", "password": "y", "message_encryption": "always"}
    return Wire(Limits(5, 5), None, endpoint=url, proxy=None, ca_trust_path=None, **options)


def test_after_a_login_that_failed_nothing_is_sent_in_clear(server):
    """Stock pywinrm keeps the session of such a login and sends the next message unsealed."""
    server.status = 500
    one = wire(server.url)
    for _ in range(2):
        with pytest.raises((WinRMTransportError, NotWinRm)):
            one.send_message(SECRET_BODY)
    one.forget()
    assert server.bodies == [b"", b""]


def posted(server: Answering, *, must_seal: bool) -> requests.Response:
    """Post something through the adapter."""
    with requests.Session() as session:
        session.mount("http://", _Adapter(Limits(5, 5), None, must_seal=must_seal))
        return session.post(server.url, data=b"x")


def test_an_answer_that_is_not_sealed_does_not_count(server):
    """Anybody on the way may have written it; of an error only the status is believed."""
    server.body = b"<soap>done</soap>"
    with pytest.raises(NotWinRm, match="not sealed"):
        posted(server, must_seal=True)
    assert posted(server, must_seal=False).content == server.body
    server.status = 500
    assert posted(server, must_seal=True).content == b""


def test_an_answer_has_a_limit(server):
    """By what it announces, before it is read."""
    server.body = b"x" * (ANSWER_BYTES + 1)
    with pytest.raises(NotWinRm, match="too long"):
        posted(server, must_seal=False)


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    """A visit goes to the host and nowhere else; the environment is none of its business."""
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    one = wire(server.url)
    with pytest.raises(AttributeError):  # there was no login
        one.send_message("x")
    one.forget()
    assert server.bodies == [b""]


def test_one_tls_context_serves_all_hosts_of_a_ca(tmp_path):
    """To load one costs more than a visit."""
    from bot.sandbox.pki import Authority

    ca = Authority(tmp_path).file
    contexts = TlsContexts()
    files = TlsFiles(ca, None, None)
    assert contexts.get(files) is contexts.get(TlsFiles(ca, None, None))
    assert contexts.get(files).post_handshake_auth
    assert contexts.get(files).check_hostname
    with pytest.raises(OSError, match="missing"):
        contexts.get(TlsFiles(tmp_path / "missing", None, None))
