"""What the durable engine and the carriers of runs know of each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Replaced(NamedTuple):
    """What came of several targets whose certificates were replaced."""

    targets: dict[str, dict[str, Any]]
    """By their names; `ready` where the health was to be proven, `later` where the target's turn was put off."""
    proofs: dict[str, dict[str, Any]]
    """By their groups; `ok` is False where the proof of a group was given up, with why as `what`."""


class Carrier(Protocol):
    """What carries out a run; the engine makes each of its methods a durable step or workflow."""

    def carry_out(self, run_id: str) -> None:
        """Carry out one approved run; called inside a workflow."""
        ...

    def replace(self, run_id: str, target: str) -> dict[str, Any]:
        """Replace the certificate of one target; called inside a workflow of its own."""
        ...

    def prove(self, run_id: str, group: str, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Prove the health of a group of replaced targets; called inside a workflow of its own."""
        ...

    def put_back(self, run_id: str, target: str, why: str) -> None:
        """Undo one target; called inside a workflow of its own."""
        ...

    def settle(self, run_id: str, target: str, why: str) -> None:
        """End one target whose work broke off, by what is seen of it; called inside a workflow of its own."""
        ...

    def carry(self, run_id: str, part: str) -> None:
        """Carry out one part of a run that rotates the Server's certificate; called inside a workflow."""
        ...

    def tend(self, run_id: str, target: str, task: str) -> dict[str, Any]:
        """Do one phase's work of such a run on one Tentacle; called inside a workflow of its own."""
        ...


class Doing(Protocol):
    """By what a workflow does its steps and its parts: durably, so that what was done is not done again."""

    def step(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run one step, or return what it returned before a crash."""
        ...

    def tend_all(self, run_id: str, targets: Sequence[str], task: str) -> dict[str, dict[str, Any]]:
        """Do one phase's work on several Tentacles; return what came of each."""
        ...

    def replace_all(self, run_id: str, groups: Mapping[str, Sequence[str]], turn: int = 1) -> Replaced:
        """Replace several certificates, group after group, and prove the health of each group once it was replaced."""
        ...

    def put_back_all(self, run_id: str, targets: Sequence[tuple[str, str]]) -> None:
        """Undo several targets (name and why)."""
        ...

    def settle_all(self, run_id: str, targets: Sequence[tuple[str, str]]) -> None:
        """End several targets whose work broke off (name and why), by what is seen of them."""
        ...
