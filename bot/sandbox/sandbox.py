"""The sandbox: one estate with its Slack, its Octopus Server and its Windows hosts, and the configuration for a bot."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bot.domain.facts import Health
from bot.sandbox import estate as estates
from bot.sandbox.octopus.server import NODE, OctopusServer
from bot.sandbox.slack.server import SlackServer
from bot.sandbox.windows import powershell as powershell_of_windows
from bot.sandbox.windows.shells import Start
from bot.sandbox.windows.wsman import WinRmServer
from bot.sandbox.world import World

HINT = [
    "You are Rita, a release engineer. Ask for something: `/octocert rotate web-01`",
    "Read the plan and press *Approve*: Rita asked, so she may not approve it herself.",
    "Become Ada (top right) and approve. Watch the message and its thread; *Estate* shows the truth.",
    "More: `/octocert show-thumbprint moved-01` `/octocert check-health legacy-01` `/octocert help`",
    "Several at once: `/octocert rotate targets not:role:app --batch 25`, or look around: `/octocert inventory`",
    "*Home* shows what waits and how the estate is, *#radar* what a daily look found; both have buttons.",
    "The Octopus Server's own: `/octocert rotate server --with pfx:server`",
]


Build = Callable[..., estates.Estate]


class Sandbox:
    """A whole world on loopback addresses; nothing in it is secret or real."""

    def __init__(
        self,
        state: Path,
        *,
        hosts: int = 12,
        seed: int = 1,
        pace: float = 1.0,
        port: int = 0,
        nodes: Sequence[str] = (NODE,),
        others: bool = False,
        powershell: Path | str | None = "auto",
        real_limits: bool = True,
        extra: str = "",
        policy: str = "",
        request_url: str | None = None,
        build: Build = estates.build,
        start: Start = powershell_of_windows.start,
        bind: str | None = None,
    ) -> None:
        """Start everything in an empty folder. `extra` is TOML that is added to the configuration.

        `policy` is added to its table [policy]. `build` makes the Tentacles, `start` the programs that hosts run. With
        `request_url` Slack sends signed requests there, and there is no token for Socket Mode. With `others`, machines
        stand in Octopus that no WinRM reaches (see estate.build).
        """
        state.mkdir(parents=True, exist_ok=True)
        self.state = state
        self.world = World(state / "world", seed=seed, pace=pace, powershell=powershell)  # type: ignore[arg-type]
        self.octopus = OctopusServer(self.world, nodes=nodes)
        self.octopus.start()
        self.estate = build(self.world, self.octopus, hosts, others=others)
        self.winrm = WinRmServer(self.world, start=start)
        self.winrm.start()
        self.slack = SlackServer(
            port=port,
            bind=bind,
            hint=HINT,
            estate=self.rows,
            rate_limits=1.0 if real_limits else 0.0,
            request_url=request_url,
        )
        self.slack.start()
        self.config = state / "octocert.toml"
        self._write_configuration(extra, policy)

    def rows(self) -> list[dict[str, object]]:
        """Return the truth about every Tentacle, for the page's Estate tab."""
        found: list[dict[str, object]] = []
        for name, instance in self.estate.instances.items():
            documents = [self.octopus.document(r) for r in self.estate.records[name] if self.octopus.exists(r)]
            recorded = sorted({d["Endpoint"]["Thumbprint"] for d in documents})
            found.append(
                {
                    "name": name,
                    "style": instance.style.value,
                    "configured": instance.configured or "",
                    "served": instance.served or "",
                    "recorded": ", ".join(recorded),
                    "health": ", ".join(sorted({d["HealthStatus"] for d in documents})) or Health.UNKNOWN.value,
                    "consistent": self.consistent(name),
                }
            )
        return found

    def consistent(self, name: str) -> bool:
        """Whether configured, served (by the running process) and every record agree."""
        instance = self.estate.instances[name]
        recorded = {self.octopus.document(r)["Endpoint"]["Thumbprint"] for r in self.estate.records[name]}
        return recorded == {instance.configured} == {instance.served}

    def _write_configuration(self, extra: str, policy: str) -> None:
        """Write the same files that an administrator writes."""
        secrets = self.state / "secrets"
        secrets.mkdir(mode=0o700, exist_ok=True)
        user, password = self.world.account
        for name, value in (
            ("slack-bot-token", self.slack.bot_token),
            ("slack-app-token", self.slack.app_token),
            ("slack-signing-secret", self.slack.signing_secret),
            ("octopus-api-key", self.octopus.api_key),
            ("winrm-password", password),
            ("pfx-password", PFX_PASSWORD),
            ("ca-key", self.world.ca.identity.key_pem.decode()),
        ):
            path = secrets / name
            path.touch(mode=0o600)
            path.write_text(value + "\n")
        pfx, server_pfx = (self.state / "certificates" / f"octocert-{name}.pfx" for name in ("demo", "server"))
        pfx.parent.mkdir(mode=0o700, exist_ok=True)
        for path, subject in ((pfx, "web-01.corp.example"), (server_pfx, "octopus.corp.example")):
            path.touch(mode=0o600)
            path.write_bytes(self.world.ca.issue(subject).pfx(PFX_PASSWORD))
        authority = self.state / "certificates" / "ca.pem"
        authority.write_bytes(self.world.ca.identity.pem)
        places = {name: instance.host for name, instance in self.estate.instances.items()}
        places |= {node.name: node.host for node in self.octopus.nodes}
        hosts = "\n".join(
            f"[[hosts]]\nmatch = {_text(name)}\naddress = {_text(host.address)}\n" for name, host in places.items()
        )
        way = "signing-secret" if self.slack.http else "app-token"
        self.config.write_text(
            f"""# Written by the demo. The same kind of file configures a real bot.
[slack]
bot_token = {_text("file:" + str(secrets / "slack-bot-token"))}
{way.replace("-", "_")} = {_text("file:" + str(secrets / f"slack-{way}"))}
api_url = {_text(self.slack.api_url)}

[octopus]
url = {_text(self.octopus.url)}
api_key = {_text("file:" + str(secrets / "octopus-api-key"))}

[winrm]
transport = "ntlm"
username = {_text(user)}
password = {_text("file:" + str(secrets / "winrm-password"))}
scheme = "https"
ca_file = {_text(str(self.world.ca.file))}
in_flight = 16

[policy]
requesters = {json.dumps([self.slack.people["rita"].id])}
approvers = {json.dumps([self.slack.people[n].id for n in ("ada", "ben")])}
{policy}

[certificates.pfx.demo]
path = {_text(str(pfx))}
password = {_text("file:" + str(secrets / "pfx-password"))}

[certificates.pfx.server]
path = {_text(str(server_pfx))}
password = {_text("file:" + str(secrets / "pfx-password"))}

[certificates.ca.demo]
certificate = {_text(str(authority))}
key = {_text("file:" + str(secrets / "ca-key"))}
alternative_names = ["{{target}}.corp.example"]

[database]
url = {_text("sqlite:///" + str(self.state / "octocert.sqlite"))}

{hosts}
{extra}"""
        )

    def close(self) -> None:
        """End everything; the files in the state folder stay."""
        self.slack.close()
        self.winrm.close()
        self.octopus.close()
        self.world.close()


PFX_PASSWORD = "demo-only"


def _text(value: str) -> str:
    """Return a TOML string: JSON's form is one."""
    return json.dumps(value)
