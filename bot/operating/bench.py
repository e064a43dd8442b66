"""The benchmark: one fleet rotation, by octocert and by its peers, on the same hosts, measured from outside.

Sandbox, bot and peers are processes of their own. The bot is asked and approved through Slack, as people do it; a peer
is one program that starts, rotates all hosts and ends.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bot.domain.commands import MOST_AT_ONCE
from bot.operating.bench_processes import Memory, cpu_seconds

PEERS = Path(__file__).parents[2] / "tests" / "benchmarks"
"""The peers stand beside the tests: they are in a checkout, not in what is installed."""
STORM_PER_SECOND = 50.0
STORM_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is measured."""

    hosts: int
    in_flight: int
    remote_seconds: float
    rate_limit: int = 0
    """Octopus's requests a minute; 0 for no limit."""
    database: str | None = None
    """The address of an empty Postgres; None for SQLite."""

    @property
    def ideal(self) -> float:
        """Seconds that the hosts' own work takes at best."""
        return self.hosts * self.remote_seconds / self.in_flight


@dataclass(slots=True, kw_only=True)
class Result:
    """What one contestant took; all that is per target is divided already."""

    wall: float
    wall_over_ideal: float
    cpu_seconds_per_target: float
    requests_per_target: float
    peak_rss_mb: float
    more: dict[str, Any] = field(default_factory=dict)

    def short(self) -> dict[str, float]:
        """Return the four figures of the last line."""
        return {
            "wall_over_ideal": round(self.wall_over_ideal, 3),
            "cpu_seconds_per_target": round(self.cpu_seconds_per_target, 4),
            "requests_per_target": round(self.requests_per_target, 2),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
        }


class World:
    """The sandbox's process, and how it is spoken to."""

    def __init__(self, folder: Path, shape: Shape, *, free_slack: bool = False) -> None:
        arguments = [str(folder / "town"), f"--hosts={shape.hosts}", f"--remote-seconds={shape.remote_seconds}"]
        arguments += [f"--in-flight={shape.in_flight}", f"--rate-limit={shape.rate_limit}"]
        arguments += ["--free-slack"] if free_slack else []
        self._log = (folder / "world.log").open("wb")
        self._process = subprocess.Popen(  # noqa: S603  # our own programs, here and below
            [sys.executable, "-m", "bot.operating.bench_world", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.about = self._answer()
        config = Path(self.about["config"])
        if shape.database:
            text = config.read_text(encoding="utf-8")
            line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
            config.write_text(text.replace(line, f'url = "{shape.database}"'), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def cpu_seconds(self) -> float:
        """What the sandbox itself took of the processor."""
        return cpu_seconds(self._process.pid)

    def do(self, what: str, **options: object) -> Any:
        """Have the sandbox do something; RuntimeError if it cannot."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"the sandbox could not {what}: {answer['error']}")
        return answer["answer"]

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox ended; see {self._log.name}")
        return json.loads(line)


def _world(name: str, shape: Shape, latencies: bool) -> World:
    # a storm of commands is answered by as many whispers, for which Slack's limits would have the plan wait
    return World(Path(name), shape, free_slack=latencies)


@contextmanager
def _bot(world: World, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the bot as an administrator does, and wait until Slack has it."""
    program = Path(sys.executable).with_name("octocert")
    with (folder / "bot.log").open("wb") as log:
        process = subprocess.Popen([program, "run", "--config", world.about["config"]], stdout=log, stderr=log)  # noqa: S603
        try:
            world.do("connected")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def octocert(shape: Shape, *, latencies: bool = False) -> Result:
    """Rotate the fleet by the bot; with `latencies` also how fast it answers, idle, stormed and at work."""
    with tempfile.TemporaryDirectory(prefix="octocert-bench-") as name, _world(name, shape, latencies) as world:
        folder = Path(name)
        with _bot(world, folder) as process:
            more: dict[str, Any] = {}
            if latencies:
                more["ack_idle"] = spread(world.do("storm", rate=2.0, seconds=5.0, text="help"))
                more["ack_storm"] = spread(world.do("storm", rate=STORM_PER_SECOND, seconds=STORM_SECONDS, text="help"))
            before, memory = cpu_seconds(process.pid), Memory(process.pid)
            quiet = memory.now_kb
            targets = " ".join(h["name"] for h in world.about["hosts"]) if shape.hosts <= 10 else "bench-*"
            batch = min(shape.hosts, MOST_AT_ONCE)
            plan = world.do("ask", text=f"rotate {targets} --canary 0 --batch {batch}")
            if "Approve" not in plan["buttons"]:
                raise RuntimeError(f"the plan cannot be approved; it has the buttons {plan['buttons']}")
            sandbox, begun = world.cpu_seconds, time.monotonic()
            click = world.do("approve", ts=plan["ts"])
            if latencies:
                more["ack_at_work"] = spread(
                    world.do("storm", rate=STORM_PER_SECOND, seconds=STORM_SECONDS, text="help")
                )
            world.do("over", ts=plan["ts"])
            wall = time.monotonic() - begun
            world.do("told", ts=plan["ts"])
            told = time.monotonic() - begun
            took, peak = cpu_seconds(process.pid) - before, memory.close()
            counts = world.do("counts")
            if counts["consistent"] != shape.hosts or counts["made"] != shape.hosts:
                raise RuntimeError(f"the fleet is not as it should be: {counts}")
            more |= {
                "plan_seconds": plan["seconds"],
                "first_step": click["first_step"],
                "approval_ack": click["ack"],
                "told_seconds": told,
                "slack_calls": counts["slack_calls"],
                "most_requests": counts["most_requests"],
                "kb_per_target": (peak - quiet) / shape.hosts,
                "sandbox_cpu_share": (world.cpu_seconds - sandbox) / wall,
            }
            return _result(shape, wall, took, counts["requests"], peak / 1024, more)


def peer(name: str, shape: Shape) -> Result:
    """Rotate the fleet by a peer: a program that gets one file which says what is where."""
    with tempfile.TemporaryDirectory(prefix="octocert-bench-") as folder, World(Path(folder), shape) as world:
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps({**world.about, "in_flight": shape.in_flight, "folder": folder}), encoding="utf-8")
        world.do("mark")
        sandbox, begun = world.cpu_seconds, time.monotonic()
        with (Path(folder) / "peer.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, PEERS / f"{name}.py", spec], stdout=log, stderr=log)  # noqa: S603
            memory = Memory(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall, peak = time.monotonic() - begun, memory.close()
        if process.returncode:
            said = (Path(folder) / "peer.log").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{name} ended with exit code {process.returncode}: {said}")
        counts = world.do("counts")
        if counts["consistent"] != shape.hosts:
            raise RuntimeError(f"{name} left the fleet inconsistent: {counts}")
        more = {"sandbox_cpu_share": (world.cpu_seconds - sandbox) / wall, "most_requests": counts["most_requests"]}
        return _result(shape, wall, usage.ru_utime + usage.ru_stime, counts["requests"], peak / 1024, more)


def missing(name: str) -> str:
    """Return why a peer cannot take part, an empty text if it can."""
    if not (PEERS / f"{name}.py").exists():
        return f"{name} is left out: it stands in the repository (tests/benchmarks), which is not here."
    if name == "ansible" and not Path(sys.executable).with_name("ansible-playbook").exists():
        return "ansible is left out: it is not installed (pip install 'octocert[bench]')."
    return ""


def spread(seconds: list[float | None]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds, and how many were never acknowledged."""
    known = sorted(s for s in seconds if s is not None)
    if not known:
        return {"median_ms": float("inf"), "p99_ms": float("inf"), "lost": float(len(seconds))}
    p99 = known[min(len(known) - 1, int(len(known) * 0.99))]
    return {
        "median_ms": round(statistics.median(known) * 1000, 1),
        "p99_ms": round(p99 * 1000, 1),
        "lost": float(len(seconds) - len(known)),
    }


def _result(shape: Shape, wall: float, cpu: float, requests: int, peak_mb: float, more: dict[str, Any]) -> Result:
    return Result(
        wall=wall,
        wall_over_ideal=wall / shape.ideal,
        cpu_seconds_per_target=cpu / shape.hosts,
        requests_per_target=requests / shape.hosts,
        peak_rss_mb=peak_mb,
        more=more,
    )
