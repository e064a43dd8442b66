"""The sandbox's Octopus.Server program says what Octopus's documentation shows, and does it to the cluster.

Exit codes and the form of errors are those of the Tentacle program: UNVERIFIED for the Server's.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.facts import ServiceState
from bot.domain.thumbprint import Thumbprint
from bot.octopus import programs
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows.host import Host, ProgramResult
from bot.sandbox.world import World

PASSWORD = "Sandbox-only"
RESTART = "These changes require a restart of the Octopus Server."


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Build a world in which nothing takes long."""
    made = World(tmp_path, pace=0.02, powershell=None)
    yield made
    made.close()


@pytest.fixture
def octopus(world: World) -> Iterator[OctopusServer]:
    """Start a Server with two nodes."""
    made = OctopusServer(world, nodes=("OCTO-1", "OCTO-2"))
    made.start()
    yield made
    made.close()


@pytest.fixture
def host(octopus: OctopusServer) -> Host:
    """Return the first node's host."""
    return octopus.nodes[0].host


def run(host: Host, *arguments: str) -> ProgramResult:
    """Run the program at its default place."""
    exe = host.root / "Program Files/Octopus Deploy/Octopus/Octopus.Server.exe"
    return host.run_program([str(exe), *arguments])


def said(result: ProgramResult) -> list[str]:
    """Return the lines of a call that ended well."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def pfx(host: Host, identity: Identity, password: str | None = None) -> Path:
    """Write a PFX on a host."""
    file = host.root / "Windows/Temp/new.pfx"
    file.write_bytes(identity.pfx(password))
    return file


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_an_import_goes_into_the_database_of_all_nodes(
    octopus: OctopusServer, host: Host, password: str | None
) -> None:
    """With a password or without; no node goes by it before its restart, and all do afterwards."""
    old, new = octopus.thumbprint, self_signed("octopus.corp.example")
    file = pfx(host, new, password)
    secret = [f"--pfx-password={password}"] if password else []
    result = run(host, "import-certificate", "--instance=OctopusServer", f"--from-file={file}", *secret)
    assert said(result) == [
        f"Importing the certificate stored in PFX file in {file}...",
        "Checking the Octopus Master Key has been configured.",
        f"The certificate CN=Octopus Portal was updated; old thumbprint = {old}, new thumbprint = {new.thumbprint}",
        "Certificate imported successfully.",
        RESTART,
    ]
    assert programs.switched(result.stdout) == (old, new.thumbprint)
    assert [n.served for n in octopus.nodes] == [old, old]
    assert said(run(octopus.nodes[1].host, "show-thumbprint")) == [new.thumbprint]
    said(run(host, "service", "--restart"))
    assert [n.served for n in octopus.nodes] == [new.thumbprint, old]


def test_an_old_program_tells_the_change_on_two_lines(octopus: OctopusServer, host: Host) -> None:
    """As that of 3.14 did; both forms are understood."""
    host.profile = replace(host.profile, server_version="3.14.15")
    old, new = octopus.thumbprint, self_signed()
    result = run(host, "import-certificate", f"--from-file={pfx(host, new)}")
    assert said(result)[2:4] == [
        f"The certificate CN=Octopus Portal was regenerated; old thumbprint = {old},",
        f"new thumbprint = {new.thumbprint}",
    ]
    assert programs.switched(result.stdout) == (old, new.thumbprint)


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_an_export_holds_certificate_and_key(octopus: OctopusServer, host: Host, password: str | None) -> None:
    """The file opens, and what is in it is what the Server serves."""
    file = host.root / "backup.pfx"
    secret = [f"--pfx-password={password}"] if password else []
    lines = said(run(host, "export-certificate", f"--export-pfx={file}", *secret))
    assert lines == ["Exporting certificate...", f"The certificate has been written to {file}"]
    assert Identity.from_pfx(file.read_bytes(), password).thumbprint == octopus.thumbprint


def test_a_new_certificate_is_only_written_to_a_file(octopus: OctopusServer, host: Host) -> None:
    """Its thumbprint is told, the Server's stays what it is; the file can be imported afterwards."""
    old, file = octopus.thumbprint, host.root / "made.pfx"
    result = run(host, "new-certificate", f"--export-pfx={file}", f"--pfx-password={PASSWORD}")
    made = Identity.from_pfx(file.read_bytes(), PASSWORD)
    assert said(result) == [
        "Generating certificate...",
        "The Octopus Server currently uses a certificate with thumbprint:",
        old,
        "A new certificate has been generated with thumbprint:",
        made.thumbprint,
        f"The new certificate has been written to {file}",
    ]
    assert programs.made(result.stdout) == made.thumbprint != old
    assert said(run(host, "show-thumbprint")) == [old]
    said(run(host, "import-certificate", f"--from-file={file}", f"--pfx-password={PASSWORD}"))
    assert said(run(host, "show-thumbprint")) == [made.thumbprint]


def test_a_new_certificate_may_replace_the_present_one_at_once(octopus: OctopusServer, host: Host) -> None:
    """Nobody can trust it before; it is in force from the next start on."""
    old = octopus.thumbprint
    lines = said(run(host, "new-certificate", "--replace"))
    assert lines[-1] == RESTART
    assert said(run(host, "show-thumbprint")) == [lines[-2]] != [old]
    for wrong in ((), ("--replace", "--export-pfx=x.pfx")):
        result = run(host, "new-certificate", *wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "either --export-pfx or --replace" in result.stderr


def test_a_thumbprint_is_shown_as_text_as_json_and_in_a_file(octopus: OctopusServer, host: Host) -> None:
    """The bare digits, whoever asks; what the database holds, not what the node serves."""
    assert programs.shown(run(host, "show-thumbprint").stdout) == octopus.thumbprint
    as_json = run(host, "show-thumbprint", "--format=json").stdout
    assert json.loads(as_json) == {"Thumbprint": octopus.thumbprint}
    file = host.root / "thumbprint.txt"
    assert said(run(host, "show-thumbprint", f"--export-file={file}")) == []
    assert Thumbprint(file.read_text()) == octopus.thumbprint
    assert said(run(host, "version")) == [octopus.version]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("import-certificate",), 1, "Please specify the certificate to import."),
        (("import-certificate", "--from-file=C:\\nowhere.pfx"), 1, "Certificate 'C:\\nowhere.pfx' was not found."),
        (("import-certificate", "--from-base64=AAAA"), 1, "Unrecognized command line arguments: --from-base64=AAAA"),
        (("export-certificate",), 1, "--export-pfx=VALUE"),
        (("show-thumbprint", "--instance=Other"), 1, "Instance Other of OctopusServer has not been configured"),
        (("node", "--taskCap=many"), 1, "many is not a number"),
        (("show-thumbprint", "--instance"), 100, "Missing required value for option '--instance'."),
        (("renew",), 2, "Command 'renew' is not supported"),
    ],
)
def test_what_it_cannot_do_it_says(host: Host, arguments: tuple[str, ...], code: int, words: str) -> None:
    """One line on standard error for what was expected to go wrong; the exit code tells the kinds apart."""
    result = run(host, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert words in programs.decisive_line(result.stdout, result.stderr, code)


def test_a_pfx_that_cannot_be_opened_is_refused(octopus: OctopusServer, host: Host) -> None:
    """A wrong password, no PFX at all, or one without its key: nothing is changed."""
    locked = pfx(host, self_signed(), PASSWORD)
    wrong = run(host, "import-certificate", f"--from-file={locked}", "--pfx-password=wrong")
    assert (wrong.exit_code, "password is not correct" in wrong.stderr) == (100, True)
    locked.write_bytes(b"no PFX")
    assert run(host, "import-certificate", f"--from-file={locked}").exit_code == 100
    assert said(run(host, "show-thumbprint")) == [octopus.thumbprint]


def test_a_database_that_refuses_the_account_is_named(octopus: OctopusServer, host: Host) -> None:
    """Everything that needs the database fails by the same error, and the certificate stays what it is."""
    host.faults.database_refused = True
    file = pfx(host, self_signed())
    for arguments in (
        ("show-thumbprint",),
        ("export-certificate", "--export-pfx=x.pfx"),
        ("new-certificate", "--export-pfx=x.pfx"),
        ("import-certificate", f"--from-file={file}"),
        ("node", "--drain=true"),
    ):
        result = run(host, *arguments)
        assert result.exit_code == 100
        assert "Login failed for user" in programs.decisive_line(result.stdout, result.stderr, 100)
    assert said(run(octopus.nodes[1].host, "show-thumbprint")) == [octopus.thumbprint]
    assert not octopus.nodes[0].is_drained


def test_faults_that_lie(octopus: OctopusServer, host: Host) -> None:
    """An import that changes nothing, exports of another certificate or of half a file: all exit with 0."""
    old, file = octopus.thumbprint, host.root / "backup.pfx"
    host.faults.server_import_lies = True
    said(run(host, "import-certificate", f"--from-file={pfx(host, self_signed())}"))
    assert said(run(host, "show-thumbprint")) == [old]
    host.faults.server_export_wrong = True
    said(run(host, "export-certificate", f"--export-pfx={file}"))
    assert Identity.from_pfx(file.read_bytes()).thumbprint != old
    host.faults.server_export_broken = True
    said(run(host, "export-certificate", f"--export-pfx={file}"))
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the library says of half a file
        Identity.from_pfx(file.read_bytes())


def test_the_service_is_stopped_and_started(octopus: OctopusServer, host: Host) -> None:
    """And a node whose process ends at once says so."""
    node = octopus.nodes[0]
    assert said(run(host, "service", "--stop")) == ["Stopping service...", "Service stopped"]
    assert node.service.service.state is ServiceState.STOPPED
    assert said(run(host, "service", "--start")) == ["Service started"]
    assert node.is_running
    new = self_signed()
    node.refuses.add(new.thumbprint)
    octopus.import_certificate(new)
    failed = run(host, "service", "--restart")
    assert (failed.exit_code, "terminated unexpectedly" in failed.stderr) == (100, True)


def test_a_node_is_drained_by_its_program(octopus: OctopusServer, host: Host) -> None:
    """It waits for tasks as long as it is told, or cancels them; it tells other nodes nothing."""
    node = octopus.nodes[0]
    tentacle = octopus.world.add_host("web-01").add_tentacle()
    task = octopus.start_deployment(octopus.add_record("web-01", tentacle), 600, node="OCTO-1")
    waited = run(host, "node", "--drain=true", "--wait=0.05")
    assert (waited.exit_code, node.is_drained, octopus.tasks.get(task).state) == (1, True, "Executing")
    said(run(host, "node", "--drain=true", "--wait=5", "--cancel-tasks"))
    assert octopus.tasks.get(task).state == "Canceled"
    said(run(host, "node", "--drain=false"))
    said(run(host, "node", "--taskCap=9"))
    assert (node.is_drained, node.task_cap, octopus.nodes[1].task_cap) == (False, 9, 5)
