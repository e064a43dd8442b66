"""The processor on which the bot stays."""

import os
from concurrent.futures import ThreadPoolExecutor

from bot.operating import processor


def test_who_stays_keeps_the_threads_that_come_after_it_on_one_processor() -> None:
    """One of those that the process may use, and nobody else is moved."""
    allowed = os.sched_getaffinity(0)

    def later() -> set[int]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(os.sched_getaffinity, 0).result()

    with ThreadPoolExecutor(1) as thread:
        number = thread.submit(processor.stay).result()
        assert number in allowed
        assert thread.submit(later).result() == {number}
    assert os.sched_getaffinity(0) == allowed
