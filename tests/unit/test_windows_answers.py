"""What hosts answer, in the domain's words: tolerant of PowerShell's looseness, strict about types and sizes."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bot.domain.facts import ServiceState, Style
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import self_signed
from bot.windows import answers

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CERTIFICATE = self_signed("web-01")
PLAIN: dict[str, Any] = {
    "name": "Tentacle",
    "config": "C:\\Octopus\\Tentacle.config",
    "service": "OctopusDeploy Tentacle",
    "error": None,
    "configured": "ab" * 20,
    "trusted": [{"thumbprint": "cd" * 20, "style": 1, "address": None, "squid": None, "subscription": None}],
    "trusting": ["cd" * 20],
    "no_listen": False,
    "port": 10933,
    "listen_ip": None,
    "home": "C:\\Octopus",
    "state": "Running",
    "start_mode": "Auto",
    "account": "LocalSystem",
    "process": 4711,
    "process_started": "2026-01-01T00:00:00.000Z",
    "children": [],
    "served": {
        "address": "127.0.0.1:10933",
        "der": base64.b64encode(CERTIFICATE.der).decode(),
        "error": None,
    },
    "journal": {"run": "r1", "phase": "restarted", "old": "ef" * 20, "new": None, "at": "2026-01-02T00:00:00Z"},
    "backup": "r1",
}
SERVER: dict[str, Any] = {
    "name": "OctopusServer",
    "config": "C:\\Octopus\\OctopusServer.config",
    "service": "OctopusDeploy",
    "error": None,
    "exe": "C:\\Octopus.Server.exe",
    "version": "2026.2.1000",
    "port": None,
    "state": "Running",
    "start_mode": "Auto",
    "account": "CORP\\octopus",
    "process": 815,
    "process_started": "2026-01-01T00:00:00.000Z",
    "stored": "ab" * 20,
    "stored_error": None,
    "served": PLAIN["served"],
    "journal": PLAIN["journal"],
    "backup": "r1",
}
HOST: dict[str, Any] = {
    "computer": "WEB-01",
    "os": "Microsoft Windows Server 2019 Standard",
    "powershell": "5.1.17763.1",
    "language": "FullLanguage",
    "clock": "2026-01-05T09:00:30.000Z",
    "elevated": True,
    "exe": "C:\\Tentacle.exe",
    "version": "9.1.3756",
    "watchdog": False,
    "instances": [PLAIN],
    "servers": [SERVER],
}


def test_an_instance_is_read_whole():
    """Thumbprints, trust, journal, and the certificate that the host sees on itself."""
    one = answers.instance(PLAIN)
    assert one.configured == Thumbprint("AB" * 20)
    assert one.style is Style.LISTENING
    assert one.trusted[0].thumbprint == "CD" * 20
    assert one.trusting == (Thumbprint("CD" * 20),)
    assert one.state is ServiceState.RUNNING
    assert one.process_started == datetime(2026, 1, 1, tzinfo=UTC)
    assert one.served
    assert one.served.thumbprint == CERTIFICATE.thumbprint
    assert one.served.certificate
    assert one.served.certificate.subject == "CN=web-01"
    assert one.journal
    assert (one.journal.phase, one.journal.new) == ("restarted", None)


def test_a_node_of_the_server_is_read_whole():
    """What is stored for all nodes, what this one serves, and why the one could not be told."""
    one = answers.server(SERVER)
    assert (one.stored, one.stored_error, one.port) == (Thumbprint("AB" * 20), None, 10943)
    assert (one.exe, one.version, one.account) == ("C:\\Octopus.Server.exe", "2026.2.1000", "CORP\\octopus")
    assert one.served
    assert one.served.thumbprint == CERTIFICATE.thumbprint
    assert (one.process, one.backup) == (815, "r1")
    assert one.journal
    refused = answers.server({**SERVER, "stored": None, "stored_error": "Login failed."})
    assert (refused.stored, refused.stored_error) == (None, "Login failed.")
    assert answers.server({"name": "OctopusServer"}).state is ServiceState.MISSING
    with pytest.raises(ValueError, match="without a name"):
        answers.server({})


def test_the_skew_of_a_hosts_clock_is_against_our_own():
    """The host's clock is 30 s ahead of ours."""
    facts = answers.host(HOST, "10.0.0.1", NOW, NOW + timedelta(seconds=1))
    assert facts.clock_skew_seconds == 30
    assert facts.at == NOW + timedelta(seconds=1)
    assert facts.address == "10.0.0.1"
    assert answers.host({**HOST, "clock": "2026-01-05T08:59:00"}, "x", NOW, NOW).clock_skew_seconds == -60


def test_one_element_may_come_as_itself():
    """ConvertTo-Json of Windows PowerShell does so with lists of one."""
    loose = {**PLAIN, "trusted": PLAIN["trusted"][0], "children": "Calamari.exe"}
    one = answers.instance(loose)
    assert len(one.trusted) == 1
    assert one.children == ("Calamari.exe",)
    assert answers.host({**HOST, "instances": PLAIN}, "x", NOW, NOW).instances == (answers.instance(PLAIN),)


@pytest.mark.parametrize("said", [[], ["\u200e" + "cd" * 20], ["everybody"]])
def test_a_process_trusts_what_octopus_would_take_for_a_thumbprint(said):
    """An invisible mark of a Windows dialog in it, and nobody is let in; to say nobody is not to say nothing."""
    assert answers.instance({**PLAIN, "trusting": said}).trusting == ()


def test_what_is_missing_is_empty():
    """A script of an older version knows fewer fields."""
    one = answers.instance({"name": "Tentacle"})
    assert one.state is ServiceState.MISSING
    assert one.trusted == one.children == ()
    assert one.trusting is None
    assert one.served is one.journal is one.process_started is None
    assert answers.host({}, "10.0.0.1", NOW, NOW).computer == "10.0.0.1"


@pytest.mark.parametrize(
    ("number", "style"), [(1, Style.LISTENING), (2, Style.POLLING), (11, Style.POLLING), (0, None), (9, None)]
)
def test_octopuss_numbers_of_styles(number, style):
    """Of an unknown number nobody says what it is."""
    trusted = {"thumbprint": "cd" * 20, "style": number}
    assert answers.instance({**PLAIN, "trusted": [trusted]}).trusted[0].style is style


def test_a_certificate_that_nobody_can_read_has_a_thumbprint_all_the_same():
    """What is served is a witness, whatever it says of itself."""
    seen = answers.sighting({"address": "x", "der": base64.b64encode(b"odd").decode()})
    assert seen
    assert seen.thumbprint == Thumbprint.of(b"odd")
    assert seen.certificate is None


@pytest.mark.parametrize("state", ["PausePending", "ContinuePending", "Paused"])
def test_pausing_services_are_paused(state):
    """They make no difference to us."""
    assert answers.state({"state": state}) is ServiceState.PAUSED


@pytest.mark.parametrize(
    "odd",
    [
        {"name": None},
        {"name": 7},
        {"port": "10933"},
        {"port": 70_000},
        {"port": True},
        {"no_listen": "yes"},
        {"state": "Dancing"},
        {"trusted": ["AB"]},
        {"trusted": [{}] * (answers.ENTRIES + 1)},
        {"trusting": [1]},
        {"children": [1]},
        {"config": "x" * (answers.TEXT + 1)},
        {"process_started": "yesterday"},
        {"served": "yes"},
        {"served": {"der": "no base64"}},
        {"served": {"der": "QUJD" * answers.CERTIFICATE}},
        {"journal": ["r1"]},
    ],
    ids=str,
)
def test_odd_answers_are_refused_by_the_name_of_the_field(odd):
    """And never with what stood in it."""
    with pytest.raises((TypeError, ValueError)) as refused:
        answers.instance({**PLAIN, **odd})
    assert len(str(refused.value)) < 60


def test_output_of_programs_is_kept_without_keys():
    """The last lines, with exit codes; a run of base64 may be a key."""
    key = "QUJD" * 40
    lines = answers.output([{"code": 100, "out": f"one\r\n\r\ntwo {key}", "err": "three"}, "odd", {"code": 0}])
    assert lines == ("exit code 100", "one", "two …", "three", "exit code 0")
    assert len(answers.output([{"code": 0, "out": "x\n" * 500}])) == answers.OUTPUT_LINES


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text("aZ1+/=:-", max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from([*PLAIN]), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(
    some.dictionaries(some.sampled_from([*PLAIN]), JSON),
    some.dictionaries(some.sampled_from([*SERVER]), JSON),
    some.dictionaries(some.sampled_from([*HOST]), JSON),
)
def test_whatever_a_host_answers_is_facts_or_one_of_two_errors(one, node, whole):
    """No other exception, whatever JSON comes."""
    host = {**HOST, "instances": [{**PLAIN, **one}], "servers": [{**SERVER, **node}], **whole}
    value = json.loads(json.dumps(host))
    try:
        answers.host(value, "x", NOW, NOW)
    except (TypeError, ValueError, OverflowError):
        return
