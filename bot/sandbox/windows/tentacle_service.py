"""The Tentacle program's commands about its services: service, checkservices, watchdog.

They follow OctopusTentacle's WindowsServiceConfigurator.cs, with its traps: a stop that takes too long, a restart of a
stopped service and a service that does not exist all end with exit code 0.
"""

from dataclasses import dataclass

from bot.domain.facts import ServiceState
from bot.sandbox.windows import service_control
from bot.sandbox.windows.schedule import WATCHDOG
from bot.sandbox.windows.service import Service, ServiceError
from bot.sandbox.windows.tentacle import install_service, service_name
from bot.sandbox.windows.tentacle_call import Call, Controlled, Crash

_TICK = 0.3
"""Seconds between two looks at a service; like all waits here it is shortened by the world's pace."""
_TICKS = 151
_START_TRIES = 5
_CHECK_SECONDS = 30.0
_ALL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    call: Call
    name: str

    @property
    def service(self) -> Service | None:
        return service_control.find(self.call.host, self.name)


def service(call: Call) -> None:
    """Run `service`."""
    if (call.value("instance")) == _ALL:
        if call.has("reconfigure") or call.has("install") or call.has("uninstall"):
            raise Controlled("--instance=* can only be used for --start, --stop, and --restart flags")
        for entry in call.index.entries():
            _configure(_Work(call=call, name=service_name(entry.name)))
        return
    _configure(_Work(call=call, name=service_name(call.selected.name)))


def check_services(call: Call) -> None:
    """Run `checkservices`: start every instance that is not running."""
    if not call.value("instances"):
        raise Controlled(
            "Use --instances argument to specify which instances to check. Use --instances=* to check all instances."
        )
    call.require_windows()
    call.require_elevation()
    chosen = call.value("instances").replace(";", ",").split(",")
    for entry in call.index.entries():
        found = service_control.find(call.host, service_name(entry.name))
        if (chosen != [_ALL] and entry.name not in chosen) or found is None:
            continue
        if found.state in {ServiceState.RUNNING, ServiceState.START_PENDING}:
            continue
        try:
            found.start()
        except ServiceError as error:
            call.error(f"Service {found.name} could not be started - {error}")
            continue
        call.info(f"Service {found.name} starting")
        if _await(call, found, ServiceState.RUNNING, "Waiting for service to start. Current status: ", _CHECK_SECONDS):
            call.info(f"Service {found.name} started")
        else:
            call.info(
                f"Service {found.name} doesn't have Running status after 30sec. Status will be assessed again at the "
                "time of the next scheduled check."
            )


def watchdog(call: Call) -> None:
    """Run `watchdog`."""
    for name, value in call.options:
        match name:
            case "create":
                call.info("Creating watchdog task")
            case "delete":
                call.info("Removing watchdog task")
            case "interval":
                call.info(f"Setting watchdog task interval to {value} minutes")
    call.require_windows()
    call.require_elevation()
    instances = call.value("instances").replace(";", ",") or _ALL
    call.info("ApplicationName: Tentacle")
    call.info(f"Instances: {instances}")
    schedule = call.host.schedule
    exists = schedule.find(WATCHDOG) is not None
    if call.has("delete"):
        if exists:
            schedule.delete(WATCHDOG)
            call.info(f"Deleted scheduled task {WATCHDOG}")
        else:
            call.info(f"Scheduled task {WATCHDOG} not found. Nothing to do.")
    elif call.has("create"):
        call.info(f"{'Updating' if exists else 'Creating'} scheduled task {WATCHDOG}")
        schedule.create_watchdog(instances, int(call.value("interval") or 5))
    else:
        raise Controlled("Invalid arguments. Please specify either --create or --delete.")


def _configure(work: _Work) -> None:
    call = work.call
    if not call.host.profile.is_windows and not call.host.profile.elevated:
        raise Controlled("Requires elevated privileges. Please run command as sudo.")
    call.require_elevation()
    if call.has("restart"):
        _restart(work)
    if call.has("stop") and work.service:
        _stop(call, work.service)
    if call.has("uninstall") and work.service:
        _uninstall(work)
    if call.has("install"):
        _install(work)
    if call.has("reconfigure"):
        call.info("Service reconfigured")
    if call.has("start"):
        _start(work)


def _restart(work: _Work) -> None:
    found = work.service
    if found is None:
        return
    work.call.info(f"Restarting service {work.name}")
    if _stop(work.call, found):
        _start(work)
    else:
        work.call.info(f"Service {work.name} wasn't restarted as it is not running.")


def _stop(call: Call, found: Service) -> bool:
    """Stop a service; False when it was not running, or when it did not stop in time."""
    if found.state in {ServiceState.STOPPED, ServiceState.STOP_PENDING}:
        return False
    call.info("Stopping service...")
    try:
        found.stop()
    except ServiceError as error:
        call.error("The service is not able to stop")
        raise Crash(str(error), "System.ComponentModel.Win32Exception") from error
    text = "Waiting for service to become Stopped. Current status: "
    if not _await(call, found, ServiceState.STOPPED, text, _TICK * _TICKS):
        call.error("The service could not be stopped")
        return False
    call.info("Service stopped")
    return True


def _start(work: _Work) -> None:
    call, found = work.call, work.service
    if found is None:
        raise Controlled(f"Start requested for service {work.name}, but no service with this name was found.")
    if found.state is ServiceState.RUNNING:
        return
    for attempt in range(1, _START_TRIES + 2):
        if found.state is ServiceState.START_PENDING:
            break
        try:
            found.start()
        except ServiceError as error:
            if attempt > _START_TRIES:
                raise Crash(
                    f"Cannot start service '{work.name}' on computer '.'.",
                    "System.InvalidOperationException",
                    (str(error), "System.ComponentModel.Win32Exception"),
                ) from error
            seconds = (attempt + 1) ** 2
            call.info(f"Failed to start the windows service. Trying again in...00:00:{seconds:02} ")
            _pause(call, found, seconds)
        else:
            break
    text = "Waiting for service to become Running. Current status: "
    if not _await(call, found, ServiceState.RUNNING, text, _TICK * _TICKS):
        raise Crash("Exceeded max retries", "System.Exception")
    call.info("Service started")


def _install(work: _Work) -> None:
    call, selected = work.call, work.call.selected
    if work.service is None:
        install_service(call.host, selected.name or "Tentacle", selected.config)
    call.info("Service installed")


def _uninstall(work: _Work) -> None:
    host = work.call.host
    with host.world.changed:
        removed = host.services.pop(work.name)
        for name, instance in tuple(host.tentacles.items()):
            if instance.service is removed:
                del host.tentacles[name]
    if not removed.is_stopped:
        removed.kill()
    work.call.info("Service uninstalled")


def _await(call: Call, found: Service, wanted: ServiceState, text: str, seconds: float) -> bool:
    """Look at a service again and again, saying so; return whether it got there in time."""
    world = call.host.world
    scale = min(1.0, world.pace)
    deadline = world.clock.monotonic() + seconds * scale
    while True:
        call.info(f"{text}{found.state}")
        if found.wait_for(wanted, _TICK * scale):
            return True
        if world.clock.monotonic() >= deadline:
            return False


def _pause(call: Call, found: Service, seconds: float) -> None:
    found.wait_for(ServiceState.RUNNING, seconds * min(1.0, call.host.world.pace))
