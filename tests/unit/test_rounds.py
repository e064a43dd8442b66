"""Rounds that fail."""

import structlog
from structlog.testing import capture_logs

from bot.rounds import Rounds


def test_the_same_trouble_is_told_whole_once_and_then_shortly() -> None:
    """A database that is away for an hour leaves a line for each round, and one traceback; the next trouble is new."""
    rounds = Rounds(structlog.get_logger("octocert.test"), "the round failed")
    with capture_logs() as logs:
        for error in (OSError("full"), OSError("full"), None, OSError("full"), ValueError("another")):
            with rounds.one():
                if error:
                    raise error
            assert rounds.has_failed is (error is not None)
    told = [(entry["log_level"], entry.get("error", ""), bool(entry.get("exc_info"))) for entry in logs]
    assert told == [("error", "", True), ("warning", "OSError", False), ("error", "", True), ("error", "", True)]
