"""The sandbox's world: hosts, services and what their Tentacles serve and trust."""

import hashlib
import json
import socket
import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL

from bot.clock import FakeClock
from bot.domain.facts import ServiceState, Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.network import Subnet
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows.configuration import POLLING
from bot.sandbox.windows.listener import CLIENT, GREETING, SERVER, Greeter, TlsListener, tls_context
from bot.sandbox.windows.poller import SUBSCRIBE
from bot.sandbox.windows.service import ServiceError
from bot.sandbox.world import World

SOON = 5.0


@pytest.fixture
def world(tmp_path: Path):
    """Make a world in which a service takes 20 ms to stop or start."""
    world = World(tmp_path, pace=0.02, powershell=None)
    yield world
    world.close()


def served_at(address: str, port: int = 10933) -> Thumbprint:
    """Return what is served, seen from outside without a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, port), SOON) as plain, context.wrap_socket(plain) as tls:
        return Thumbprint.of(tls.getpeercert(binary_form=True) or b"")


def say(address: str, text: bytes, identity: Identity | None = None, port: int = 10933) -> bytes:
    """Say something to a Tentacle and return what it answers."""
    with socket.create_connection((address, port), SOON) as plain:
        tls = SSL.Connection(tls_context(identity), plain)
        plain.settimeout(None)
        tls.set_connect_state()
        tls.do_handshake()
        tls.sendall(text)
        try:
            return tls.recv(4096)
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return b""


def restart(instance) -> None:
    """Stop a service and start it again."""
    instance.service.stop()
    assert instance.service.wait_for(ServiceState.STOPPED, SOON)
    instance.service.start()
    assert instance.service.wait_for(ServiceState.RUNNING, SOON)


def test_a_tentacle_serves_what_it_was_started_with_until_it_is_restarted(world: World) -> None:
    """An import changes what is configured at once, and what is served after a restart, by a new process."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    old, before = tentacle.configured, tentacle.service.process

    host.run_program(["Tentacle.exe", "new-certificate", "--instance=Tentacle"])

    assert tentacle.configured != old == tentacle.served == served_at(host.address)
    restart(tentacle)
    assert tentacle.configured == tentacle.served == served_at(host.address)
    after = tentacle.service.process
    assert before
    assert after
    assert after.pid != before.pid
    assert after.started > before.started


def test_only_clients_trusted_at_the_start_are_greeted(world: World) -> None:
    """One added to the list hears nothing before a restart, one removed is greeted until then."""
    old, new = self_signed("Octopus Portal"), self_signed("Octopus Portal")
    host = world.add_host("web-01")
    tentacle = host.add_tentacle(trusted=[Trust(text=old.thumbprint, style=Style.LISTENING)])

    host.run_program(
        ["Tentacle.exe", "configure", f"--trust={new.thumbprint}", f"--remove-trust={old.thumbprint}"],
    )

    assert say(host.address, GREETING + CLIENT, old) == SERVER
    assert say(host.address, GREETING + CLIENT, new) == b""
    assert say(host.address, GREETING + CLIENT) == b""
    restart(tentacle)
    assert say(host.address, GREETING + CLIENT, old) == b""
    assert say(host.address, GREETING + CLIENT, new) == SERVER
    assert "Client at 127.0.0.1:" in tentacle.log
    assert f"Agent will trust Octopus Servers with the thumbprint: {new.thumbprint}" in tentacle.log


def test_a_browser_sees_the_page_that_says_tentacle_is_configured(world: World) -> None:
    """Any GET is answered, with any client certificate or none."""
    host = world.add_host("web-01")
    host.add_tentacle()

    for client in (None, self_signed("anybody")):
        page = say(host.address, b"GET / HTTP/1.1\r\n\r\n", client)
        assert page.startswith(b"HTTP/1.0 200 OK")
        assert b"Octopus Tentacle configured successfully" in page


def test_a_short_key_is_served_to_nobody_and_an_outdated_signature_to_all(world: World) -> None:
    """RSA 1024 makes every handshake fail though the service runs; SHA-1 is still shown."""
    host = world.add_host("web-01")
    weak = host.add_tentacle("weak", port=10934, key_bits=1024)
    old = host.add_tentacle("old", port=10935, hash="sha1")

    assert weak.service.is_running
    with pytest.raises(OSError):  # noqa: PT011  # reset or cut off, as it comes
        served_at(host.address, 10934)
    assert served_at(host.address, 10935) == old.configured


def test_a_port_without_route_from_outside_is_seen_on_the_host(world: World) -> None:
    """With no route only the loopback address of the host answers."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    host.faults.no_route_to_tentacle = True

    with pytest.raises(OSError):  # noqa: PT011  # reset or cut off, as it comes
        served_at(host.address)
    assert served_at(host.loopback) == tentacle.configured


def test_a_lying_import_leaves_a_service_that_never_listens_until_the_old_one_is_back(world: World) -> None:
    """Exit 0, the service runs and listens on nothing; the old configuration serves again."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    copy, old = tentacle.config.read_bytes(), tentacle.configured
    host.faults.import_lies = True

    assert host.run_program(["Tentacle.exe", "new-certificate", "--instance=Tentacle"]).exit_code == 0
    assert host.run_program(["Tentacle.exe", "show-thumbprint", "--instance=Tentacle"]).exit_code == 100
    restart(tentacle)
    assert tentacle.service.is_running
    with pytest.raises(ConnectionRefusedError):
        served_at(host.address)

    tentacle.config.write_bytes(copy)
    restart(tentacle)
    assert served_at(host.address) == old


def test_the_service_manager_answers_at_once_and_refuses_what_makes_no_sense(world: World) -> None:
    """Start of a running service is error 1056, stop of a stopped one 1062, of a stopping one 1061."""
    host = world.add_host("web-01")
    service = host.add_tentacle().service

    with pytest.raises(ServiceError, match="already running"):
        service.start()
    service.stop()
    assert service.state is ServiceState.STOP_PENDING
    stopping = host.run_program(["sc.exe", "stop", service.name])
    assert service.wait_for(ServiceState.STOPPED, SOON)
    stopped = host.run_program(["sc.exe", "stop", service.name])
    missing = host.run_program(["sc.exe", "query", "nothing"])

    assert (stopping.exit_code, stopped.exit_code, missing.exit_code) == (1061, 1062, 1060)
    assert "FAILED 1062" in stopped.stdout
    with pytest.raises(ConnectionRefusedError):
        served_at(host.address)


def test_a_stuck_stop_ends_when_the_fault_is_taken_away(world: World) -> None:
    """The process stays, and serves, as long as the stop is stuck."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    host.faults.stuck_stop = True
    tentacle.service.stop()

    assert not tentacle.service.wait_for(ServiceState.STOPPED, 0.15)
    assert tentacle.service.process
    assert host.run_program(["sc.exe", "start", tentacle.service.name]).exit_code == 1056
    host.faults.stuck_stop = False
    assert tentacle.service.wait_for(ServiceState.STOPPED, SOON)


def test_somebody_starts_a_service_again_behind_our_back(world: World) -> None:
    """With the watchdog's fault a stopped service comes back by itself."""
    host = world.add_host("web-01")
    service = host.add_tentacle(watchdog=True).service
    first = service.process
    host.faults.watchdog_restarts = True

    service.stop()

    assert service.wait_for(ServiceState.STOPPED, SOON)
    assert service.wait_for(ServiceState.RUNNING, SOON)
    assert service.process != first


def test_long_faults_cost_no_time_under_a_clock_that_is_moved(tmp_path: Path) -> None:
    """A service that stops half an hour late does so when the clock says it."""
    clock = FakeClock()
    world = World(tmp_path, pace=1.0, clock=clock, powershell=None)
    host = world.add_host("web-01")
    service = host.add_tentacle().service
    host.faults.late_stop = 1800.0

    service.stop()

    assert not service.wait_for(ServiceState.STOPPED, 60.0)
    clock.advance(1740.0)
    assert service.wait_for(ServiceState.STOPPED, 10.0)
    world.close()


def test_a_service_whose_configuration_cannot_be_read_does_not_start(world: World) -> None:
    """Its process ends at once with error 1067, and the service stays stopped."""
    tentacle = world.add_host("web-01").add_tentacle(start=False)
    tentacle.config.write_text("")

    with pytest.raises(ServiceError) as refusal:
        tentacle.service.start()

    assert refusal.value.code == 1067
    assert tentacle.service.is_stopped


def test_a_polling_tentacle_connects_to_the_server_it_trusts_and_to_no_other(world: World) -> None:
    """It subscribes where the certificate is that of its entry; at another it gives up and tries again later."""
    right, wrong = self_signed("Octopus Portal"), self_signed("Octopus Portal")
    server = PollServer(world, right)
    host = world.add_host("web-01")

    def trusting(identity: Identity) -> Trust:
        return Trust(text=identity.thumbprint, style=Style.POLLING, address=f"https://{server.address}:10943/")

    good = host.add_tentacle("good", style=Style.POLLING, trusted=[trusting(right)])
    bad = host.add_tentacle("bad", style=Style.POLLING, trusted=[trusting(wrong)])

    assert world.wait(lambda: good.agent is not None and good.agent.pollers[0].connected, SOON)
    assert world.wait(lambda: "unexpected security certificate" in bad.log, SOON)
    assert good.configuration.trusted[0].style == POLLING
    assert server.heard == {(good.configured, good.subscription)}
    assert good.served == good.configured
    with pytest.raises(ConnectionRefusedError):
        served_at(host.address)


class PollServer:
    """An Octopus Server of one port: greets whoever polls it, and remembers certificate and subscription."""

    def __init__(self, world: World, identity: Identity) -> None:
        self.heard: set[tuple[Thumbprint | None, str]] = set()
        self.address = world.subnet.next()
        self.listener = TlsListener(world.loop, self.address, 10943, identity, lambda: self)
        world.on_close(self.listener.close)

    def opened(self, link) -> None:
        """Wait for the subscription."""

    def received(self, link, data: bytes) -> None:
        """Remember the subscription and greet."""
        subscription = data.partition(SUBSCRIBE)[2].strip().decode()
        self.heard.add((link.peer, subscription))
        link.send(SERVER)

    def closed(self, link) -> None:
        """Forget the connection."""


def test_trust_compares_without_case_as_the_listener_does(world: World) -> None:
    """A trust typed in small letters admits the certificate all the same (Halibut: DefaultTrustProvider)."""
    client = self_signed("Octopus Portal")
    address = world.subnet.next()
    listener = TlsListener(
        world.loop, address, 10933, client, lambda: Greeter([client.thumbprint.lower()], lambda *_: None)
    )

    assert say(address, GREETING + CLIENT, client) == SERVER
    listener.close()


def test_every_change_is_an_effect_in_order_and_on_disk(world: World) -> None:
    """What happened stands in a list and, line by line, in a file."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    host.run_program(["Tentacle.exe", "new-certificate", "--instance=Tentacle"])
    restart(tentacle)

    kinds = [e.kind for e in world.effects]
    lines = [json.loads(line) for line in (world.root / "effects.jsonl").read_text().splitlines()]
    assert kinds == ["start", "running", "make", "stop", "stopped", "start", "running"]
    assert [line["kind"] for line in lines] == kinds
    assert lines[2]["detail"] == tentacle.configured


def test_an_estate_of_two_hundred_hosts_starts_in_seconds_on_few_threads(world: World) -> None:
    """Every thumbprint is its own, though keys are shared, and one thread serves all listeners."""
    import threading

    before = threading.active_count()
    tentacles = [world.add_host(f"web-{n:03}").add_tentacle() for n in range(200)]

    assert len({t.configured for t in tentacles}) == 200
    assert len({t.host.address for t in tentacles}) == 200
    assert threading.active_count() - before < 12
    assert served_at(tentacles[-1].host.address) == tentacles[-1].configured


def test_two_worlds_never_share_an_address() -> None:
    """Each holds a range of its own, and gives it back."""
    first, second = Subnet(), Subnet()
    try:
        assert first.prefix != second.prefix
        assert len({first.next() for _ in range(1000)}) == 1000
    finally:
        first.close()
        second.close()


def test_a_folder_is_protected_when_nobody_else_may_open_it(world: World) -> None:
    """Mode 0700 of the folder, or of one above it, keeps a file from others."""
    host = world.add_host("web-01")
    folder = host.program_data / "octocert"
    folder.mkdir()
    file = folder / "secret.pfx"
    file.write_bytes(hashlib.sha256(b"anything").digest())

    assert not host.protected(file)
    folder.chmod(0o700)
    assert host.protected(file)
    assert host.protected(folder)


def test_children_of_a_tentacle_are_told(world: World) -> None:
    """A deployment in progress is a child process of the service."""
    host = world.add_host("web-01")
    process = host.add_tentacle().service.process
    assert process

    host.begin_child(process.pid, "Calamari.exe")
    assert host.children_of(process.pid) == ["Calamari.exe"]
    host.end_child(process.pid, "Calamari.exe")
    assert host.children_of(process.pid) == []
