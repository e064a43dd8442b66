"""The intake: threads that work on what people asked for, and a record of whose work is not done yet."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bot.runs.asking import Asker


class Intake:
    """Takes work for people; at the end it tells those whose work was not finished, for they were acknowledged."""

    def __init__(self, hands: int, tell: Callable[[Asker], None]) -> None:
        """Take how many pieces of work go on at once, and what tells somebody that theirs was not finished."""
        self._workers = ThreadPoolExecutor(hands, thread_name_prefix="desk")
        self._tell = tell
        self._lock = threading.Lock()
        self._open: dict[Future[None], Asker] = {}

    def take(self, asker: Asker, work: Callable[[], None]) -> None:
        """Have a piece of work done, soon; whoever comes after the end is told at once."""
        try:
            task = self._workers.submit(work)
        except RuntimeError:  # closed between Slack's delivery and this
            self._tell(asker)
            return
        with self._lock:
            self._open[task] = asker
        task.add_done_callback(self._done)

    def close(self) -> None:
        """Take nothing more, and end what is being worked on; what was not begun is dropped and told."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def tell_unfinished(self) -> None:
        """Tell everybody whose work still goes on that nobody will wait for it."""
        with self._lock:
            askers = list(self._open.values())
        for asker in askers:
            self._tell(asker)

    def _done(self, task: Future[None]) -> None:
        with self._lock:
            asker = self._open.pop(task)
        if task.cancelled():
            self._tell(asker)
