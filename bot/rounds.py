"""Rounds: what a thread does again and again. One that fails ends nothing, and fills no disk with its tracebacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Rounds:
    """Tells of rounds that fail: first with the traceback, and then by a line for as long as the error is the same."""

    def __init__(self, log: Any, what: str) -> None:
        """Take who logs, and what is said."""
        self._log = log
        self._what = what
        self._error: type[Exception] | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the last one did."""
        return self._error is not None

    @contextmanager
    def one(self) -> Iterator[None]:
        """Do one; whatever it raises is logged here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # the next round is due, whatever this one met
            if type(error) is self._error:
                self._log.warning(self._what, error=type(error).__name__)
            else:
                self._log.exception(self._what)
            self._error = type(error)
        else:
            self._error = None
