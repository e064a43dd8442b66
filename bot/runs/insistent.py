"""Insistence: a step of a run that met an error nobody expected is not given up in silence; people decide about it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bot.runs.carrying import Doing
from bot.runs.control import Control
from bot.runs.recorded import Unexpected

T = TypeVar("T")


class GivenUp(Exception):  # noqa: N818  # it says what people did
    """A step met an error that nobody expected, and it is not tried again; the text says so, as a phrase."""


class Insistent:
    """Does steps as another one does them; after an unexpected error it holds the run until people say how it goes on.

    Every step may be repeated, so *Resume* does it again. GivenUp where they stop the run, or it stops already.
    """

    def __init__(self, doing: Doing, control: Control) -> None:
        self._doing = doing
        self._control = control

    def step(self, name: str, function: Callable[..., T], run_id: str, *arguments: Any) -> T:
        """Do one step of a run."""
        while True:
            try:
                return self._doing.step(name, function, run_id, *arguments)
            except Unexpected as error:
                if not self._doing.step("ask_on", self._control.ask, run_id, error.sentence):
                    raise GivenUp(error.sentence) from error

    def tried(self, name: str, function: Callable[..., dict[str, Any]], run_id: str, *arguments: Any) -> dict[str, Any]:
        """Do one step of a run; what is given up failed."""
        try:
            return self.step(name, function, run_id, *arguments)
        except GivenUp as error:
            return {"ok": False, "busy": False, "what": str(error)}

    def tend_all(self, run_id: str, targets: Sequence[str], task: str) -> dict[str, dict[str, Any]]:
        """Do one phase's work on several Tentacles; return what came of each."""
        return self._doing.tend_all(run_id, targets, task)
