"""`python -m tests.benchmarks`: the whole series; writes the results into docs/benchmarks.md, with a chart.

`--quick` measures small fleets, to see that everything works. Let nothing else run on the machine meanwhile.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from bot.operating import bench
from bot.operating.bench import Result, Shape
from tests.benchmarks.chart import draw
from tests.scenarios import postgres

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
RATE_LIMIT = 1200
"""Octopus's requests a minute in the line that has a rate limit."""


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small fleets and short work")
    options = parser.parse_args()
    sizes, seconds, in_flight = ((5, 10), 1.0, 8) if options.quick else ((10, 100, 1000), 6.0, 64)
    lines: list[tuple[str, Shape, Result]] = []

    def note(name: str, shape: Shape, result: Result) -> None:
        lines.append((name, shape, result))
        print(name, shape.hosts, result.short(), flush=True)  # noqa: T201  # its progress

    for hosts in sizes:
        shape = Shape(hosts=hosts, in_flight=in_flight, remote_seconds=seconds)
        note("octocert", shape, bench.octocert(shape))
        for peer in ("script", "ansible") if hosts <= 100 else ():
            if why := bench.missing(peer):
                print(why, flush=True)  # noqa: T201
            else:
                note(peer, shape, bench.peer(peer, shape))
    middle = sizes[1]
    limited = Shape(hosts=middle, in_flight=in_flight, remote_seconds=seconds, rate_limit=RATE_LIMIT)
    note("octocert, rate limit", limited, bench.octocert(limited))
    wide = Shape(hosts=middle * 2, in_flight=128, remote_seconds=seconds)
    note("octocert, 128 in flight", wide, bench.octocert(wide, latencies=True))
    with postgres.server(durable=True) if postgres.programs() else nullcontext() as url:
        if url:
            shared = Shape(hosts=middle, in_flight=in_flight, remote_seconds=seconds, database=url)
            note("octocert, Postgres", shared, bench.octocert(shared))
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    (DOCS / "images" / "benchmarks.svg").write_text(draw(lines), encoding="utf-8")
    page = DOCS / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    results = "\n".join([BEGIN, "", *machine(quick=options.quick), "", *table(lines), "", *latencies(lines), "", END])
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: results, text, flags=re.DOTALL), encoding="utf-8")


def machine(*, quick: bool) -> list[str]:
    """Return what it was measured on."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.+)", cpus)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("dbos", "pywinrm", "httpx", "cryptography")
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    how = " (--quick)" if quick else ""
    processor = model[1] if model else platform.machine()
    gigabytes = int(memory[1]) / 1e6 if memory else 0
    when = f"{time.strftime('%Y-%m-%d')} at commit {commit.stdout.strip() or '?'}{how}"
    load = f"load average {os.getloadavg()[0]:.1f} at the end"
    where = f"{os.cpu_count()} processors ({processor}), {gigabytes:.0f} GB, {platform.system()} {platform.release()}"
    return [f"Measured on {when}, {load}:", f"{where}, Python {platform.python_version()}, {versions}."]


def table(lines: list[tuple[str, Shape, Result]]) -> list[str]:
    """Return the figures of all as a table."""
    columns = ("targets", "in flight", "remote s", "wall s", "wall / ideal", "CPU ms / target", "requests / target")
    columns += ("peak MB", "KB / target", "sandbox CPU")
    rows = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, shape, result in lines:
        kb = result.more.get("kb_per_target")
        rows.append(
            f"| {name} | {shape.hosts} | {shape.in_flight} | {shape.remote_seconds:g} | {result.wall:.1f} "
            f"| {result.wall_over_ideal:.2f} | {result.cpu_seconds_per_target * 1000:.0f} "
            f"| {result.requests_per_target:.1f} | {result.peak_rss_mb:.0f} | {f'{kb:.0f}' if kb else ''} "
            f"| {result.more['sandbox_cpu_share'] * 100:.0f} % |"
        )
    return rows


def latencies(lines: list[tuple[str, Shape, Result]]) -> list[str]:
    """Return how fast it answered."""
    rows = ["| acknowledged | median ms | 99 % ms | lost |", "|---|---:|---:|---:|"]
    names = {
        "ack_idle": "a command, idle",
        "ack_storm": "at 50 commands a second",
        "ack_at_work": "at 50 a second with 128 targets in flight",
    }
    for _, _, result in lines:
        for key, name in names.items():
            if key in result.more:
                told = result.more[key]
                rows.append(f"| {name} | {told['median_ms']:g} | {told['p99_ms']:g} | {told['lost']:.0f} |")
    rows += [
        "",
        "| | approval → first request at a host, ms | Slack calls of the run | plan s |",
        "|---|---:|---:|---:|",
    ]
    for name, shape, result in lines:
        if "first_step" in result.more:
            more = result.more
            first = more["first_step"] * 1000
            rows.append(f"| {name}, {shape.hosts} | {first:.0f} | {more['slack_calls']} | {more['plan_seconds']:.1f} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
