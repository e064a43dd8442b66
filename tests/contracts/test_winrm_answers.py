"""Answers that no WinRM gives and output that no script of ours prints: typed errors, whatever comes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.secrets import Secret
from bot.windows.errors import RemoteErrorKind
from bot.windows.visit import LINE_BYTES, VISIT_BYTES
from tests.programs import CANARY, Odd, Program, Restless, assert_fails, failure, stage


@pytest.fixture
def clock():
    """Return a clock that does not wait."""
    return Restless()


@pytest.fixture
def play(tmp_path: Path, clock: Restless):
    """Make a host whose programs the test writes."""
    with stage(tmp_path, clock) as built:
        yield built


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fault(code: str) -> bytes:
    """Return a SOAP fault with some code."""
    space = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
    return http(
        "500 Error",
        f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Detail><f:WSManFault '
        f'xmlns:f="{space}" Code="{code}"/></s:Detail></s:Fault></s:Body></s:Envelope>'.encode(),
    )


HTML = "<html>Grüß Gott</html>".encode("latin-1")
PROTOCOL, AUTHENTICATION = RemoteErrorKind.PROTOCOL, RemoteErrorKind.AUTHENTICATION


@pytest.mark.parametrize(
    ("answer", "kind", "word"),
    [
        pytest.param(http("200 OK"), PROTOCOL, "not WinRM", id="empty"),
        pytest.param(http("200 OK", b"<html>hello<br></html>"), PROTOCOL, "not WinRM", id="html"),
        pytest.param(http("200 OK", b"<a><b/></a>"), PROTOCOL, "StopIteration", id="other xml"),
        pytest.param(http("502 Bad Gateway", HTML), PROTOCOL, "proxy", id="latin-1"),
        pytest.param(http("500 Error"), PROTOCOL, "sealed", id="500"),
        pytest.param(http("404 Not Found"), PROTOCOL, "another service", id="404"),
        pytest.param(http("413 Too Large"), PROTOCOL, "MaxEnvelopeSizekb", id="413"),
        pytest.param(http("403 Forbidden"), AUTHENTICATION, "Administrators", id="403"),
        pytest.param(http("503 Unavailable"), RemoteErrorKind.BUSY, "too busy", id="503"),
        pytest.param(fault("0x80338000"), PROTOCOL, "ValueError", id="hex code"),
        pytest.param(fault("5"), AUTHENTICATION, "LocalAccountTokenFilterPolicy", id="access denied"),
        pytest.param(fault("2150858999"), PROTOCOL, "2150858999", id="another fault"),
        pytest.param(http("307 Moved", b"", "Location: http://127.0.0.1:1/"), PROTOCOL, "redirect", id="redirect"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", PROTOCOL, "too long", id="announced too long"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b"x" * 0x200000 + b"\r\n0\r\n\r\n",
            PROTOCOL,
            "too long",
            id="too long",
        ),
    ],
)
def test_an_answer_that_no_winrm_gives_is_a_typed_error(play, answer, kind, word):
    """Whatever pywinrm makes of it: no foreign exception gets through, and nothing of the answer is shown."""
    with Odd(play.world, answer) as odd:
        error = failure(play, url=odd.url, transport="basic", password=lambda: Secret(CANARY))
    assert_fails(error, kind, word)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        pytest.param(http("401 No", b"", 'WWW-Authenticate: Basic realm="x"'), "refused the login", id="basic only"),
        pytest.param(http("401 No", b"", "WWW-Authenticate: Negotiate"), "offers no login", id="no challenge"),
        pytest.param(http("401 No"), "refused the login", id="nothing offered"),
        pytest.param(http("401 No", b"", "WWW-Authenticate: Negotiate AAAA"), "", id="broken challenge"),
    ],
)
def test_a_host_that_cannot_do_ntlm_is_a_refused_login(play, answer, word):
    """NTLM is switched off by policy in places: PermissionError and KeyError of the libraries become advice."""
    for tls in (True, False):
        with Odd(play.world, answer, tls=tls) as odd:
            error = failure(play, url=odd.url, password=lambda: Secret(CANARY))
        assert error.kind in {AUTHENTICATION, PROTOCOL}, error
        assert word in str(error)


def test_nothing_is_sent_in_clear_where_messages_are_sealed(play):
    """A host, or somebody on the way, that takes the login's empty message without any login gets nothing more."""
    for answer in (http("200 OK"), http("500 Error"), http("401 No")):
        with Odd(play.world, answer, tls=False) as odd:
            failure(play, url=odd.url)
        assert set(odd.bodies) == {b""}


# ---- Scripts


def printing(*pieces: bytes, on_error: bytes = b"") -> Callable[[Program], None]:
    """Return the story of a program that prints these bytes and ends."""

    def story(program: Program) -> None:
        program.input()
        for piece in pieces:
            program.print(piece)
        program.print(on_error, on_error=True)
        program.exit(1)

    return story


HELLO = b'{"kind":"hello","value":{}}\n'
DONE = b'{"kind":"done","value":true}\n'


@pytest.mark.parametrize(
    ("story", "kind", "word"),
    [
        pytest.param(printing(), PROTOCOL, "said nothing at all", id="nothing"),
        pytest.param(printing(on_error=b"blocked by policy"), PROTOCOL, "blocked by policy", id="a complaint"),
        pytest.param(printing(HELLO), RemoteErrorKind.UNKNOWN_OUTCOME, "in the middle", id="no end"),
        pytest.param(printing(HELLO, DONE), PROTOCOL, "facts", id="no result"),
        pytest.param(printing(b"Welcome!\r\n", HELLO, DONE), PROTOCOL, "do not print", id="a banner"),
        pytest.param(printing(b'["a"]\n', DONE), PROTOCOL, "do not print", id="no object"),
        pytest.param(printing(b'{"kind":7,"value":1}\n', DONE), PROTOCOL, "do not print", id="kind is no text"),
        pytest.param(printing(b"[" * 100_000 + b"\n", DONE), PROTOCOL, "do not print", id="too deep"),
        pytest.param(printing(b"x" * (LINE_BYTES + 1) + b"\n", DONE), PROTOCOL, "line longer", id="line too long"),
        pytest.param(printing(*[HELLO * 1000] * (VISIT_BYTES // 20_000)), PROTOCOL, "more than", id="too much"),
    ],
)
def test_output_that_no_script_of_ours_gives_is_a_typed_error(play, story, kind, word):
    """An exit code proves nothing, and neither does a line that is not ours."""
    play.story = story
    assert_fails(failure(play), kind, word)
    assert play.open_shells == 0


def test_what_a_script_says_of_its_failure_is_shown_without_keys(play):
    """The message is for people; a run of base64 in it may be a key."""
    key = "QUJD" * 40

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("error", {"message": f"import-certificate ended with exit code 100: {key}", "type": "x", "at": ""})
        program.exit(1)

    play.story = story
    error = failure(play)
    assert_fails(error, RemoteErrorKind.SCRIPT, "exit code 100: …")
    assert key not in str(error)


def test_a_killed_script_is_an_unknown_outcome(play):
    """The shell's process is gone, `finally` included: only the host knows how far it came."""
    play.host.faults.kill_shell_at = "stopping"

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping", "x")

    play.story = story
    assert_fails(failure(play, script="apply"), RemoteErrorKind.UNKNOWN_OUTCOME, "stopping", "journal")
