"""A greeting hears whether a running Tentacle trusts a certificate, whatever stands in its file."""

import socket
from pathlib import Path

import pytest

from bot.certificates.greeting import greet
from bot.domain.facts import Style, Trust
from bot.sandbox import pki
from bot.sandbox.pki import Identity
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World


@pytest.fixture
def server() -> Identity:
    """Return the certificate of a Server to come."""
    return pki.self_signed("Octopus Portal")


@pytest.fixture
def world(tmp_path: Path):
    """Return a world without a pace."""
    built = World(tmp_path / "world", pace=0.0, powershell=None)
    yield built
    built.close()


def listening(world: World, *trusted: Identity) -> TentacleInstance:
    """Return a Tentacle that trusts these."""
    entries = [Trust(text=str(t.thumbprint), style=Style.LISTENING) for t in trusted]
    made = world.add_host("web-01").add_tentacle(trusted=entries)
    world.wait(lambda: made.service.is_running, 5)
    return made


def ask(instance: TentacleInstance, who: Identity, timeout: float = 5.0):
    """Greet a Tentacle with somebody's certificate."""
    return greet(instance.host.address, instance.port, certificate=who.certificate, key=who.key, timeout=timeout)


def test_a_trusted_certificate_is_answered(world, server):
    """The process that was started with this trust says so itself."""
    assert ask(listening(world, server), server).trusted is True


def test_any_other_is_not(world, server):
    """It is cut, which is an answer, too."""
    assert ask(listening(world, pki.self_signed("Somebody")), server).trusted is False


def test_what_stands_in_the_file_alone_is_no_trust(world, server):
    """Added to the list, not restarted: the running process knows nothing of it."""
    made = listening(world, pki.self_signed("Old"))
    made.trust(Trust(text=str(server.thumbprint), style=Style.LISTENING))
    assert ask(made, server).trusted is False


def test_nobody_there_is_no_answer(server):
    """Not trusted and not reached are two things."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found = greet("127.0.0.1", port, certificate=server.certificate, key=server.key, timeout=2)
    assert found.trusted is None
    assert "could not be greeted" in found.error


def test_one_that_never_speaks_tls_is_no_answer(server):
    """A port that accepts and says nothing costs no more than the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = greet("127.0.0.1", silent.getsockname()[1], certificate=server.certificate, key=server.key, timeout=0.3)
    assert found.trusted is None
