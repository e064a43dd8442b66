"""Whatever a host answers to WS-Man: a visit ends with a typed error that names the host, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.secrets import Secret
from bot.windows.errors import RemoteError
from tests.programs import CANARY, Odd, Restless, Stage, stage

SPACES = (
    'xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
    'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell" '
    'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"'
)
_OF_SOAP = ("s:Body", "s:Fault", "s:Code", "s:Subcode", "s:Value", "s:Detail", "w:Selector", "w:SelectorSet", "x")
_OF_SHELLS = (
    "Shell",
    "ShellId",
    "CommandResponse",
    "CommandId",
    "ReceiveResponse",
    "Stream",
    "CommandState",
    "ExitCode",
)
TAGS = st.sampled_from([*_OF_SOAP, "f:WSManFault", *(f"rsp:{name}" for name in _OF_SHELLS)])
ATTRIBUTES = st.sampled_from(
    [
        "",
        'Code=""',
        'Code="x"',
        'Code="2150858843"',
        'Name="ShellId"',
        'Name="stdout"',
        'State="…/Done"',
        'CommandId="1"',
    ]
)
TEXTS = st.sampled_from(["", "A", "AAAA", "=", "-1", "1e999", "0x80338029", "w:TimedOut", "&amp;", "\ufffd"])
ELEMENTS = st.recursive(
    st.builds(lambda tag, given, text: f"<{tag} {given}>{text}</{tag}>", TAGS, ATTRIBUTES, TEXTS),
    lambda inner: st.builds(
        lambda tag, given, parts: f"<{tag} {given}>{''.join(parts)}</{tag}>",
        TAGS, ATTRIBUTES, st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip
BODIES = (
    ELEMENTS.map(lambda inner: f"<s:Envelope {SPACES}>{inner}</s:Envelope>".encode())
    | st.binary(max_size=200)
    | st.just(b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;&c;&c;</a>')
)
STATUSES = st.sampled_from(["200 OK", "200 OK", "500 Error", "400 Bad", "418 ?", "204 None"])


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a bot's side that does not wait between its tries."""
    with stage(Path(tmp_path_factory.mktemp("odd")), Restless()) as built:
        yield built


@pytest.fixture(scope="module")
def odd(play: Stage) -> Iterator[Odd]:
    """Return a host that answers what each example says."""
    with Odd(play.world, b"") as server:
        yield server


@pytest.mark.timeout(3_600)  # by the long profile
@settings(max_examples=max(20, settings().max_examples // 5))
@given(status=STATUSES, body=BODIES)
@example(status="200 OK", body=b"<a>" * 5_000)
def test_answers_of_a_service_that_may_be_none(play: Stage, odd: Odd, status: str, body: bytes) -> None:
    """A fault that is none, a shell without an id, entities, bytes: one sentence about that host."""
    odd.answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with pytest.raises(RemoteError) as caught:
        play.visit(url=odd.url, transport="basic", password=lambda: Secret(CANARY), deadline=0.5)
    assert caught.value.host in str(caught.value)
    assert CANARY not in str(caught.value)
