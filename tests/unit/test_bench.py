"""The benchmark works at a small size, so that nobody finds it broken on the day when it is wanted."""

import json
import subprocess
import sys
from pathlib import Path

from bot.operating import bench
from bot.operating.bench import spread

PROGRAM = Path(sys.executable).with_name("octocert")
FIGURES = {"wall_over_ideal", "cpu_seconds_per_target", "requests_per_target", "peak_rss_mb"}


def test_a_small_fleet_is_measured_beside_the_script():
    """The last line is JSON with four figures for each; the world ended as it should, or it would have failed."""
    arguments = ("bench", "--hosts", "3", "--in-flight", "3", "--remote-seconds", "0.2", "--peers", "script", "--json")
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert list(found) == ["octocert", "script"]
    for figures in found.values():
        assert set(figures) == FIGURES
        assert all(value > 0 for value in figures.values())
    assert found["octocert"]["requests_per_target"] < found["script"]["requests_per_target"]


def test_a_peer_that_is_not_there_is_left_out_by_name():
    """Its name and how to get it."""
    assert "left out" in bench.missing("no-such-peer")
    assert bench.missing("script") == ""


def test_percentiles_count_what_was_lost():
    """An acknowledgement that never came is no fast one."""
    assert spread([0.001 * n for n in range(1, 101)] + [None]) == {"median_ms": 50.5, "p99_ms": 100.0, "lost": 1.0}
