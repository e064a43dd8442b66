"""WS-Management messages as Windows writes them: what a client asks, and the answers and faults that it gets.

Forms: MS-WSMV, and what pywinrm and pypsrp read. Order and wording of a real host's headers are UNVERIFIED.
"""

import base64
import re
import uuid
from dataclasses import dataclass
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
FAULT_ACTION = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
_ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
_NAMESPACES = (
    'xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
    'xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" '
    'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
    f'xmlns:rsp="{SHELL}"'
)
_SECONDS = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?")


class Malformed(Exception):  # noqa: N818  # it says what the message is
    """The message is no WS-Management that we understand."""


@dataclass(frozen=True, slots=True)
class Fault(Exception):  # noqa: N818  # WS-Management's own word
    """An answer that says no: Windows' error code, its SOAP subcode and its text."""

    code: int
    subcode: str
    text: str


TIMED_OUT = Fault(
    2150858793,
    "w:TimedOut",
    "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
)
NO_SHELL = Fault(
    2150858843,
    "w:InvalidSelectors",
    "The request for the Windows Remote Shell with the given ShellId failed because the shell was not found on the "
    "server.",
)
TOO_MANY_SHELLS = Fault(
    2150859173,
    "w:QuotaLimit",
    "The WS-Management service cannot process the request. The maximum number of concurrent shells for this user has "
    "been exceeded. Close existing shells or raise the quota for this user.",
)
TOO_BIG = Fault(2150858887, "w:EncodingLimit", "The size of the SOAP envelope exceeds MaxEnvelopeSizekb.")
BUSY = Fault(170, "w:InternalError", "The requested resource is in use. ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One message of a client."""

    action: str
    """The last word of the action: Create, Command, Send, Receive, Signal, Delete."""
    uri: str
    message_id: str
    shell: str
    command: str
    timeout: float
    """OperationTimeout in seconds."""
    idle: float | None
    program: str
    arguments: tuple[str, ...]
    stdin: tuple[tuple[bytes, bool], ...]
    """Pieces of standard input, each with whether it is the last."""


def read(message: bytes) -> Asked:
    """Understand a message; Malformed if it cannot be."""
    try:
        root = ET.fromstring(message)  # noqa: S314  # the sandbox's own clients, on loopback
    except ET.ParseError:
        raise Malformed from None

    def first(name: str) -> ET.Element | None:
        return next((n for n in root.iter() if n.tag.rpartition("}")[2] == name), None)

    def text(name: str) -> str:
        found = first(name)
        return (found.text or "").strip() if found is not None else ""

    uri = text("Action")
    selector = next((n for n in root.iter() if n.get("Name") == "ShellId"), None)
    shell = (selector.text or "").strip() if selector is not None else ""
    commands = [n.get("CommandId") or "" for n in root.iter() if n.get("CommandId")]
    idle = text("IdleTimeOut") or text("IdleTimeout")
    try:
        return Asked(
            action=uri.rpartition("/")[2],
            uri=uri,
            message_id=text("MessageID"),
            shell=shell,
            command=commands[0] if commands else "",
            timeout=seconds(text("OperationTimeout"), 20.0),
            idle=seconds(idle, 7200.0) if idle else None,
            program=text("Command"),
            arguments=tuple(n.text or "" for n in root.iter() if n.tag.rpartition("}")[2] == "Arguments"),
            stdin=tuple(
                (base64.b64decode(n.text or ""), (n.get("End") or "").casefold() == "true")
                for n in root.iter()
                if n.tag.rpartition("}")[2] == "Stream" and n.get("Name") == "stdin"
            ),
        )
    except ValueError:
        raise Malformed from None


def seconds(text: str, default: float) -> float:
    """Return the seconds of an ISO 8601 duration such as PT20S."""
    match = _SECONDS.fullmatch(text)
    if not match or not text:
        return default
    hours, minutes, rest = (float(g or 0) for g in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _envelope(action: str, asked: Asked | None, body: str) -> bytes:
    relates = f"<a:RelatesTo>{escape(asked.message_id)}</a:RelatesTo>" if asked else ""
    return (
        f'<s:Envelope xml:lang="en-US" {_NAMESPACES}><s:Header><a:Action>{escape(action)}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{_ANONYMOUS}</a:To>{relates}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def answer(asked: Asked, body: str) -> bytes:
    """Return the answer to a message."""
    return _envelope(f"{asked.uri}Response", asked, body)


def fault(problem: Fault, asked: Asked | None) -> bytes:
    """Return a fault in the form of Windows."""
    namespace = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
    return _envelope(
        FAULT_ACTION,
        asked,
        f"<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{problem.subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(problem.text)}</s:Text></s:Reason>'
        f'<s:Detail><f:WSManFault xmlns:f="{namespace}" Code="{problem.code}" Machine="localhost">'
        f"<f:Message>{escape(problem.text)}</f:Message></f:WSManFault></s:Detail></s:Fault>",
    )


def created(shell: str, url: str) -> str:
    """Return the body that names a new shell."""
    selectors = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>'
    return (
        f"<x:ResourceCreated><a:Address>{escape(url)}</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{SHELL}/cmd</w:ResourceURI>{selectors}</a:ReferenceParameters></x:ResourceCreated>"
        f"<rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId></rsp:Shell>"
    )


def begun(command: str) -> str:
    """Return the body that names a new command."""
    return f"<rsp:CommandResponse><rsp:CommandId>{command}</rsp:CommandId></rsp:CommandResponse>"


def received(command: str, stdout: bytes, stderr: bytes, exit_code: int | None) -> str:
    """Return the body with output, and with the end of the command if it has ended."""
    parts = []
    for name, data in (("stdout", stdout), ("stderr", stderr)):
        if data:
            text = base64.b64encode(data).decode("ascii")
            parts.append(f'<rsp:Stream Name="{name}" CommandId="{command}">{text}</rsp:Stream>')
        if exit_code is not None:
            parts.append(f'<rsp:Stream Name="{name}" CommandId="{command}" End="true"></rsp:Stream>')
    state = "Running" if exit_code is None else "Done"
    code = "" if exit_code is None else f"<rsp:ExitCode>{exit_code}</rsp:ExitCode>"
    parts.append(
        f'<rsp:CommandState CommandId="{command}" State="{SHELL}/CommandState/{state}">{code}</rsp:CommandState>'
    )
    return f"<rsp:ReceiveResponse>{''.join(parts)}</rsp:ReceiveResponse>"


SENT = "<rsp:SendResponse/>"
SIGNALLED = "<rsp:SignalResponse/>"
