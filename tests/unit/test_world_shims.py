"""The executable files of a sandbox host pass their calls on to the world."""

import os
import subprocess
from pathlib import Path

import pytest

from bot.sandbox.windows.bridge import VARIABLE, bridge_of
from bot.sandbox.windows.host import Host
from bot.sandbox.world import World


@pytest.fixture
def host(tmp_path: Path):
    """Make a host with a Tentacle."""
    world = World(tmp_path, pace=0.02, powershell=None)
    host = world.add_host("web-01")
    host.add_tentacle()
    yield host
    world.close()


class Visit:
    """A script that runs on the host."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def catch_up(self) -> bool:
        """Be alive."""
        return True


def call(host: Host, program: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a file of the host as a process of its own, within a visit."""
    value, token = bridge_of(host.world).admit(Visit(host))
    environment = {**host.environment(), VARIABLE: value, "PATH": os.environ["PATH"]}
    result = subprocess.run(
        [program, *arguments], check=False, env=environment, cwd=host.root, capture_output=True, timeout=30
    )
    bridge_of(host.world).dismiss(token)
    return result


def test_a_program_run_as_a_file_answers_like_the_world(host: Host) -> None:
    """Exit code and both streams arrive byte by byte, a thumbprint without its newline."""
    shown = call(host, host.tentacle_exe, "show-thumbprint", "--instance=Tentacle")
    unknown = call(host, host.tentacle_exe, "nosuch")
    service = call(host, host.system32 / "sc.exe", "query", "OctopusDeploy Tentacle")
    tasks = call(host, host.system32 / "schtasks.exe", "/Query", "/TN", "nothing")

    assert (shown.returncode, shown.stdout, shown.stderr) == (0, host.tentacle().configured.encode(), b"")
    assert (unknown.returncode, unknown.stderr) == (2, b"Command 'nosuch' is not supported\r\n")
    assert b"4  RUNNING" in service.stdout
    assert tasks.returncode == 1
