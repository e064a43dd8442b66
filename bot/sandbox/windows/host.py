"""Windows hosts of the sandbox: folders, accounts, services, programs and faults."""

import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bot.domain.facts import Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity
from bot.sandbox.windows import server_program, service_control, tentacle_program
from bot.sandbox.windows.bridge import shim_text
from bot.sandbox.windows.schedule import Schedule
from bot.sandbox.windows.server_instance import ClusterNode, Database, ServerInstallation, exe_of, install_server
from bot.sandbox.windows.service import Process, Program, Service
from bot.sandbox.windows.tentacle import TentacleInstance, install

if TYPE_CHECKING:
    from bot.sandbox.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What kind of machine a host is; everything that depends on platform and version stands here."""

    os: str = "Microsoft Windows Server 2019 Standard"
    powershell: str = "5.1.17763.1"
    language_mode: str = "FullLanguage"
    tentacle_version: str = "9.1.3756"
    server_version: str = "2026.2.1000"
    """Of the Octopus Server program, where one is installed."""
    platform: str = "windows"
    """`windows`, or `linux` for the platform on which the real program was recorded."""
    elevated: bool = True
    """Whether programs run with an administrator's full token (or as root with sudo)."""
    newline: str = "\r\n"
    """How programs end their lines."""
    application_directory: str = r"C:\Octopus\Applications"
    program_logs: str = r"C:\ProgramData\Octopus\Logs"
    """The second log folder that a dying Tentacle program names."""

    @property
    def is_windows(self) -> bool:
        """Whether texts of the crypto platform and of the service manager are those of Windows."""
        return self.platform == "windows"


WINDOWS_2019 = Profile()
WINDOWS_2022 = Profile(os="Microsoft Windows Server 2022 Datacenter", powershell="5.1.20348.1")
WINDOWS_2012_R2 = Profile(os="Microsoft Windows Server 2012 R2 Standard", powershell="4.0", tentacle_version="6.3.605")
LINUX_RECORDED = Profile(
    os="Debian GNU/Linux 12 (bookworm)",
    powershell="",
    tentacle_version="0.0.0-local",
    platform="linux",
    elevated=False,
    newline="\n",
    application_directory="/home/Octopus/Applications",
    program_logs="Octopus/Logs",
)
"""The machine of the recorded calls: a build without a version, root without sudo."""
LINUX = replace(
    LINUX_RECORDED,
    os="Ubuntu 22.04.4 LTS",
    tentacle_version="9.1.3756",
    elevated=True,
)
"""A machine on which an administrator runs Tentacle with sudo. No WinRM. How Octopus words its system is UNVERIFIED."""


@dataclass(slots=True, kw_only=True)
class HostFaults:
    """What is wrong with a host. Fields may be changed at any time."""

    unreachable: bool = False
    """WinRM cannot be reached; the Tentacle can."""
    wrong_password: bool = False
    cut_at: str | None = None
    """Cut WinRM's connections once, when a script prints a line of this kind."""
    cut_receive: int = 0
    slow_stop: float = 0.0
    """Seconds that a service takes longer to stop."""
    stuck_stop: bool = False
    """A service never leaves StopPending, until this is taken away."""
    late_stop: float = 0.0
    """Seconds that a service takes longer to stop, past the limit of whoever waits for it."""
    import_fails: str | None = None
    """Text of the error with which importing and making a certificate ends, exit code 100."""
    slow_import: float = 0.0
    """Seconds that an import of Tentacle's takes longer."""
    database_refused: bool = False
    """The Server's database refuses the account of a remote log-on (integrated security, second hop)."""
    server_import_lies: bool = False
    """The Server's import ends with exit code 0 and changes nothing."""
    server_export_wrong: bool = False
    """The Server exports another certificate than it uses."""
    server_export_broken: bool = False
    """The Server writes half of a file, as on a full disk, and says that all is well."""
    import_lies: bool = False
    """The certificate store cannot be written: an import exits with 0, afterwards the service never listens."""
    watchdog_restarts: bool = False
    """Watchdog or recovery start a service again right after somebody stopped it."""
    never_listens: bool = False
    folder_unprotectable: bool = False
    no_route_to_tentacle: bool = False
    """The Tentacle's port is reachable on the host itself only."""
    quota_shells: bool = False
    quota_operations: bool = False
    """Our account has more operations open than MaxConcurrentOperationsPerUser allows: no Command is taken."""
    denied: bool = False
    """Our account may log in, but open no shell: it is no administrator, or UAC filters it."""
    no_ntlm: bool = False
    """NTLM is switched off by policy: Negotiate is offered, and no challenge given."""
    deaf: bool = False
    """Requests are taken and carried out, and never answered."""
    busy: bool = False
    clock_skew: float = 0.0
    """Seconds by which the host's clock is ahead."""
    kill_shell_at: str | None = None
    """Kill a script's process, `finally` blocks included, when it printed a line of this kind."""


class ProgramResult(NamedTuple):
    """What a program left: exit code and both streams."""

    exit_code: int
    stdout: str
    stderr: str


class Host:
    """One Windows machine. Its drive `C:` is the folder `root`; paths in its files are paths of this machine."""

    def __init__(self, world: "World", name: str, *, profile: Profile) -> None:
        self.world = world
        self.name = name
        self.profile = profile
        self.address = world.subnet.next()
        self.loopback = world.subnet.next()
        """Stands for 127.0.0.1 as programs on this host see it: what listens on all addresses listens here too."""
        self.root = world.root / "hosts" / name
        self.accounts: dict[str, str] = dict([world.account])
        self.faults = HostFaults()
        self.services: dict[str, Service] = {}
        self.tentacles: dict[str, TentacleInstance] = {}
        self.servers: dict[str, ServerInstallation] = {}
        self.store: set[Thumbprint] = set()
        """Certificates in the store in which Tentacle looks before it reads its file; it adds what it reads."""
        self.schedule = Schedule(self)
        self._children: dict[int, list[str]] = {}
        self._last_pid = 700
        for folder in ("ProgramData/Octopus/Tentacle/Instances", "Program Files", "Octopus", "Windows/Temp", "Users"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "Windows/System32").mkdir(parents=True, exist_ok=True)
        for exe in (self.system32 / "sc.exe", self.system32 / "schtasks.exe", self.tentacle_exe):
            _place(exe)

    @property
    def system32(self) -> Path:
        """The folder of Windows' own programs."""
        return self.root / "Windows" / "System32"

    @property
    def program_data(self) -> Path:
        """The folder that `%ProgramData%` names."""
        return self.root / "ProgramData"

    @property
    def tentacle_exe(self) -> Path:
        """The Tentacle program, at its default place."""
        return self.root / "Program Files" / "Octopus Deploy" / "Tentacle" / "Tentacle.exe"

    def environment(self) -> dict[str, str]:
        """Return the environment of a program or a visit on this host."""
        temp = str(self.root / "Windows" / "Temp")
        user = next(iter(self.accounts)).rpartition("\\")[2]
        return {
            "ProgramData": str(self.program_data),
            "ALLUSERSPROFILE": str(self.program_data),
            "SystemRoot": str(self.root / "Windows"),
            "ProgramFiles": str(self.root / "Program Files"),
            "TEMP": temp,
            "TMP": temp,
            "TMPDIR": temp,
            "COMPUTERNAME": self.name.upper(),
            "USERNAME": user,
        }

    def now(self) -> datetime:
        """Return the time that the host's own clock shows."""
        return self.world.clock.now() + timedelta(seconds=self.faults.clock_skew)

    def new_process(self, account: str) -> Process:
        """Make a process with an id of its own, started now."""
        with self.world.lock:
            self._last_pid += 4 * self.world.random.randint(3, 90)
            return Process(pid=self._last_pid, started=self.now(), account=account)

    def run_program(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> ProgramResult:
        """Run Tentacle.exe, sc.exe or schtasks.exe and return what it left.

        `argv[0]` is its path or name, `folder` its current directory. Other names end with exit code 9009, as `cmd`
        answers for a program that it cannot find.
        """
        self.world.command_lines.append(" ".join(argv))
        name = argv[0].replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
        arguments = list(argv[1:])
        if name == "tentacle":
            code, out, err = tentacle_program.run(self, arguments, dict(environment or {}), folder or self.root)
        elif name == "octopus.server":
            code, out, err = server_program.run(self, arguments, dict(environment or {}), folder or self.root)
        elif name == "sc":
            code, out, err = service_control.run(self, arguments)
        elif name == "schtasks":
            code, out, err = self.schedule.run_program(arguments, folder or self.root)
        else:
            code, out, err = 9009, "", f"'{argv[0]}' is not recognized as an internal or external command.\n"
        newline = self.profile.newline
        return ProgramResult(code, out.replace("\n", newline), err.replace("\n", newline))

    def add_tentacle(
        self,
        name: str = "Tentacle",
        *,
        style: Style = Style.LISTENING,
        port: int = 10933,
        certificate: Identity | None = None,
        trusted: Sequence[Trust] = (),
        watchdog: bool = False,
        listen_address: str | None = None,
        hash: str = "sha256",  # noqa: A002  # the word of the certificate, used by keyword only
        key_bits: int = 2048,
        start: bool = True,
    ) -> TentacleInstance:
        """Install a Tentacle instance: index file, configuration, service, watchdog if asked for; start it.

        A polling one gets a subscription of its own for every trusted entry of style polling that names none.
        """
        instance = install(
            self,
            name,
            style=style,
            port=port,
            certificate=certificate,
            trusted=trusted,
            listen_address=listen_address,
            hash=hash,
            key_bits=key_bits,
        )
        if watchdog:
            self.schedule.create_watchdog()
        if start:
            instance.service.boot()
        return instance

    def add_server(
        self, database: Database, program: Callable[[Process], Program], node: ClusterNode
    ) -> ServerInstallation:
        """Install the Octopus Server as a node: files, index, service; not started."""
        _place(exe_of(self))
        return install_server(self, database, program, node)

    def tentacle(self, name: str = "Tentacle") -> TentacleInstance:
        """Return a Tentacle instance by its name; KeyError if there is none."""
        return self.tentacles[name]

    def begin_child(self, pid: int, name: str) -> None:
        """Have a process run a child, such as `Calamari.exe`: a deployment in progress."""
        with self.world.changed:
            self._children.setdefault(pid, []).append(name)
            self.world.changed.notify_all()

    def end_child(self, pid: int, name: str) -> None:
        """End such a child."""
        with self.world.changed:
            if name in self._children.get(pid, []):
                self._children[pid].remove(name)
            self.world.changed.notify_all()

    def children_of(self, pid: int) -> list[str]:
        """Return the names of the programs that run as children of a process."""
        with self.world.lock:
            return list(self._children.get(pid, []))

    def protected(self, path: Path) -> bool:
        """Return whether only SYSTEM and Administrators may open it: mode 0700 of itself or a folder above it."""
        path = path.absolute()
        for place in (path, *path.parents):
            if place in {self.root, self.root.parent}:
                return False
            mode = stat.S_IMODE(place.stat().st_mode)
            if mode & 0o077 == 0:
                return True
        return False

    def close(self) -> None:
        """Stop everything that runs on this host."""
        self.schedule.close()
        for service in self.services.values():
            service.close()


def _place(exe: Path) -> None:
    """Write the executable file of a program that the world answers for."""
    exe.parent.mkdir(parents=True, exist_ok=True)
    exe.write_text(shim_text(), encoding="ascii")
    exe.chmod(0o755)
