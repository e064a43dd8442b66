"""The Tentacle program's commands about its Servers and settings: configure, update-trust, server-comms and kin."""

import ipaddress
from dataclasses import replace
from urllib.parse import urlsplit

from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows.configuration import LISTENING, NONE, POLLING, Configuration, TrustedServer
from bot.sandbox.windows.tentacle import with_subscription
from bot.sandbox.windows.tentacle_call import Call, Controlled, Crash

_COMMS_PORT = 10943
_FORMAT = "System.FormatException"


def configure(call: Call) -> None:
    """Run `configure`: reset, then remove, then add, then the settings in the order of the command line."""
    _ = call.selected
    configuration = call.load()
    if call.has("reset-trust"):
        call.info("Removing all trusted Octopus Servers...")
        _change(call, configuration, ())
    if removed := call.values("remove-trust"):
        call.info(f"Removing {len(removed)} trusted Octopus Servers")
        for text in removed:
            _change(call, configuration, [e for e in configuration.trusted if e.thumbprint != text])
    if added := call.values("trust"):
        call.info(f"Adding {len(added)} trusted Octopus Servers")
        for text in added:
            if not text.strip():
                raise Crash("A valid thumbprint must be supplied", "System.ArgumentException")
            _add(call, configuration, TrustedServer(thumbprint=text))
    for name, value in call.options:
        _set(call, configuration, name, value)


def update_trust(call: Call) -> None:
    """Run `update-trust`: every entry with the old thumbprint, case aside, gets the new one."""
    _ = call.selected
    old, new = call.value("oldThumbprint"), call.value("newThumbprint")
    if not old:
        raise Controlled("Please specify a thumbprint to replace, e.g., --oldThumbprint=VALUE")
    if not new:
        raise Controlled("Please specify a new thumbprint to trust, e.g., --newThumbprint=VALUE")
    configuration = call.load()
    call.info(f"Updating Octopus servers thumbprint from {old} to {new}")
    call.info(
        f"Finding existing Octopus Server registrations trusting the thumbprint {old} and updating them to trust the "
        f"thumbprint {new}:"
    )
    entries = []
    for entry in configuration.trusted:
        shown = f"{entry.kind} {entry.address or ''} {entry.thumbprint}"
        if entry.thumbprint.lower() == old.lower():
            call.info(f"Updating {shown} - changing to trust {new}")
            entries.append(replace(entry, thumbprint=new.strip()))
        else:
            call.info(f"Ignoring {shown} - does not match old thumbprint")
            entries.append(entry)
    _change(call, configuration, entries)


def server_comms(call: Call) -> None:
    """Run `server-comms`."""
    configuration = call.load()
    trusted = configuration.trusted
    distinct = list(dict.fromkeys(e.thumbprint for e in trusted))
    if not distinct:
        raise Controlled(
            "Before server communications can be modified, trust must be established with the configure command"
        )
    thumbprint = call.value("thumbprint")
    if not thumbprint:
        if len(distinct) != 1:
            raise Controlled(
                "More than one server is trusted; please provide the thumbprint of the server to configure, e.g. "
                "--thumbprint=..."
            )
        thumbprint = distinct[0]
    style = {"tentacleactive": POLLING, "tentaclepassive": LISTENING}.get(call.value("style").lower())
    if style is None:
        raise Controlled("Please specify a valid communications style, e.g. --style=TentaclePassive")
    servers = [e for e in trusted if e.thumbprint == thumbprint]
    if not servers:
        raise Controlled("No trusted server was found with the supplied thumbprint")
    if style == LISTENING:
        entry = next((e for e in servers if e.address is None), TrustedServer(thumbprint=thumbprint))
        _add(call, configuration, replace(entry, style=LISTENING))
    else:
        address = _comms_address(call)
        known = next((e for e in servers if e.address == address), None) or next(
            (e for e in servers if e.style == NONE), TrustedServer(thumbprint=thumbprint)
        )
        polling = next((e.subscription for e in servers if e.style == POLLING and e.subscription), None)
        entry = replace(known, address=address, style=POLLING, subscription=known.subscription or polling)
        _add(call, configuration, with_subscription(entry))
    call.info("Updated server communications configuration")


def poll_server(call: Call) -> None:
    """Run `poll-server --reuse-server-thumbprint`; asking a Server's API is not part of the sandbox."""
    _ = call.selected
    if not call.has("reuse-server-thumbprint"):
        raise Controlled("Please specify an API key, bearer token or a username and password.")
    if not call.value("server-comms-address"):
        raise Crash(
            "You must specify either a WebSocketAddress or a ServerCommsAddress", "System.InvalidOperationException"
        )
    configuration = call.load()
    if not configuration.trusted:
        raise Crash("Sequence contains no elements", "System.InvalidOperationException")
    first = configuration.trusted[0]
    target = urlsplit(call.value("server-comms-address"))
    port = call.value("server-comms-port") or target.port or 443
    _add(call, configuration, replace(first, address=f"https://{target.hostname}:{port}/", squid=None))
    call.info("Polling endpoint configured")


def clear_trusted_servers(call: Call) -> None:
    """Run `clear-trusted-servers`."""
    configuration = call.load()
    kept = {a.replace("http://", "https://").rstrip("/") for a in call.value("keep").split(",") if a}
    configuration.set_trusted([e for e in configuration.trusted if e.address and e.address.rstrip("/") in kept])


def set_polling_connection_count(call: Call) -> None:
    """Run `set-polling-connection-count`."""
    _ = call.selected
    if not call.value("pollingConnectionCount"):
        raise Controlled("Please specify the number of polling connections, e.g. --pollingConnectionCount=5")
    _set(call, call.load(), "pollingConnectionCount", call.value("pollingConnectionCount"))


def _set(call: Call, configuration: Configuration, name: str, value: str) -> None:
    """Change one setting, if the option is one."""
    match name:
        case "homedir" | "appdir":
            path = call.path(value)
            path.mkdir(parents=True, exist_ok=True)
            call.needs_restart = True
            _write(call, configuration, keys.HOME if name == "homedir" else keys.APPLICATIONS, str(path))
            call.info(f"{'Home' if name == 'homedir' else 'Application'} directory set to: {path}")
        case "port":
            try:
                port = int(value)
            except ValueError as error:
                raise Crash(f"The input string '{value}' was not in a correct format.", _FORMAT) from error
            _write(call, configuration, keys.PORT, str(port))
            call.info(f"Services listen port: {value}")
        case "noListen":
            if value.strip().lower() not in {"true", "false"}:
                raise Crash(f"String '{value}' was not recognized as a valid Boolean.", _FORMAT)
            _write(call, configuration, keys.NO_LISTEN, value.strip().lower())
            silent = configuration.no_listen
            call.info("Tentacle will not listen on a port" if silent else "Tentacle will listen on a TCP port")
        case "listenIpAddress":
            if value.lower() == "any":
                _write(call, configuration, keys.LISTEN_IP, None)
                call.info("Listen on any IP address")
                return
            try:
                address = ipaddress.ip_address(value)
            except ValueError as error:
                raise Crash("An invalid IP address was specified.", _FORMAT) from error
            _write(call, configuration, keys.LISTEN_IP, value)
            call.info(f"Listen on IP address: {address}")
        case "pollingConnectionCount":
            if not value.strip().lstrip("+-").isdigit():
                raise Controlled(
                    f"The polling connection count '{value}' is not a valid whole number. Specify a positive integer, "
                    "e.g. --pollingConnectionCount=5"
                )
            if int(value) < 1:
                raise Controlled(f"The polling connection count must be greater than 0, but was {int(value)}.")
            _write(call, configuration, keys.POLLING_COUNT, str(int(value)))
            call.info(f"Polling connection count set to: {int(value)}")


def _write(call: Call, configuration: Configuration, key: str, value: str | None) -> None:
    try:
        configuration.set(key, value)
    except OSError as error:
        raise call.denied(configuration.path) from error
    call.needs_restart = True


def _change(call: Call, configuration: Configuration, entries: list[TrustedServer] | tuple[()]) -> None:
    try:
        configuration.set_trusted(entries)
    except OSError as error:
        raise call.denied(configuration.path) from error
    call.needs_restart = True
    call.host.world.record(call.host.name, "trust", ",".join(e.thumbprint for e in entries))


def _add(call: Call, configuration: Configuration, entry: TrustedServer) -> None:
    try:
        configuration.trust(entry)
    except LookupError as error:
        raise Crash(str(error), "System.InvalidOperationException") from error
    except OSError as error:
        raise call.denied(configuration.path) from error
    call.needs_restart = True
    call.host.world.record(call.host.name, "trust", ",".join(e.thumbprint for e in configuration.trusted))


def _comms_address(call: Call) -> str:
    host, socket = call.value("host"), call.value("web-socket")
    if not host and not socket:
        raise Controlled("Please provide either the server hostname or websocket address, e.g. --host=OCTOPUS")
    if host and socket:
        raise Controlled("The hostname and websocket options cannot be used together")
    if host:
        return f"https://{host}:{call.value('port') or _COMMS_PORT}/"
    if urlsplit(socket).scheme not in {"https", "wss"}:
        raise Controlled("The websocket address must start with wss://")
    return "wss" + socket[socket.index(":") :]
