"""The command line of the Tentacle program: its options, how they are parsed, and its help.

Parsing and layout follow the NDesk option parser that the real program contains (OctopusTentacle:
Internals/Options/OptionSet.cs); the texts are those of the recorded calls.
"""

import re
from dataclasses import dataclass

_ARGUMENT = re.compile(r"^(?:--|-|/)(?P<name>[^:=]+)(?:[:=](?P<value>.*))?$", re.DOTALL)
_WIDTH = 29
"""The column at which descriptions begin."""
_LINE = 80 - _WIDTH - 2


class MissingValue(Exception):  # noqa: N818  # the program's OptionException
    """An option without its value stood at the end."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `names` as the program declares them (`r|from-registry`, `port=`), what it does, whether shown."""

    prototype: str
    description: str = ""
    hidden: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its names, the first one being how the parsed value is called."""
        return tuple(n.rstrip("=") for n in self.prototype.split("|"))

    @property
    def takes_value(self) -> bool:
        """Whether a value belongs to it."""
        return "=" in self.prototype


def parse(arguments: list[str], options: tuple[Option, ...]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options found, by the last of their names, in order, and the arguments that are none.

    Names ignore case; a value may follow `=`, `:` or as the next argument, whatever that looks like.
    """
    known = {name.lower(): option for option in options for name in option.names}
    found: list[tuple[str, str]] = []
    extra: list[str] = []
    pending: tuple[Option, str] | None = None
    for argument in arguments:
        if pending:
            found.append((pending[0].names[-1], argument))
            pending = None
            continue
        match = _ARGUMENT.match(argument)
        option = known.get(match["name"].lower()) if match else None
        if match is None or option is None:
            extra.append(argument)
        elif not option.takes_value:
            found.append((option.names[-1], match["name"]))
        elif match["value"] is not None:
            found.append((option.names[-1], match["value"]))
        else:
            pending = (option, argument)
    if pending:
        raise MissingValue(f"Missing required value for option '{pending[1]}'.")
    return found, extra


def describe(options: tuple[Option, ...]) -> str:
    """Return the options as the help shows them."""
    text = ""
    for option in options:
        if option.hidden:
            continue
        first, *others = option.names
        head = f"  -{first}" if len(first) == 1 else f"      --{first}"
        head += "".join(f", {'-' if len(n) == 1 else '--'}{n}" for n in others)
        head += "=VALUE" if option.takes_value else ""
        lines = _wrap(option.description)
        text += head.ljust(_WIDTH) if len(head) < _WIDTH else f"{head}\n{' ' * _WIDTH}"
        text += lines[0] + "\n" + "".join(f"{' ' * (_WIDTH + 2)}{line}\n" for line in lines[1:])
    return text


def _wrap(text: str) -> list[str]:
    lines, start = [], 0
    while True:
        end = _line_end(start, text)
        suffix = ""
        if end < len(text):
            if text[end] in "- ":
                end += 1
            else:
                end, suffix = end - 1, "-"
        lines.append(text[start:end] + suffix)
        start = end
        if end >= len(text):
            return lines


def _line_end(start: int, text: str) -> int:
    end = min(start + _LINE, len(text))
    breaks = [i for i in range(start, end) if text[i] in " \t\v-,.;"]
    return end if not breaks or end == len(text) else breaks[-1]


INSTANCE = (Option("instance=", "Name of the instance to use"), Option("config=", "Configuration file to use"))
FORMAT = Option("format=", "The format of the output (text,json). Defaults to text.")
COMMON = (
    Option("nologo", hidden=True),
    Option("noconsolelogging", hidden=True),
    Option("help", "Show detailed help for this command"),
)
HOSTING = (Option("console", hidden=True), Option("noninteractive", hidden=True), Option("monitorMutex=", hidden=True))
"""Switches that every command takes and no help shows."""
_API = (
    Option("server=", "The Octopus Server - e.g., 'http://octopus'"),
    Option("apiKey=", "Your API key; you can get this from the Octopus web portal"),
    Option("bearerToken=", "A Bearer Token which has access to your Octopus instance"),
    Option("u|username=|user=", "If not using API keys, your username"),
    Option("p|password=", "If not using API keys, your password"),
    Option(
        "ignoreSslErrors",
        "Set this flag if your Octopus Server uses HTTPS but the certificate is not trusted on this machine. Any "
        "certificate errors will be ignored. WARNING: this option may create a security vulnerability.",
    ),
)
_POLLING_COUNT = Option(
    "pollingConnectionCount=",
    "The number of polling connections this Tentacle should open to each Octopus Server it polls. Only applies to "
    "polling Tentacles.",
)

OPTIONS: dict[str, tuple[Option, ...]] = {
    "agent": (
        *INSTANCE,
        Option("wait=", "Delay (ms) before starting"),
        Option("console", "Don't attempt to run as a service, even if the user is non-interactive"),
    ),
    "checkservices": (Option("instances=", "Comma-separated list of instances to check, or * to check all instances"),),
    "clear-trusted-servers": (
        *INSTANCE,
        Option("keep=", "A comma separated list of Server Comms Addresses to keep as trusted servers"),
    ),
    "configure": (
        *INSTANCE,
        Option("home=|homedir=", "Home directory"),
        Option("app=|appdir=", "Default directory to deploy applications to"),
        Option("port=", "TCP port on which Tentacle should listen to connections"),
        Option("noListen=", "Suppress listening on a TCP port (intended for polling Tentacles only)"),
        Option("listenIpAddress=", "IP address on which Tentacle should listen. Default: any"),
        _POLLING_COUNT,
        Option("trust=", "The thumbprint of the Octopus Server to trust"),
        Option("remove-trust=", "The thumbprint of the Octopus Server to remove from the trusted list"),
        Option("reset-trust", "Removes all trusted Octopus Servers"),
    ),
    "create-instance": (
        Option("instance=", "Name of the instance to create"),
        Option("config=", "Path to configuration file to create"),
        Option("home=", "[Optional] Path to the home directory - defaults to the same directory as the config file"),
    ),
    "delete-instance": INSTANCE,
    "help": (FORMAT,),
    "import-certificate": (
        *INSTANCE,
        Option("r|from-registry", "Import the Octopus Tentacle 1.x certificate from the Windows registry"),
        Option(
            "f|from-file=",
            "Import a certificate from the specified file generated by the new-certificate command or a Personal "
            "Information Exchange (PFX) file",
        ),
        Option("b|from-base64=", "Import a certificate from a base64 formatted string"),
        Option("pw|pfx-password=", "Personal Information Exchange (PFX) private key password"),
    ),
    "list-instances": (FORMAT,),
    "new-certificate": (
        *INSTANCE,
        Option("b|if-blank", "Generates a new certificate only if there is none"),
        Option(
            "e|export-file=",
            "DEPRECATED: Exports a new certificate to the specified file as unprotected base64 text, but does not save "
            "it to the Tentacle configuration; for use with the import-certificate command",
        ),
        Option(
            "export-pfx=",
            "Exports the new certificate to the specified file as a password protected pfx, but does not save it to "
            "the Tentacle configuration; for use with the import-certificate command",
        ),
        Option("pfx-password=", "The password to use for the exported pfx file"),
    ),
    "poll-server": (
        *INSTANCE,
        *_API,
        Option(
            "server-comms-address=",
            "The comms address on the Octopus Server; the address of the Octopus Server will be used if omitted.",
        ),
        Option(
            "server-comms-port=",
            "The comms port on the Octopus Server; the default is 10943. If specified, this will take precedence over "
            "any port number in server-comms-address.",
        ),
        Option(
            "server-web-socket=",
            "When using active communication over websockets, the address of the Octopus Server, eg "
            "'wss://example.com/OctopusComms'. Refer to http://g.octopushq.com/WebSocketComms",
        ),
        Option(
            "reuse-server-thumbprint",
            "Reuse the Server Thumbprint from the first trusted server instance currently configured",
        ),
    ),
    "server-comms": (
        *INSTANCE,
        Option(
            "thumbprint=",
            "The thumbprint of the Octopus Server to configure communication with; if only one Octopus Server is "
            "configured, this may be omitted",
        ),
        Option(
            "style=",
            "The communication style to use with the Octopus Server - either TentacleActive or TentaclePassive",
        ),
        Option("host=", "When using active communication, the host name of the Octopus Server"),
        Option(
            "port=",
            "When using active communication, the communications port of the Octopus Server; the default is 10943",
        ),
        Option(
            "web-socket=",
            "When using active communication over websockets, the address of the Octopus Server, eg "
            "'wss://example.com/OctopusComms'. Refer to http://g.octopushq.com/WebSocketComms",
        ),
    ),
    "service": (
        Option("start", "Start the service if it is not already running"),
        Option("stop", "Stop the service if it is running"),
        Option("restart", "Restart the service if it is running"),
        Option("reconfigure", "Reconfigure the service"),
        Option("install", "Install the service"),
        Option(
            "username=|user=",
            "Username to run the service under (DOMAIN\\Username format for Windows). Only used when --install or "
            "--reconfigure are used.  Can also be passed via an environment variable OCTOPUS_SERVICE_USERNAME. "
            "Defaults to 'root' for Systemd services.",
        ),
        Option("uninstall", "Uninstall the service"),
        Option(
            "password=",
            "Password for the username specified with --username. Only used when --install or --reconfigure are used. "
            "Can also be passed via an environment variable OCTOPUS_SERVICE_PASSWORD.",
        ),
        Option("dependOn="),
        Option("instance=", "Name of the instance to use, or * to use all instances"),
    ),
    "set-polling-connection-count": (*INSTANCE, _POLLING_COUNT),
    "show-configuration": (
        *INSTANCE,
        Option(
            "file=",
            "Exports the server configuration to a file. If not specified output goes to the console",
        ),
        Option(
            "space=",
            "The space from which the server data configuration will be retrieved for, - e.g. 'Finance Department' "
            "where Finance Department is the name of an existing space; the default value is the Default space, if one "
            "is designated.",
        ),
        *_API,
    ),
    "show-thumbprint": (
        *INSTANCE,
        Option("e|export-file=", "Exports the Tentacle thumbprint to a file"),
        Option(
            "thumbprint-only",
            "DEPRECATED: Only print out the thumbprint, with no additional text. This switch has been deprecated and "
            "will be removed in Octopus 4.0 since it is no longer needed.",
        ),
        FORMAT,
    ),
    "update-trust": (
        *INSTANCE,
        Option("oldThumbprint=", "The thumbprint of the old Octopus Server to be replaced"),
        Option("newThumbprint=", "The thumbprint of the new Octopus Server"),
    ),
    "version": (FORMAT,),
    "watchdog": (
        Option("create", "Create the watchdog task for the given instances"),
        Option("delete", "Delete the watchdog task for the given instances"),
        Option("interval=", "The interval, in minutes, at which that the service(s) should be checked (default: 5)"),
        Option(
            "instances=", "Comma separated list of instances to be checked, or * to check all instances (default: *)"
        ),
    ),
}
"""The options of every command that the sandbox answers for."""

COMMANDS: dict[str, str] = {
    "agent": "Starts the Tentacle Agent in debug mode",
    "checkservices": "Checks the Tentacle instances are running",
    "clear-trusted-servers": "Clears trusted servers in the Tentacle Configuration",
    "configure": "Sets Tentacle settings such as the port number and thumbprints",
    "create-instance": "Registers a new instance of the Tentacle service",
    "delete-instance": "Deletes an instance of the Tentacle service",
    "deregister-from": "Deregisters this deployment target from an Octopus Server",
    "deregister-worker": "Deregisters this worker from an Octopus Server",
    "extract": "Extracts a NuGet package",
    "help": "Prints this help text",
    "import-certificate": "Replace the certificate that Tentacle uses to authenticate itself",
    "list-instances": "Lists all installed Tentacle instances",
    "livez": "Checks that the Tentacle agent process is alive (suitable for a Kubernetes liveness probe).",
    "migrate-preinstalled-k8s-config": (
        "Migrates the configuration from the pre-install hook to the running agent instance"
    ),
    "new-certificate": "Creates and installs a new certificate for this Tentacle",
    "poll-server": "Configures an Octopus Server that this Tentacle will poll",
    "polling-proxy": "Configure the HTTP proxy used by polling Tentacles to reach the Octopus Server",
    "proxy": "Configure the HTTP proxy used by Octopus",
    "register-k8s-cluster": (
        '[Obsolete: Please use the "register-k8s-target" command instead] Registers this kubernetes cluster as a '
        "deployment target with an Octopus Server"
    ),
    "register-k8s-target": "Registers this kubernetes agent as a deployment target with an Octopus Server",
    "register-k8s-worker": "Registers this kubernetes agent as a worker with an Octopus Server",
    "register-with": "Registers this machine as a deployment target with an Octopus Server",
    "register-worker": "Registers this machine as a worker with an Octopus Server",
    "server-comms": "Configure how the Tentacle communicates with an Octopus Server",
    "service": "Start, stop, install and configure the Tentacle service",
    "set-polling-connection-count": (
        "Sets the number of polling connections this Tentacle opens to each Octopus Server it polls"
    ),
    "show-configuration": "Outputs the Tentacle configuration",
    "show-thumbprint": "Show the thumbprint of this Tentacle's certificate",
    "update-trust": (
        "Replaces the trusted Octopus Server thumbprint of any matching polling or listening registrations with a new "
        "thumbprint to trust"
    ),
    "version": "Show the Tentacle version information",
    "watchdog": "Configure a scheduled task to monitor the Tentacle service(s)",
}
"""Every command of the real program, as its help lists them."""
ALIASES = {"import-certificate": (), "agent": ("run",)}


def general_help() -> str:
    """Return what `help` prints."""
    rows = "".join(f"  {name:15}\n   {text}\n" for name, text in COMMANDS.items())
    return (
        "Usage: Tentacle <command> [<options>]\n\nWhere <command> is one of: \n\n"
        f"{rows}\nOr use <command> --help for more details.\n"
    )


def command_help(command: str) -> str:
    """Return what `help COMMAND` prints."""
    return (
        f"Usage: Tentacle {command} [<options>]\n\nWhere [<options>] is any of: \n\n"
        f"{describe(OPTIONS.get(command, INSTANCE))}\nOr one of the common options: \n\n{describe(COMMON)}"
    )


def command_document(command: str) -> dict[str, object]:
    """Return what `help COMMAND --format=json` prints."""

    def rows(options: tuple[Option, ...]) -> list[dict[str, str]]:
        return [{"Name": o.names[0], "Description": o.description} for o in options if not o.hidden]

    return {
        "Name": command,
        "Description": COMMANDS[command],
        "Aliases": [],
        "Options": rows(OPTIONS.get(command, INSTANCE)),
        "CommonOptions": rows(COMMON),
    }
