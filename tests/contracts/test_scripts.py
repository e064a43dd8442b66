"""The Python twins of the scripts do on a host what the scripts do under PowerShell: line by line, file by file."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.domain.facts import ServiceState, Style, Trust
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows import powershell
from bot.sandbox.windows.host import Profile
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.windows.twin_host import TwinProcess
from bot.sandbox.windows.twin_mutex import mutex_of
from bot.sandbox.world import World
from bot.windows.scripts import encoded_bootstrap, script

ENGINE = shutil.which("pwsh")
OLD, NEW, SERVER = self_signed("old"), self_signed("new"), self_signed("server")
SOON = 30.0
LOOK = {"loopback": True, "loopback_seconds": 2, "server": False, "program_seconds": 10}
ALL = ["backup", "make", "restart", "served"]
IMPORT = ["backup", "import", "restart", "served"]


class Play:
    """One host with one Tentacle, and a log of all that visits to it print and leave."""

    def __init__(self, folder: Path, engine: Path | None, **profile: Any) -> None:
        self.world = World(folder, pace=0.02, powershell=engine)
        self.host = self.world.add_host("web-01", profile=Profile(**profile))
        self.tentacle = self.host.add_tentacle(certificate=OLD)
        self.faults = self.host.faults
        self.log: list[Any] = []
        self._names: dict[Any, str] = {}

    def process(self) -> powershell.RemoteProcess:
        """Start the bootstrap."""
        options = ["-NoProfile", "-NonInteractive", "-EncodedCommand", encoded_bootstrap()]
        return powershell.start(self.host, "powershell.exe", options)

    def visit(self, name: str, parameters: Any, *, text: str | None = None) -> list[tuple[str, Any]]:
        """Run a script to its end and return its lines."""
        process = self.process()
        tell(process, text or script(name), parameters)
        lines = read_all(process)
        self.log.append(("visit", name))
        self.log += [(kind, self.plain(value)) for kind, value in lines]
        self.log.append(("files", self.files()))
        self.log.append(("tasks", sorted(t.name for t in self.host.schedule.tasks), self.tentacle.service.state))
        return lines

    def inspect(self) -> list[tuple[str, Any]]:
        """Look at the host."""
        return self.visit("inspect", LOOK)

    def apply(self, *actions: str, **changes: Any) -> list[tuple[str, Any]]:
        """Carry out actions."""
        return self.visit("apply", self.job(*actions, **changes))

    def job(self, *actions: str, **changes: Any) -> dict[str, Any]:
        """Return the parameters of an apply visit; a PFX where something is to be imported."""
        tentacle: TentacleInstance = self.tentacle
        pfx = base64.b64encode(NEW.pfx()).decode() if "import" in actions else None
        return {
            "run": "r-1",
            "kind": "tentacle",
            "instance": tentacle.name,
            "exe": str(self.host.tentacle_exe),
            "config": str(tentacle.config),
            "service": tentacle.service.name,
            "expected": OLD.thumbprint,
            "new": NEW.thumbprint if pfx else None,
            "pfx": pfx,
            "actions": actions,
            "limits": {"program": 10, "stop": 5, "start": 5, "visit": 10, "loopback": 1},
            "port": tentacle.port,
            "listen_ip": None,
            "restore_run": None,
            "trust_old": None,
            "trust_new": None,
            "trusted": None,
            "server_addresses": [],
        } | changes

    def files(self) -> dict[str, Any]:
        """Return configurations, journals, copies and what else octocert left on the host."""
        root = self.host.root
        found = {}
        for folder in (root / "Octopus", root / "ProgramData" / "octocert", root / "Windows" / "Temp"):
            for file in sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".txt"):
                text = identity(file) if file.suffix == ".pfx" else file.read_text("utf-8-sig")
                found[self.plain(str(file))] = self.plain(json.loads(text) if file.suffix == ".json" else text)
        return found

    def effects(self) -> list[tuple[str, str]]:
        """Return what happened in the world."""
        return [(e.kind, self.plain(e.detail)) for e in self.world.effects if e.kind != "running"]

    def plain(self, value: Any, key: str = "") -> Any:
        """Return a value with names in the place of what is another in every world."""
        if isinstance(value, dict):
            # `at` of an error names a line of the script
            return {k: self.plain(v, k) for k, v in value.items() if k != "at" or "message" not in value}
        if isinstance(value, list | tuple):
            return [self.plain(v) for v in value]
        if value and key in {"process", "write_process", "hash"}:
            return self._name(value, key)
        if value and key == "der":
            return self._name(hashlib.sha1(base64.b64decode(value)).hexdigest().upper(), "thumbprint")
        if key in {"version", "powershell"}:
            return bool(value)
        if not isinstance(value, str):
            return value
        text = value.replace(str(self.host.root), "C:").replace(self.world.subnet.prefix, "127.0")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", text)
        text = re.sub(r"\b[0-9A-F]{40}\b", lambda m: self._name(m[0], "thumbprint"), text)
        text = re.sub(r"[A-Za-z0-9+/=]{500,}", lambda m: self._name(m[0], "pfx"), text)
        text = re.sub(r"\bprocess \d+", "process N", text)
        return re.sub(r"\b[0-9a-f]{32}\b", "GUID", re.sub(r"poll://\w+/", "poll://…/", text))

    def _name(self, value: Any, kind: str) -> str:
        return self._names.setdefault((kind, value), f"{kind} {len(self._names)}")


def identity(file: Path) -> str:
    """Return the thumbprint in a PFX with the empty password."""
    try:
        return Identity.from_pfx(file.read_bytes()).thumbprint
    except ValueError:
        return "no PFX"


def tell(process: powershell.RemoteProcess, text: str, parameters: Any) -> None:
    """Hand over a script and its parameters."""
    for part in (text, json.dumps(parameters)):
        process.write(base64.b64encode(part.encode()) + b"\n", end=False)
    process.write(b"", end=True)


def read_all(process: powershell.RemoteProcess) -> list[tuple[str, Any]]:
    """Return the lines of a process that is about to end."""
    out, end = b"", time.monotonic() + SOON
    while time.monotonic() < end:
        output = process.read(1)
        out += output.stdout
        assert output.stderr == b""
        if output.exit_code is not None:
            lines = [json.loads(line) for line in out.splitlines()]
            return [(line["kind"], line["value"]) for line in lines]
    raise AssertionError("the script does not end")


def kinds(lines: list[tuple[str, Any]]) -> list[str]:
    """Return the kinds of lines."""
    return [kind for kind, _ in lines]


@contextlib.contextmanager
def played(folder: Path, engine: Path | None = None, **profile: Any) -> Iterator[Play]:
    """Make a world, and end it."""
    play = Play(folder, engine, **profile)
    try:
        yield play
    finally:
        play.world.close()


# ---- Cases, played once by PowerShell and once by the twins

Case = Callable[[Play], None]


def several_instances(play: Play) -> None:
    """Inspect a polling one, a stopped one, a busy one and broken ones."""
    add = play.host.add_tentacle
    trusts = [Trust(text=SERVER.thumbprint, style=Style.POLLING, address="https://127.0.0.1:1/")]
    add("blue", style=Style.POLLING, certificate=OLD, trusted=trusts)
    add("Green One", port=10934, certificate=OLD, start=False, listen_address="127.0.0.9")
    for number, text in enumerate(("", "garbage", "<octopus-settings>\n  <set key='a'>b")):
        add(f"broken-{number}", port=10940 + number, certificate=OLD, start=False).config.write_text(text)
    add("gone", port=10950, certificate=OLD, start=False).config.unlink()
    play.host.begin_child(play.tentacle.service.process.pid, "Calamari.exe")
    play.inspect()


def nothing_installed(play: Play) -> None:
    """Inspect a host without program and instances."""
    play.host.tentacle_exe.unlink()
    shutil.rmtree(play.host.program_data / "Octopus")
    play.inspect()


def imported(play: Play) -> None:
    """Import, look, import again, sweep."""
    play.apply(*IMPORT)
    play.inspect()
    play.apply(*IMPORT)
    play.apply("sweep")


def made(play: Play) -> None:
    """Make, visit again, put the old one back."""
    play.apply(*ALL)
    play.apply(*ALL)
    play.apply("restore", "restart")


def documented(play: Play) -> None:
    """Stop, import, start."""
    play.apply("backup", "stop", "import", "start", "served")


def rolled_back_by_a_later_run(play: Play) -> None:
    """Another run puts back what the first one kept."""
    play.apply(*IMPORT)
    changes = {"expected": NEW.thumbprint, "new": OLD.thumbprint, "restore_run": "r-1"}
    play.apply("backup", "restore", "restart", "served", run="r-2", **changes)


def restored_after_a_change(play: Play) -> None:
    """Somebody trusts another Server meanwhile: that stays."""
    play.apply("backup", "import")
    play.tentacle.trust(Trust(text=SERVER.thumbprint, style=Style.LISTENING))
    play.apply("restore", new=NEW.thumbprint)


def failing(play: Play) -> None:
    """Fail to import, before a stop and after one."""
    play.faults.import_fails = "Access is denied."
    play.apply(*IMPORT)
    play.apply("backup", "stop", "make", "start", run="r-2")


def lying(play: Play) -> None:
    """Be told that all is well by an import after which the service never listens."""
    play.faults.import_lies = True
    play.apply(*IMPORT)


def stale(play: Play) -> None:
    """Another certificate is configured than the plan was made for."""
    play.apply(*ALL, expected=SERVER.thumbprint)


def not_as_planned(play: Play) -> None:
    """Do nothing where something else is not as planned for, until something was begun."""

    def refused(**changes: Any) -> dict[str, Any]:
        said: dict[str, Any] = next(v for k, v in play.apply(*ALL, **changes) if k == "refused")
        return said

    play.tentacle.trust(Trust(text=SERVER.thumbprint, style=Style.LISTENING))
    trusting = [t.text for t in play.tentacle.trusted]
    assert refused(trusted=[])["reason"] == "stale"
    assert refused(trusted=[*trusting, NEW.thumbprint])["reason"] == "stale"
    process = play.tentacle.service.process
    assert process
    play.host.begin_child(process.pid, "conhost.exe")
    play.host.begin_child(process.pid, "Calamari.exe")
    assert refused(trusted=trusting) == {"reason": "at-work", "message": "the program Calamari.exe"}
    play.host.end_child(process.pid, "Calamari.exe")
    play.tentacle.service.stop()
    assert play.tentacle.service.wait_for(ServiceState.STOPPED, SOON)
    assert "not Running" in refused(trusted=trusting)["message"]
    assert play.tentacle.configured == OLD.thumbprint
    play.tentacle.service.start()
    assert play.tentacle.service.wait_for(ServiceState.RUNNING, SOON)
    play.apply("backup", trusted=trusting)
    play.tentacle.trust(Trust(text=NEW.thumbprint, style=Style.LISTENING))
    play.apply(*ALL, trusted=trusting)
    assert play.tentacle.configured != OLD.thumbprint


def bad_pfx(play: Play) -> None:
    """Import what is no PFX, or another one."""
    play.apply("backup", "import", pfx=base64.b64encode(b"garbage").decode())
    play.apply("import", pfx=base64.b64encode(NEW.pfx("secret")).decode())
    play.apply("import", new=SERVER.thumbprint)


def unprotectable(play: Play) -> None:
    """No folder can be kept to administrators."""
    play.faults.folder_unprotectable = True
    play.apply(*ALL)


def stuck(play: Play) -> None:
    """Stop a service that never stops."""
    play.faults.stuck_stop = True
    play.apply(*ALL, limits={"program": 5, "stop": 0.5, "start": 0.5, "visit": 5, "loopback": 1})


def killed(play: Play) -> None:
    """Visits die in the middle, the last one goes on where they ended."""
    for kind in ("program", "stopped"):
        play.faults.kill_shell_at = kind
        play.apply(*ALL)
    play.apply(*ALL)


def wrong(play: Play) -> None:
    """Parameters that fit nothing here."""
    play.apply("dance")
    play.apply("stop", service="nothing")
    play.apply("make", exe="/nowhere/Tentacle.exe")


CASES: list[Case] = [
    several_instances,
    nothing_installed,
    imported,
    made,
    documented,
    rolled_back_by_a_later_run,
    restored_after_a_change,
    failing,
    lying,
    stale,
    not_as_planned,
    bad_pfx,
    unprotectable,
    stuck,
    killed,
    wrong,
]


@pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path to compare the twins with")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_the_twins_do_what_the_scripts_do(case: Case, tmp_path: Path) -> None:
    """Lines, files, scheduled tasks and effects are the same in two equal worlds."""
    logs = []
    for name, engine in (("engine", Path(ENGINE or "")), ("twin", None)):
        with played(tmp_path / name, engine) as play:
            case(play)
            logs.append([*play.log, ("effects", play.effects())])
    assert logs[1] == logs[0]


@pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path")
def test_one_process_serves_visits_to_several_hosts(tmp_path: Path) -> None:
    """Each sees its own host, whatever the one before did or left unread; one that was killed takes it along."""
    engines = powershell.ENGINES
    engines.close()
    pids = []
    for number in (1, 2, 3):
        with played(tmp_path / str(number), Path(ENGINE or "")) as play:
            if number == 1:
                assert kinds(play.visit("inspect", {}, text="throw 'no'"))[-1] == "error"
            lines = play.inspect()
            assert lines[-1] == ("done", True)
            assert str(play.host.root) in str(lines)
            served = engines.take(Path(ENGINE or ""))
            pids.append(served.process.pid)
            assert served.visits == number + 1
            engines.give_back(served)
    assert len(set(pids)) == 1
    with played(tmp_path / "killed", Path(ENGINE or "")) as play:
        process = play.process()
        process.kill()
        while process.read(1).exit_code is None:
            pass
        assert kinds(play.inspect())[-1] == "done"
        served = engines.take(Path(ENGINE or ""))
        assert (served.process.pid != pids[0], served.visits) == (True, 1)
        engines.give_back(served)


# ---- What holds for the twins alone


def test_a_killed_twin_has_no_effect_any_more(tmp_path: Path) -> None:
    """It dies while the service stops: nobody starts it, and the next visit finds the mutex free and goes on."""
    with played(tmp_path) as play:
        play.faults.slow_stop = 0.2
        process = play.process()
        assert isinstance(process, TwinProcess)
        tell(process, script("apply"), play.job(*ALL))
        assert play.world.wait(lambda: ("stop", play.tentacle.service.name) in play.effects(), SOON)
        process.kill()
        before = play.files()
        assert kinds(read_all(process))[-1:] in ([], ["stopping"])
        assert process.read(1).exit_code == 1
        assert play.tentacle.service.wait_for(ServiceState.STOPPED, SOON)
        assert play.files() == before
        assert [t.name for t in play.host.schedule.tasks] == ["octocert-backstop-tentacle"]

        assert kinds(play.apply(*ALL))[-1] == "done"
        assert play.host.schedule.tasks == ()
        assert sum(kind == "make" for kind, _ in play.effects()) == 1


def test_a_second_visit_of_the_run_waits_for_the_first(tmp_path: Path) -> None:
    """It says so, and then finds everything done."""
    with played(tmp_path) as play:
        play.faults.slow_stop = 0.3
        first = play.process()
        tell(first, script("apply"), play.job(*ALL))
        assert play.world.wait(lambda: ("stop", play.tentacle.service.name) in play.effects(), SOON)
        second = play.apply(*ALL)
        assert kinds(second)[:2] == ["hello", "waiting"]
        assert [v["already"] for k, v in second if k == "end"] == [True, True, True, False]
        assert kinds(read_all(first))[-1] == "done"


def test_another_visit_in_progress_is_a_refusal(tmp_path: Path) -> None:
    """Nothing was touched, and the line tells why."""
    with played(tmp_path) as play:
        mutex = mutex_of(play.world, f"octocert-tentacle-{play.host.address}")
        assert mutex.wait(play, 0, lambda: False)
        limits = {"program": 5, "stop": 1, "start": 1, "visit": 0.3, "loopback": 1}
        lines = play.apply(*ALL, limits=limits)
        assert kinds(lines) == ["hello", "waiting", "refused", "error"]
        assert lines[2][1] == {"reason": "busy", "message": "another visit is working on Tentacle"}
        mutex.abandon(play)
        assert kinds(play.apply("backup"))[-1] == "done"


def test_only_our_own_scripts_are_run(tmp_path: Path) -> None:
    """Anything else ends with an error line, and so does a session that may not run them."""
    with played(tmp_path / "1") as play:
        lines = play.visit("inspect", {}, text="Get-Date")
        assert kinds(lines) == ["hello", "error"]
        assert "no PowerShell" in lines[1][1]["message"]
    with played(tmp_path / "2", language_mode="ConstrainedLanguage") as play:
        lines = play.inspect()
        assert lines[0][1]["language"] == "ConstrainedLanguage"
        assert lines[1][1]["type"] == "LanguageMode"


def test_a_twin_that_is_told_nothing_ends_with_its_world(tmp_path: Path) -> None:
    """No thread stays behind."""
    before = threading.active_count()
    with played(tmp_path) as play:
        process = play.process()
        assert process.read(0.01).exit_code is None
    assert process.read(0).exit_code == 1
    assert threading.active_count() == before
