"""The Octopus Server's certificate in visits' hands: stories told under PowerShell and by its Python twin alike."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows.listener import Greeter, TlsListener
from bot.sandbox.windows.server_instance import ServerInstallation, exe_of
from bot.sandbox.windows.service import Process
from tests.contracts.test_scripts import ENGINE, LOOK, Play, identity, kinds, played

OLD, NEW, OTHER = self_signed("Octopus Portal"), self_signed("Octopus Portal"), self_signed("other")
PORT = 10943
SOON = 30.0
LOOK_AT_SERVER = LOOK | {"server": True}
SWITCH = ("export", "adopt", "restart", "served")
SHORT = {"program": 1, "stop": 0.4, "start": 0.4, "visit": 2, "loopback": 1}
"""Limits with which the backstop strikes 1.8 s after it was registered."""


class SharedDatabase:
    """What all nodes read at their start."""

    def __init__(self) -> None:
        self.certificate = OLD

    def adopt(self, identity: Identity) -> None:
        """Store another certificate."""
        self.certificate = identity


class Node:
    """A running node: it serves the certificate that it found at its start."""

    def __init__(self, play: "Served", certificate: Identity) -> None:
        self.certificate = certificate
        self._play = play
        self._listener: TlsListener | None = None

    def run(self) -> None:
        """Listen for polling Tentacles."""
        host = self._play.host
        greeter = lambda: Greeter((), lambda level, message: None)  # noqa: E731  # nobody reads its log
        self._listener = TlsListener(host.world.loop, host.loopback, PORT, self.certificate, greeter)

    def close(self) -> None:
        """Let go of the port."""
        if self._listener:
            self._listener.close()


class Served:
    """A host that is a node of the Server, and visits to it."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.host = play.host
        self.faults = play.faults
        self.database = SharedDatabase()
        self.server: ServerInstallation = play.host.add_server(self.database, self._start, lambda drained: None)
        self.server.service.boot()

    def _start(self, process: Process) -> Node:
        return Node(self, self.database.certificate)

    def apply(self, *actions: str, **changes: Any) -> list[tuple[str, Any]]:
        """Carry out actions on the node."""
        plain = {
            "kind": "server",
            "instance": self.server.name,
            "exe": str(exe_of(self.host)),
            "config": str(self.server.config),
            "service": self.server.service.name,
            "expected": OLD.thumbprint,
            "port": PORT,
        }
        return self.play.apply(*actions, **plain | changes)

    def switch(self, *actions: str, **changes: Any) -> list[tuple[str, Any]]:
        """Carry out actions that bring NEW as a file."""
        pfx = base64.b64encode(NEW.pfx()).decode()
        return self.apply(*actions, **{"new": NEW.thumbprint, "pfx": pfx} | changes)

    def inspect(self, **changes: Any) -> Any:
        """Look at the host; return its only Server."""
        [server] = value(self.play.visit("inspect", LOOK_AT_SERVER | changes), "facts")["servers"]
        return server

    @property
    def served(self) -> str | None:
        """The certificate that the running node serves."""
        program = self.server.service.program
        return program.certificate.thumbprint if isinstance(program, Node) else None

    @property
    def stored(self) -> str:
        """The certificate in the database."""
        return self.database.certificate.thumbprint

    def kept(self) -> dict[str, str]:
        """Return the certificates that lie on the host, by the names of their files."""
        return {f.name: identity(f) for f in self.host.root.rglob("*.pfx")}

    def count(self, *kinds: str) -> int:
        """Return how often something of these kinds happened."""
        return sum(k in kinds for k, _ in self.play.effects())

    def phase(self) -> str:
        """Return what the node's journal tells."""
        return str(json.loads(Path(f"{self.server.config}.octocert.json").read_text())["phase"])


def already(lines: list[tuple[str, Any]]) -> dict[str, bool]:
    """Return which actions ended, and whether their work was done already."""
    return {value["action"]: value["already"] for kind, value in lines if kind == "end"}


def value(lines: list[tuple[str, Any]], kind: str) -> Any:
    """Return the value of the only line of a kind."""
    [found] = [v for k, v in lines if k == kind]
    return found


def der(served: Any) -> bytes:
    """Return the certificate that a host saw on itself."""
    return base64.b64decode(served["der"])


# ---- Stories


def seen(node: Served) -> None:
    """Look: version, port, stored, served; where the database refuses this log-on, the rest is seen all the same."""
    found = node.inspect()
    assert (found["name"], found["service"], found["port"]) == ("OctopusServer", "OctopusDeploy", PORT)
    assert (found["stored"], found["stored_error"], found["version"]) == (OLD.thumbprint, None, "2026.2.1000")
    assert der(found["served"]) == OLD.der
    node.faults.database_refused = True
    found = node.inspect()
    assert found["stored"] is None
    assert "exit code 100: Login failed for user" in found["stored_error"]
    assert found["error"] is None
    assert der(found["served"]) == OLD.der
    calls = len(node.host.world.command_lines)
    assert value(node.play.visit("inspect", LOOK), "facts")["servers"] == []
    assert not any("Octopus.Server" in line for line in node.host.world.command_lines[calls:])


def seen_in_pieces(node: Served) -> None:
    """Look at what is broken: a configuration that cannot be read, a program that is gone."""
    node.server.config.write_text("garbage")
    assert "cannot be read" in node.inspect()["error"]
    exe_of(node.host).unlink()
    node.server.config.write_text("<octopus-settings/>")
    found = node.inspect()
    assert (found["exe"], found["version"], found["stored"], found["port"]) == (None, None, None, PORT)
    shutil.rmtree(node.host.program_data / "Octopus" / "OctopusServer")
    assert value(node.play.visit("inspect", LOOK_AT_SERVER), "facts")["servers"] == []


def switched(node: Served) -> None:
    """Keep, import, restart, look; do it all again, and nothing happens; sweep, and no key is left."""
    lines = node.switch(*SWITCH)
    applied = value(lines, "applied")
    assert (applied["stored"], der(applied["served"]), node.served) == (NEW.thumbprint, NEW.der, NEW.thumbprint)
    assert applied["printed"] == {"old": OLD.thumbprint, "new": NEW.thumbprint}
    assert applied["configured"] is None
    assert node.kept() == {"old.pfx": OLD.thumbprint}
    found = node.inspect()
    assert (found["stored"], found["backup"], found["journal"]["phase"]) == (NEW.thumbprint, "r-1", "started")

    lines = node.switch(*SWITCH)
    assert already(lines) == {"export": True, "adopt": True, "restart": True, "served": False}
    assert value(lines, "applied")["stored"] == NEW.thumbprint
    assert (node.count("adopt"), node.count("stop"), node.play.host.schedule.tasks) == (1, 1, ())
    assert already(node.apply("sweep")) == {"sweep": False}
    assert node.kept() == {}
    assert already(node.apply("sweep")) == {"sweep": True}


def printed_by_an_old_version(node: Served) -> None:
    """Read both thumbprints where they stand on two lines."""
    printed = value(node.switch("adopt"), "applied")["printed"]
    assert printed == {"old": OLD.thumbprint, "new": NEW.thumbprint}


def made_here(node: Served) -> None:
    """Make a certificate, tell its thumbprint, and take it up in a later visit; it is made once."""
    made = value(node.apply("export", "generate"), "applied")["new"]
    assert node.stored == OLD.thumbprint  # nothing was installed
    assert node.kept() == {"old.pfx": OLD.thumbprint, "new.pfx": made}
    lines = node.apply("export", "generate")
    assert already(lines) == {"export": True, "generate": True}
    assert value(lines, "applied")["new"] == made

    lines = node.apply("adopt", "restart", new=made)
    assert value(lines, "applied")["stored"] == node.served == made
    assert already(node.apply("adopt", "restart", new=made)) == {"adopt": True, "restart": True}
    assert (node.count("generate"), node.count("adopt")) == (1, 1)
    assert value(node.apply("generate", expected=made), "applied")["new"] == made
    node.apply("sweep")
    assert node.kept() == {}


def made_while_visits_die(node: Served) -> None:
    """Die right after the program wrote a file: it is unproven, and made anew; a proven one is found again."""
    node.faults.kill_shell_at = "program"
    node.apply("generate")
    assert list(node.kept()) == ["unproven-new.pfx"]
    node.faults.kill_shell_at = "end"
    node.apply("generate")
    [(name, made)] = node.kept().items()
    assert name == "new.pfx"
    lines = node.apply("generate")
    assert (already(lines), value(lines, "applied")["new"]) == ({"generate": True}, made)


def switched_while_visits_die(node: Served) -> None:
    """Die right after the import, and while the service is stopped: nothing is imported twice, and it is restarted."""
    node.faults.kill_shell_at = "program"
    node.switch("adopt", "restart")
    assert (node.stored, node.served, node.phase()) == (NEW.thumbprint, OLD.thumbprint, "adopting")
    node.faults.kill_shell_at = "stopped"
    assert already(node.switch("adopt", "restart")) == {"adopt": True}
    assert "certificate.pfx" not in node.kept()
    lines = node.switch("adopt", "restart")
    assert already(lines) == {"adopt": True, "restart": False}
    assert node.served == NEW.thumbprint
    assert (node.count("adopt"), node.count("stop"), node.play.host.schedule.tasks) == (1, 1, ())


def started_without_a_database(node: Served) -> None:
    """Start what this run stopped, although nobody can tell any more which certificate is stored."""
    node.faults.kill_shell_at = "stopped"
    node.switch("restart")
    node.faults.database_refused = True
    lines = node.switch("restart", "served")
    assert value(lines, "applied")["stored"] is None
    assert node.served == OLD.thumbprint


def switched_in_the_documented_order(node: Served) -> None:
    """Stop, import, start."""
    lines = node.switch("export", "stop", "adopt", "start", "served")
    assert kinds(lines).count("started") == 1
    assert node.served == NEW.thumbprint


def the_other_node(node: Served) -> None:
    """Restart a node whose Server has the new certificate already: it only has to start again."""
    node.database.adopt(NEW)
    lines = node.switch("adopt", "restart", "served", expected=NEW.thumbprint, pfx=None)
    assert already(lines) == {"adopt": True, "restart": False, "served": False}
    assert node.served == NEW.thumbprint


def put_back(node: Served) -> None:
    """Put the old certificate back in the same run, twice; then have a later run put it back."""
    node.switch(*SWITCH)
    for _ in range(2):
        lines = node.switch("revert", "restart", "served")
        assert (node.stored, node.served) == (OLD.thumbprint, OLD.thumbprint)
    assert already(lines)["revert"]
    assert (node.count("adopt"), node.count("stop")) == (2, 2)

    node.switch("adopt", "restart")
    back = {"run": "r-2", "expected": NEW.thumbprint, "new": OLD.thumbprint, "restore_run": "r-1"}
    node.apply("export", "revert", "restart", **back)
    assert (node.stored, node.served) == (OLD.thumbprint, OLD.thumbprint)
    # One that looks too late finds it done by somebody else, and restarts what may not know it yet.
    assert already(node.apply("revert", "restart", **back | {"run": "r-3"})) == {"revert": True, "restart": False}


def put_back_with_a_lost_answer(node: Served) -> None:
    """Die right after the old one was imported again, with the service stopped: nothing is imported twice."""
    node.switch("export", "adopt")
    node.server.service.kill()
    node.faults.kill_shell_at = "program"
    node.switch("revert", "start")
    assert (node.stored, node.phase()) == (OLD.thumbprint, "reverting")
    assert already(node.switch("revert", "start")) == {"revert": True, "start": False}
    assert node.served == OLD.thumbprint
    assert node.count("adopt") == 2


def refused(node: Served) -> None:
    """Refuse what was not planned, and what cannot be read: nothing was changed, nothing was stopped."""
    assert value(node.switch(*SWITCH, expected=OTHER.thumbprint), "refused")["reason"] == "stale"
    garbage = base64.b64encode(b"garbage").decode()
    assert value(node.switch("adopt", pfx=garbage), "refused")["reason"] == "pfx"
    assert value(node.switch("adopt", new=OTHER.thumbprint), "refused")["reason"] == "pfx"
    for actions in (("stop", "adopt", "start"), ("stop", "revert", "start")):
        assert value(node.switch(*actions, pfx=None), "refused")["reason"] == "missing"
    node.faults.database_refused = True
    assert value(node.switch(*SWITCH), "refused")["reason"] == "stored"
    assert (node.stored, node.count("adopt", "stop")) == (OLD.thumbprint, 0)


def refused_copies(node: Served) -> None:
    """Keep nothing that cannot be trusted to bring the old certificate back, nor what was damaged since."""
    node.faults.server_export_wrong = True
    assert value(node.switch(*SWITCH), "refused")["reason"] == "export"
    assert node.kept() == {}
    node.faults.server_export_wrong = False
    node.apply("export", "generate")
    for file in node.host.root.rglob("*.pfx"):
        file.write_bytes(b"damaged")
    for action, reason in (("export", "export"), ("generate", "generate"), ("adopt", "missing"), ("revert", "missing")):
        assert value(node.apply(action), "refused")["reason"] == reason
    for file in node.host.root.rglob("*.pfx"):
        file.unlink()
    assert value(node.apply("generate"), "refused")["reason"] == "missing"
    assert value(node.apply("adopt"), "refused")["reason"] == "missing"
    assert (node.stored, node.count("generate")) == (OLD.thumbprint, 1)


def an_import_that_lies(node: Served) -> None:
    """Be told that all is well, and read the old thumbprint all the same; one that fails is told as it failed."""
    node.faults.server_import_lies = True
    lines = node.switch("stop", "adopt", "start")
    assert "exit code 0, and the Server's certificate is" in value(lines, "error")["message"]
    node.faults.import_fails = "The master key is missing."
    lines = node.switch("adopt", run="r-2")
    assert "The master key is missing." in value(lines, "error")["message"]
    assert (node.served, node.kept()) == (OLD.thumbprint, {})


def the_wrong_kind(node: Served) -> None:
    """Do nothing of a Tentacle's to a Server, and nothing of a Server's to a Tentacle."""
    assert value(node.apply("trust"), "error")["message"] == "trust is no action for a server"
    assert value(node.play.apply("revert"), "error")["message"] == "revert is no action for a tentacle"


Story = Callable[[Served], None]
STORIES: list[Story] = [
    seen,
    seen_in_pieces,
    switched,
    printed_by_an_old_version,
    made_here,
    made_while_visits_die,
    switched_while_visits_die,
    started_without_a_database,
    switched_in_the_documented_order,
    the_other_node,
    put_back,
    put_back_with_a_lost_answer,
    refused,
    refused_copies,
    an_import_that_lies,
    the_wrong_kind,
]


def tell(story: Story, folder: Path, engine: Path | None = None) -> list[Any]:
    """Play a story in a world of its own; return what was printed, left and done. No secret is on a command line."""
    version = "3.14.159" if story is printed_by_an_old_version else "2026.2.1000"
    with played(folder, engine, server_version=version) as play:
        story(Served(play))
        for line in play.host.world.command_lines:
            assert "password" not in line.lower()
            assert "--pw" not in line
        return [*play.log, ("effects", play.effects())]


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.__name__)
def test_the_twin_tells_the_story(story: Story, tmp_path: Path) -> None:
    """What the story asserts holds for the Python twin."""
    tell(story, tmp_path)


@pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path to compare the twins with")
@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.__name__)
def test_powershell_tells_it_line_by_line_the_same(story: Story, tmp_path: Path) -> None:
    """It holds for the script, too; and lines, files, scheduled tasks and effects are those of the twin."""
    assert tell(story, tmp_path / "twin") == tell(story, tmp_path / "engine", Path(ENGINE or ""))


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(ENGINE, id="powershell", marks=pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh)")),
        pytest.param(None, id="twin"),
    ],
)
def test_a_killed_visit_leaves_no_server_stopped(engine: str | None, tmp_path: Path) -> None:
    """Nobody comes back after it: the task that was registered before the stop starts the Server's service."""
    with played(tmp_path, Path(engine) if engine else None) as play:
        node = Served(play)
        play.faults.kill_shell_at = "stopped"
        node.switch("stop", "adopt", "start", limits=SHORT)
        assert ("task-created", "octocert-backstop-server+octopusserver") in play.effects()
        assert play.world.wait(lambda: node.server.service.is_running, SOON)
        assert node.served == OLD.thumbprint
