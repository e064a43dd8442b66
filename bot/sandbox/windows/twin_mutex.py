"""Named mutexes of a sandbox world, for the Python twins of octocert's scripts: one owner each, who may die."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from bot.sandbox.world import World


class AbandonedMutexError(Exception):
    """The mutex is the caller's now; its last owner died with it (AbandonedMutexException of .NET)."""


class Mutex:
    """One mutex. Owners are compared by identity; one that owns it already gets it again."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._owner: object | None = None
        self._abandoned = False

    def wait(self, owner: object, seconds: float, is_dead: Callable[[], bool]) -> bool:
        """Take it within so many seconds of the machine's clock; False if that fails, or the taker died meanwhile.

        AbandonedMutexError when it was taken from a dead owner: it is the caller's all the same.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._owner in {None, owner}, seconds)
            if self._owner not in {None, owner} or is_dead():
                return False
            self._owner = owner
            abandoned, self._abandoned = self._abandoned, False
        if abandoned:
            raise AbandonedMutexError("The wait completed due to an abandoned mutex.")
        return True

    def release(self, owner: object) -> None:
        """Give it back; nothing happens if the owner is another."""
        self._leave(owner, abandoned=False)

    def abandon(self, owner: object) -> None:
        """Leave it as a process does that dies; nothing happens if the owner is another."""
        self._leave(owner, abandoned=True)

    def _leave(self, owner: object, *, abandoned: bool) -> None:
        with self._condition:
            if self._owner is owner:
                self._owner, self._abandoned = None, abandoned
                self._condition.notify_all()


_mutexes: "WeakKeyDictionary[World, dict[str, Mutex]]" = WeakKeyDictionary()
_mutexes_lock = threading.Lock()


def mutex_of(world: "World", name: str) -> Mutex:
    """Return the mutex of this name in a world; it is made when first asked for."""
    with _mutexes_lock:
        return _mutexes.setdefault(world, {}).setdefault(name, Mutex())


def abandon_all(world: "World", owner: object) -> None:
    """Leave everything that an owner holds, because it has ended."""
    with _mutexes_lock:
        mutexes = list(_mutexes.get(world, {}).values())
    for mutex in mutexes:
        mutex.abandon(owner)
