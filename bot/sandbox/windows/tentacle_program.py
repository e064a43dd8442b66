"""Tentacle.exe of a sandbox host: commands, exit codes and error forms of the real program, as it was recorded.

Held to the recorded calls by a contract test. Texts of the crypto platform and of services depend on the host's
profile: those of Linux were seen, those of Windows come from sources and documentation.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bot.sandbox.windows import tentacle_certificates as certificates
from bot.sandbox.windows import tentacle_instances as instances
from bot.sandbox.windows import tentacle_service as services
from bot.sandbox.windows import tentacle_trust as trust
from bot.sandbox.windows.tentacle_call import Call, Controlled, Crash
from bot.sandbox.windows.tentacle_options import (
    COMMANDS,
    COMMON,
    HOSTING,
    INSTANCE,
    OPTIONS,
    MissingValue,
    command_document,
    command_help,
    general_help,
    parse,
)

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

_SUCCESS, _CONTROLLED, _UNKNOWN, _GENERAL = 0, 1, 2, 100
_OPTION_EXCEPTION = "Octopus.Tentacle.Internals.Options.OptionException"

_RUN: dict[str, Callable[[Call], None]] = {
    "checkservices": services.check_services,
    "clear-trusted-servers": trust.clear_trusted_servers,
    "configure": trust.configure,
    "create-instance": instances.create_instance,
    "delete-instance": instances.delete_instance,
    "import-certificate": certificates.import_certificate,
    "list-instances": instances.list_instances,
    "new-certificate": certificates.new_certificate,
    "poll-server": trust.poll_server,
    "server-comms": trust.server_comms,
    "service": services.service,
    "set-polling-connection-count": trust.set_polling_connection_count,
    "show-configuration": instances.show_configuration,
    "show-thumbprint": certificates.show_thumbprint,
    "update-trust": trust.update_trust,
    "version": instances.version,
    "watchdog": services.watchdog,
}


def run(host: "Host", argv: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str, str]:
    """Run the program and return exit code, standard output and standard error."""
    common, rest = parse(argv, COMMON)
    named = dict(parse_leniently(rest))
    call = Call(host, environment, folder, named)
    try:
        code = _run(call, rest, wants_help=any(n == "help" for n, _ in common))
    except Controlled as failure:
        call.error(str(failure))
        code = _CONTROLLED
    except Crash as crash:
        call.err += _crash(call, crash)
        code = _GENERAL
    if any(n == "noconsolelogging" for n, _ in common):
        call.out = ""
    return code, call.out, call.err


def parse_leniently(arguments: list[str]) -> list[tuple[str, str]]:
    """Return instance and configuration file of a command line, whatever else is wrong with it."""
    try:
        return parse(arguments, INSTANCE)[0]
    except MissingValue:
        return []


def _run(call: Call, arguments: list[str], *, wants_help: bool) -> int:
    name = (arguments[0] if arguments else "").lower().lstrip("-/")
    name = {"run": "agent"}.get(name, name)
    _load_early(call)
    if name not in COMMANDS:
        _help(call, arguments)
        return _UNKNOWN
    if wants_help or name == "help":
        _help(call, arguments if wants_help else arguments[1:])
        return _SUCCESS
    _, left = parse(arguments[1:], HOSTING)
    try:
        call.options, extra = parse(left, OPTIONS.get(name, INSTANCE))
    except MissingValue as error:
        raise Crash(str(error), _OPTION_EXCEPTION) from error
    if name not in _RUN:
        raise Controlled(f"The sandbox's Tentacle has no command '{name}'.")
    if extra:
        raise Controlled("Unrecognized command line arguments: " + " ".join(extra))
    _RUN[name](call)
    if call.needs_restart:
        what = "Tentacle" if call.selected.name is not None else "service"
        call.info(f"These changes require a restart of the {what}.")
    return _SUCCESS


def _load_early(call: Call) -> None:
    """Read the configuration for the sake of the log folder: a broken one ends every command here."""
    try:
        _ = call.selected
    except Controlled:
        return
    call.load()


def _help(call: Call, arguments: list[str]) -> None:
    options, _ = parse(arguments, OPTIONS["help"])
    as_json = any(value.lower() == "json" for _, value in options)
    first = arguments[0] if arguments else ""
    if not first[:1].isalpha():
        call.write(_commands_document() if as_json else general_help())
    elif first not in COMMANDS:
        call.error(f"Command '{first}' is not supported")
        call.info("See 'Tentacle help'")
    elif as_json:
        call.write(json.dumps(command_document(first), indent=2))
    else:
        call.write(command_help(first))


def _commands_document() -> str:
    rows = [{"Name": n, "Description": d, "Aliases": []} for n, d in COMMANDS.items()]
    return json.dumps({"Commands": rows}, indent=2)


def _crash(call: Call, crash: Crash) -> str:
    """Return what an uncaught exception prints, with one line in the place of its stack."""
    stack = "   at Octopus.Tentacle.Startup.AbstractCommand.Start(String[] commandLineArguments)\n"
    blocks = [f"{message}\n{kind}\n{stack}" for message, kind in crash.chain]
    text = "=" * 79 + "\n" + "\n--Inner Exception--\n".join(blocks)
    if not crash.footer:
        return text
    folders = call.host.profile.program_logs
    with suppress(Controlled, Crash):
        folders = f"{call.load().home / 'Logs'}\n{folders}"
    line = "-" * 79 + "\n"
    return (
        f"{text}{line}Terminating process with exit code {_GENERAL}\n"
        f"Full error details are available in the log files at:\n{folders}\n"
        f"If you need help, please send these log files to https://octopus.com/support\n{line}\n"
    )
