"""The signals that ask the process to end are heard, whatever thread the system gives them to."""

import signal
import subprocess
import sys

import pytest

TOLD = """
import signal, threading, time
from bot.signals import EndSignals

def tell():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.{name})
    {again}

signals = EndSignals()
threading.Thread(target=tell, daemon=True).start()
signals.wait()
print("asked")
{then}
"""


def _told(name: str, again: str = "", then: str = "") -> subprocess.CompletedProcess[str]:
    program = TOLD.format(name=name, again=again, then=then)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_another_thread_gets_is_heard(name: str) -> None:
    """Nothing wakes the main thread then, as when a signal comes in the moment in which it begins to wait."""
    done = _told(name)
    assert done.stdout == "asked\n"
    assert done.returncode == 0, done.stderr


def test_a_second_signal_ends_it_at_once() -> None:
    """Whatever it does then; what was printed is not lost."""
    again = "time.sleep(2); signal.pthread_kill(threading.get_ident(), signal.SIGTERM)"
    done = _told("SIGTERM", again, "[time.sleep(0.1) for _ in range(100)]")
    assert done.stdout == "asked\n"
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
