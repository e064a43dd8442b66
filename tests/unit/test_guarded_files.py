"""Files beside the database are for the bot's account alone, and every promise of SECURITY.md has its test."""

import ast
import re
import stat
from pathlib import Path

from bot.audit import AuditLog, Entry
from bot.clock import FakeClock
from bot.runs.database import Database

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_nobody_else_reads_the_database_or_what_lies_beside_it(tmp_path: Path) -> None:
    """Database, its journals, its lock and the audit head are 0600, a folder that the bot makes 0700."""
    folder = tmp_path / "made"
    path = folder / "octocert.sqlite"
    with Database(f"sqlite:///{path}") as database:
        AuditLog(database.engine, FakeClock(), head_file=path.with_name("head")).append("a", Entry(kind="asked"))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    assert {f"octocert.sqlite{s}" for s in ("", "-wal", "-shm", ".lock")} | {"head"} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o600} == {}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_each_row_of_the_threat_model_names_a_test_that_exists() -> None:
    """`tests/…::test_…`, at least one a row; a test that is renamed is renamed there, too."""
    rows = [line for line in SECURITY.splitlines() if line.startswith("| ") and "---" not in line][1:]
    rows = rows[: next(i for i, r in enumerate(rows) if r.startswith("| If somebody has"))]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert test in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, (file, test)
