"""The Octopus.Server program of a sandbox host: its commands about certificates, services and nodes.

Outputs are those of Octopus's documentation (octopus.server.exe-command-line). Options, exit codes and the form of
errors are UNVERIFIED: made as the Tentacle program has them, which is built on the same framework.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bot.domain.facts import ServiceState
from bot.sandbox.pki import Identity, host_keys, self_signed
from bot.sandbox.windows import pfx
from bot.sandbox.windows.server_instance import DEFAULT, ServerInstallation
from bot.sandbox.windows.service import ServiceError
from bot.sandbox.windows.tentacle_call import Controlled, Crash
from bot.sandbox.windows.tentacle_options import MissingValue, Option, parse

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

SUBJECT = "Octopus Portal"
_COMMON = (Option("instance="), Option("console"), Option("nologo"), Option("noconsolelogging"), Option("help"))
_PFX = (Option("pw|pfx-password="),)
_OPTIONS: dict[str, tuple[Option, ...]] = {
    "import-certificate": (
        Option("f|from-file="), *_PFX, Option("type="), Option("skipDatabaseCompatibilityCheck"),
        Option("skipDatabaseSchemaUpgradeCheck"),
    ),
    "export-certificate": (Option("export-pfx="), *_PFX),
    "new-certificate": (Option("export-pfx="), *_PFX, Option("replace"), Option("type=")),
    "show-thumbprint": (Option("e|export-file="), Option("format=")),
    "service": (Option("start"), Option("stop"), Option("restart"), Option("install"), Option("uninstall")),
    "node": (Option("drain="), Option("wait="), Option("cancel-tasks"), Option("taskCap=")),
    "version": (Option("format="),),
}  # fmt: skip
_RESTART = "These changes require a restart of the Octopus Server."
_OLD = (2018, 0)
"""Versions below print old and new thumbprint on two lines."""
_SERVICE_SECONDS = 45.0


class _Call:
    """One call: its options, and what it printed."""

    def __init__(self, host: "Host", server: ServerInstallation, options: list[tuple[str, str]], folder: Path) -> None:
        self.host, self.server, self.folder = host, server, folder
        self._options = options
        self.out: list[str] = []

    def say(self, *lines: str) -> None:
        self.out += lines

    def has(self, name: str) -> bool:
        return any(n == name for n, _ in self._options)

    def value(self, name: str) -> str:
        return next((v for n, v in reversed(self._options) if n == name), "")

    def path(self, name: str) -> Path:
        return self.folder / self.value(name)

    def certificate(self) -> Identity:
        self.reach_database()
        return self.server.database.certificate

    def reach_database(self) -> None:
        """Log on to the database as the account that runs the program. The wording is SQL Server's, UNVERIFIED here."""
        if self.host.faults.database_refused:
            raise Crash(
                "Login failed for user 'NT AUTHORITY\\ANONYMOUS LOGON'.", "Microsoft.Data.SqlClient.SqlException"
            )


def run(host: "Host", argv: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str, str]:
    """Run the program and return exit code, standard output and standard error."""
    name = (argv[0] if argv else "").lower()
    if name not in _OPTIONS:
        known = "\n".join(f"  {c}" for c in sorted(_OPTIONS))
        text = f"Usage: Octopus.Server <command> [<options>]\n\nWhere <command> is one of:\n\n{known}\n"
        return 2, text, f"Command '{name}' is not supported\n" if name else ""
    call: _Call | None = None
    try:
        options, extra = parse(argv[1:], (*_COMMON, *_OPTIONS[name]))
        _refuse(extra)
        call = _Call(host, _selected(host, dict(options).get("instance", "")), options, folder)
        _COMMANDS[name](call)
    except Controlled as failure:
        return 1, _text(call), f"{failure}\n"
    except (Crash, MissingValue) as failure:
        rows = [f"{m}\n{k}" for m, k in failure.chain] if isinstance(failure, Crash) else [str(failure)]
        return 100, _text(call), "=" * 79 + "\n" + "\n".join(rows) + "\n" + "-" * 79 + "\n"
    return 0, _text(call), ""


def _refuse(extra: list[str]) -> None:
    if extra:
        raise Controlled("Unrecognized command line arguments: " + " ".join(extra))


def _text(call: _Call | None) -> str:
    return "".join(f"{line}\n" for line in call.out) if call else ""


def _selected(host: "Host", name: str) -> ServerInstallation:
    for known, server in host.servers.items():
        if known.lower() == (name or DEFAULT).lower():
            return server
    names = ", ".join(host.servers)
    raise Controlled(
        f"Instance {name or DEFAULT} of OctopusServer has not been configured on this machine. "
        f"Available instances: {names}."
    )


def _import(call: _Call) -> None:
    file = call.value("from-file")
    if not file:
        raise Controlled("Please specify the certificate to import.")
    path = call.path("from-file")
    if not path.is_file():
        raise Controlled(f"Certificate '{file}' was not found.")
    call.say(f"Importing the certificate stored in PFX file in {file}...")
    call.reach_database()
    call.say("Checking the Octopus Master Key has been configured.")
    try:
        entry = pfx.read(path.read_bytes(), call.value("pfx-password"))[0]
    except (pfx.PfxError, IndexError) as error:
        raise Crash.cryptographic("The specified network password is not correct.") from error
    if entry.key is None:
        raise Crash.cryptographic("The X509 certificate file you provided does not include the private key.")
    if call.host.faults.import_fails:
        raise Crash(call.host.faults.import_fails, "System.Exception")
    new = Identity(key=entry.key, certificate=entry.certificate)
    old = call.server.database.certificate.thumbprint
    if not call.host.faults.server_import_lies:
        call.server.database.adopt(new)
        call.host.world.record(call.host.name, "adopt", str(new.thumbprint))
    _tell_change(call, str(old), str(new.thumbprint))
    call.say("Certificate imported successfully.", _RESTART)


def _tell_change(call: _Call, old: str, new: str) -> None:
    version = tuple(int(p) for p in call.host.profile.server_version.split(".")[:2])
    if version < _OLD:
        call.say(f"The certificate CN={SUBJECT} was regenerated; old thumbprint = {old},", f"new thumbprint = {new}")
    else:
        call.say(f"The certificate CN={SUBJECT} was updated; old thumbprint = {old}, new thumbprint = {new}")


def _export(call: _Call) -> None:
    if not call.value("export-pfx"):
        raise Controlled("Please specify the full path to the file to export: --export-pfx=VALUE")
    call.say("Exporting certificate...")
    identity = call.certificate()
    if call.host.faults.server_export_wrong:
        identity = self_signed(SUBJECT)
    data = identity.pfx(call.value("pfx-password"))
    call.path("export-pfx").write_bytes(data[: len(data) // 2] if call.host.faults.server_export_broken else data)
    call.say(f"The certificate has been written to {call.value('export-pfx')}")


def _new(call: _Call) -> None:
    replaces, file = call.has("replace"), call.value("export-pfx")
    if replaces == bool(file):
        raise Controlled("Please specify either --export-pfx or --replace")
    call.say("Generating certificate...")
    current = call.certificate()
    made = self_signed(SUBJECT, key=host_keys.take(2048))
    call.say("The Octopus Server currently uses a certificate with thumbprint:", str(current.thumbprint))
    call.say("A new certificate has been generated with thumbprint:", str(made.thumbprint))
    call.host.world.record(call.host.name, "generate", str(made.thumbprint))
    if replaces:
        call.server.database.adopt(made)
        call.say(_RESTART)
        return
    call.path("export-pfx").write_bytes(made.pfx(call.value("pfx-password")))
    call.say(f"The new certificate has been written to {file}")


def _show(call: _Call) -> None:
    thumbprint = str(call.certificate().thumbprint)
    as_json = call.value("format").lower() == "json"
    content = json.dumps({"Thumbprint": thumbprint}, separators=(",", ":")) if as_json else thumbprint
    if call.value("export-file"):
        call.path("export-file").write_text(content, encoding="ascii")
    else:
        call.say(content)


def _service(call: _Call) -> None:
    service = call.server.service
    scale = min(1.0, call.host.world.pace) or 0.02
    try:
        if (call.has("stop") or call.has("restart")) and not service.is_stopped:
            call.say("Stopping service...")
            service.stop()
            service.wait_for(ServiceState.STOPPED, _SERVICE_SECONDS * scale)
            call.say("Service stopped")
        if (call.has("start") or call.has("restart")) and service.is_stopped:
            service.start()
            service.wait_for(ServiceState.RUNNING, _SERVICE_SECONDS * scale)
            call.say("Service started")
    except ServiceError as error:
        raise Crash(str(error), "System.ComponentModel.Win32Exception") from error


def _node(call: _Call) -> None:
    """Drain the node, and wait for its tasks if asked to. What it says is UNVERIFIED."""
    call.reach_database()
    node, world = call.server.node, call.host.world
    if call.value("taskCap"):
        node.task_cap = int(_number(call, "taskCap"))
        call.say("Node task cap updated")
    if not call.value("drain"):
        return
    node.drain(call.value("drain").lower() == "true")
    call.say("Node drain mode updated")
    if call.has("cancel-tasks"):
        node.cancel_tasks()
    if call.value("wait") and not world.wait(lambda: node.running_tasks == 0, _number(call, "wait")):
        raise Controlled("The tasks of this node did not end in time.")


def _number(call: _Call, name: str) -> float:
    try:
        return float(call.value(name))
    except ValueError:
        raise Controlled(f"{call.value(name)} is not a number") from None


def _version(call: _Call) -> None:
    call.say(call.host.profile.server_version)


_COMMANDS: dict[str, Callable[[_Call], None]] = {
    "import-certificate": _import,
    "export-certificate": _export,
    "new-certificate": _new,
    "show-thumbprint": _show,
    "service": _service,
    "node": _node,
    "version": _version,
}
