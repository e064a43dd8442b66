"""What `apply.ps1` promises, seen in the world: by the script under a real PowerShell, and by its Python twin."""

import base64
import json
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.domain.facts import ServiceState, Style, Trust
from bot.sandbox.pki import self_signed
from bot.sandbox.windows import powershell
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World
from bot.windows.scripts import BOOTSTRAP, encoded_bootstrap, script

ENGINE = shutil.which("pwsh")
OLD, NEW, SERVER = self_signed("old"), self_signed("new"), self_signed("server")
SOON = 30.0
LIMITS = {"program": 10, "stop": 5, "start": 5, "visit": 10, "loopback": 2}
SHORT = {"program": 1, "stop": 0.4, "start": 0.4, "visit": 2, "loopback": 1}
"""Limits of a visit without a program: the backstop strikes 1.8 s after it was registered."""
REAL = pytest.param(
    "powershell", marks=pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path")
)


class Visited:
    """One host, and visits to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.add_host("web-01")
        self.tentacle: TentacleInstance = self.host.add_tentacle(certificate=OLD)
        self.kept = self.host.program_data / "octocert"

    def begin(self, *actions: str, **changes: Any) -> powershell.RemoteProcess:
        """Start an apply visit."""
        tentacle = self.tentacle
        job = {
            "run": "r-1",
            "kind": "tentacle",
            "instance": tentacle.name,
            "exe": str(self.host.tentacle_exe),
            "config": str(tentacle.config),
            "service": tentacle.service.name,
            "expected": OLD.thumbprint,
            "new": NEW.thumbprint if "import" in actions else None,
            "pfx": base64.b64encode(NEW.pfx()).decode() if "import" in actions else None,
            "actions": actions,
            "limits": LIMITS,
            "port": tentacle.port,
            "listen_ip": None,
            "restore_run": None,
            "trust_old": None,
            "trust_new": None,
            "trusted": None,
            "server_addresses": [],
        } | changes
        options = ["-NoProfile", "-NonInteractive", "-EncodedCommand", encoded_bootstrap()]
        process = powershell.start(self.host, "powershell.exe", options)
        for text in (script("apply"), json.dumps(job)):
            process.write(base64.b64encode(text.encode()) + b"\n", end=False)
        process.write(b"", end=True)
        return process

    def apply(self, *actions: str, **changes: Any) -> dict[str, list[Any]]:
        """Carry out actions to the end of the visit; return the values of its lines by their kinds."""
        return heard(self.begin(*actions, **changes))

    def journal(self) -> Any:
        """Return what the host's journal tells."""
        return json.loads(Path(f"{self.tentacle.config}.octocert.json").read_text())

    def leftovers(self) -> list[str]:
        """Return the names of folders in which a PFX lies."""
        return sorted(p.parent.name for p in self.host.root.rglob("*.pfx"))

    def tasks(self) -> list[str]:
        """Return the names of the scheduled tasks."""
        return [t.name for t in self.host.schedule.tasks]

    def count(self, *kinds: str) -> int:
        """Return how often something of these kinds happened."""
        return sum(e.kind in kinds for e in self.world.effects)

    def is_running_again(self, before: int) -> bool:
        """Wait until the service runs by another process than before."""
        service = self.tentacle.service
        return self.world.wait(
            lambda: service.is_running and service.process is not None and service.process.pid != before, SOON
        )

    @property
    def pid(self) -> int:
        """The process of the service."""
        assert self.tentacle.service.process is not None
        return self.tentacle.service.process.pid


def heard(process: powershell.RemoteProcess) -> dict[str, list[Any]]:
    """Return the values of all lines of a process that is about to end, by their kinds."""
    out, end = b"", time.monotonic() + SOON
    while time.monotonic() < end:
        output = process.read(1)
        out += output.stdout
        if output.exit_code is not None:
            values: dict[str, list[Any]] = {}
            for line in out.splitlines():
                document = json.loads(line)
                values.setdefault(document["kind"], []).append(document["value"])
            return values
    raise AssertionError("the script does not end")


@pytest.fixture(params=[REAL, "twin"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visited]:
    """Give a host with a listening Tentacle."""
    world = World(tmp_path, pace=0.02, powershell=Path(ENGINE or "") if request.param == "powershell" else None)
    try:
        yield Visited(world)
    finally:
        world.close()


def test_a_polling_tentacle_is_imported_to_in_one_visit_and_restarted_in_a_later_one(web: Visited) -> None:
    """Between the two the old certificate is in use; the second visit knows from the journal what the first did."""
    trust = Trust(text=SERVER.thumbprint, style=Style.POLLING, address="https://127.0.0.1:1/")
    web.tentacle = web.host.add_tentacle("blue", style=Style.POLLING, certificate=OLD, trusted=[trust])
    before = web.pid

    first = web.apply("backup", "import")
    assert first["applied"][0]["configured"] == NEW.thumbprint
    assert (web.pid, web.tentacle.served) == (before, OLD.thumbprint)
    assert web.journal()["phase"] == "imported"

    second = web.apply("restart", new=NEW.thumbprint)
    assert second["end"] == [{"action": "restart", "already": False}]
    assert second["applied"][0]["process"] == web.pid != before
    assert web.tentacle.served == NEW.thumbprint
    assert web.tasks() == []


def test_a_service_that_stops_too_late_is_started_by_the_backstop(web: Visited) -> None:
    """The visit fails, names the process and kills nothing; when the service stops at last, a task starts it."""
    web.host.faults.late_stop = 1.5
    before = web.pid
    lines = web.apply("backup", "restart", limits=SHORT)
    [error] = lines["error"]
    assert f"did not stop within 0.4 s: process {before} of LocalSystem is still there" in error["message"]
    assert "applied" not in lines
    assert web.tasks() == ["octocert-backstop-tentacle"]
    assert (web.tentacle.service.state, web.pid) == (ServiceState.STOP_PENDING, before)

    web.host.faults.late_stop = 0
    assert web.is_running_again(before)
    assert web.count("task-run") >= 1


def test_a_killed_shell_leaves_no_service_stopped(web: Visited) -> None:
    """Its `finally` never runs, and nobody comes back: the task that was registered before the stop starts it."""
    web.host.faults.kill_shell_at = "stopped"
    before = web.pid
    lines = web.apply("backup", "stop", "start", limits=SHORT)
    assert not {"started", "error", "done"} & lines.keys()
    assert web.count("stopped") == 1
    assert web.is_running_again(before)

    again = web.apply("backup", "restart", limits=SHORT)
    assert again["end"][-1] == {"action": "restart", "already": True}
    assert web.count("stop") == 1
    assert web.tasks() == []


def test_a_reader_that_is_gone_in_mid_visit_leaves_a_running_service(web: Visited) -> None:
    """Whatever its output meets, the script starts the service and removes the key, and lets the next visit in."""
    web.host.faults.slow_stop = 0.3
    before = web.pid
    process = web.begin("backup", "stop", "import", "start")
    assert web.world.wait(lambda: web.count("stop") == 1, SOON)
    process.hang_up()
    assert web.is_running_again(before)
    heard(process)
    assert web.leftovers() == []
    assert web.tasks() == []
    assert "done" in web.apply("backup")


def test_a_key_that_a_dead_visit_left_is_protected_and_swept_by_the_next(web: Visited) -> None:
    """The folder was private from its first moment; what belongs to another instance is not touched."""
    web.host.faults.slow_import = 2.0
    process = web.begin("backup", "import")
    assert web.world.wait(lambda: len(web.leftovers()) == 1, SOON)
    process.kill()
    web.host.faults.slow_import = 0.0
    assert "done" not in heard(process)
    [left] = web.leftovers()
    assert stat.S_IMODE((web.kept / left).stat().st_mode) == 0o700
    other = web.kept / "pfx-blue--1"
    other.mkdir()
    (other / "certificate.pfx").write_bytes(b"in use")
    assert "done" in web.apply("backup", "import")
    assert web.leftovers() == ["pfx-blue--1"]


def test_what_an_interrupted_visit_of_this_run_has_put_there_is_not_imported_over(web: Visited) -> None:
    """A CA signs another certificate for each attempt: the first one that is in force stays, and the host says so."""
    other = self_signed("other")
    pfx = base64.b64encode(other.pfx()).decode()
    web.apply("backup", "import")
    told = web.apply("backup", "import", "restart", new=other.thumbprint, pfx=pfx)
    assert "applied" not in told
    assert f"has put {NEW.thumbprint} there already" in str(told["error"])
    assert web.tentacle.configured == NEW.thumbprint
    assert web.apply("backup", "import", "restart", pfx=None)["applied"][0]["configured"] == NEW.thumbprint
    assert web.count("import") == 1


def test_an_attempt_that_put_nothing_there_is_followed_by_one_with_another_certificate(web: Visited) -> None:
    """The journal then names the second, so that a visit of the first which comes late changes nothing."""
    other = self_signed("other")
    pfx = base64.b64encode(other.pfx()).decode()
    assert web.apply("backup", new=NEW.thumbprint)["applied"][0]["configured"] == OLD.thumbprint
    assert web.apply("backup", "import", new=other.thumbprint, pfx=pfx)["applied"][0]["new"] == other.thumbprint
    assert f"has put {other.thumbprint} there already" in str(web.apply("backup", "import")["error"])
    assert web.tentacle.configured == other.thumbprint


def test_a_folder_that_somebody_else_made_is_refused(web: Visited) -> None:
    """ProgramData lets everybody make folders: one that others can open may be a trap. Nothing was changed."""
    web.kept.mkdir(mode=0o755)
    web.kept.chmod(0o755)
    lines = web.apply("backup", "make", "restart")
    assert lines["refused"][0]["reason"] == "protection"
    assert "mend or remove it" in lines["error"][0]["message"]
    assert (web.tentacle.configured, web.count("stop", "make", "import")) == (OLD.thumbprint, 0)


def test_a_failed_import_in_the_documented_order_ends_with_the_old_certificate_served(web: Visited) -> None:
    """Stopped, failed, started again; the error says what Tentacle said, and no key is left."""
    web.host.faults.import_fails = "Access to the key is denied."
    lines = web.apply("backup", "stop", "import", "start")
    assert [*lines][-2:] == ["started", "error"]
    assert "exit code 100" in lines["error"][0]["message"]
    assert "Access to the key is denied." in lines["error"][0]["message"]
    assert (web.tentacle.served, web.leftovers(), web.tasks()) == (OLD.thumbprint, [], [])


def test_no_key_is_left_where_the_program_cannot_even_be_run(web: Visited) -> None:
    """The PFX lay there already; the service, stopped before, runs again."""
    lines = web.apply("backup", "stop", "import", "start", exe=str(web.host.root / "nowhere" / "Tentacle.exe"))
    assert [*lines][-2:] == ["started", "error"]
    assert (web.tentacle.served, web.leftovers()) == (OLD.thumbprint, [])


@pytest.mark.parametrize("web", [REAL], indirect=True)
def test_a_program_that_hangs_is_ended_after_its_time(web: Visited) -> None:
    """Only that one is: it is our own child. The programs of the twins' world never hang."""
    exe = web.host.root / "hangs"
    exe.write_text("#!/bin/sh\nexec sleep 60\n")
    exe.chmod(0o755)
    begin = time.monotonic()
    lines = web.apply("backup", "import", exe=str(exe), limits=LIMITS | {"program": 0.3})
    assert "import-certificate did not end within 0.3 s" in lines["error"][0]["message"]
    assert time.monotonic() - begin < 30
    assert (web.tentacle.configured, web.leftovers()) == (OLD.thumbprint, [])


def test_the_documented_order_survives_a_watchdog(web: Visited) -> None:
    """It starts the service with the old certificate between stop and import: what runs at the end has the new one."""
    web.host.faults.watchdog_restarts = True
    lines = web.apply("backup", "stop", "import", "start")
    assert "done" in lines
    assert web.world.wait(lambda: web.tentacle.service.is_running, SOON)
    assert web.tentacle.served == NEW.thumbprint


def test_a_service_that_starts_and_never_listens_is_reported_as_seen(web: Visited) -> None:
    """The restart succeeded, and the loopback says that nobody answers: the decision is the bot's."""
    web.host.faults.never_listens = True
    [applied] = web.apply("restart", "served", limits=LIMITS | {"loopback": 0.2})["applied"]
    assert applied["state"] == "Running"
    assert applied["served"]["der"] is None
    assert applied["served"]["error"]


def test_no_list_of_trusted_servers_is_ever_put_back(web: Visited) -> None:
    """Even where the file is as we left it: somebody trusted another Server between the copy and the import."""
    web.apply("backup")
    web.tentacle.trust(Trust(text=SERVER.thumbprint, style=Style.LISTENING))
    web.apply("import", new=NEW.thumbprint)
    lines = web.apply("restore", new=NEW.thumbprint)
    assert lines["end"] == [{"action": "restore", "already": False, "whole": False}]
    assert web.tentacle.configured == OLD.thumbprint
    assert [t.text for t in web.tentacle.trusted] == [SERVER.thumbprint]
    assert web.tentacle.configuration.identity == OLD


def test_names_in_any_language_survive(web: Visited) -> None:
    """Instance, service, paths and what the program prints pass every code page between here and there."""
    web.tentacle = web.host.add_tentacle("Tentäcle-触手", port=10940, certificate=OLD)
    lines = web.apply("backup", "import", "restart", "served")
    assert lines["started"] == ["OctopusDeploy Tentacle: Tentäcle-触手"]
    assert web.tentacle.served == NEW.thumbprint
    assert lines["applied"][0]["served"]["der"]


# ---- What needs no host


def test_the_bootstrap_fits_on_every_command_line() -> None:
    """Also where cmd.exe stands between, which takes 8191 characters; and it is the same on every visit."""
    assert len(encoded_bootstrap()) < 7000
    assert base64.b64decode(encoded_bootstrap()).decode("utf-16-le") == BOOTSTRAP


@pytest.mark.parametrize("read", [lambda: BOOTSTRAP, lambda: script("inspect"), lambda: script("apply")])
def test_scripts_are_ascii_and_name_no_drive(read: Callable[[], str]) -> None:
    """Windows PowerShell 5.1 reads a script by the code page of its host; and Windows need not be on C."""
    text = read()
    assert text.isascii()
    assert "C:\\" not in text


NEWER = re.compile(
    r"::new\(|^\s*(class|enum|using)\s|\?\?|\?\.|&&|\|\||-Parallel|New-TemporaryFile|Get-ItemPropertyValue|"
    r"(Compress|Expand)-Archive|Get-ComputerInfo|Write-Information|-NoNewline|ConvertFrom-Json\s+-",
    re.MULTILINE,
)
"""What Windows PowerShell learned after 4.0, as far as somebody might write it here without thinking."""


@pytest.mark.parametrize("read", [lambda: BOOTSTRAP, lambda: script("inspect"), lambda: script("apply")])
def test_scripts_keep_to_what_powershell_4_knows(read: Callable[[], str]) -> None:
    """Windows Server 2012 R2 has no newer one unless somebody installed it, and the doctor says that 4.0 will do."""
    code = "\n".join(line for line in read().splitlines() if not line.lstrip().startswith("#"))
    assert NEWER.findall(code) == []


@pytest.mark.parametrize("part", ["common", "trust", "server"])
def test_there_is_no_other_script(part: str) -> None:
    """Not even what the two are made of can be run by itself."""
    with pytest.raises(FileNotFoundError):
        script(part)


@pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path")
def test_scripts_parse_as_they_are_sent(tmp_path: Path) -> None:
    """Shared part and script joined are one valid script each."""
    import subprocess

    files = []
    for name, text in (("bootstrap", BOOTSTRAP), ("inspect", script("inspect")), ("apply", script("apply"))):
        files.append(tmp_path / f"{name}.ps1")
        files[-1].write_text(text, encoding="ascii")
    checks = "".join(
        "$errors = $null; $null = [Management.Automation.Language.Parser]::ParseFile("
        f"'{file}', [ref]$null, [ref]$errors); $errors | ForEach-Object {{ \"$_\" }}\n"
        for file in files
    )
    parsed = subprocess.run(
        [ENGINE or "", "-NoProfile", "-Command", checks], capture_output=True, text=True, check=True
    )
    assert parsed.stdout.strip() == ""
