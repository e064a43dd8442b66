"""Tentacle instances of a sandbox host: how they are installed, and what is true of them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bot.domain.facts import Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows.configuration import Configuration, ConfigurationError, InstanceIndex, TrustedServer
from bot.sandbox.windows.service import Process, Service
from bot.sandbox.windows.tentacle_agent import TentacleAgent

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

DEFAULT = "Tentacle"
"""Name of the default instance."""
_SUBSCRIPTION_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, kw_only=True)
class TentacleInstance:
    """One Tentacle instance; what it tells is read from the file, or from the running process, when asked."""

    host: "Host"
    name: str
    config: Path
    service: Service

    @property
    def configuration(self) -> Configuration:
        """The configuration file as it is now."""
        return Configuration.load(self.config)

    @property
    def configured(self) -> Thumbprint | None:
        """The thumbprint in the configuration file; None where it has none or cannot be read."""
        try:
            return self.configuration.configured
        except (OSError, ConfigurationError):
            return None

    @property
    def agent(self) -> TentacleAgent | None:
        """The running process, if there is one."""
        program = self.service.program
        return program if isinstance(program, TentacleAgent) else None

    @property
    def served(self) -> Thumbprint | None:
        """The certificate that the running process serves, or presents to the Servers that it polls."""
        agent = self.agent
        return agent.served if agent else None

    @property
    def trusted(self) -> tuple[Trust, ...]:
        """The trust list of the file."""
        return tuple(t.trust for t in self.configuration.trusted)

    @property
    def trusted_by_process(self) -> tuple[Trust, ...]:
        """The trust list with which the running process was started."""
        agent = self.agent
        return tuple(t.trust for t in agent.trusted) if agent else ()

    @property
    def style(self) -> Style:
        """Whether it listens or polls."""
        return Style.POLLING if self.configuration.no_listen else Style.LISTENING

    @property
    def port(self) -> int:
        """The configured port."""
        return self.configuration.port

    @property
    def subscription(self) -> str | None:
        """The first subscription of a polling Tentacle, `poll://…/`."""
        return next((t.subscription for t in self.configuration.trusted if t.subscription), None)

    @property
    def log(self) -> str:
        """The text of its log file."""
        file = self.configuration.home / "Logs" / "OctopusTentacle.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def trust(self, trust: Trust) -> None:
        """Add an entry to the trust list of the file, as `configure --trust` and `server-comms` do."""
        with self.host.world.lock:
            self.configuration.trust(with_subscription(TrustedServer.of(trust)))


def service_name(instance: str | None) -> str:
    """Return the name of an instance's service (OctopusTentacle: ServiceName.cs)."""
    return "OctopusDeploy Tentacle" if instance in {None, DEFAULT} else f"OctopusDeploy Tentacle: {instance}"


def with_subscription(entry: TrustedServer) -> TrustedServer:
    """Give an entry that polls a subscription of its own, where it has none."""
    if entry.style not in {keys.POLLING, keys.KUBERNETES} or entry.subscription:
        return entry
    letters = "".join(secrets.choice(_SUBSCRIPTION_LETTERS) for _ in range(20))
    return replace(entry, subscription=f"poll://{letters}/")


def install_service(host: "Host", name: str, config: Path) -> TentacleInstance:
    """Register service and instance with the host, so that the world knows them."""
    service = Service(
        host,
        service_name(name),
        lambda process: agent_of(host, config, process),
        command_line=f'"{host.tentacle_exe}" run --instance="{name}"',
    )
    instance = TentacleInstance(host=host, name=name, config=config, service=service)
    with host.world.lock:
        host.services[service.name] = service
        host.tentacles[name] = instance
    return instance


def agent_of(host: "Host", config: Path, process: Process) -> TentacleAgent:
    """Start the program of a Tentacle service."""
    return TentacleAgent(host, config, process)


def install(
    host: "Host",
    name: str,
    *,
    style: Style,
    port: int,
    certificate: Identity | None,
    trusted: Sequence[Trust],
    listen_address: str | None,
    hash: str,  # noqa: A002  # the word of the certificate, used by keyword only
    key_bits: int,
) -> TentacleInstance:
    """Write configuration and index file of a new instance and register its service, stopped."""
    home = host.root / "Octopus" / ("" if name == DEFAULT else name)
    for folder in ("Work", "Logs"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    config = home / "Tentacle.config"
    identity = certificate or self_signed(hash=hash, key_bits=key_bits)
    settings = Configuration(config)
    settings.settings = {
        keys.HOME: str(home),
        keys.APPLICATIONS: str(home / "Applications"),
        keys.PORT: str(port),
        keys.NO_LISTEN: "true" if style is Style.POLLING else "false",
    }
    if listen_address:
        settings.settings[keys.LISTEN_IP] = listen_address
    entries = [TrustedServer.of(t) for t in trusted]
    settings.set_trusted([with_subscription(e) for e in entries])
    settings.set_identity(identity)
    InstanceIndex(host.program_data).add(name, config)
    return install_service(host, name, config)
