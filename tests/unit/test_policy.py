"""Policy: who may ask, who may approve, and the sentence for who may not."""

from dataclasses import replace

from bot.domain.policy import Action, Policy, Rule
from tests.making import request

POLICY = Policy(
    approvers=frozenset({"U0ADA", "U0BEN"}), requesters=frozenset({"U0RITA"}), channels=frozenset({"C0DEPLOY"})
)


def test_who_asked_cannot_approve() -> None:
    """Not even an approver, for what they asked themselves."""
    assert "asked for this yourself" in (POLICY.refuses_approval("U0RITA", request()) or "")
    refusal = POLICY.refuses_approval("U0ADA", request(user="U0ADA")) or ""
    assert "asked for this yourself" in refusal
    assert "<@U0BEN>" in refusal
    assert "<@U0ADA>" not in refusal


def test_an_outsider_cannot_approve_and_is_told_who_can() -> None:
    """The refusal names the approvers."""
    assert "<@U0ADA>, <@U0BEN>" in (POLICY.refuses_approval("U0OTTO", request()) or "")


def test_an_approver_may() -> None:
    """Somebody else's request."""
    assert POLICY.refuses_approval("U0ADA", request()) is None


def test_asking_is_limited_to_people_and_channels() -> None:
    """Approvers may ask too; others may only look."""
    assert POLICY.refuses_request("U0RITA", "C0DEPLOY") is None
    assert POLICY.refuses_request("U0BEN", "C0DEPLOY") is None
    assert "look" in (POLICY.refuses_request("U0OTTO", "C0DEPLOY") or "")
    assert "<#C0DEPLOY>" in (POLICY.refuses_request("U0RITA", "C0RANDOM") or "")


def test_who_may_ask_for_one_environment_only_is_not_turned_away_before_it_is_known() -> None:
    """Otto may rotate in Staging and nowhere else; in which channel is asked at once."""
    rule = Rule(actions=frozenset({Action.ROTATE}), environments=("Staging",), requesters=frozenset({"U0OTTO"}))
    policy = replace(POLICY, rules=(rule,))
    assert policy.refuses_anywhere("U0OTTO", "C0DEPLOY") is None
    assert policy.refuses_request("U0OTTO", "C0DEPLOY", Action.ROTATE, ("Staging",)) is None
    assert "in Production" in (policy.refuses_request("U0OTTO", "C0DEPLOY", Action.ROTATE, ("Production",)) or "")
    assert policy.refuses_anywhere("U0OTTO", "C0RANDOM")
    assert policy.refuses_anywhere("U0OTTO", "C0DEPLOY", Action.ROTATE_SERVER)
    assert policy.refuses_anywhere("U0CARLA", "C0DEPLOY")


def test_requester_and_approvers_may_stop_a_run() -> None:
    """Nobody else."""
    assert POLICY.refuses_cancel("U0RITA", request()) is None
    assert POLICY.refuses_cancel("U0BEN", request()) is None
    assert POLICY.refuses_cancel("U0OTTO", request())
