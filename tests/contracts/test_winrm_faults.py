"""Every way in which a visit is known to fail on the wire: survived, or one typed error that says what to do."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.sandbox.windows import soap
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import BUSY_PAUSES, CONNECT_PAUSES, SEND_BYTES, Endpoint, Transport
from bot.windows.visit import Line
from tests.programs import SECONDS, Odd, Program, Relay, Restless, assert_fails, failure, idle, obedient, stage

FACTS = ("facts", {"computer": "WEB-01"})
SCHEMES = ("http", "https")


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


# ---- What costs how much


@pytest.mark.parametrize(("scheme", "most"), [("https", 7), ("http", 8)])
def test_a_visit_is_few_requests(play, scheme, most):
    """One shell, one command, one Send, one Receive, one Delete, and the login's own."""
    assert play.visit(scheme) == ["hello", "facts", "done"]
    assert play.server.requests["web-01"] <= most
    assert play.operations == dict.fromkeys(("Create", "Command", "Send", "Receive", "Delete"), 1)
    assert play.open_shells == 0


def test_the_command_line_is_constant_and_holds_no_parameter(play):
    """Script and parameters go by standard input, as two lines of base64."""
    for secret in ("one", "two"):
        play.visit(parameters={"pfx": secret})
    first, second = play.programs
    assert first.line == second.line
    assert first.line[:4] == ["powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand"]
    assert first.stdin != second.stdin
    assert len(first.input()) == 2


def test_long_input_is_sent_in_pieces(play):
    """Each fits the smallest envelope; together they are what was meant."""
    play.visit(parameters={"pfx": "x" * 3 * SEND_BYTES})
    program = play.programs[0]
    assert len(program.stdin) > 4 * SEND_BYTES
    assert play.operations["Send"] == len(program.stdin) // SEND_BYTES + 1
    assert len(program.input()) == 2


def test_lines_are_handed_on_as_they_come(play):
    """Before the script has ended."""
    heard = threading.Event()

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        assert heard.wait(5)
        program.say(*FACTS)
        program.finish()

    play.story = story
    play.visit(on_line=lambda _: heard.set())
    assert heard.is_set()


# ---- Connections


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_cut_in_mid_visit_is_gone_on_from(play, scheme):
    """With the same shell and a new login, also where messages are sealed; the script runs once."""
    play.host.faults.cut_at = "facts"
    assert play.visit(scheme) == ["hello", "facts", "done"]
    assert play.operations["Create"] == play.operations["Command"] == 1
    assert not play.programs[0].killed.is_set() or play.operations["Delete"] == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lost_answer_is_an_unknown_outcome(play, scheme):
    """What was in the lost answer is gone for good: the visit does not pretend, and repeats nothing."""
    play.host.faults.cut_receive = 1
    error = failure(play, scheme)
    assert_fails(error, RemoteErrorKind.UNKNOWN_OUTCOME, "journal")
    assert play.operations["Command"] == 1


def test_a_lost_beginning_is_noticed_though_the_end_was_seen(play):
    """Lines are missing between: an unknown outcome, whatever the last line says."""
    lost = threading.Event()

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        assert lost.wait(5)
        program.say(*FACTS)
        program.finish()

    def pause() -> None:
        if not play.host.faults.cut_receive:
            lost.set()

    play.story = story
    play.clock.then = pause
    play.host.faults.cut_receive = 1
    assert_fails(failure(play), RemoteErrorKind.UNKNOWN_OUTCOME, "left lines out")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_input_whose_receipt_was_lost_is_not_sent_again(play, scheme):
    """It may have arrived: the script is listened to, and here it is at work."""
    play.prepare = lambda program: setattr(program, "at_write", lambda: play.server.cut("web-01"))
    assert play.visit(scheme) == ["hello", "facts", "done"]
    assert play.operations["Send"] == 1


def test_input_that_was_lost_is_given_up_when_nothing_is_heard(play):
    """It may not have arrived either: then the script waits for ever, and its shell is closed after some time."""

    def prepare(program: Program) -> None:
        program.at_write = lambda: play.server.cut("web-01")
        program.is_deaf = True

    play.prepare = prepare
    assert_fails(failure(play, "http"), RemoteErrorKind.UNKNOWN_OUTCOME, "nothing was heard")
    assert play.operations["Send"] == 1
    assert play.programs[0].killed.is_set()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_program_whose_start_was_not_confirmed_is_started_in_another_shell(play, scheme):
    """Without input it did nothing: its shell is closed, and the script runs once."""

    def prepare(_: Program) -> None:
        if len(play.programs) == 1:
            play.server.cut("web-01")

    play.prepare = prepare
    assert play.visit(scheme) == ["hello", "facts", "done"]
    unfed, fed = play.programs
    assert unfed.killed.is_set()
    assert unfed.stdin == b""
    assert len(fed.input()) == 2
    assert play.open_shells == 0


def test_a_connection_that_is_always_cut_before_the_input_begins_nothing(play):
    """A few tries, then the host counts as unreachable; nothing stays there."""
    play.prepare = lambda _: play.server.cut("web-01")
    assert_fails(failure(play, "http"), RemoteErrorKind.UNREACHABLE)
    assert play.operations["Command"] == len(CONNECT_PAUSES) + 1
    assert all(program.killed.wait(SECONDS) and not program.stdin for program in play.programs)
    assert play.open_shells == 0


SEALED_REQUESTS = 8
"""Three of the login, then Create, Command, Send, Receive and Delete."""
NOT_SURVIVED = {
    ("request", 6): (RemoteErrorKind.UNKNOWN_OUTCOME, "nothing was heard"),
    ("answer", 7): (RemoteErrorKind.UNKNOWN_OUTCOME, "journal"),  # the output in it is lost for good
}


@pytest.mark.parametrize("place", ["request", "answer", "after"])
@pytest.mark.parametrize("number", range(1, SEALED_REQUESTS + 1))
def test_wherever_a_sealed_visit_is_cut_the_script_gets_its_input_at_most_once(play, place, number):
    """Survived nearly everywhere, one typed error elsewhere."""
    with Relay(play.host.address, 5985, place=place, number=number) as relay:
        if (place, number) in NOT_SURVIVED:
            kind, word = NOT_SURVIVED[place, number]
            assert_fails(failure(play, "http", url=relay.url), kind, word)
        elif place == "after":
            # Whether the client notices the cut before it sends the next request or while it does is a race: it goes
            # on over a new connection, or that request is lost and the error says so.
            with contextlib.suppress(RemoteError):
                assert play.visit("http", url=relay.url) == ["hello", "facts", "done"]
        else:
            assert play.visit("http", url=relay.url) == ["hello", "facts", "done"]
        assert relay.has_cut
    assert sum(len(program.stdin) > 0 for program in play.programs) <= 1
    # Nobody knows the name of a shell when the answer to its Create was lost: it ends by its idle timeout.
    if place != "after":
        assert play.open_shells == (1 if (place, number) == ("answer", 4) else 0)


def test_a_program_that_takes_no_input_is_listened_to_all_the_same(play):
    """It has ended at once and said why, as under application control; the refused Send is not the news."""

    def refuse() -> None:
        raise soap.Fault(109, "w:InternalError", "The pipe has been ended. ")

    def story(program: Program) -> None:
        program.say("hello", {"language": "ConstrainedLanguage"})
        program.say("error", {"message": "PowerShell runs in ConstrainedLanguage mode here"})
        program.exit(1)

    play.prepare = lambda program: setattr(program, "at_write", refuse)
    play.story = story
    assert_fails(failure(play), RemoteErrorKind.SCRIPT, "ConstrainedLanguage mode")
    play.story = idle
    assert_fails(failure(play), RemoteErrorKind.UNKNOWN_OUTCOME, "fault 109")
    assert play.open_shells == 0


def test_when_listening_fails_for_good_a_script_at_work_is_left_alone(play):
    """Nobody heard whether it stopped its service meanwhile: its shell is not deleted."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping")

    def go_away() -> None:
        play.host.faults.unreachable = True
        play.server.serve()

    for kind in ("hello", "stopping"):
        play.host.faults.unreachable = False
        play.server.serve()
        play.story = story
        play.host.faults.cut_at = kind
        play.clock.then = go_away
        assert_fails(failure(play, script="apply"), RemoteErrorKind.UNKNOWN_OUTCOME)
        assert not play.programs[-1].killed.is_set()
    assert "Delete" not in play.operations


@pytest.mark.parametrize(("script", "is_ended"), [("apply", False), ("inspect", True)])
def test_after_an_answer_that_was_swallowed_only_a_harmless_script_is_ended(play, script, is_ended):
    """It may have said that the service is stopped. The host is still there, so a Delete would reach it."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping")

    play.story = story
    with Relay(play.host.address, 5985, place="odd", number=7) as relay:
        assert_fails(failure(play, "http", url=relay.url, script=script), RemoteErrorKind.UNKNOWN_OUTCOME, "502")
    assert play.programs[0].killed.is_set() is is_ended
    assert play.open_shells == (0 if is_ended else 1)


def test_a_password_that_changes_in_mid_visit_is_refused_once(play):
    """Accounts lock: after a refused login there is not even a Delete."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")

    def on_line(_: Line) -> None:
        play.host.faults.wrong_password = True
        play.server.cut("web-01")

    play.story = story
    assert_fails(failure(play, on_line=on_line), RemoteErrorKind.UNKNOWN_OUTCOME, "refused the login")
    assert play.operations["refused"] == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_that_closed_while_quiet_is_made_anew(play, scheme):
    """http.sys closes quiet connections. What was sealed for the dead one gets HTTP 400: logged in and asked anew."""
    cut = threading.Event()

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        assert cut.wait(5)
        for line in (FACTS, ("done", True)):
            program.say(*line)
        program.exit()

    def on_line(line: Line) -> None:
        if line.kind == "hello":
            play.server.cut("web-01")
            cut.set()

    play.story = story
    assert play.visit(scheme, on_line=on_line) == ["hello", "facts", "done"]
    assert play.operations["Command"] == 1
    assert play.open_shells == 0


def test_an_unreachable_host_is_tried_again_and_named(play, clock):
    """Three tries, then one sentence."""
    play.host.faults.unreachable = True
    play.server.serve()
    assert_fails(failure(play), RemoteErrorKind.UNREACHABLE, "refuses connections", "WinRM runs")
    assert len(clock.pauses) == len(CONNECT_PAUSES)


def test_a_host_that_comes_back_between_two_tries_is_visited(play, clock):
    """Nothing was begun, so trying again is safe."""

    def come_back() -> None:
        play.host.faults.unreachable = False
        play.server.serve()

    play.host.faults.unreachable = True
    play.server.serve()
    clock.then = come_back
    assert play.visit() == ["hello", "facts", "done"]


def test_an_unknown_name_says_so(play):
    """The sentence speaks of the name, not of firewalls."""
    error = failure(play, url="https://no-such-host.invalid:5986/wsman")
    assert_fails(error, RemoteErrorKind.UNREACHABLE, "cannot be resolved", "[[hosts]]")


# ---- Time


def test_a_script_that_hangs_is_ended_at_the_deadline(play):
    """Operation timeouts are not errors, but do not go on for ever: the shell is deleted, and the script with it."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")

    play.story = story
    assert_fails(failure(play, deadline=0.3), RemoteErrorKind.UNKNOWN_OUTCOME, "did not end within")
    assert play.operations["Delete"] == 1
    assert play.programs[0].killed.is_set()


def test_a_script_whose_service_is_stopped_is_never_ended(play):
    """Past the deadline it is listened to for a while, then left to its own limits: its shell is not deleted."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping", "OctopusDeploy Tentacle")

    play.story = story
    assert_fails(failure(play, deadline=1.5, script="apply"), RemoteErrorKind.UNKNOWN_OUTCOME)
    assert "Delete" not in play.operations
    assert not play.programs[0].killed.is_set()
    assert play.open_shells == 1


def test_a_service_that_starts_after_the_deadline_is_still_heard(play):
    """Late is not lost."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping", "x")
        threading.Event().wait(1.2)  # the shortest Receive is one second, and ends after the deadline
        for kind in ("started", "applied", "done"):
            program.say(kind, {})
        program.exit()

    play.story = story
    assert play.visit(deadline=0.3, script="apply")[-1] == "done"
    assert play.open_shells == 0


def test_a_listener_that_fails_does_not_leave_a_service_stopped(play):
    """What the reader of the lines throws ends the visit only after the service runs again."""
    failed, started = threading.Event(), threading.Event()

    def on_line(line: Line) -> None:
        if line.kind == "stopping":
            failed.set()
            raise OSError("the database is gone")

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("stopping")
        assert failed.wait(5)
        threading.Event().wait(0.1)
        started.set()
        program.say("started")

    play.story = story
    with pytest.raises(OSError, match="database"):
        play.visit(script="apply", on_line=on_line)
    assert started.is_set()
    assert play.programs[0].killed.is_set()


def test_a_host_that_never_answers_is_given_up(play, tmp_path):
    """It takes the connection and says nothing."""
    with Odd(play.world, None) as odd:
        error = failure(play, url=odd.url, deadline=1.0)
    assert_fails(error, RemoteErrorKind.UNREACHABLE)


# ---- Quotas and busy hosts


def test_too_many_shells_is_waited_for_and_then_said(play, clock):
    """A few tries with growing pauses, then a sentence that names the setting."""
    play.host.faults.quota_shells = True
    assert_fails(failure(play), RemoteErrorKind.QUOTA, "MaxShellsPerUser")
    assert play.operations["Create"] == len(BUSY_PAUSES) + 1
    assert clock.pauses == sorted(clock.pauses)


def test_a_shell_that_becomes_free_is_taken(play, clock):
    """The quota is not the end."""
    play.host.faults.quota_shells = True
    clock.then = lambda: setattr(play.host.faults, "quota_shells", False)
    assert play.visit() == ["hello", "facts", "done"]


def test_a_busy_host_is_waited_for_and_then_said(play):
    """Fault 170 on Create: nothing was begun."""
    play.host.faults.busy = True
    assert_fails(failure(play), RemoteErrorKind.BUSY, "too busy", "170")
    assert play.programs == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_input_that_a_busy_host_did_not_take_is_sent_again_once_it_can(play, clock, scheme):
    """The same bytes, once."""
    play.prepare = lambda _: setattr(play.host.faults, "busy", True)
    clock.then = lambda: setattr(play.host.faults, "busy", False)
    assert play.visit(scheme) == ["hello", "facts", "done"]
    assert play.operations["Send"] == 2
    assert len(play.programs[0].input()) == 2


def test_a_host_that_never_takes_the_input_began_nothing(play):
    """Busy at each Send: the shell is closed, the error says busy and not unknown."""
    play.prepare = lambda _: setattr(play.host.faults, "busy", True)
    assert_fails(failure(play), RemoteErrorKind.BUSY)
    assert play.programs[0].killed.is_set()


def test_many_hosts_are_visited_at_once(play, clock):
    """One transport serves all threads."""
    hosts = [play.world.add_host(f"web-{number:02}") for number in range(2, 26)]
    play.server.serve()
    transport = Transport(SystemClock())

    def visit(host) -> int:
        plain: Endpoint = play.endpoint("https")
        endpoint = replace(plain, url=f"https://{host.address}:5986/wsman")
        told: list[bytes] = []
        status = transport.run(endpoint, "x", (), b"a\nb\n", deadline=20, on_output=told.append, may_end=lambda: True)
        assert b"".join(told).count(b"\n") == 3
        return status.code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(visit, hosts)) == {0}
