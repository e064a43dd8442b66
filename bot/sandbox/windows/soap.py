"""SOAP as Windows' WS-Management service writes it: requests that were understood, answers, and faults.

Element order, prefixes and texts follow answers of real hosts as other projects recorded them (pywinrm, Ansible and
pypsrp keep such recordings among their tests); nobody here has seen a real host. UNVERIFIED where a comment says so.
"""

import base64
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD = f"{SHELL}/cmd"
FAULT_ACTION = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
FAULT_SPACE = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
NAMES = {"s": SOAP, "a": ADDRESSING, "x": TRANSFER, "w": WSMAN, "rsp": SHELL}
MAX_ENVELOPE = 512_000
"""MaxEnvelopeSizekb is 500 since Windows 8; a longer request gets HTTP 413 (ansible.windows issue 391)."""
DEFAULT_OPERATION_SECONDS = 60.0
_STREAM_BYTES = 32_768
"""Windows cuts a stream into pieces of this size."""
_PREFIXES = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMES.items() if name != "rsp")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_REFUSED = "The WS-Management service cannot process the request"


class Malformed(Exception):  # noqa: N818  # it says what the message is
    """What came is no WS-Management request; answered with HTTP 400. UNVERIFIED: Windows may send a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One WS-Management request."""

    action: str
    """The last word of its URI: `Create`, `Command`, `Send`, `Receive`, `Signal`, `Delete`."""
    action_uri: str
    resource: str
    message_id: str
    shell_id: str
    operation_seconds: float
    envelope_bytes: int
    """The longest answer that the client takes."""
    options: Mapping[str, str]
    body: ET.Element

    def text(self, path: str) -> str:
        """Return the text of an element of the body, empty where there is none."""
        return self.body.findtext(path, "", NAMES).strip()


class Fault(Exception):  # noqa: N818  # SOAP calls it so
    """A refusal in the form of a SOAP fault, sent with HTTP 500."""

    def __init__(self, code: int, subcode: str, reason: str, *, message: str = "", sender: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.subcode = subcode
        self.reason = reason
        self.message = message or reason
        self.sender = sender


def timed_out() -> Fault:
    """Return what ends an operation that had nothing to say in its time; a Receive may be repeated then."""
    reason = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "
    return Fault(2150858793, "w:TimedOut", reason)


def no_shell(shell_id: str) -> Fault:
    """Return the answer to a request for a shell that is not there, or not any more."""
    return Fault(
        2150858843,
        "w:InvalidSelectors",
        f"{_REFUSED} because the request contained invalid selectors for the resource. ",
        message=f"The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was not "
        "found on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on "
        "the server. Provide the correct ShellId or create a new shell and retry the operation. ",
        sender=True,
    )


def no_command() -> Fault:
    """Return the answer to a request for a command that is not there; code and text are UNVERIFIED."""
    return Fault(87, "w:InvalidParameter", "The parameter is incorrect. ", sender=True)


def shell_quota(limit: int) -> Fault:
    """Return the answer to one shell too many (MaxShellsPerUser)."""
    end = "Close existing shells or raise the quota for this user. "
    return Fault(
        2150859173,
        "w:QuotaLimit",
        f"{_REFUSED}. The maximum number of concurrent shells for this user has been exceeded. {end}",
        message=f"{_REFUSED}. This user is allowed a maximum number of {limit} concurrent shells, which has been "
        f"exceeded. {end}",
        sender=True,
    )


def operation_quota() -> Fault:
    """Return the answer to one operation too many (MaxConcurrentOperationsPerUser); the text is UNVERIFIED."""
    return Fault(
        2150859174,
        "w:QuotaLimit",
        f"{_REFUSED}. The maximum number of concurrent operations for this user has been exceeded. ",
        sender=True,
    )


def denied() -> Fault:
    """Return the answer to an account that may log in, but not open a shell."""
    return Fault(5, "w:AccessDenied", "Access is denied. ", sender=True)


def busy() -> Fault:
    """Return ERROR_BUSY, which a loaded host gives to any operation."""
    return Fault(170, "w:InternalError", "The requested resource is in use. ")


def too_long() -> Fault:
    """Return the answer to a command line that CreateProcess cannot take; code and text are UNVERIFIED."""
    return Fault(206, "w:InternalError", "The filename or extension is too long. ")


def not_supported(resource: str) -> Fault:
    """Return the answer to a resource or action that this service does not have."""
    reason = f"{_REFUSED}. The resource URI ({resource}) was not found in the WS-Management catalog. "
    return Fault(2150858817, "w:InvalidResourceURI", reason, sender=True)


def parse(data: bytes) -> Request:
    """Read a request; Malformed if it is none. SOAP has no document types, so one is refused with its entities."""
    if b"<!DOCTYPE" in data:
        raise Malformed("a document type")
    try:
        envelope = ET.fromstring(data)  # noqa: S314  # without a document type there is nothing to expand
    except ET.ParseError as error:
        raise Malformed(str(error)) from None
    header, body = envelope.find("s:Header", NAMES), envelope.find("s:Body", NAMES)
    uri = envelope.findtext("s:Header/a:Action", "", NAMES).strip()
    if header is None or body is None or not uri:
        raise Malformed("no header, body or action")
    selectors = {s.get("Name", ""): (s.text or "").strip() for s in header.findall("w:SelectorSet/w:Selector", NAMES)}
    options = {o.get("Name", ""): (o.text or "").strip() for o in header.findall("w:OptionSet/w:Option", NAMES)}
    size = header.findtext("w:MaxEnvelopeSize", "", NAMES).strip()
    return Request(
        action=uri.rpartition("/")[2],
        action_uri=uri,
        resource=header.findtext("w:ResourceURI", "", NAMES).strip(),
        message_id=header.findtext("a:MessageID", "", NAMES).strip(),
        shell_id=selectors.get("ShellId", ""),
        operation_seconds=seconds(header.findtext("w:OperationTimeout", "", NAMES), DEFAULT_OPERATION_SECONDS),
        envelope_bytes=int(size) if size.isdigit() else MAX_ENVELOPE,
        options=options,
        body=body,
    )


def seconds(duration: str, default: float) -> float:
    """Return the seconds of an XML duration such as `PT20S`, `default` where it is none."""
    match = _DURATION.fullmatch(duration.strip())
    if not match or not any(match.groups()):
        return default
    days, hours, minutes, rest = (float(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def answer(request: Request, body: str) -> bytes:
    """Return the envelope of an answer."""
    return _envelope(f"{request.action_uri}Response", request.message_id, body)


def fault_answer(request: Request, fault: Fault, machine: str) -> bytes:
    """Return the envelope of a fault."""
    text = (
        f"<s:Fault><s:Code><s:Value>s:{'Sender' if fault.sender else 'Receiver'}</s:Value>"
        f"<s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{escape(fault.reason)}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="{FAULT_SPACE}" Code="{fault.code}" Machine={quoteattr(machine)}>'
        f"<f:Message>{escape(fault.message)}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
    return _envelope(FAULT_ACTION, request.message_id, text)


def shell_created(url: str, shell_id: str, owner: str, client: str, idle: float) -> str:
    """Return the body that answers Create; `idle` in seconds."""
    return (
        f"<x:ResourceCreated><a:Address>{escape(url)}</a:Address><a:ReferenceParameters>"
        f'<w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector>'
        "</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>"
        f'<rsp:Shell xmlns:rsp="{SHELL}"><rsp:ShellId>{shell_id}</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri>'
        f"<rsp:Owner>{escape(owner)}</rsp:Owner><rsp:ClientIP>{client}</rsp:ClientIP>"
        f"<rsp:IdleTimeOut>PT{idle:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>"
        "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams><rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime>"
        "<rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
    )


def command_started(command_id: str) -> str:
    """Return the body that answers Command."""
    return f'<rsp:CommandResponse xmlns:rsp="{SHELL}"><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>'


def received(command_id: str, stdout: bytes, stderr: bytes, exit_code: int | None) -> str:
    """Return the body that answers Receive; with an exit code, the command is done."""
    streams = "".join(
        f'<rsp:Stream Name="{name}" CommandId="{command_id}">'
        f"{base64.b64encode(data[start : start + _STREAM_BYTES]).decode()}</rsp:Stream>"
        for name, data in (("stdout", stdout), ("stderr", stderr))
        for start in range(0, len(data), _STREAM_BYTES)
    )
    if exit_code is None:
        state = f'<rsp:CommandState CommandId="{command_id}" State="{SHELL}/CommandState/Running"/>'
    else:
        for name in ("stdout", "stderr"):
            streams += f'<rsp:Stream Name="{name}" CommandId="{command_id}" End="true"></rsp:Stream>'
        state = (
            f'<rsp:CommandState CommandId="{command_id}" State="{SHELL}/CommandState/Done">'
            f"<rsp:ExitCode>{exit_code}</rsp:ExitCode></rsp:CommandState>"
        )
    return f'<rsp:ReceiveResponse xmlns:rsp="{SHELL}">{streams}{state}</rsp:ReceiveResponse>'


SENT = f'<rsp:SendResponse xmlns:rsp="{SHELL}"/>'
"""The body that answers Send."""
SIGNALLED = f'<rsp:SignalResponse xmlns:rsp="{SHELL}"/>'
"""The body that answers Signal."""


class Input(NamedTuple):
    """What a Send carries."""

    command_id: str
    data: bytes
    end: bool


def sent_input(request: Request) -> Input:
    """Return the piece of standard input that a Send carries; Malformed if there is none or it is no base64."""
    stream = request.body.find("rsp:Send/rsp:Stream", NAMES)
    if stream is None:
        raise Malformed("a Send without a stream")
    try:
        data = base64.b64decode((stream.text or "").strip(), validate=True)
    except ValueError:
        raise Malformed("a stream that is no base64") from None
    return Input(stream.get("CommandId", ""), data, stream.get("End", "").lower() in {"true", "1"})


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    return (
        f'<s:Envelope xml:lang="en-US" {_PREFIXES}><s:Header><a:Action>{escape(action)}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{ADDRESSING}/role/anonymous</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()
