"""A bot in a process of its own, which can be killed."""

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.chaos.nursery import Born

START_SECONDS = 60.0


class BotProcess:
    """`octocert run`, started from the nursery; `installed`, as an administrator starts it."""

    def __init__(
        self, config: Path, log: Path, *arguments: str, clock: Path | None = None, installed: bool = False
    ) -> None:
        """With `clock`, a file of seconds, its clock can be made to jump."""
        self.config = config
        self._is_installed = installed
        self._clock = clock
        self.arguments = arguments
        self.log = log
        self.database = config.parent / "octocert.sqlite"
        self._process: Born | subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its log is appended to the file."""
        words = ["octocert", "run", "--config", str(self.config), *self.arguments]
        if self._clock:
            words = [str(Path(__file__).with_name("clocked.py")), str(self.config), str(self._clock)]
        if self._is_installed:
            words[0] = str(Path(sys.executable).with_name("octocert"))
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(words, stdout=output, stderr=output)
        else:
            self._process = Born(words, self.log)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as a service manager does; return its exit code."""
        return self._signal(signal.SIGTERM)

    def stop_at_once(self) -> int:
        """Stop it by two signals, as somebody without patience does; return its exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two signals at the same moment are one
        return self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop its time, as a suspended machine does."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its time go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self._process
        return self._process.wait(seconds)

    def limit_files(self, size: int | None) -> None:
        """Let it write no file beyond so many bytes, as on a disk that is full; None for no limit."""
        assert self._process
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    @property
    def exit_code(self) -> int | None:
        """How it ended by itself; None while it runs, and after it was stopped or killed."""
        return self._process.poll() if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def _signal(self, number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(60)
        except TimeoutError as error:
            raise AssertionError(f"{error}; see {self.log}:\n{self.log.read_text()[-9000:]}") from error
        finally:
            self._process = None

    def step_is(self, run_id: str, step: str) -> bool:
        """Whether this step of a run was begun, as the ledger has it."""
        rows = self._rows("select steps from octocert_progress where run_id = ?", run_id)
        return any(s["step"] == step and s["state"] != "pending" for (text,) in rows for s in json.loads(text))

    def signed(self, run_id: str) -> set[str]:
        """Return the thumbprints of the certificates that a CA signed for a run."""
        return {str(row[0]) for row in self._rows("select thumbprint from octocert_issued where run_id = ?", run_id)}

    @property
    def has_told_all(self) -> bool:
        """Whether all that it has to say stands in Slack, as its outbox has it."""
        return not self._rows("select 1 from octocert_posts where sent < version and refusal is null limit 1")

    def begun_as_children(self, run_id: str, parts: Mapping[str, str]) -> None:
        """Make the journal of a run look as if it had begun these parts (id and function) as its children."""
        connection = sqlite3.connect(self.database, timeout=5)
        row = "workflow_uuid = ? and function_name = 'DBOS.patch-beside'"
        with closing(connection), connection:
            (first,) = connection.execute(
                f"select function_id from operation_outputs where {row}", (run_id,)
            ).fetchone()
            connection.execute(f"delete from operation_outputs where {row}", (run_id,))
            for number, (part, function) in enumerate(parts.items(), start=first):
                connection.execute(
                    "insert into operation_outputs (workflow_uuid, function_id, function_name, child_workflow_id)"
                    " values (?, ?, ?, ?)",
                    (run_id, number, function, part),
                )

    def began_beside(self, run_id: str) -> bool:
        """Whether the journal of a run says that its parts are not its children."""
        query = "select 1 from operation_outputs where workflow_uuid = ? and function_name = 'DBOS.patch-beside'"
        return bool(self._rows(query, run_id))

    def newest_run(self) -> str:
        """Return the id of the newest run."""
        return str(self._rows("select id from octocert_runs order by created desc limit 1")[0][0])

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query, values).fetchall()

    def wait_for_step(self, run_id: str, step: str, seconds: float = 60.0) -> None:
        """Wait until a step was begun."""
        end = time.monotonic() + seconds
        while not self.step_is(run_id, step):
            if time.monotonic() > end:
                raise AssertionError(
                    f"the step “{step}” was never begun; see {self.log}:\n{self.log.read_text()[-3000:]}"
                )
            time.sleep(0.005)
