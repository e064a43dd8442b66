"""Who needs a person at the switch of the Server's certificate, and who needs nobody."""

import pytest

from bot.domain.by_hand import by_hand_of, command_of
from bot.domain.facts import Style, TargetFacts, Trust
from bot.domain.plan import Hands
from tests.making import SERVER, facts, polling, record, thumbprint
from tests.servers import trusting, unreachable

NEW = thumbprint(7)
HTTPS = thumbprint(0xABC)
SUBSCRIPTION = "poll://edge-01/"


def entry(address: str, text: str) -> Trust:
    """Return an entry by which edge-01 polls an address."""
    return Trust(text=text, style=Style.POLLING, address=address, subscription=SUBSCRIPTION)


def test_a_tentacle_that_polls_over_websocket_needs_nobody() -> None:
    """It goes by the web server's certificate, so the switch does not lose it; the reason says so."""
    found = by_hand_of(trusting(polling(), entry("wss://octopus/OctopusComms", HTTPS)), SERVER, NEW)
    assert found is not None
    assert (found.hands, found.is_lost) == (Hands.NONE, False)
    assert "WebSocket" in found.reason
    assert command_of(found, SERVER, NEW) == ""


def test_one_that_polls_in_both_ways_is_taken_for_an_ordinary_one() -> None:
    """Its plain entry expects the Server's certificate; the other one is odd, and somebody must look at it."""
    both = trusting(polling(), entry("https://octopus:10943/", SERVER), entry("wss://octopus:443/OctopusComms", HTTPS))
    found = by_hand_of(both, SERVER, NEW)
    assert found is not None
    assert found.hands is Hands.POLLING
    assert str(HTTPS) in found.reason


@pytest.mark.parametrize(
    ("one", "hands"),
    [
        (unreachable("web-01"), Hands.LISTENING),
        (unreachable("web-01", records=(record("web-01", os="Ubuntu 22.04.4 LTS"),)), Hands.LINUX_LISTENING),
        (unreachable("web-01", records=(record("web-01", os="Microsoft Windows Server 2022"),)), Hands.LISTENING),
    ],
)
def test_an_unseen_host_is_told_by_the_system_that_octopus_saw(one: TargetFacts, hands: Hands) -> None:
    """The command for the system that it runs; without a word from Octopus, that for Windows."""
    found = by_hand_of(one, SERVER, NEW)
    assert found is not None
    assert (found.hands, found.is_lost) == (hands, True)


def test_what_we_can_do_ourselves_needs_nobody() -> None:
    """A listening and a polling Tentacle, as they should be."""
    assert by_hand_of(facts(), SERVER, NEW) is None
    assert by_hand_of(polling(), SERVER, NEW) is None
