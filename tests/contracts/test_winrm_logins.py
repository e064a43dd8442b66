"""Logins and TLS: what is refused, by whom, and what the sentence says to do."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from bot.sandbox.pki import Authority
from bot.secrets import Secret
from bot.windows.errors import RemoteError, RemoteErrorKind
from tests.programs import CANARY, Odd, Restless, assert_fails, failure, obedient, stage

FACTS = ("facts", {"computer": "WEB-01"})


@pytest.fixture
def clock():
    """Return a clock that does not wait."""
    return Restless()


@pytest.fixture
def play(tmp_path: Path, clock: Restless):
    """Make a host whose programs the test writes."""
    with stage(tmp_path, clock) as built:
        built.story = obedient(FACTS)
        yield built


@pytest.mark.parametrize(
    ("scheme", "changes", "words"),
    [
        ("https", {}, ("channel binding", "locked")),
        ("http", {}, ("NTLM restricted",)),
        ("https", {"transport": "basic"}, ("Basic must be allowed", "local accounts")),
    ],
)
def test_a_refused_login_is_one_try_and_one_sentence(play, scheme, changes, words):
    """Accounts lock: never a second try."""
    error = failure(play, scheme, password=lambda: Secret(CANARY), **changes)
    assert_fails(error, RemoteErrorKind.AUTHENTICATION, "refused the login", "does not lock", *words)
    assert play.server.operations["web-01"]["refused"] == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"url": "http://127.0.0.1:5985/wsman", "transport": "basic"}, "in clear"),
        ({"url": "http://127.0.0.1:5985/wsman", "transport": "certificate"}, "Use https"),
        ({"url": "ftp://127.0.0.1/wsman"}, "https://host:5986/wsman"),
        ({"transport": "credssp"}, "Use one of"),
        ({"username": ""}, "user name"),
        ({"password": None}, "reference to a password"),
        ({"transport": "certificate"}, "certificate and key"),
    ],
)
def test_what_would_be_unsafe_or_cannot_work_is_refused_before_anything_is_sent(play, changes, word):
    """Basic over http above all: it sends the password in clear."""
    with pytest.raises(RemoteError) as caught:
        play.visit(**changes)
    assert_fails(caught.value, RemoteErrorKind.AUTHENTICATION, word)
    assert play.server.requests["web-01"] == 0


def test_kerberos_without_its_library_says_what_to_install(play):
    """UNVERIFIED with a real KDC here; without the library it is one sentence."""
    pytest.importorskip("winrm")
    with suppress(ImportError):
        import winrm.vendor.requests_kerberos  # noqa: F401

        pytest.skip("the Kerberos library is installed here")
    error = failure(play, transport="kerberos", username="", password=None)
    assert_fails(error, RemoteErrorKind.AUTHENTICATION, "octocert[kerberos]")


def test_a_certificate_is_a_login_too(play, tmp_path):
    """Over https, by a certificate that the host maps to an account."""
    identity = play.world.ca.issue("svc-octocert")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(identity.pem)
    key.write_bytes(identity.key_pem)
    changes = {"transport": "certificate", "username": "", "password": None, "certificate": certificate, "key": key}
    assert play.visit(**changes) == ["hello", "facts", "done"]
    play.host.accounts.clear()
    assert_fails(failure(play, **changes), RemoteErrorKind.AUTHENTICATION, "our certificate", "certmapping")


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_connection_that_ended_between_two_requests_is_logged_in_anew(play, scheme):
    """The host may end what is idle; the program there goes on, and we come back to it."""
    is_cut = threading.Event()

    def story(program):
        program.input()
        program.say("hello", {"version": "5.1", "language": "FullLanguage"})
        is_cut.wait(10)
        program.say(*FACTS)
        program.finish()

    def cut(line):
        if line.kind == "hello":
            play.server.cut("web-01")
            is_cut.set()

    play.story = story
    assert play.visit(scheme, on_line=cut) == ["hello", "facts", "done"]
    assert play.operations["Command"] == 1
    assert play.operations.get("refused", 0) == 0
    assert play.open_shells == 0


def test_an_untrusted_listener_is_refused_and_never_ignored(play, tmp_path):
    """Without the right CA nothing is sent; no login is tried."""
    other = Authority(tmp_path / "other")
    assert_fails(failure(play, ca_file=other.file), RemoteErrorKind.TLS, "not trusted", "ca_file")
    assert_fails(failure(play, ca_file=None), RemoteErrorKind.TLS, "not trusted")
    assert_fails(failure(play, ca_file=tmp_path / "missing.pem"), RemoteErrorKind.TLS, "missing.pem")
    assert play.server.requests["web-01"] == 0


def test_a_listener_with_another_name_is_refused(play):
    """The certificate must name the address that was asked."""
    with Odd(play.world, b"", name="127.0.0.77") as odd:
        assert_fails(failure(play, url=odd.url), RemoteErrorKind.TLS, "another name")


def test_https_to_a_port_that_speaks_http_says_so(play):
    """The usual mix-up of 5985 and 5986."""
    error = failure(play, url=f"https://{play.host.address}:5985/wsman")
    assert_fails(error, RemoteErrorKind.TLS, "is HTTPS")


def test_a_renewed_ca_file_is_used_at_once(play, tmp_path):
    """One TLS context for all visits, until its file changes."""
    ca = tmp_path / "used.pem"
    ca.write_bytes(play.world.ca.file.read_bytes())
    contexts = play.visits._transport._contexts
    play.visit(ca_file=ca)
    play.visit(ca_file=ca)
    assert len(contexts._contexts) == 1
    ca.write_bytes(Authority(tmp_path / "new").file.read_bytes())
    assert_fails(failure(play, ca_file=ca), RemoteErrorKind.TLS)
    assert len(contexts._contexts) == 1
