"""The product's own hands on hosts with real Tentacles, through real WinRM: what the sandbox's parts are together."""

from pathlib import Path

import pytest

from bot.domain.facts import ServiceState
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.windows.wsman import WinRmServer
from bot.sandbox.world import World, find_powershell
from bot.secrets import Secret
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.hands import Action, Applied, Hands, Job
from bot.windows.transport import Endpoint, Transport
from bot.windows.visit import Visits
from tests.programs import Restless

NEXT = Thumbprint("AB" * 20)
ACTIONS = (Action.BACKUP, Action.MAKE, Action.RESTART, Action.SERVED)
MOST_REQUESTS = 9
SCHEMES = ("http", "https")


class Place:
    """A world with one listening Tentacle, reached by WinRM."""

    def __init__(self, root: Path, powershell: Path | None) -> None:
        self.world = World(root, pace=0.02, powershell=powershell)
        self.tentacle: TentacleInstance = self.world.add_host("web-01").add_tentacle()
        self.host = self.tentacle.host
        self.server = WinRmServer(self.world)
        self.server.start()
        self.clock = Restless()
        self.hands = Hands(Visits(Transport(self.clock)), self.clock)
        self._before = len(self.world.effects)

    def endpoint(self, scheme: str) -> Endpoint:
        """Return how the host is reached by NTLM."""
        user, password = self.world.account
        port = 5986 if scheme == "https" else 5985
        return Endpoint(
            url=f"{scheme}://{self.host.address}:{port}/wsman",
            transport="ntlm",
            username=user,
            password=lambda: Secret(password),
            ca_file=self.world.ca.file,
        )

    def inspect(self, scheme: str = "https"):
        """Look at the host."""
        return self.hands.inspect(self.endpoint(scheme), loopback_seconds=5, deadline=60)

    def rotate(self, scheme: str, old) -> Applied:
        """Give the Tentacle a new certificate and restart it."""
        job = Job(
            run="r-1",
            instance="Tentacle",
            exe=str(self.host.tentacle_exe),
            config=str(self.tentacle.config),
            service=self.tentacle.service.name,
            expected=old,
            new=None,
            pfx=None,
            actions=ACTIONS,
            port=10933,
            program_seconds=20,
            stop_seconds=10,
            start_seconds=10,
        )
        return self.hands.apply(self.endpoint(scheme), job, deadline=60, on_progress=lambda _: None)

    def trust(self, wanted: Thumbprint) -> Applied:
        """Have the Tentacle trust one more Server, and restart it."""
        assert self.tentacle.configured
        job = Job(
            run="r-1-trust",
            instance="Tentacle",
            exe=str(self.host.tentacle_exe),
            config=str(self.tentacle.config),
            service=self.tentacle.service.name,
            expected=self.tentacle.configured,
            new=None,
            pfx=None,
            actions=(Action.TRUST, Action.RESTART, Action.TRUSTING),
            port=10933,
            trust_new=wanted,
        )
        return self.hands.apply(self.endpoint("https"), job, deadline=60, on_progress=lambda _: None)

    def counts(self) -> tuple[int, int, int]:
        """Return how often a certificate was made and the service stopped and started, since it was installed."""
        kinds = [effect.kind for effect in self.world.effects[self._before :]]
        return kinds.count("make"), kinds.count("stop"), kinds.count("start")


@pytest.fixture(params=["twins", "powershell"])
def engine(request) -> Path | None:
    """Return what runs the scripts: their Python twins, or the real PowerShell."""
    found = find_powershell()
    if request.param == "powershell" and found is None:
        pytest.skip("there is no PowerShell on this machine")
    return found if request.param == "powershell" else None


@pytest.fixture
def place(tmp_path: Path):
    """Make a place whose scripts the Python twins run."""
    place = Place(tmp_path, None)
    yield place
    place.world.close()


def test_an_inspection_sees_what_is_true(tmp_path, engine):
    """Sealed and under TLS, with either engine; no shell stays."""
    place = Place(tmp_path, engine)
    try:
        for scheme in SCHEMES:
            facts = place.inspect(scheme)
            (one,) = facts.instances
            assert facts.computer == "WEB-01"
            assert one.configured == place.tentacle.configured
            assert one.served
            assert one.served.thumbprint == place.tentacle.served
            assert one.process == place.tentacle.service.process.pid
            assert abs(facts.clock_skew_seconds) < 5
        assert place.server.shells["web-01"].count == 0
    finally:
        place.world.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_visit_that_is_answered_at_once_is_few_requests(place, scheme):
    """Login, shell, command, input, output, end."""
    place.inspect(scheme)
    assert place.server.requests["web-01"] <= MOST_REQUESTS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_rotation_through_the_wire_is_true_afterwards(tmp_path, engine, scheme):
    """Configured, served and said are the same, by another process."""
    place = Place(tmp_path, engine)
    try:
        old, before = place.tentacle.configured, place.tentacle.service.process.pid
        applied = place.rotate(scheme, old)
        assert applied.configured == applied.new == place.tentacle.configured == place.tentacle.served != old
        assert applied.served
        assert applied.served.thumbprint == applied.new
        assert applied.process == place.tentacle.service.process.pid != before
        assert applied.state is ServiceState.RUNNING
    finally:
        place.world.close()


KINDS = ("hello", "begin", "program", "end", "stopping", "stopped", "started", "applied", "done")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_rotation_is_cut_it_is_done_once(place, scheme, kind):
    """The script goes on without us; we come back to the same shell and hear the rest."""
    old = place.tentacle.configured
    place.host.faults.cut_at = kind
    applied = place.rotate(scheme, old)
    assert place.host.faults.cut_at is None
    assert applied.new == place.tentacle.configured == place.tentacle.served != old
    assert place.counts() == (1, 1, 1)
    assert place.server.operations["web-01"]["Command"] == 1
    assert place.server.shells["web-01"].count == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_rotation_whose_answer_is_lost_is_told_by_the_next_visit(place, scheme):
    """Lost output is an unknown outcome; the same visit again reads the journal and does nothing twice."""
    old = place.tentacle.configured
    place.host.faults.cut_receive = 1
    with pytest.raises(RemoteError) as caught:
        place.rotate(scheme, old)
    assert caught.value.kind is RemoteErrorKind.UNKNOWN_OUTCOME
    applied = place.rotate(scheme, old)
    assert applied.new == place.tentacle.configured == place.tentacle.served != old
    assert place.counts() == (1, 1, 1)


@pytest.mark.parametrize("kind", [None, "program", "stopped", "end"])
def test_trust_is_given_once_and_seen_wherever_the_answer_is_cut_or_lost(tmp_path, engine, kind):
    """In the file and in what the process said; the next visit of the same phase tells it again."""
    place = Place(tmp_path, engine)
    try:
        place.host.faults.cut_at = kind
        if kind is None:
            place.host.faults.cut_receive = 1
            with pytest.raises(RemoteError) as caught:
                place.trust(NEXT)
            assert caught.value.kind is RemoteErrorKind.UNKNOWN_OUTCOME
        applied = place.trust(NEXT)
        assert [t.text for t in applied.trusted] == [NEXT]
        assert (applied.trusting, applied.trusting_error) == ((NEXT,), None)
        assert [t.text for t in place.tentacle.trusted_by_process] == [NEXT]
        assert place.counts() == (0, 1, 1)
        assert place.inspect().instances[0].trusting == (NEXT,)
    finally:
        place.world.close()


def test_a_host_that_goes_away_while_its_service_is_stopped_starts_it_by_itself(place):
    """The shell is not deleted from outside: the script's own `finally` and end are what starts the service."""
    old = place.tentacle.configured
    place.host.faults.cut_at = "stopping"

    def go_away() -> None:
        place.host.faults.unreachable = True
        place.server.serve()

    place.clock.then = go_away
    with pytest.raises(RemoteError) as caught:
        place.rotate("http", old)
    assert caught.value.kind is RemoteErrorKind.UNKNOWN_OUTCOME
    assert "Delete" not in place.server.operations["web-01"]
    assert place.world.wait(lambda: place.tentacle.served not in {None, old}, 10)
    assert place.tentacle.service.state is ServiceState.RUNNING
