"""A bot in a process of its own, whose clock jumps as a file says: `python clocked.py CONFIG SECONDS_FILE`."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import handlers
from bot import logs
from bot.app import Bot
from bot.clock import SystemClock
from bot.settings import load
from bot.signals import EndSignals


class JumpingClock(SystemClock):
    """The machine's clock, put forward or back by hand, as an administrator or a broken time server does."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """Return the present, as the jumped clock shows it."""
        return super().now() + timedelta(seconds=float(self._file.read_text() or 0))


def main() -> None:
    """Run until SIGTERM."""
    settings = load(Path(sys.argv[1]))
    logs.configure(settings.log.level, settings.log.format)
    signals = EndSignals()
    bot = Bot(settings, handlers.register, clock=JumpingClock(Path(sys.argv[2])))
    bot.start()
    signals.wait()
    bot.stop()


if __name__ == "__main__":
    main()
