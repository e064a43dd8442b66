"""Wrong orders cannot hide: breaking them on purpose turns the sandbox's health check red.

Health is a handshake between the certificates that are really in force, so these tests hold the sandbox to what
Octopus does. Where Octopus itself shows a false green, so does the sandbox.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.facts import ServiceState, Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.pki import self_signed
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World


class Estate:
    """One Server, one listening and one polling Tentacle, all healthy."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, pace=0.02, powershell=None)
        self.octopus = OctopusServer(self.world)
        self.octopus.checks.queue_seconds = 0.5
        self.octopus.start()
        self.listening = self.world.add_host("web-01").add_tentacle()
        self.polling = self.world.add_host("edge-01").add_tentacle(style=Style.POLLING)
        self.web = self.octopus.add_record("web-01", self.listening, environments=["Production"])
        self.edge = self.octopus.add_record("edge-01", self.polling, environments=["Production"])

    def health(self, record: str) -> str:
        """Have Octopus check a record now."""
        return self.octopus.check(record)[record]

    def log(self, record: str) -> str:
        """Return what the last check left in the connection log."""
        return "\n".join(line.text for line in self.octopus.connection_log(record))

    def put(self, record: str, thumbprint: str) -> None:
        """Correct a record in Octopus."""
        self.octopus.edit(record, Thumbprint=thumbprint)

    def came_back(self, tentacle: TentacleInstance) -> bool:
        """Whether a polling Tentacle is connected again within a moment."""
        return self.world.wait(lambda: self.octopus.comms.caller(tentacle.subscription or "") is not None, 2)

    def close(self) -> None:
        """End it all."""
        self.octopus.close()
        self.world.close()


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    """Build an estate in which everything is well."""
    made = Estate(tmp_path)
    assert made.octopus.check() == {made.web: "Healthy", made.edge: "Healthy"}
    yield made
    made.close()


def replace(tentacle: TentacleInstance) -> Thumbprint:
    """Give a Tentacle another certificate, as an import does: nothing is served before a restart."""
    new = self_signed()
    tentacle.configuration.set_identity(new)
    assert tentacle.configured == new.thumbprint
    return new.thumbprint


def restart(tentacle: TentacleInstance) -> None:
    """Restart a Tentacle's service."""
    tentacle.service.stop()
    assert tentacle.service.wait_for(ServiceState.STOPPED, 5)
    tentacle.service.start()
    assert tentacle.service.wait_for(ServiceState.RUNNING, 5)


def test_a_restart_without_a_put_is_red(estate: Estate) -> None:
    """The Tentacle serves the new certificate, the record stores the old one: both stand in the log."""
    old = estate.listening.configured
    new = replace(estate.listening)
    assert estate.health(estate.web) == "Healthy", "the running service still serves the old certificate"
    restart(estate.listening)
    assert estate.health(estate.web) == "Unavailable"
    log = estate.log(estate.web)
    assert "presented an unexpected security certificate" in log
    assert f"thumbprint '{old}'" in log
    assert f"thumbprint of '{new}'" in log
    estate.put(estate.web, new)
    assert estate.health(estate.web) == "Healthy"


def test_a_put_before_the_restart_is_red(estate: Estate) -> None:
    """For a listening Tentacle the record must not run ahead of the certificate that is served."""
    new = replace(estate.listening)
    estate.put(estate.web, new)
    assert estate.health(estate.web) == "Unavailable"
    restart(estate.listening)
    assert estate.health(estate.web) == "Healthy"


def test_a_put_of_a_wrong_thumbprint_is_red(estate: Estate) -> None:
    """A mistyped thumbprint shows at the next check."""
    wrong = estate.octopus.corrupt_thumbprint(estate.web)
    assert estate.health(estate.web) == "Unavailable"
    assert f"thumbprint '{wrong}'" in estate.log(estate.web)


def test_a_thumbprint_in_lower_case_is_red(estate: Estate) -> None:
    """Octopus compares outgoing connections letter by letter: the right thumbprint in lower case never matches."""
    thumbprint = str(estate.listening.configured)
    estate.put(estate.web, thumbprint.lower())
    assert estate.health(estate.web) == "Unavailable"
    estate.put(estate.web, thumbprint)
    assert estate.health(estate.web) == "Healthy"


def test_the_server_switched_first_is_red(estate: Estate) -> None:
    """Tentacles that trust only the old Server's certificate neither answer the new one nor poll it."""
    estate.octopus.import_certificate(self_signed("Octopus Portal"))
    assert estate.octopus.check() == {estate.web: "Healthy", estate.edge: "Healthy"}, "in force after a restart only"
    estate.octopus.restart()
    assert estate.octopus.check() == {estate.web: "Unavailable", estate.edge: "Unavailable"}
    assert f"not trust the thumbprint {estate.octopus.thumbprint}" in estate.log(estate.web)
    assert "not in the list of thumbprints that we trust" in estate.listening.log
    assert "presented an unexpected security certificate" in estate.polling.log


def test_trust_first_keeps_a_listening_tentacle_green(estate: Estate) -> None:
    """With the new trust beside the old one, and a restart in between, the switch is not noticed."""
    new = self_signed("Octopus Portal")
    estate.octopus.import_certificate(new)
    estate.listening.trust(Trust(text=new.thumbprint, style=Style.LISTENING))
    restart(estate.listening)
    assert estate.health(estate.web) == "Healthy"
    estate.octopus.restart()
    assert estate.health(estate.web) == "Healthy"


def test_trust_without_a_restart_is_not_trust(estate: Estate) -> None:
    """A running Tentacle honours the list with which it was started, whatever the file says."""
    new = self_signed("Octopus Portal")
    estate.octopus.import_certificate(new)
    estate.listening.trust(Trust(text=new.thumbprint, style=Style.LISTENING))
    estate.octopus.restart()
    assert estate.health(estate.web) == "Unavailable"
    restart(estate.listening)
    assert estate.health(estate.web) == "Healthy"


def test_a_live_poll_connection_is_a_false_green(estate: Estate) -> None:
    """A record that changed under a polling Tentacle stays green until it connects again: by Octopus's design."""
    estate.octopus.corrupt_thumbprint(estate.edge)
    assert estate.health(estate.edge) == "Healthy"
    estate.octopus.comms.cut(estate.polling.subscription or "")
    assert estate.world.wait(lambda: estate.octopus.comms.caller(estate.polling.subscription or "") is None, 2)
    assert estate.health(estate.edge) == "Unavailable"
    log = estate.log(estate.edge)
    assert f"thumbprint '{estate.polling.served}' which is not in the list of thumbprints that we trust" in log


def test_a_polling_tentacle_restarted_without_a_put_is_red(estate: Estate) -> None:
    """The Server refuses its new certificate, until the record is corrected and it tries again."""
    new = replace(estate.polling)
    assert estate.health(estate.edge) == "Healthy", "it still polls with the old certificate"
    restart(estate.polling)
    assert estate.health(estate.edge) == "Unavailable"
    assert f"thumbprint '{new}' which is not in the list" in estate.log(estate.edge)
    estate.put(estate.edge, new)
    assert estate.came_back(estate.polling)
    assert estate.health(estate.edge) == "Healthy"


def test_put_then_restart_keeps_a_polling_tentacle_green(estate: Estate) -> None:
    """The right order for polling: the record first, then the restart."""
    estate.put(estate.edge, replace(estate.polling))
    assert estate.health(estate.edge) == "Healthy"
    restart(estate.polling)
    assert estate.came_back(estate.polling)
    assert estate.health(estate.edge) == "Healthy"


def test_one_record_forgotten_is_red(estate: Estate) -> None:
    """A Tentacle that stands in two spaces needs both records corrected."""
    estate.octopus.add_space("Payments")
    twin = estate.octopus.add_record("web-01", estate.listening, space="Payments")
    new = replace(estate.listening)
    restart(estate.listening)
    estate.put(estate.web, new)
    assert estate.octopus.check(estate.web, twin) == {estate.web: "Healthy", twin: "Unavailable"}


def test_a_sha1_certificate_is_red_on_a_new_server(estate: Estate) -> None:
    """Since 2025.3 Octopus cannot connect to it, though every thumbprint is right."""
    legacy = estate.world.add_host("legacy-01").add_tentacle(hash="sha1")
    record = estate.octopus.add_record("legacy-01", legacy)
    assert estate.health(record) == "Unavailable"
    assert "sha1RSA" in estate.log(record)
    assert estate.octopus.document(record)["Endpoint"]["CertificateSignatureAlgorithm"] == "sha1RSA"


def test_a_weak_key_is_red(estate: Estate) -> None:
    """RSA 1024 is configured and its service runs, but no handshake succeeds."""
    weak = estate.world.add_host("weak-01").add_tentacle(key_bits=1024)
    record = estate.octopus.add_record("weak-01", weak)
    assert weak.service.state is ServiceState.RUNNING
    assert estate.health(record) == "Unavailable"


def test_a_service_that_never_listens_is_red(estate: Estate) -> None:
    """A running service is no proof: without a listener there is no handshake."""
    estate.listening.host.faults.never_listens = True
    restart(estate.listening)
    assert estate.listening.service.state is ServiceState.RUNNING
    assert estate.health(estate.web) == "Unavailable"
    assert "refused the connection" in estate.log(estate.web)
