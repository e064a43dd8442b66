"""The Octopus Server on a sandbox host: folder, index, configuration and service of one instance, which is a node.

UNVERIFIED: registry key, index folder and the name of the port's setting are made by analogy with Tentacle's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bot.sandbox.pki import Identity
from bot.sandbox.windows.service import Process, Program, Service

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

DEFAULT = "OctopusServer"
"""Name of the default instance."""
COMMS_PORT = 10943


class Database(Protocol):
    """What the program finds in the database that all nodes share."""

    @property
    def certificate(self) -> Identity:
        """The Server's communications certificate with its key."""
        ...

    def adopt(self, identity: Identity) -> None:
        """Put another certificate there; a node goes by it from its next start on."""
        ...


class ClusterNode(Protocol):
    """The row of this node in the cluster's table, which its program can change."""

    task_cap: int

    @property
    def running_tasks(self) -> int:
        """How many tasks it executes at this moment."""
        ...

    def drain(self, drained: bool) -> None:
        """Take no new tasks, or take them again."""
        ...

    def cancel_tasks(self) -> None:
        """Cancel what it executes."""
        ...


@dataclass(frozen=True, kw_only=True)
class ServerInstallation:
    """One instance of the Octopus Server program."""

    host: "Host"
    name: str
    config: Path
    service: Service
    database: Database
    node: ClusterNode


def service_name(instance: str) -> str:
    """Return the name of an instance's service."""
    return "OctopusDeploy" if instance == DEFAULT else f"OctopusDeploy: {instance}"


def exe_of(host: "Host") -> Path:
    """Return the program's file, at its default place."""
    return host.root / "Program Files" / "Octopus Deploy" / "Octopus" / "Octopus.Server.exe"


def install_server(
    host: "Host",
    database: Database,
    program: Callable[[Process], Program],
    node: ClusterNode,
    *,
    name: str = DEFAULT,
) -> ServerInstallation:
    """Write the files of an instance and register its service, stopped."""
    home = host.root / "Octopus" / "Server"
    home.mkdir(parents=True, exist_ok=True)
    config = home / f"{name}.config"
    # A configuration names the database and the ports; the certificate is in the database.
    config.write_text(
        "<?xml version='1.0' encoding='UTF-8' ?>\n<octopus-settings>\n"
        f'  <set key="Octopus.Home">{home}</set>\n'
        f'  <set key="Octopus.Communications.ServicesPort">{COMMS_PORT}</set>\n'
        "</octopus-settings>\n",
        encoding="utf-8-sig",
    )
    index = host.program_data / "Octopus" / "OctopusServer" / "Instances"
    index.mkdir(parents=True, exist_ok=True)
    entry = {"Name": name, "ConfigurationFilePath": str(config)}
    (index / f"{name.lower()}.config").write_text(json.dumps(entry), encoding="utf-8")
    service = Service(host, service_name(name), program, command_line=f'"{exe_of(host)}" run --instance="{name}"')
    made = ServerInstallation(host=host, name=name, config=config, service=service, database=database, node=node)
    with host.world.lock:
        host.services[service.name] = service
        host.servers[name] = made
    return made
