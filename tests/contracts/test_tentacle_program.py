"""The sandbox's Tentacle program answers as the real one was recorded to answer.

`data/tentacle_transcripts.json` holds 122 calls of OctopusTentacle at commit a321dc6c, in the order in which they ran.
Their inputs are made anew with OpenSSL; recorded thumbprints are mapped to those of the new files.
"""

import base64
import hmac
import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bot.domain.facts import Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity, authority_keys, self_signed
from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows.configuration import Configuration
from bot.sandbox.windows.host import LINUX_RECORDED, WINDOWS_2019, Host
from bot.sandbox.windows.pfx import derive
from bot.sandbox.world import World

TRANSCRIPTS = json.loads((Path(__file__).parent / "data" / "tentacle_transcripts.json").read_text(encoding="utf-8"))
PASSWORD = "Secret1"
OPENSSL = shutil.which("openssl")
THUMBPRINT = re.compile(r"\b[0-9A-F]{40}\b")
NEUTRAL = re.compile(r"(?<![\w.])/(?=(?:pfx|tentacle)/)")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes PFX files with the openssl command, which is not here")


@pytest.fixture
def world(tmp_path: Path):
    """Make a world that is fast and needs no PowerShell."""
    world = World(tmp_path / "world", pace=0.02, powershell=None)
    yield world
    world.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> "Files":
    """Make the inputs of the recorded calls, once."""
    return Files(tmp_path_factory.mktemp("recorded") / "pfx")


class Files:
    """The inputs of the recorded calls, made again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        leaf, leaf2, leaf3 = (self_signed("leaf.example.test") for _ in range(3))
        authority = self_signed("Test Root CA", key=authority_keys.take(2048))
        expired = self_signed("expired.example.test", lifetime=timedelta(hours=1))
        small, big = (self_signed("sized.example.test", key_bits=bits) for bits in (1024, 3072))
        elliptic = self_signed("ec.example.test", key=ec.generate_private_key(ec.SECP256R1()))
        self.thumbprints = {
            "2D80C52D938238B4A865838D005A23F240508707": leaf.thumbprint,
            "393212DD5B7D6B6B32FFBE259CBC0669655218B8": leaf2.thumbprint,
            "A0E0132E243A83317B7018F3B76598DA09F420AC": leaf3.thumbprint,
            "F714913B8B7C5542BF90D0C57AA5D1409FD04FA6": expired.thumbprint,
            "DBF6468EB7A19CE75AF5206D5FC36531F30880B4": small.thumbprint,
            "DF3BBA41EEA86B51309AF07BCB0CCD90A8F7E547": big.thumbprint,
        }
        triple = ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
        self.export("aes.pfx", leaf)
        self.export("nopw.pfx", leaf, password="")
        self.export("chain.pfx", leaf, chain=authority)
        self.export("chain3des.pfx", leaf, *triple, chain=authority)
        self.export("legacy3des.pfx", leaf2, *triple)
        self.export("legacyrc2.pfx", leaf3, "-legacy")
        self.export("nomac_nopw.pfx", leaf2, "-nomac", "-keypbe", "NONE", "-certpbe", "NONE", password="")
        for name, identity in (("expired", expired), ("small", small), ("big", big), ("ec", elliptic)):
            self.export(f"{name}.pfx", identity)
        self.export("nokeys.pfx", leaf, "-nokeys")
        shutil.copy(folder / "aes.pfx", folder / "aes.p12")
        shutil.copy(folder / "nopw.pfx", folder / "nopw.p12")
        plain = base64.b64encode((folder / "nopw.pfx").read_bytes()).decode()
        (folder / "nopw.b64.txt").write_text(plain)
        (folder / "nopw.b64wrapped.txt").write_text("\n".join(re.findall(".{1,64}", plain)) + "\n")
        (folder / "cafirst.pfx").write_bytes(authority_first(authority, leaf3))
        (folder / "pem.pem").write_bytes(leaf.key_pem + leaf.pem)
        (folder / "pem.pfx").write_bytes(leaf.key_pem + leaf.pem)
        (folder / "garbage.pfx").write_bytes(b"\x07garbage" * 40)
        (folder / "empty.pfx").write_bytes(b"")

    def export(self, name: str, identity: Identity, *options: str, password: str = PASSWORD, chain=None) -> None:
        """Have OpenSSL write a PFX."""
        key, certificate, others = (self.folder / f".{part}" for part in ("key", "certificate", "others"))
        key.write_bytes(identity.key_pem)
        certificate.write_bytes(identity.pem)
        arguments = ["-inkey", key, "-in", certificate, "-out", self.folder / name, "-passout", f"pass:{password}"]
        if "-nokeys" in options:
            arguments = arguments[2:]
        if chain:
            others.write_bytes(chain.pem)
            arguments += ["-certfile", others]
        subprocess.run([OPENSSL, "pkcs12", "-export", *arguments, *options], check=True, capture_output=True)


def authority_first(authority: Identity, leaf: Identity) -> bytes:
    """Build a PFX by hand whose first certificate is the CA's: no encryption, a MAC with SHA-1."""

    def der(tag: int, *contents: bytes) -> bytes:
        content = b"".join(contents)
        size = len(content)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        return bytes([tag]) + length + content

    def oid(text: str) -> bytes:
        return der(0x06, bytes.fromhex(text))

    data, bag = "2a864886f70d010701", "2a864886f70d010c0a01"

    def certificate(identity: Identity) -> bytes:
        value = der(0x30, oid("2a864886f70d01091601"), der(0xA0, der(0x04, identity.der)))
        return der(0x30, oid(bag + "03"), der(0xA0, value))

    secret = leaf.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    bags = der(0x30, certificate(authority), certificate(leaf), der(0x30, oid(bag + "01"), der(0xA0, secret)))
    safe = der(0x30, der(0x30, oid(data), der(0xA0, der(0x04, bags))))
    key = derive(PASSWORD.encode("utf-16-be") + b"\0\0", b"saltsalt", 2048, 3, 20)
    digest = der(0x30, der(0x30, oid("2b0e03021a"), b"\x05\x00"), der(0x04, hmac.digest(key, safe, "sha1")))
    mac = der(0x30, digest, der(0x04, b"saltsalt"), b"\x02\x02\x08\x00")
    return der(0x30, b"\x02\x01\x03", der(0x30, oid(data), der(0xA0, der(0x04, safe))), mac)


class Replay:
    """Runs the recorded calls on a host and compares."""

    def __init__(self, host: Host, files: Files) -> None:
        self.host = host
        self.base = files.folder.parent
        self.thumbprints = dict(files.thumbprints)
        self.home = self.base / "tentacle"

    def prepare(self, number: int) -> None:
        """Do what was done between two recorded calls and not recorded itself."""
        if number == 21:
            (self.home / "x").mkdir(parents=True)
            Configuration(self.home / "x" / "Tentacle.config").save()
        elif number == 63:
            self.run(["configure", "--instance", "X", "--port", "99999999"])
        elif number == 105:
            (self.home / "bad").mkdir()
            (self.home / "bad" / "b.config").write_text("garbage")
        elif number == 110:
            (self.home / "gone" / "g.config").unlink()
        elif number == 121:
            self.run(["import-certificate", "--instance", "X", "--from-file", "/pfx/nomac_nopw.pfx"])

    def run(self, argv: list[str]):
        """Run the program as it was recorded, in folders of this test."""
        return self.host.run_program(
            ["Tentacle.exe", *(NEUTRAL.sub(f"{self.base}/", a) for a in argv)], folder=self.base
        )

    def differences(self, number: int, recorded: dict) -> list[str]:
        """Run one recorded call and return in what it differs."""
        self.prepare(number)
        result = self.run(recorded["argv"])
        if recorded["argv"][:1] == ["new-certificate"]:
            self.thumbprints |= dict(
                zip(THUMBPRINT.findall(recorded["stdout"]), THUMBPRINT.findall(result.stdout), strict=True)
            )
        expected = (recorded["exit"], self.ours(recorded["stdout"]), settle(self.ours(recorded["stderr"])))
        seen = (result.exit_code, platform_apart(result.stdout), settle(result.stderr))
        names = ("exit code", "standard output", "standard error")
        return [
            f"call {number} {recorded['argv']}: {name}\n  recorded {e!r}\n  sandbox  {s!r}"
            for name, e, s in zip(names, expected, seen, strict=True)
            if e != s
        ]

    def ours(self, text: str) -> str:
        """Put our thumbprints and folders in the place of the recorded ones."""
        text = THUMBPRINT.sub(lambda m: self.thumbprints.get(m[0], m[0]), text)
        return NEUTRAL.sub(f"{self.base}/", text)


def platform_apart(text: str) -> str:
    """Leave out the one message that comes from the operating system."""
    return re.sub(r"(could not be located: ).*", r"\1<message of the platform>", text)


def settle(text: str) -> str:
    """Leave out stack lines and the empty lines around them, as the recording did."""
    lines = [line for line in text.split("\n") if line and not line.startswith("   at ")]
    return "\n".join(lines)


def test_the_program_answers_every_recorded_call_as_the_real_one_did(world: World, files: Files) -> None:
    """All 122 calls, in their order: exit code, standard output by the letter, standard error but for its stacks."""
    replay = Replay(world.add_host("debian", profile=LINUX_RECORDED), files)

    differences = [d for number, call in enumerate(TRANSCRIPTS) for d in replay.differences(number, call)]

    assert len(TRANSCRIPTS) == 122
    assert not differences, "\n".join(differences)


def test_an_import_changes_two_settings_and_nothing_else(world: World, files: Files) -> None:
    """After an import only the certificate and its thumbprint differ, and the file still begins with its mark."""
    tentacle = world.add_host("web-01").add_tentacle()
    before = dict(tentacle.configuration.settings)

    result = world.hosts["web-01"].run_program(
        ["Tentacle.exe", "import-certificate", "--instance=Tentacle", f"--from-file={files.folder / 'legacy3des.pfx'}",
         f"--pw={PASSWORD}"]
    )  # fmt: skip

    after = tentacle.configuration.settings
    assert result.exit_code == 0
    assert {k for k in after if after[k] != before.get(k)} == {keys.CERTIFICATE, keys.THUMBPRINT}
    assert tentacle.configured == files.thumbprints["393212DD5B7D6B6B32FFBE259CBC0669655218B8"]
    assert tentacle.config.read_bytes().startswith(b"\xef\xbb\xbf<?xml")


@pytest.mark.parametrize(
    ("name", "password", "code", "line"),
    [
        ("small.pfx", PASSWORD, 0, "smaller than the currently-recommended bit length"),
        ("legacyrc2.pfx", PASSWORD, 0, "imported successfully."),
        ("garbage.pfx", PASSWORD, 100, "Cannot find the requested object."),
        ("aes.pfx", "Wrong", 100, "The specified network password is not correct."),
        ("pem.pfx", "", 100, "does not include the private key."),
        ("ec.pfx", PASSWORD, 100, "does not include the private key."),
    ],
)
def test_a_windows_host_says_it_in_the_words_of_windows(
    world: World, files: Files, name: str, password: str, code: int, line: str
) -> None:
    """On a Windows profile the crypto platform's texts are those of Windows; the rest is as recorded."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    before = tentacle.configured

    result = host.run_program(
        [
            "Tentacle.exe",
            "import-certificate",
            "--instance=Tentacle",
            f"--from-file={files.folder / name}",
            f"--pw={password}",
        ]
    )

    assert result.exit_code == code
    assert line in result.stdout + result.stderr
    assert (tentacle.configured == before) is (code != 0)


def test_a_base64_text_without_key_is_imported_and_bricks_the_tentacle(world: World) -> None:
    """`--from-base64` demands no private key: exit 0, and after the restart nothing is served any more."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    bare = self_signed()

    result = host.run_program(
        [
            "Tentacle.exe",
            "import-certificate",
            "--instance=Tentacle",
            f"--from-base64={base64.b64encode(bare.der).decode()}",
        ]
    )
    host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--restart"])

    assert result.exit_code == 0
    assert tentacle.configured == bare.thumbprint
    assert tentacle.service.is_running
    assert tentacle.served is None


def test_only_the_exit_code_is_gentle_when_the_service_does_not_stop(world: World) -> None:
    """A stop that takes too long is an error on standard error and exit code 0, as the sources have it."""
    host = world.add_host("web-01")
    host.add_tentacle()
    host.faults.stuck_stop = True

    result = host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--stop"])

    assert result.exit_code == 0
    assert result.stderr.strip() == "The service could not be stopped"
    assert "Service stopped" not in result.stdout


def test_new_certificate_can_be_exported_without_touching_the_instance(world: World, tmp_path: Path) -> None:
    """`new-certificate --export-pfx` leaves the configuration alone and its file can be imported afterwards."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    before, target = tentacle.configured, tmp_path / "new.pfx"

    made = host.run_program(
        ["Tentacle.exe", "new-certificate", "--instance=Tentacle", f"--export-pfx={target}", "--pfx-password=a-b/c"]
    )

    thumbprint = Thumbprint(made.stdout.splitlines()[1])
    assert tentacle.configured == before != thumbprint
    imported = host.run_program(
        ["Tentacle.exe", "import-certificate", "--instance=Tentacle", f"--from-file={target}", "--pfx-password=a-b/c"]
    )
    assert imported.exit_code == 0
    assert tentacle.configured == thumbprint


def test_a_restart_of_a_stopped_service_does_nothing_and_says_so(world: World) -> None:
    """By the sources: exit code 0, and the service stays stopped."""
    host = world.add_host("web-01")
    service = host.add_tentacle().service
    host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--stop"])

    result = host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--restart"])

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Restarting service OctopusDeploy Tentacle",
        "Service OctopusDeploy Tentacle wasn't restarted as it is not running.",
    ]
    assert service.is_stopped


def test_a_restart_tells_what_it_waits_for_and_ends_with_a_new_process(world: World) -> None:
    """By the sources: stopping, waiting, stopped, waiting, started."""
    host = world.add_host("web-01")
    service = host.add_tentacle("web").service
    before = service.process

    result = host.run_program(["Tentacle.exe", "service", "--instance=WEB", "--restart"])

    lines = list(dict.fromkeys(result.stdout.splitlines()))
    assert lines == [
        "Restarting service OctopusDeploy Tentacle: web",
        "Stopping service...",
        "Waiting for service to become Stopped. Current status: StopPending",
        "Service stopped",
        "Waiting for service to become Running. Current status: StartPending",
        "Service started",
    ]
    assert service.process != before


def test_a_service_that_does_not_exist_is_an_error_only_when_it_is_to_be_started(world: World) -> None:
    """By the sources: stop and restart pass over it in silence, start ends with exit code 1."""
    host = world.add_host("web-01")
    host.add_tentacle()
    host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--uninstall"])

    stop, start = (
        host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", option]) for option in ("--stop", "--start")
    )

    assert stop == (0, "", "")
    assert start.exit_code == 1
    assert "but no service with this name was found." in start.stderr


def test_an_instance_without_elevation_cannot_touch_services(world: World) -> None:
    """By the sources: one line that asks for an elevated shell, exit code 1."""
    host = world.add_host("web-01", profile=replace(WINDOWS_2019, elevated=False))
    host.add_tentacle()

    result = host.run_program(["Tentacle.exe", "service", "--instance=Tentacle", "--stop"])

    assert result.exit_code == 1
    assert result.stderr.startswith("This command requires elevation.")


def test_only_update_trust_keeps_the_registration_of_a_polling_tentacle(world: World) -> None:
    """`update-trust` rewrites the thumbprint in place; `--remove-trust` takes address and subscription with it."""
    old, new = "A" * 40, "B" * 40
    host = world.add_host("web-01")
    trust = Trust(text=old, style=Style.POLLING, address="https://127.0.0.1:9/")
    tentacle = host.add_tentacle(style=Style.POLLING, trusted=[trust], start=False)
    subscription = tentacle.subscription

    followed = host.run_program(["Tentacle.exe", "update-trust", f"--oldThumbprint={old}", f"--newThumbprint={new}"])

    assert f"Updating polling tentacle https://127.0.0.1:9/ {old} - changing to trust {new}" in followed.stdout
    assert tentacle.trusted == (replace(trust, text=new, subscription=subscription),)
    host.run_program(["Tentacle.exe", "configure", f"--remove-trust={new}"])
    assert tentacle.trusted == ()


def test_server_comms_makes_a_polling_registration_of_a_trusted_server(world: World) -> None:
    """By the sources: a new entry with address and a subscription of its own, beside the listening one."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle(trusted=[Trust(text="A" * 40, style=Style.LISTENING)])

    result = host.run_program(["Tentacle.exe", "server-comms", "--style=TentacleActive", "--host=octopus.corp"])

    assert result.exit_code == 0
    assert "Updated server communications configuration" in result.stdout
    listening, polling = tentacle.trusted
    assert (listening.style, polling.style) == (Style.LISTENING, Style.POLLING)
    assert polling.address == "https://octopus.corp:10943/"
    assert tentacle.subscription.startswith("poll://")


def test_two_imports_at_once_may_meet_in_a_half_written_file(world: World) -> None:
    """What the second one reads then is seen as the real program says it."""
    host = world.add_host("web-01")
    tentacle = host.add_tentacle()
    tentacle.config.write_bytes(b"")

    result = host.run_program(["Tentacle.exe", "new-certificate", "--instance=Tentacle"])

    assert result.exit_code == 100
    assert "There is an error in XML document (0, 0)." in result.stderr
