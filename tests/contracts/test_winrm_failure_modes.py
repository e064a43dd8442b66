"""The twelve ways in which WinRM is known to fail, by their numbers: each is survived, or told with advice."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.sandbox.windows.shells import CMD_CHARACTERS
from bot.windows.errors import RemoteErrorKind
from bot.windows.transport import BUSY_PAUSES
from tests.programs import Program, Relay, Restless, Stage, assert_fails, failure, obedient, stage

WHOLE = ["hello", "facts", "done"]


@pytest.fixture
def play(tmp_path: Path):
    """Make a host whose programs the test writes."""
    with stage(tmp_path, Restless()) as built:
        built.story = obedient(("facts", {"computer": "WEB-01"}))
        yield built


def cut_while_sealed(play: Stage) -> None:
    """Survived: a new login, the same shell, the script once; wherever it is cut, see test_winrm_faults."""
    with Relay(play.host.address, 5985, place="answer", number=6) as relay:
        assert play.visit("http", url=relay.url) == WHOLE
        assert relay.has_cut
    assert len([p for p in play.programs if p.stdin]) == 1


def no_answer_though_the_command_runs(play: Stage) -> None:
    """Tell an unknown outcome: the journal on the host knows it, and nothing is repeated."""

    def story(program: Program) -> None:
        program.input()
        play.host.faults.deaf = True
        program.say("hello")

    play.story = story
    assert_fails(failure(play, deadline=1.0), RemoteErrorKind.UNKNOWN_OUTCOME, "journal")
    assert play.operations["Command"] == 1


def endless_operation_timeouts(play: Stage) -> None:
    """End it at our own deadline: the shell is deleted, and the script with it."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")

    play.story = story
    assert_fails(failure(play, deadline=0.3), RemoteErrorKind.UNKNOWN_OUTCOME, "did not end within")
    assert play.programs[0].killed.is_set()


def quotas(play: Stage) -> None:
    """Wait with growing pauses, then tell; each try deletes its own shell, so that none is left."""
    play.host.faults.quota_shells = True
    assert_fails(failure(play), RemoteErrorKind.QUOTA, "MaxShellsPerUser")
    assert play.operations["Create"] == len(BUSY_PAUSES) + 1
    play.host.faults.quota_shells = False
    play.host.faults.quota_operations = True
    assert_fails(failure(play), RemoteErrorKind.QUOTA, "operations open")
    assert play.open_shells == 0
    play.clock.then = lambda: setattr(play.host.faults, "quota_operations", False)
    assert play.visit() == WHOLE


def a_busy_host(play: Stage) -> None:
    """Send is repeated with the same bytes; a host that stays busy began nothing."""
    play.prepare = lambda _: setattr(play.host.faults, "busy", True)
    play.clock.then = lambda: setattr(play.host.faults, "busy", False)
    assert play.visit() == WHOLE
    play.clock.then = lambda: None
    assert_fails(failure(play), RemoteErrorKind.BUSY, "too busy")
    assert len(play.programs[-1].stdin) == 0


def out_of_memory(play: Stage) -> None:
    """PowerShell dies at the start or in the middle: told as that, with what it complained; the text is UNVERIFIED."""
    complaint = b"Exception of type 'System.OutOfMemoryException' was thrown."

    def at_once(program: Program) -> None:
        program.input()
        program.print(complaint, on_error=True)
        program.exit(1)

    def in_the_middle(program: Program) -> None:
        program.input()
        program.say("hello")
        program.print(complaint, on_error=True)
        program.exit(1)

    play.story = at_once
    assert_fails(failure(play), RemoteErrorKind.PROTOCOL, "OutOfMemoryException")
    play.story = in_the_middle
    assert_fails(failure(play), RemoteErrorKind.UNKNOWN_OUTCOME, "journal")


def the_command_line(play: Stage) -> None:
    """Constant and short enough even for cmd.exe; an exit code of 0 without a last line is no success."""
    assert play.visit(parameters={"pfx": "x" * 3 * CMD_CHARACTERS}) == WHOLE
    assert len(" ".join(play.programs[0].line)) < CMD_CHARACTERS
    play.story = lambda program: program.exit(0)
    assert_fails(failure(play), RemoteErrorKind.PROTOCOL, "said nothing at all")


def channel_binding(play: Stage) -> None:
    """Something between us and the host that ends TLS looks like a wrong password: the sentence names it."""
    play.host.faults.wrong_password = True
    assert_fails(failure(play), RemoteErrorKind.AUTHENTICATION, "ends TLS", "channel binding")


def a_wrong_password_and_many_hosts(play: Stage) -> None:
    """One try in all: the second host is not even asked."""
    play.host.faults.wrong_password = True
    other = play.world.add_host("web-02")
    play.server.serve()
    assert_fails(failure(play), RemoteErrorKind.AUTHENTICATION, "refused the login")
    refused = failure(play, url=f"https://{other.address}:5986/wsman")
    assert_fails(refused, RemoteErrorKind.AUTHENTICATION, "not asked", play.host.address)
    assert play.server.requests["web-02"] == 0
    assert play.operations["refused"] == 1


def policies(play: Stage) -> None:
    """NTLM switched off is told as that; what is not sealed is never sent over http."""
    play.host.faults.no_ntlm = True
    for scheme in ("http", "https"):
        assert_fails(failure(play, scheme), RemoteErrorKind.AUTHENTICATION, "NTLM", "kerberos")
    error = failure(play, "http", transport="basic")
    assert_fails(error, RemoteErrorKind.AUTHENTICATION, "in clear")


def rights(play: Stage) -> None:
    """Tell what an account lacks that is no administrator, or that UAC filters."""
    play.host.faults.denied = True
    assert_fails(failure(play), RemoteErrorKind.AUTHENTICATION, "LocalAccountTokenFilterPolicy", "Administrators")


def tls(play: Stage) -> None:
    """Let a client certificate be asked for after the handshake; never ignore an untrusted listener."""
    assert play.visit() == WHOLE
    (context,) = play.visits._transport._contexts._contexts.values()
    assert context.post_handshake_auth
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert_fails(failure(play, ca_file=None), RemoteErrorKind.TLS, "not trusted")


MODES: dict[int, Callable[[Stage], None]] = {
    1: cut_while_sealed,
    2: no_answer_though_the_command_runs,
    3: endless_operation_timeouts,
    4: quotas,
    5: a_busy_host,
    6: out_of_memory,
    7: the_command_line,
    8: channel_binding,
    9: a_wrong_password_and_many_hosts,
    10: policies,
    11: rights,
    12: tls,
}


@pytest.mark.parametrize("number", MODES, ids=lambda n: f"{n:02}-{MODES[n].__name__}")
def test_each_failure_mode_is_survived_or_told(play: Stage, number: int) -> None:
    """One typed error at most, never a foreign exception, and never a second start of a script that may have run."""
    MODES[number](play)


def test_the_table_is_complete() -> None:
    """All twelve, without a gap."""
    assert list(MODES) == list(range(1, 13))
