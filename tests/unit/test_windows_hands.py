"""The hands: jobs become parameters of the scripts, and the scripts' lines become facts, progress and results."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.facts import ServiceState
from bot.domain.thumbprint import Thumbprint
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.hands import Action, Applied, Hands, Job, Progress
from tests.programs import Program, Stage, obedient, stage
from tests.unit.test_windows_answers import CERTIFICATE, HOST, PLAIN

OLD, NEW = Thumbprint("AB" * 20), CERTIFICATE.thumbprint
APPLIED = {
    "configured": str(NEW),
    "served": PLAIN["served"],
    "new": str(NEW),
    "state": "Running",
    "process": 815,
    "process_started": "2026-01-05T09:00:00.000Z",
    "trusted": PLAIN["trusted"],
    "trusting": None,
    "trusting_error": "the service does not run",
    "journal": None,
}


@pytest.fixture
def play(tmp_path: Path):
    """Make a host whose programs the test writes."""
    with stage(tmp_path) as built:
        yield built


def hands(play: Stage) -> Hands:
    """Return hands that reach the host."""
    return Hands(play.visits, play.clock)


def job(**changes) -> Job:
    """Return a whole job."""
    plain = {
        "run": "r1",
        "instance": "Tentacle",
        "exe": "Tentacle.exe",
        "config": "Tentacle.config",
        "service": "OctopusDeploy Tentacle",
        "expected": OLD,
        "new": NEW,
        "pfx": b"a pfx",
        "actions": (Action.BACKUP, Action.IMPORT, Action.RESTART, Action.SERVED),
        "port": 10933,
    }
    return Job(**{**plain, **changes})


def apply(play: Stage, progress: list[Progress] | None = None) -> Applied:
    """Do a job on the host."""
    seen = progress if progress is not None else []
    return hands(play).apply(play.endpoint(), job(), deadline=10, on_progress=seen.append)


def parameters(program: Program) -> dict:
    """Return the parameters that a script was given."""
    return json.loads(base64.b64decode(program.input()[1]))


def test_an_inspection_is_facts(play):
    """The host's clock is compared with ours at the time when the script read it."""

    def story(program: Program) -> None:
        program.input()
        clock = play.clock.now() + timedelta(hours=1)
        program.say("hello")
        program.say("facts", {**HOST, "clock": clock.isoformat()})
        program.finish()

    play.story = story
    facts = hands(play).inspect(play.endpoint(), loopback_seconds=3, deadline=10)
    assert facts.computer == "WEB-01"
    assert facts.address == play.host.address
    assert abs(facts.clock_skew_seconds - 3600) < 2
    plain = {"loopback": True, "loopback_seconds": 3, "server": False, "program_seconds": 60}
    assert parameters(play.programs[0]) == plain


def test_a_job_goes_out_whole_and_comes_back_as_a_result(play):
    """Every key is sent, null where there is nothing; a missing one is an exception under PowerShell's strict mode."""
    play.story = obedient(("applied", APPLIED))
    applied = apply(play)
    assert applied.configured == applied.new == NEW
    assert applied.state is ServiceState.RUNNING
    assert applied.process == 815
    assert applied.served
    assert applied.served.thumbprint == NEW
    assert (applied.trusting, applied.trusting_error) == (None, "the service does not run")
    assert parameters(play.programs[0]) == {
        "run": "r1",
        "kind": "tentacle",
        "instance": "Tentacle",
        "exe": "Tentacle.exe",
        "config": "Tentacle.config",
        "service": "OctopusDeploy Tentacle",
        "expected": OLD,
        "new": NEW,
        "pfx": base64.b64encode(b"a pfx").decode(),
        "actions": ["backup", "import", "restart", "served"],
        "limits": {"program": 60, "stop": 90, "start": 60, "visit": 10, "loopback": 10},
        "port": 10933,
        "listen_ip": None,
        "restore_run": None,
        "trusted": None,
        "trust_old": None,
        "trust_new": None,
        "server_addresses": [],
    }


def test_trust_goes_out_and_comes_back(play):
    """The old one by its exact text; the list of the file, and what the running process said."""
    seen = {"trusting": [str(NEW), f"\u200e{OLD}", str(NEW)], "trusting_error": None}
    play.story = obedient(("applied", APPLIED | seen))
    trust = {"trust_old": "ab" * 20, "trust_new": NEW, "server_addresses": ("octopus:10943",)}
    actions = (Action.TRUST, Action.RETRUST, Action.UNTRUST, Action.TRUSTING)
    asked = job(pfx=None, actions=actions, **trust)
    applied = hands(play).apply(play.endpoint(), asked, deadline=10, on_progress=lambda _: None)
    assert [t.text for t in applied.trusted] == ["cd" * 20]
    assert (applied.trusting, applied.trusting_error) == ((NEW,), None)
    sent = parameters(play.programs[0])
    assert sent["actions"] == ["trust", "retrust", "untrust", "trusting"]
    assert {name: sent[name] for name in trust} == {**trust, "server_addresses": ["octopus:10943"]}


def test_a_servers_job_says_so_and_tells_what_is_stored(play):
    """The import's own words are kept beside what the program reads in the database."""
    stored = {"configured": None, "stored": str(NEW), "printed": {"old": str(OLD), "new": str(NEW)}}
    play.story = obedient(("applied", APPLIED | stored))
    asked = job(kind="server", actions=(Action.EXPORT, Action.GENERATE, Action.ADOPT, Action.REVERT))
    applied = hands(play).apply(play.endpoint(), asked, deadline=10, on_progress=lambda _: None)
    assert (applied.configured, applied.stored, applied.printed) == (None, NEW, (OLD, NEW))
    sent = parameters(play.programs[0])
    assert (sent["kind"], sent["actions"]) == ("server", ["export", "generate", "adopt", "revert"])


def test_a_server_is_looked_at_where_it_is_asked_for(play):
    """Its program takes its time, so it is not run for a Tentacle's sake."""
    play.story = obedient(("facts", HOST))
    facts = hands(play).inspect(play.endpoint(), loopback_seconds=3, deadline=10, server=True)
    assert parameters(play.programs[0])["server"] is True
    [server] = facts.servers
    assert (server.name, server.stored, server.port) == ("OctopusServer", OLD, 10943)


def test_progress_is_told_as_it_happens_and_output_is_kept(play):
    """Actions that this version does not know are passed over."""
    play.story = obedient(
        ("begin", {"action": "import"}),
        ("program", {"code": 0, "out": "The certificate was imported.\r\n", "err": ""}),
        ("end", {"action": "import"}),
        ("begin", {"action": "dance"}),
        ("end", {"action": "dance"}),
        ("begin", "odd"),
        ("end", {"action": None}),
        ("applied", APPLIED),
    )
    told: list[Progress] = []
    applied = apply(play, told)
    assert [(p.action, p.state) for p in told] == [(Action.IMPORT, "begin"), (Action.IMPORT, "end")]
    assert applied.output == ("exit code 0", "The certificate was imported.")


@pytest.mark.parametrize(("said", "reason"), [("other-server", "other-server"), (7, None), ("<!channel>", None)])
def test_a_refusal_is_told_by_its_word(play, said, reason):
    """Callers decide by it: nothing was changed on the host."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello")
        program.say("refused", {"reason": said, "message": "no"})
        program.say("error", {"message": "no", "type": "RuntimeException", "at": ""})
        program.exit(1)

    play.story = story
    with pytest.raises(RemoteError, match="failed: no") as caught:
        apply(play)
    assert (caught.value.kind, caught.value.reason) == (RemoteErrorKind.SCRIPT, reason)


@pytest.mark.parametrize(
    "odd",
    [
        [],
        {**APPLIED, "state": "Dancing"},
        {**APPLIED, "printed": []},
        {**APPLIED, "process": "815"},
        {**APPLIED, "served": 7},
    ],
)
def test_an_answer_in_another_form_is_a_protocol_error(play, odd):
    """With the name of what is odd."""
    play.story = obedient(("applied", odd))
    with pytest.raises(RemoteError, match="does not understand") as caught:
        apply(play)
    assert caught.value.kind is RemoteErrorKind.PROTOCOL
    assert caught.value.__cause__ is None


def test_a_job_shows_no_key():
    """Neither in logs nor in tracebacks."""
    assert "pfx" not in repr(job())
    assert "a pfx" not in repr(job())
