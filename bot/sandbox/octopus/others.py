"""Machines that stand in Octopus and that no WinRM reaches, or that go by another certificate than the Server's.

A Linux Tentacle, a Kubernetes agent and one that polls over WebSocket are real Tentacles of the world: they listen or
poll, trust whom their configuration names, and are lost when nobody tells them of the Server's new certificate.
"""

from dataclasses import dataclass

from bot.domain.facts import RecordKind, Style
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.registrar import Registrar
from bot.sandbox.windows.host import LINUX, WINDOWS_2019, Profile
from bot.sandbox.windows.tentacle import TentacleInstance

ENVIRONMENT = "Production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """One such machine: its record, and the Tentacle that runs there."""

    record: str
    instance: TentacleInstance


class OtherMachines:
    """Adds such machines to the world and to one Server."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    def linux(
        self,
        name: str,
        *,
        style: Style = Style.LISTENING,
        space: str = "Default",
        kind: RecordKind = RecordKind.TARGET,
    ) -> Other:
        """Add a Tentacle on Linux. Octopus tells its system; a person reaches it by `host.run_program`, as by SSH."""
        instance = self._install(name, style, LINUX)
        where = {"pools": ["Linux workers"]} if kind is RecordKind.WORKER else {"environments": [ENVIRONMENT]}
        record = self._registrar.add_record(name, instance, kind=kind, space=space, **where)
        return Other(record=record, instance=instance)

    def kubernetes_agent(self, name: str, *, space: str = "Default", kind: RecordKind = RecordKind.TARGET) -> Other:
        """Add a Kubernetes agent: a Tentacle in a pod that polls."""
        instance = self._install(name, Style.POLLING, LINUX)
        return Other(record=self._registrar.add_agent(name, instance, space=space, kind=kind), instance=instance)

    def web_socket(self, name: str, *, space: str = "Default", kind: RecordKind = RecordKind.TARGET) -> Other:
        """Add a Tentacle on Windows that polls over WebSocket, and so trusts the certificate of the web server."""
        instance = self._install(name, Style.POLLING, WINDOWS_2019)
        return Other(record=self._registrar.add_web_socket(name, instance, space=space, kind=kind), instance=instance)

    def ssh(self, name: str, *, space: str = "Default") -> str:
        """Add an SSH target, which is a document only: nothing answers there, and a health check does not look."""
        return self.document(name, documents.ssh_endpoint(f"{name}.corp.example"), space=space)

    def document(self, name: str, endpoint: documents.Document, *, space: str = "Default") -> str:
        """Add a deployment target of any style, which is a document only."""
        return self._registrar.add_document(
            name, endpoint, kind=RecordKind.TARGET, space=space, environments=[ENVIRONMENT], roles=["other"]
        )

    def _install(self, name: str, style: Style, profile: Profile) -> TentacleInstance:
        return self._registrar.world.add_host(name, profile=profile).add_tentacle(style=style)
