"""What holds for every test: no proxies, and no silent skips where everything is said to be there."""

import copy
import logging
import os
import threading
from collections.abc import Generator, Iterator

import pytest

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
REQUIRE_ALL = "OCTOCERT_REQUIRE_ALL"
"""Set to 1 where Chromium, PostgreSQL and PowerShell must be there, so that no test may be skipped."""


def pytest_configure() -> None:
    """Forget the proxies of the environment: everything that tests talk to is on this machine."""
    for name in PROXIES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where everything is required."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one where everything is required."""
    report = yield
    if report.skipped:
        _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get(REQUIRE_ALL) == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_ALL}=1 allows no skips, but: {reason}"


@pytest.fixture(autouse=True)
def secrets_of_one_test() -> Iterator[None]:
    """Blot out in no later test what one test hid: a password of a test may be a word of another one's message."""
    from bot import logs

    before = logs._hidden
    logs._hidden = copy.copy(before)
    yield
    logs._hidden = before


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """Put logging back after each test: it belongs to the whole process."""
    import structlog

    from bot import logs

    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    threading.excepthook = hook
    for name in logs.LIBRARIES:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
