"""What is counted: the metrics of this process, for Prometheus. The rooms count at their edges, with a line each.

No label ever names a target, a run, a person or a host: each label has few values, whatever the size of the estate.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from bot import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SHORT = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds of requests."""
_LONG = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds of visits, steps and whole targets."""
_EXPIRY_DAYS = (0, 7, 14, 30, 60, 90, 180, 365)
"""Days to expiry up to which certificates are counted."""

RUNS = Counter("octocert_runs", "Runs that came into this state.", ["state"], registry=REGISTRY)
TARGETS = Counter("octocert_targets", "Targets by what became of them.", ["outcome"], registry=REGISTRY)
TARGET_SECONDS = Histogram(
    "octocert_target_seconds",
    "From a target's first step to its outcome.",
    ["outcome"],
    buckets=_LONG,
    registry=REGISTRY,
)
STEP_SECONDS = Histogram(
    "octocert_step_seconds",
    "Durable steps by result: done, failed (as steps may, which is undone), error (which nobody foresaw).",
    ["step", "result"],
    buckets=_LONG,
    registry=REGISTRY,
)
FAILURES = Counter(
    "octocert_failures", "Failed dealings with the outside, by part and kind.", ["part", "kind"], registry=REGISTRY
)
RETRIES = Counter("octocert_retries", "Dealings with the outside that were tried again.", ["part"], registry=REGISTRY)
OCTOPUS_SECONDS = Histogram(
    "octocert_octopus_request_seconds",
    "Requests to the Octopus Server; status 0 where none came.",
    ["method", "status"],
    buckets=_SHORT,
    registry=REGISTRY,
)
WINRM_SECONDS = Histogram(
    "octocert_winrm_visit_seconds",
    "Visits to hosts, by script and result.",
    ["script", "result"],
    buckets=_LONG,
    registry=REGISTRY,
)
SLACK_SECONDS = Histogram(
    "octocert_slack_call_seconds",
    "Calls of Slack's Web API, by method and result.",
    ["method", "result"],
    buckets=_SHORT,
    registry=REGISTRY,
)
SLACK_DISCONNECTS = Counter("octocert_slack_disconnects", "Lost Socket Mode connections.", registry=REGISTRY)
SLACK_REQUESTS = Counter(
    "octocert_slack_requests", "Requests that came to --http, by what became of them.", ["result"], registry=REGISTRY
)


MOMENT = {
    "octocert_info": "The bot's version.",
    "octocert_runs_open": "Runs by state.",
    "octocert_approvals_waiting": "Plans, and questions in the middle of runs, that wait for an approval.",
    "octocert_slack_connected": "Whether Slack reaches the bot.",
    "octocert_radar_findings": "Targets by what the radar found at its latest sweep.",
    "octocert_radar_age_seconds": "How old that sweep is.",
}
"""Gauges whose values are read when somebody asks, with what they mean. Those of the radar are there once it looked."""


class Timing:
    """How long something takes, and what its labels turn out to be."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}


@contextmanager
def timed(histogram: Histogram, **labels: str) -> Iterator[Timing]:
    """Measure a block; what it sets as `labels` is added to those that are known before."""
    timing, begin = Timing(), time.perf_counter()
    try:
        yield timing
    finally:
        histogram.labels(**labels, **timing.labels).observe(time.perf_counter() - begin)


class Certificates(Collector):
    """When the certificates expire that were last seen; in memory, and forgotten with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expiry: dict[str, datetime] = {}

    def saw(self, record: str, expires: datetime) -> None:
        """Remember what a look at a target showed, by the id of its first record."""
        with self._lock:
            self._expiry[record] = expires

    def keep(self, records: Collection[str]) -> None:
        """Forget the records that are no longer in Octopus."""
        with self._lock:
            self._expiry = {record: at for record, at in self._expiry.items() if record in records}

    def collect(self) -> Iterator[Metric]:
        """Yield how many expire within so many days, by the machine's clock."""
        with self._lock:
            ends = [at.timestamp() for at in self._expiry.values()]
        days = [(end - time.time()) / 86_400 for end in ends]
        within = GaugeMetricFamily(
            "octocert_certificates",
            "Certificates of Tentacles seen so far that expire within so many days; 0 are expired, +Inf are all.",
            labels=["within_days"],
        )
        for limit in _EXPIRY_DAYS:
            within.add_metric([str(limit)], sum(left <= limit for left in days))
        within.add_metric(["+Inf"], len(days))
        yield within
        if days:
            yield GaugeMetricFamily(
                "octocert_certificate_days_left", "Days until the first of them expires.", value=min(days)
            )

    def describe(self) -> Iterator[Metric]:
        """Yield the names alone."""
        yield GaugeMetricFamily("octocert_certificates", "")
        yield GaugeMetricFamily("octocert_certificate_days_left", "")


CERTIFICATES = Certificates()
REGISTRY.register(CERTIFICATES)


def exposition(gauges: Mapping[str, Mapping[str, float] | float]) -> bytes:
    """Return all metrics as text; `gauges` are those of the moment: name → value, or values by `state`."""
    moment = CollectorRegistry()
    moment.register(_Moment(gauges))
    return generate_latest(REGISTRY) + generate_latest(moment)


class _Moment(Collector):
    """Gauges whose values were just read."""

    def __init__(self, gauges: Mapping[str, Mapping[str, float] | float]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Yield them, and the version of the bot."""
        about = GaugeMetricFamily("octocert_info", MOMENT["octocert_info"], labels=["version"])
        about.add_metric([__version__], 1)
        yield about
        for name, value in self._gauges.items():
            text = MOMENT[name]
            if isinstance(value, Mapping):
                family = GaugeMetricFamily(name, text, labels=["state"])
                for state, number in value.items():
                    family.add_metric([state], number)
                yield family
            else:
                yield GaugeMetricFamily(name, text, value=value)
