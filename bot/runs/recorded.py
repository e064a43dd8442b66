"""Recorded: what the durable engine keeps of results and of errors, and how these come back."""

import json
from typing import Any

from bot.secrets import Secret


class RecordedError(Exception):
    """An unexpected exception of a step, as it was journaled: its class name, without its text."""


class Unexpected(Exception):  # noqa: N818  # it says what the error is
    """A step ended with an error that nobody expected: told alike when it happens and when it is replayed."""

    def __init__(self, step: str, error: str) -> None:
        super().__init__(f"{step}: {error}")
        self.step = step
        self.error = error
        """The name of the exception's class; its text may hold anything, and stands in the log only."""

    @property
    def sentence(self) -> str:
        """What happened, as a phrase for people."""
        return f"the step “{self.step.replace('_', ' ')}” met an error that nobody expected ({self.error})"


def plain(value: Any) -> Any:
    """Return a value as JSON has it; TypeError for what is never journaled, a Secret above all."""
    if isinstance(value, Secret):
        raise TypeError("a Secret is never journaled")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, BaseException):
        return {"__error__": type(value).__name__}
    raise TypeError(f"a {type(value).__name__} is never journaled")


def class_of(error: Exception) -> str:
    """Return the name of an exception's class, also of one that comes from the journal."""
    return str(error) if isinstance(error, RecordedError) else type(error).__name__


class StrictJson:
    """Journals plain JSON and nothing else: no pickles, no secrets. The durable engine calls it a serializer."""

    def name(self) -> str:
        """Return the name under which values are stored."""
        return "octocert_json_1"

    def serialize(self, data: Any) -> str:
        """Return JSON; TypeError for anything that is not plain."""
        return json.dumps(plain(data), separators=(",", ":"))

    def deserialize(self, serialized_data: str) -> Any:
        """Return what was stored; an exception comes back as RecordedError."""
        value = json.loads(serialized_data)
        if isinstance(value, dict) and set(value) == {"__error__"}:
            return RecordedError(value["__error__"])
        return value
