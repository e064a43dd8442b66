"""The twin of `common.ps1`: what the twins of octocert's two scripts share. Function for function the same.

A twin touches its host only through this module, so that one that was killed stops at its next step: `Killed` is no
`Exception`, and even what stands in `finally` cannot do anything any more.
"""

import base64
import ipaddress
import json
import re
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Protocol
from xml.parsers import expat
from xml.sax.saxutils import escape

from bot.sandbox.windows.bridge import HostView, format_time
from bot.sandbox.windows.service import ServiceError

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

JsonObject = dict[str, Any]
TRUSTED = "Tentacle.Communication.TrustedOctopusServers"
_STORED = re.compile(r'"Thumbprint"\s*:\s*"([0-9a-f]{40})"|^\s*([0-9a-f]{40})\s*$', re.IGNORECASE | re.MULTILINE)
_LOG_BYTES = 2 * 1024 * 1024


class Killed(BaseException):
    """The process of this script was ended from outside: no Exception, so that no script can catch it."""


class ScriptError(Exception):
    """What a script throws; `kind` is the full name of its .NET type."""

    def __init__(self, message: str, kind: str = "System.Management.Automation.RuntimeException") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


class Fields(dict[str, Any]):
    """An object made of JSON: under strict mode a property that is missing is an exception."""

    def __missing__(self, name: str) -> Any:
        raise ScriptError(
            f"The property '{name}' cannot be found on this object. Verify that the property exists.",
            "System.Management.Automation.PropertyNotFoundException",
        )


class Life(Protocol):
    """The process in which a twin runs."""

    @property
    def host(self) -> "Host":
        """The host on which it runs."""
        ...

    @property
    def is_dead(self) -> bool:
        """Whether it was ended from outside."""
        ...

    def check(self) -> None:
        """Raise Killed when the process is dead."""
        ...

    def acting(self) -> AbstractContextManager[None]:
        """Hold off the death of the process for as long as one change takes; Killed when it is dead."""
        ...

    def send_line(self, kind: str, value: Any) -> None:
        """Print one line; Killed when that was the last thing that it did."""
        ...


class Document:
    """An XML configuration: its text, and its settings by key."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.settings: dict[str, str] = {}
        for node in ET.fromstring(text).iter("set"):  # noqa: S314  # the sandbox wrote it
            self.settings.setdefault(node.get("key", ""), "".join(node.itertext()))

    def get(self, key: str) -> str | None:
        """Return a setting without blanks around it; None where there is none or it is empty."""
        return self.settings.get(key, "").strip() or None

    def set(self, key: str, value: str) -> bool:
        """Put another value into the text, which stays as it is otherwise; False where there is no such setting."""
        node = re.compile(rf'(<set\b[^>]*?\bkey="{re.escape(escape(key))}"[^>/]*)(?:\s*/>|>.*?</set>)', re.DOTALL)
        self.text, found = node.subn(lambda m: f"{m[1]}>{escape(value)}</set>", self.text, count=1)
        return found == 1


class Common:
    """The functions of `common.ps1` on one host; `p` are the parameters of the visit."""

    def __init__(self, life: Life, p: JsonObject) -> None:
        self.life = life
        self.p = p
        self.host = life.host
        self._view = HostView(life.host)

    @property
    def view(self) -> HostView:
        """What Windows answers; Killed when the process is dead."""
        self.life.check()
        return self._view

    # ---- Small things

    def time(self, later_seconds: float = 0) -> str:
        """Return the host's time as text, or that of so many seconds later."""
        self.life.check()
        return format_time(self.host.now() + timedelta(seconds=later_seconds))

    def work_folder(self) -> Path:
        """Return the folder of the copies and of PFX files."""
        return self.host.program_data / "octocert"

    # ---- Files

    @contextmanager
    def changing(self, path: Path | str) -> Iterator[Path]:
        """Change something at a path: not after death, and with errors in .NET's words."""
        with self.life.acting(), _dotnet(Path(path)):
            yield Path(path)

    def read_bytes(self, path: Path | str) -> bytes:
        """Return what is in a file."""
        self.life.check()
        with _dotnet(Path(path)):
            return Path(path).read_bytes()

    def read_text(self, path: Path | str) -> str:
        """Return the text of a file as File.ReadAllText does: by its byte order mark, else UTF-8."""
        data = self.read_bytes(path)
        return data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig", "replace")

    def write_bytes(self, path: Path | str, data: bytes) -> None:
        """Write a file in place."""
        with self.changing(path) as file:
            file.write_bytes(data)

    def delete(self, path: Path | str) -> None:
        """Delete a file, if there is one; its folder must be there."""
        with self.changing(path) as file:
            if not file.parent.is_dir():
                raise FileNotFoundError
            file.unlink(missing_ok=True)

    def delete_folder(self, path: Path) -> None:
        """Delete a folder with everything in it."""
        with self.changing(path) as folder:
            rmtree(folder)

    # ---- The configuration of an instance

    def read_configuration(self, path: Path | str) -> Document:
        """Read a configuration; the program writes in place, so it is tried three times."""
        attempt = 0
        while True:
            attempt += 1
            text = ""
            try:
                text = self.read_text(path)
                return Document(text.replace("\r\n", "\n"))
            except (ScriptError, ET.ParseError) as error:
                if attempt >= 3:
                    cause = error.message if isinstance(error, ScriptError) else _xml_message(text, error)
                    raise ScriptError(f"the configuration {path} cannot be read: {cause}") from error
                self.view.sleep(0.2)

    # ---- What an earlier visit left

    def read_journal(self, config: str) -> Fields | None:
        """Return the journal beside a configuration."""
        path = Path(journal_path(config))
        if not path.is_file():
            return None
        found = from_json(self.read_text(path))
        return found if isinstance(found, Fields) else None

    # ---- Services and processes

    def service_facts(self, name: str) -> JsonObject:
        """Return state, start mode, account and process of a service."""
        service = self.view.service(name)
        if service is None:
            return {"state": "Missing", "start_mode": None, "account": None, "process": None, "process_started": None}
        number = service["ProcessId"]
        process = self.view.process(number) if number else None
        return {
            "state": service["State"].replace(" ", ""),
            "start_mode": service["StartMode"],
            "account": service["StartName"],
            "process": number or None,
            "process_started": process["CreationDate"] if process else None,
        }

    def children(self, process: int | None) -> list[str]:
        """Return the programs that a process has under way."""
        if not process:
            return []
        names = [child["Name"] for child in self.view.children(process)]
        return sorted((n for n in names if n.lower() != "conhost.exe"), key=str.lower)

    def control_service(self, name: str, verb: str) -> None:
        """Begin to start or stop a service; ScriptError with what the service manager says."""
        if self.view.service(name) is None:
            raise ScriptError(f"Cannot find any service with service name '{name}'.")
        with self.life.acting():
            try:
                if verb == "start":
                    self._view.start_service(name)
                else:
                    self._view.stop_service(name)
            except ServiceError as error:
                raise ScriptError(str(error)) from error

    # ---- Trust

    def trusting(self, document: Document, config: str, facts: JsonObject) -> JsonObject:
        """Return whom the running process trusts: it says so once, at its start."""
        try:
            return {"thumbprints": self._said(document, config, facts), "error": None}
        except ScriptError as error:
            return {"thumbprints": None, "error": error.message}

    def _said(self, document: Document, config: str, facts: JsonObject) -> list[str]:
        if facts["state"] != "Running" or not facts["process_started"]:
            raise ScriptError("the service does not run")
        since = facts["process_started"].replace("T", " ").rstrip("Z")
        folder = Path(config).parent / (document.get("Octopus.Home") or "") / "Logs"
        text = "\n".join(self._read_end(file) for file in self._logs(folder))
        said = re.compile(
            rf"^(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) +{facts['process']} +\S+ +\S+ +"
            r"(?:Agent will trust Octopus Servers with the thumbprint: (\S+)|The agent is not configured to trust any)",
            re.MULTILINE,
        )
        lines = [m for m in said.finditer(text) if m[1] >= since]
        if not lines:
            raise ScriptError(f"the logs in {folder} tell nothing of the start of process {facts['process']}")
        return [m[2] for m in lines if m[2]]

    def _logs(self, folder: Path) -> list[Path]:
        """Return Tentacle's log, and in front of it the two newest of those that were rolled away."""
        self.life.check()
        if not folder.is_dir():
            raise ScriptError(f"Could not find a part of the path '{folder}'.", "System.IO.DirectoryNotFoundException")
        rolled = sorted(folder.glob("OctopusTentacle.*.txt"), key=lambda f: f.stat().st_mtime)[-2:]
        current = folder / "OctopusTentacle.txt"
        return [*rolled, current] if current.is_file() else rolled

    def _read_end(self, file: Path) -> str:
        data = self.read_bytes(file)
        return data[-_LOG_BYTES:].decode("utf-8-sig", "replace").replace("\r\n", "\n")

    # ---- What is served

    def look_at_served(self, port: int, listen_ip: str | None, seconds: float) -> JsonObject:
        """Return which certificate is presented on this host itself."""
        address = self.view.loopback(listen_ip.lower() if listen_ip and listen_ip.lower() == "any" else listen_ip)
        served: JsonObject = {"address": f"{address}:{port}", "der": None, "error": None}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ALL:@SECLEVEL=0")
        try:
            place = str(ipaddress.ip_address(address))
            with socket.socket(socket.AF_INET6 if ":" in place else socket.AF_INET) as plain:
                plain.settimeout(seconds)
                try:
                    plain.connect((place, port))
                except TimeoutError:
                    served["error"] = f"no answer within {number(seconds)} s"
                    return served
                with context.wrap_socket(plain) as tls:
                    served["der"] = base64_of(tls.getpeercert(binary_form=True) or b"")
        except ssl.SSLError as error:
            served["error"] = f"SSL Handshake failed with OpenSSL error - {error.reason or error}."
        except TimeoutError:
            served["error"] = "Connection timed out"
        except OSError as error:
            served["error"] = error.strerror or "Received an unexpected EOF or 0 bytes from the transport stream."
        except ValueError:
            served["error"] = "Invalid argument"  # what .NET says at last of an address that is none
        self.life.check()
        return served

    # ---- Programs

    def run_program(self, exe: Path | str, arguments: list[str]) -> JsonObject:
        """Run a program of the host to its end, and return `code`, `out` and `err`. None of the world's ever hangs."""
        if not Path(exe).is_file():
            raise ScriptError(
                f"An error occurred trying to start process '{exe}' with working directory '{self.host.root}'. "
                "No such file or directory",
                "System.ComponentModel.Win32Exception",
            )
        with self.life.acting():
            result = self._view.run([str(exe), *arguments], self.host.environment(), str(self.host.root))
        self.life.check()
        return result

    def run_schtasks(self, *arguments: str) -> JsonObject:
        """Run schtasks.exe."""
        return self.run_program(self.host.system32 / "schtasks.exe", list(arguments))

    # ---- The Octopus Server

    def stored(self, exe: Path | str, instance: str) -> JsonObject:
        """Return the `thumbprint` that the Server's program reads in the database, or as `error` why it cannot."""
        try:
            result = self.run_program(exe, ["show-thumbprint", f"--instance={instance}", "--format=json"])
        except ScriptError as error:
            return {"thumbprint": None, "error": error.message}
        if said := _STORED.search(result["out"].replace("\r\n", "\n")):
            return {"thumbprint": (said[1] or said[2]).upper(), "error": None}
        message = f"show-thumbprint ended with exit code {result['code']}: {complaint(result)}"
        return {"thumbprint": None, "error": message}


def complaint(result: JsonObject) -> str:
    """Return the decisive line of what Tentacle prints when it fails: the first that is no ruler."""
    lines = [s for s in re.split(r"\r?\n", result["err"]) if s.strip() and not re.fullmatch(r"[=-]+", s)]
    return lines[0].strip() if lines else "it said nothing"


def same(left: Any, right: Any) -> bool:
    """Compare as `-eq` does: letters without their case."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    return bool(left == right)


def shown(value: Any) -> str:
    """Return a value as it stands in an expandable string."""
    return "" if value is None else str(value)


def number(value: float) -> str:
    """Return a number as .NET writes it: whole ones without a point."""
    return str(int(value)) if value == int(value) else repr(value)


def safe_name(instance: str) -> str:
    """Return an instance's name for folders, tasks and mutexes."""
    return re.sub(r"[^a-z0-9.-]", "_", instance.lower())


def journal_path(config: str) -> str:
    """Return where the journal of an instance lies."""
    return f"{config}.octocert.json"


def thumbprint_of(document: Document) -> str | None:
    """Return the configured thumbprint, where the text is one."""
    text = document.get("Tentacle.CertificateThumbprint") or ""
    return text.upper() if re.fullmatch(r"[0-9A-Fa-f]{40}", text) else None


def trusted_of(document: Document) -> list[JsonObject]:
    """Return the list of trusted Servers."""
    text = document.get(TRUSTED)
    found = from_json(text) if text else None
    entries = found if isinstance(found, list) else [found] if found else []
    return [
        {
            "thumbprint": e.get("Thumbprint"),
            "style": e.get("CommunicationStyle"),
            "address": e.get("Address"),
            "squid": e.get("Squid"),
            "subscription": e.get("SubscriptionId"),
        }
        for e in entries
    ]


def select_journal(journal: Fields | None) -> JsonObject | None:
    """Return the part of a journal that is reported."""
    return {name: journal.get(name) for name in ("run", "phase", "old", "new", "at")} if journal else None


def base64_of(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def from_json(text: str) -> Any:
    """Read JSON as ConvertFrom-Json of 5.1 does: times stay text; objects are Fields."""
    try:
        return json.loads(text, object_pairs_hook=Fields) if text.strip() else None
    except ValueError as error:
        raise ScriptError(_json_message(text.strip()), "System.ArgumentException") from error


def from_base64(text: str) -> bytes:
    """Read base64 as Convert.FromBase64String does."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ScriptError(
            "The input is not a valid Base-64 string as it contains a non-base 64 character, more than two padding "
            "characters, or an illegal character among the padding characters.",
            "System.FormatException",
        ) from error


@contextmanager
def _dotnet(path: Path) -> Iterator[None]:
    """Word errors of the file system as .NET does."""
    try:
        yield
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise ScriptError(f"Could not find file '{path}'.", "System.IO.FileNotFoundException") from error
        raise ScriptError(
            f"Could not find a part of the path '{path}'.", "System.IO.DirectoryNotFoundException"
        ) from error
    except (PermissionError, IsADirectoryError) as error:
        raise ScriptError(f"Access to the path '{path}' is denied.", "System.UnauthorizedAccessException") from error
    except OSError as error:
        raise ScriptError(f"{error.strerror} : '{path}'", "System.IO.IOException") from error


def _xml_message(text: str, error: ET.ParseError) -> str:
    """Return what .NET's XML reader says of a text that is none."""
    line, column = error.position
    if not text.strip():
        return "Root element is missing."
    if not text.lstrip().startswith("<"):
        return "Data at the root level is invalid. Line 1, position 1."
    names = ", ".join(_unclosed(text))
    return (
        "Unexpected end of file has occurred. "
        f"The following elements are not closed: {names}. Line {line}, position {column + 1}."
    )


def _unclosed(text: str) -> list[str]:
    """Return the names of the elements that a text begins and does not end, the last one first."""
    names: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: names.insert(0, name)
    parser.EndElementHandler = lambda _: names.pop(0)
    with suppress(expat.ExpatError):
        parser.Parse(text.encode(), False)  # noqa: FBT003  # whether this is all: it is not
    return names


def _json_message(text: str) -> str:
    """Return what 5.1 says of a text that is no JSON."""
    if text.startswith("{"):
        return f"Invalid object passed in, member name expected. (1): {text}"
    return f"Invalid JSON primitive: {text.split(maxsplit=1)[0]}."
