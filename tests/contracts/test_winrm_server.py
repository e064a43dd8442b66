"""The sandbox's WinRM, judged by a client that nobody here wrote: pypsrp's WinRS; and by raw requests."""

import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pypsrp.client import Client
from pypsrp.exceptions import AuthenticationError, WinRMTransportError, WSManFaultError
from pypsrp.shell import Process, SignalCode, WinRS
from pypsrp.wsman import WSMan

from bot.sandbox.windows import soap
from bot.sandbox.windows.shells import CMD_CHARACTERS, MAX_SHELLS
from bot.sandbox.windows.wsman import WinRmServer
from bot.sandbox.world import World
from tests.programs import Stage, idle, stage


@pytest.fixture
def world(tmp_path: Path):
    """Make a world with one host."""
    world = World(tmp_path, pace=0.02, powershell=None)
    world.add_host("web-01")
    yield world
    world.close()


@pytest.fixture
def server(world: World):
    """Serve WinRM on all hosts of the world, with the programs that hosts have."""
    server = WinRmServer(world)
    server.start()
    yield server
    server.close()


@pytest.fixture
def play(tmp_path: Path):
    """Make a host whose programs the test writes."""
    with stage(tmp_path) as built:
        yield built


def options(world: World, way: str) -> dict:
    """Return pypsrp's options for a way to log in."""
    user, password = world.account
    over_http = {"ssl": False, "encryption": "always"}
    over_https = {"ssl": True, "cert_validation": str(world.ca.file)}
    ways = {
        "ntlm, sealed": {"auth": "ntlm", **over_http},
        "negotiate, sealed": {"auth": "negotiate", **over_http},
        "ntlm over https": {"auth": "ntlm", **over_https},
        "sealed over https": {"auth": "ntlm", **over_https, "encryption": "always"},
        "basic over https": {"auth": "basic", **over_https},
    }
    return {"username": user, "password": password, "reconnection_retries": 0, **ways[way]}


def client(world: World, way: str = "ntlm, sealed", **changes) -> Client:
    """Return a pypsrp client for the first host."""
    return Client(world.hosts["web-01"].address, **{**options(world, way), **changes})


WAYS = ("ntlm, sealed", "negotiate, sealed", "ntlm over https", "sealed over https", "basic over https")


@pytest.mark.parametrize("way", WAYS)
def test_another_client_runs_commands(world, server, way):
    """Unchanged, by each way to log in; exit code and both streams come back, and no shell stays."""
    with client(world, way) as someone:
        assert someone.execute_cmd("hostname") == ("web-01\r\n", "", 0)
        assert someone.execute_cmd("cmd /c echo hello there") == ("hello there\r\n", "", 0)
        assert someone.execute_cmd("exit 3")[2] == 3
        _, err, code = someone.execute_cmd("no-such-program")
    assert "not recognized" in err
    assert code == 1
    assert server.shells["web-01"].count == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_password_is_refused(world, server, way):
    """By every way, with 401 and no shell."""
    with client(world, way, password="wrong") as someone, pytest.raises(AuthenticationError):
        someone.execute_cmd("hostname")
    assert server.operations["web-01"]["Create"] == 0


def test_ntlm_over_https_is_bound_to_the_channel(world, server):
    """A client that sends no channel bindings is refused like one with a wrong password: nobody can tell them apart."""
    with client(world, "ntlm over https", negotiate_send_cbt=False) as someone, pytest.raises(AuthenticationError):
        someone.execute_cmd("hostname")


def test_plain_http_refuses_what_is_not_sealed(world, server):
    """Logged in but unsealed is HTTP 500, as with AllowUnencrypted=false."""
    user, password = world.account
    host = world.hosts["web-01"].address
    with WSMan(host, ssl=False, auth="ntlm", encryption="never", username=user, password=password) as wsman:
        with pytest.raises(WinRMTransportError) as refused:
            WinRS(wsman).open()
        assert refused.value.code == 500


def status(url: str, world: World, body: bytes | None, headers: dict[str, str]) -> tuple[int, list[str]]:
    """Send one raw request; return HTTP status and offered logins."""
    context = ssl.create_default_context(cafile=str(world.ca.file))
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, context=context, timeout=5) as answer:
            return answer.status, []
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get_all("WWW-Authenticate") or []


def test_basic_is_offered_over_https_only(world, server):
    """Over http even the right password does not count."""
    host = world.hosts["web-01"].address
    login = {"Authorization": "Basic " + b64encode(":".join(world.account).encode()).decode()}
    assert status(f"http://{host}:5985/wsman", world, b"x", login) == (401, ["Negotiate"])
    assert status(f"https://{host}:5986/wsman", world, b"x", {}) == (401, ["Negotiate", 'Basic realm="WSMAN"'])
    assert status(f"https://{host}:5986/wsman", world, b"no soap", login) == (400, [])
    assert status(f"https://{host}:5986/elsewhere", world, b"x", login) == (404, [])
    assert status(f"https://{host}:5986/wsman", world, None, login) == (405, [])
    assert status(f"https://{host}:5986/wsman", world, b"x" * (soap.MAX_ENVELOPE + 2000), login)[0] == 413


def test_a_message_under_a_dead_login_is_unreadable(world, server):
    """Sealing belongs to a connection: after a cut, pypsrp's next message gets HTTP 400, as from a real host."""
    with client(world) as someone:
        shell = WinRS(someone.wsman)
        shell.open()
        server.cut("web-01")
        with pytest.raises(WinRMTransportError) as refused:
            shell.close()
        assert refused.value.code == 400


def test_a_receive_that_hears_nothing_times_out_and_may_be_repeated(play: Stage):
    """Fault 2150858793 after the client's own OperationTimeout; what is printed later is still there."""
    play.story = idle
    with client(play.world) as someone, WinRS(someone.wsman) as shell:
        process = Process(shell, "anything")
        process.begin_invoke()
        begun = time.monotonic()
        with pytest.raises(WSManFaultError) as fault:
            shell.receive(command_id=process.id, timeout=1)
        assert fault.value.code == 2150858793
        assert 0.9 < time.monotonic() - begun < 3
        play.programs[0].print(b"late")
        assert shell.receive(command_id=process.id)[2]["stdout"] == b"late"
        play.programs[0].exit(7)
        assert shell.receive(command_id=process.id)[1] == 7


def test_standard_input_arrives_whole_and_ends(play: Stage):
    """Only without console mode does its end arrive; pypsrp asks for neither, so for it the end never comes."""
    play.story = idle
    with client(play.world) as someone, WinRS(someone.wsman) as shell:
        process = Process(shell, "anything")
        process.begin_invoke()
        for piece in (b"one\n", b"two\n"):
            shell.send("stdin", piece, process.id, end=False)
        shell.send("stdin", b"three", process.id, end=True)
    program = play.programs[0]
    assert program.stdin == b"one\ntwo\nthree"
    assert not program._ended.is_set()


def test_the_shell_takes_its_programs_with_it(play: Stage):
    """Delete, Signal and the idle timeout end a program at once; a shell that is gone is a fault."""
    play.story = idle
    with client(play.world) as someone:
        with WinRS(someone.wsman) as shell:
            Process(shell, "first").begin_invoke()
            process = Process(shell, "second")
            process.begin_invoke()
            process.signal(SignalCode.TERMINATE)
            assert [p.killed.is_set() for p in play.programs] == [False, True]
        assert play.programs[0].killed.is_set()

        quiet = WinRS(someone.wsman, idle_time_out=1.0)
        quiet.open()
        Process(quiet, "third").begin_invoke()
        end = time.monotonic() + 30
        while play.open_shells and time.monotonic() < end:
            time.sleep(0.02)
        assert play.open_shells == 0
        assert play.programs[2].killed.is_set()
        with pytest.raises(WSManFaultError) as fault:
            quiet.receive(command_id="any")
    assert fault.value.code == 2150858843


def test_an_account_has_so_many_shells_and_no_more(world, server):
    """MaxShellsPerUser is 30: the next one is a fault, until one is closed."""
    with client(world, "basic over https") as someone:
        shells = [WinRS(someone.wsman) for _ in range(MAX_SHELLS + 1)]
        for shell in shells[:-1]:
            shell.open()
        with pytest.raises(WSManFaultError) as fault:
            shells[-1].open()
        assert fault.value.code == 2150859173
        shells[0].close()
        shells[-1].open()


def test_a_command_line_that_is_too_long_does_nothing_and_succeeds(world, server):
    """cmd.exe takes 8191 characters; beyond, the output is empty and the exit code 0. A trap, so it is played."""
    with client(world, "basic over https") as someone:
        short, long = ("cmd /c echo " + "x" * (CMD_CHARACTERS - more) for more in (12, 11))
        assert someone.execute_cmd(short)[0].startswith("xxx")
        assert someone.execute_cmd(long) == ("", "", 0)


def test_long_output_comes_in_pieces_that_fit_the_clients_envelope(play: Stage):
    """Nothing is lost and nothing comes twice."""
    text = b"".join(b"%07d\n" % number for number in range(60_000))

    def story(program):
        program.print(text)
        program.print(b"and an error", on_error=True)
        program.exit()

    play.story = story
    with client(play.world) as someone, WinRS(someone.wsman) as shell:
        process = Process(shell, "anything")
        process.invoke()
        assert process.stdout == text
        assert process.stderr == b"and an error"
    assert play.operations["Receive"] > 3


def test_a_host_that_is_unreachable_refuses_and_comes_back(world, server):
    """Nothing listens while the fault is set, and open connections are gone."""
    with client(world, "basic over https") as someone:
        shell = WinRS(someone.wsman)
        shell.open()
        world.hosts["web-01"].faults.unreachable = True
        server.serve()
        with pytest.raises(Exception, match=r"refused|reset|aborted|disconnected"):
            shell.close()
        world.hosts["web-01"].faults.unreachable = False
        server.serve()
        shell.close()


def test_two_hundred_hosts_are_served_by_one_thread(world, server):
    """Hosts that are added later listen, too; nothing but a listener is made before somebody comes."""
    for number in range(2, 201):
        world.add_host(f"web-{number:03}")
    server.serve()
    assert not list(world.ca.folder.glob("winrm-*"))
    user, password = world.account

    def name(host) -> str:
        with Client(host.address, username=user, password=password, ssl=False, auth="ntlm") as someone:
            return someone.execute_cmd("hostname")[0].strip()

    some = list(world.hosts.values())[::10]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(name, some)) == [host.name for host in some]
