"""Windows services of the sandbox: a service manager that answers at once and a process that takes its time."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bot.domain.facts import ServiceState

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

LOCAL_SYSTEM = "LocalSystem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running process of a service."""

    pid: int
    started: datetime
    """By the host's clock."""
    account: str


class Program(Protocol):
    """What a service runs, once its process exists."""

    def run(self) -> None:
        """Begin to work: the service is about to be reported as running."""
        ...

    def close(self) -> None:
        """End: the process is gone afterwards."""
        ...


class ServiceError(Exception):
    """The service manager refused; `code` is a Windows error code, the text its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProcessFailed(Exception):  # noqa: N818  # the event, not a refusal
    """The program could not start: its process ended at once."""


ALREADY_RUNNING = 1056
NOT_STARTED = 1062
CANNOT_ACCEPT = 1061
UNEXPECTED_END = 1067


class Service:
    """One Windows service.

    `start` and `stop` return at once with StartPending and StopPending; the change is complete after the world's pace
    (and what the host's faults add). A start makes a new process, which reads its configuration at that moment.
    """

    def __init__(
        self,
        host: "Host",
        name: str,
        program: Callable[[Process], Program],
        *,
        account: str = LOCAL_SYSTEM,
        start_mode: str = "Auto",
        command_line: str = "",
    ) -> None:
        self.host = host
        self.name = name
        self.account = account
        self.start_mode = start_mode
        self.command_line = command_line
        self.process: Process | None = None
        self.program: Program | None = None
        self.exit_code = 0
        self._state = ServiceState.STOPPED
        self._make = program
        self._turn = 0  # counts transitions, so that an overtaken timer does nothing
        self._world = host.world

    @property
    def state(self) -> ServiceState:
        """The present state."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether it has left StartPending."""
        return self.state is ServiceState.RUNNING

    @property
    def is_stopped(self) -> bool:
        """Whether it has no process."""
        return self.state is ServiceState.STOPPED

    def start(self) -> None:
        """Begin to start; ServiceError 1056 when it is not stopped, 1067 when its process ends at once."""
        self._begin()
        self._later(self._world.pace, self._run)

    def _begin(self) -> None:
        with self._world.changed:
            if self.state is not ServiceState.STOPPED:
                raise ServiceError(ALREADY_RUNNING, "An instance of the service is already running.")
            process = self.host.new_process(self.account)
            try:
                self.program = self._make(process)
            except ProcessFailed as failure:
                self.exit_code = UNEXPECTED_END
                self._world.record(self.host.name, "failed", f"{self.name}: {failure}")
                raise ServiceError(UNEXPECTED_END, "The process terminated unexpectedly.") from failure
            self.process = process
            self.exit_code = 0
            self._world.record(self.host.name, "start", self.name)
            self._become(ServiceState.START_PENDING)

    def boot(self) -> None:
        """Be running already, as a service is that came up with its machine."""
        self._begin()
        self._run()

    def stop(self) -> None:
        """Begin to stop; ServiceError 1062 when it is stopped, 1061 while it changes."""
        with self._world.changed:
            state = self.state
            if state is ServiceState.STOPPED:
                raise ServiceError(NOT_STARTED, "The service has not been started.")
            if state is not ServiceState.RUNNING:
                raise ServiceError(CANNOT_ACCEPT, "The service cannot accept control messages at this time.")
            faults = self.host.faults
            self._world.record(self.host.name, "stop", self.name)
            self._become(ServiceState.STOP_PENDING)
            self._later(self._world.pace + faults.slow_stop + faults.late_stop, self._end)

    def wait_for(self, state: ServiceState, seconds: float) -> bool:
        """Wait for a state; False when it is not reached in so many seconds."""
        return self._world.wait(lambda: self.state == state, seconds)

    def kill(self) -> None:
        """End the process at once, as a crash or `taskkill /F` would."""
        self._finish("killed")

    def close(self) -> None:
        """Let go of everything, when the world ends."""
        with self._world.changed:
            self._turn += 1
            program, self.program = self.program, None
        if program is not None:
            program.close()

    def _run(self) -> None:
        """Have the program begin its work, then be running; unless it was killed meanwhile."""
        program = self.program
        if program is None:
            return
        program.run()
        with self._world.changed:
            if self.program is program:
                self._world.record(self.host.name, "running", self.name)
                self._become(ServiceState.RUNNING)
                return
        program.close()

    def _end(self) -> None:
        if self.host.faults.stuck_stop:
            self._later(max(self._world.pace, 0.01), self._end)
            return
        self._finish("stopped")
        if self.host.faults.watchdog_restarts:
            self._later(self._world.pace / 2, self._restart)

    def _restart(self) -> None:
        """Start again what somebody stopped, as the watchdog or the service's recovery does."""
        if self._state is ServiceState.STOPPED:
            with suppress(ServiceError):  # somebody else was faster, or the configuration is broken
                self.start()

    def _finish(self, kind: str) -> None:
        """End the process: first what it holds, without the world's lock, then be stopped."""
        with self._world.changed:
            program, self.program = self.program, None
            if program is None:
                return
            self._become(ServiceState.STOP_PENDING)
        program.close()
        with self._world.changed:
            self.process = None
            self._world.record(self.host.name, kind, self.name)
            self._become(ServiceState.STOPPED)

    def _become(self, state: ServiceState) -> None:
        self._state = state
        self._turn += 1
        self._world.changed.notify_all()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        turn = self._turn

        def act() -> None:
            with self._world.changed:
                overtaken = self._turn != turn
            if not overtaken:
                action()

        self._world.timers.after(seconds, act)
