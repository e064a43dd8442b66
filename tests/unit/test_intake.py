"""Whoever was acknowledged gets an answer, be it that there will be none."""

import threading

from bot.runs.asking import Asker
from bot.runs.intake import Intake


def asker(name: str) -> Asker:
    """Return somebody who asks."""
    return Asker(user=name, user_name=name, channel="C1", thread=None, key=f"command-{name}")


def test_work_that_is_done_needs_no_telling():
    """The usual case."""
    told: list[str] = []
    intake = Intake(1, lambda who: told.append(who.user))
    done = threading.Event()
    intake.take(asker("rita"), done.set)
    assert done.wait(5)
    intake.close()
    intake.tell_unfinished()
    assert told == []


def test_at_the_end_each_of_the_unfinished_is_told_once():
    """One is being worked on, one waits its turn, one comes too late."""
    told: list[str] = []
    intake = Intake(1, lambda who: told.append(who.user))
    begun, may_end = threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        may_end.wait(10)

    intake.take(asker("working"), long)
    intake.take(asker("waiting"), lambda: told.append("never"))
    assert begun.wait(5)
    closing = threading.Thread(target=intake.close)
    closing.start()
    for _ in range(500):
        if told:
            break
        threading.Event().wait(0.01)
    intake.take(asker("late"), lambda: told.append("never"))
    intake.tell_unfinished()
    may_end.set()
    closing.join(10)
    assert sorted(told) == ["late", "waiting", "working"]
