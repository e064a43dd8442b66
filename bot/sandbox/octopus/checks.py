"""Health tasks: they connect to every machine that they name and write down what they found."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bot.clock import Clock
from bot.domain.facts import RecordKind
from bot.sandbox.octopus.comms import Caller
from bot.sandbox.octopus.documents import certified, spoken
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.health import Prober, Verdict
from bot.sandbox.octopus.store import LogLine, Record, Store
from bot.sandbox.octopus.tasks import Activity, Task, TaskQueue

if TYPE_CHECKING:
    from bot.sandbox.octopus.node import Node

_AT_A_TIME = 16
"""Machines that are checked at a time, over all tasks."""
_LOOK_AGAIN = 0.02
QUEUE_SECONDS = 120.0
"""How long a request waits for a polling Tentacle (policy: PollingRequestQueueTimeout), scaled by the world's pace."""
_NOT_TRUSTED = "not in the list of thumbprints that we trust"
_STOPPED = "The Octopus Server is shutting down."


class HealthChecks:
    """The Server's health checks."""

    def __init__(
        self,
        store: Store,
        tasks: TaskQueue,
        faults: OctopusFaults,
        clock: Clock,
        node: Callable[[str], "Node"],
        *,
        pace: float,
    ) -> None:
        self.queue_seconds = QUEUE_SECONDS * min(1.0, pace)
        """How long a polling Tentacle may take to come, in seconds of real time."""
        self._store = store
        self._tasks = tasks
        self._faults = faults
        self._clock = clock
        self._node = node
        """A node by its name; any that runs for an empty one."""
        self._slots = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="octopus-health")
        self._closed = threading.Event()

    def close(self) -> None:
        """Check no more; waits end."""
        self._closed.set()
        self._slots.shutdown()

    def run(self, task: Task) -> None:
        """Carry out a Health task.

        It succeeds though machines are unavailable, when their policy lets them be skipped; machines that its creator
        may not see are left out silently (OctopusDeploy/Issues #3480).
        """
        records = [r for r in self._named(task) if task.user is None or r.is_visible(task.user)]
        for record in records:
            record.document["IsInProcess"] = True
        if self._faults.health_seconds:
            self._closed.wait(self._faults.health_seconds)
        try:
            node = self._node(task.node)
            verdicts = list(self._slots.map(lambda r: self.check(r, node), records))
        finally:
            for record in records:
                record.document["IsInProcess"] = False
        if task.is_completed:  # its node was stopped under it: nobody is left to write anything down
            return
        broken: list[str] = []
        for record, verdict in zip(records, verdicts, strict=True):
            with self._store.lock:
                self._note(record, verdict, task.id)
            branch = Activity(id=f"{task.id}_{record.id}", name=f"Check {record.name}", lines=list(record.logs))
            branch.status = self._status(record)
            task.warned = task.warned or branch.status != "Success"
            if branch.status == "Failed":
                broken.append(record.name)
            task.log.children.append(branch)
        if broken:
            names = ", ".join(broken)
            self._tasks.finish(
                task, "Failed", f"The health check failed. One or more machines are not healthy: {names}."
            )
        else:
            self._tasks.finish(task, "Success")

    def check(self, record: Record, node: "Node") -> Verdict:
        """Find out whether a node can talk to the Tentacle of a record at this moment."""
        expected = self.expected(record)
        if record.style == "TentaclePassive":
            prober = node.prober
            return prober.check(record.uri, expected) if prober else Verdict(reached=False, error=_STOPPED)
        if record.polls:
            return self._await_poll(record, node)
        return Verdict(reached=True)

    def check_now(self, records: Iterable[Record]) -> None:
        """Check records at once, without a task."""
        chosen, node = list(records), self._node("")
        for record, verdict in zip(chosen, self._slots.map(lambda r: self.check(r, node), chosen), strict=True):
            with self._store.lock:
                self._note(record, verdict, None)

    def expected(self, record: Record) -> str:
        """Return the thumbprint that the nodes go by: the record's, or while they cache the one before it."""
        if record.before is not None:
            thumbprint, until = record.before
            if self._clock.monotonic() < until:
                return thumbprint
            record.before = None
        return record.thumbprint

    def authorize(self, caller: Caller, prober: Prober | None) -> bool:
        """Decide, when a polling Tentacle connects, whether a record of its subscription trusts its certificate.

        Compared without regard to case (Halibut: DefaultTrustProvider.cs). Whether the real Server compares per
        subscription or over all records is UNVERIFIED. On the loop's thread.
        """
        records = self._store.polled(caller.subscription)
        refusal = prober.refusal_of(caller.algorithm) if prober else _STOPPED
        if refusal is None and any(self.expected(r).upper() == caller.thumbprint for r in records):
            return True
        text = refusal or (
            f"A client at {caller.address} connected, and attempted a message exchange, but it presented a client "
            f"certificate with the thumbprint '{caller.thumbprint}' which is {_NOT_TRUSTED}"
        )
        with self._store.lock:
            for record in records:
                record.logs = [*record.logs[-20:], self._line("Error", text)]
        return False

    def _named(self, task: Task) -> list[Record]:
        with self._store.lock:
            if task.machines:
                return [self._store.records[i] for i in task.machines if i in self._store.records]
            return [r for r in self._store.records.values() if self._is_meant(r, task)]

    def _is_meant(self, record: Record, task: Task) -> bool:
        """Tell whether a task without MachineIds means a record: by environment, pool or kind; disabled ones not."""
        asked = task.arguments
        if record.space != task.space or record.document["IsDisabled"]:
            return False
        if asked.get("EnvironmentId"):
            return asked["EnvironmentId"] in record.environments
        if asked.get("WorkerpoolId"):
            return asked["WorkerpoolId"] in record.document.get("WorkerPoolIds", ())
        limits = {"DeploymentTargets": RecordKind.TARGET, "Workers": RecordKind.WORKER}
        return record.kind is limits.get(str(asked.get("RestrictedTo")), record.kind)

    def _await_poll(self, record: Record, node: "Node") -> Verdict:
        """Wait for the connection of a polling Tentacle, as a queued request does; a live one is not asked again."""
        deadline = time.monotonic() + self.queue_seconds
        while True:
            caller = node.caller(record.uri)
            if caller is not None:
                return Verdict(reached=True, algorithm=caller.algorithm)
            if time.monotonic() >= deadline or self._closed.wait(_LOOK_AGAIN):
                break
        refused = tuple(line.text for line in record.logs if _NOT_TRUSTED in line.text)
        error = (
            "A request was sent to a polling endpoint, but the polling endpoint did not collect the request within the "
            f"allowed time (00:02:00), so the request timed out. ({record.uri})"
        )
        return Verdict(reached=False, error=error, log=refused[-1:])

    def _note(self, record: Record, verdict: Verdict, task: str | None) -> None:
        """Write a verdict into a record: health, summary, connection log."""
        now, document = self._clock.now(), record.document
        record.last_checked, record.checked_by = now, task
        endpoint = document["Endpoint"]
        if verdict.algorithm:
            certified(endpoint)["CertificateSignatureAlgorithm"] = verdict.algorithm
        if not verdict.reached:
            document["HealthStatus"] = "Unavailable"
            document["StatusSummary"] = (
                f"There was a problem communicating with this machine (last checked: {spoken(now)})"
            )
            record.logs = [*(self._line("Verbose", t) for t in verdict.log), self._line("Error", verdict.error)]
            return
        health = self._faults.script_health.get(record.id, "Healthy")
        document["HealthStatus"] = health
        document["HasLatestCalamari"] = True
        document["StatusSummary"] = (
            f"Octopus was able to successfully establish a connection with this machine on {spoken(now)}"
        )
        record.logs = [
            self._line("Info", "Starting health check"),
            self._line("Info", "Running as: NT AUTHORITY\\SYSTEM"),
        ]
        if health != "Healthy":
            document["StatusSummary"] = f"The health check script reported {health} (last checked: {spoken(now)})"
            category = "Warning" if health == "HasWarnings" else "Error"
            record.logs.append(self._line(category, "Drive C: has less than 5 GB of free space."))
        self._tell(record)

    def _tell(self, record: Record) -> None:
        """Write down what a Tentacle tells of its machine once it is reached."""
        if record.instance is None:
            return
        profile, endpoint = record.instance.host.profile, record.document["Endpoint"]
        if record.style == "KubernetesTentacle":
            endpoint["KubernetesAgentDetails"]["TentacleVersion"] = profile.tentacle_version
        else:
            endpoint["TentacleVersionDetails"]["Version"] = profile.tentacle_version
        record.document |= {
            "OperatingSystem": profile.os,
            "OperatingSystemVersion": "Unknown",
            "ShellName": "PowerShell" if profile.is_windows else "Bash",
            "ShellVersion": profile.powershell if profile.is_windows else "5.2.15",
            "Architecture": "X64",
        }

    def _status(self, record: Record) -> str:
        if record.health == "Healthy":
            return "Success"
        if record.health == "HasWarnings":
            return "SuccessWithWarning"
        if record.health == "Unavailable" and self._may_be_skipped(record):
            return "Skipped"
        return "Failed"

    def _may_be_skipped(self, record: Record) -> bool:
        policy = self._store.policies.get(str(record.document["MachinePolicyId"]))
        behavior = policy and policy["MachineConnectivityPolicy"]["MachineConnectivityBehavior"]
        return behavior == "MayBeOfflineAndCanBeSkipped"

    def _line(self, category: str, text: str) -> LogLine:
        return LogLine(category=category, text=text, at=self._clock.now())
