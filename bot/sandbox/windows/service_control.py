"""sc.exe of a sandbox host: query, queryex, qc, start and stop, with the service manager's error codes."""

from typing import TYPE_CHECKING

from bot.domain.facts import ServiceState
from bot.sandbox.windows.service import Service, ServiceError

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

_STATES = {
    ServiceState.STOPPED: (1, "STOPPED"),
    ServiceState.START_PENDING: (2, "START_PENDING"),
    ServiceState.STOP_PENDING: (3, "STOP_PENDING"),
    ServiceState.RUNNING: (4, "RUNNING"),
    ServiceState.PAUSED: (7, "PAUSED"),
}
_MISSING = 1060
_USAGE = """\
DESCRIPTION:
        SC is a command line program used for communicating with the
        Service Control Manager and services.
USAGE:
        sc <server> [command] [service name] <option1> <option2>...
"""


def run(host: "Host", arguments: list[str]) -> tuple[int, str, str]:
    """Run sc.exe and return exit code, standard output and standard error (it writes errors to the former)."""
    command, *rest = [*arguments, ""]
    command = command.lower()
    if command in {"query", "queryex"} and not rest[0]:
        return 0, "".join(_describe(s, extended=command == "queryex") for s in host.services.values()), ""
    if command not in {"query", "queryex", "qc", "start", "stop"} or not rest[0]:
        return 1639, _USAGE, ""
    service = find(host, rest[0])
    if service is None:
        call = {"query": "EnumQueryServicesStatus:OpenService", "queryex": "EnumQueryServicesStatus:OpenService"}
        return _failed(call.get(command, "OpenService"), _MISSING)
    if command == "qc":
        return 0, _configuration(service), ""
    if command in {"query", "queryex"}:
        return 0, _describe(service, extended=command == "queryex"), ""
    try:
        if command == "start":
            service.start()
        else:
            service.stop()
    except ServiceError as error:
        return _failed("StartService" if command == "start" else "ControlService", error.code)
    return 0, _describe(service, extended=command == "start"), ""


def find(host: "Host", name: str) -> Service | None:
    """Return a service by its name, which ignores case."""
    return next((s for n, s in host.services.items() if n.lower() == name.lower()), None)


_MESSAGES = {
    1056: "An instance of the service is already running.",
    1060: "The specified service does not exist as an installed service.",
    1061: "The service cannot accept control messages at this time.",
    1062: "The service has not been started.",
    1067: "The process terminated unexpectedly.",
}


def _failed(call: str, code: int) -> tuple[int, str, str]:
    return code, f"[SC] {call} FAILED {code}:\n\n{_MESSAGES[code]}\n\n", ""


def _describe(service: Service, *, extended: bool) -> str:
    state = service.state
    number, word = _STATES[state]
    accepts = "STOPPABLE" if state is ServiceState.RUNNING else "NOT_STOPPABLE"
    shutdown = "ACCEPTS_SHUTDOWN" if state is ServiceState.RUNNING else "IGNORES_SHUTDOWN"
    lines = [
        "",
        f"SERVICE_NAME: {service.name} ",
        "        TYPE               : 10  WIN32_OWN_PROCESS  ",
        f"        STATE              : {number}  {word} ",
        f"                                ({accepts}, NOT_PAUSABLE, {shutdown})",
        f"        WIN32_EXIT_CODE    : {service.exit_code}  (0x{service.exit_code:x})",
        "        SERVICE_EXIT_CODE  : 0  (0x0)",
        "        CHECKPOINT         : 0x0",
        "        WAIT_HINT          : 0x0",
    ]
    if extended:
        lines += [
            f"        PID                : {service.process.pid if service.process else 0}",
            "        FLAGS              : ",
        ]
    return "\n".join(lines) + "\n"


def _configuration(service: Service) -> str:
    start = "2   AUTO_START" if service.start_mode == "Auto" else "3   DEMAND_START"
    return (
        "[SC] QueryServiceConfig SUCCESS\n\n"
        f"SERVICE_NAME: {service.name}\n"
        "        TYPE               : 10  WIN32_OWN_PROCESS \n"
        f"        START_TYPE         : {start}\n"
        "        ERROR_CONTROL      : 1   NORMAL\n"
        f"        BINARY_PATH_NAME   : {service.command_line}\n"
        f"        DISPLAY_NAME       : {service.name}\n"
        "        DEPENDENCIES       : LanmanWorkstation\n"
        "                           : TCPIP\n"
        f"        SERVICE_START_NAME : {service.account}\n"
    )
