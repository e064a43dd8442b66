"""Several approvals, people with two accounts, user groups, reasons, escalation: each click does one thing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bot.sandbox.slack.model import UserGroup
from bot.slack.groups import FRESH_SECONDS, STALE_SECONDS
from tests.scenarios.town import Town

POLICY = """
[[policy.rules]]
actions = ["rotate"]
environments = ["Production"]
approvers = ["S0APPROVERS"]
approvals = 2
reason_required = true

[[policy.rules]]
actions = ["unfreeze"]
requesters = ["U0BEN"]

[people.rita]
slack = ["U0RITA", "U0OTTO"]
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return a town in which Production needs two approvals of a user group, and Otto is Rita's second account."""
    with Town(tmp_path_factory.mktemp("strict"), extra=POLICY) as town:
        yield town


def member(town: Town, *users: str) -> None:
    """Change who is in the group; the bot asks Slack again when its answer is no longer fresh."""
    group = town.slack.workspace.groups["S0APPROVERS"]
    town.slack.workspace.groups["S0APPROVERS"] = UserGroup(
        id=group.id, handle=group.handle, name=group.name, users=users
    )
    town.clock.skip += FRESH_SECONDS + 1


def test_two_people_must_approve_and_each_counts_once(strict: Town) -> None:
    """Ada twice is one approval, Ben makes it two; the message says how far it is, the audit log who gave which."""
    root = strict.ask("rita", 'rotate web-01 --reason "yearly rotation"')
    assert "needs 2 approvals" in root.content
    strict.press("ada", root, "Approve")
    strict.says(root, "1 of 2")
    before = {m.ts for m in strict.slack.ephemerals("ada")}  # other tests of this town may have told her the like
    strict.press("ada", root, "Approve")
    assert "must be another person's" in strict.whisper("ada", "already approved", after=before)
    assert strict.effects("web-01", "make") == 0
    strict.press("ben", root, "Approve")
    strict.end(root)
    strict.assert_good("web-01")
    assert "Ada" in strict.slack.message(root.ts).content or "U0ADA" in strict.slack.message(root.ts).content
    assert strict.bot
    kinds = [(e.entry.kind, e.entry.who) for e in strict.bot.audit.entries(limit=60)]
    assert ("approved", "U0ADA") in kinds
    assert ("approved", "U0BEN") in kinds
    assert ("not counted", "U0ADA") in kinds


def test_two_approvers_at_once_begin_it_once(strict: Town) -> None:
    """Both click in the same instant: two approvals, one run."""
    root = strict.ask("rita", "rotate shared-01 --reason now")
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda person: strict.press(person, root, "Approve"), ["ada", "ben", "ada", "ben"]))
    strict.end(root)
    assert strict.effects("shared-01", "make") == 1


def test_the_second_account_of_who_asked_cannot_approve(strict: Town) -> None:
    """Otto's account is Rita's: the configuration says so, and Slack's e-mail addresses play no part."""
    root = strict.ask("rita", "rotate edge-01 --reason now")
    before = {m.ts for m in strict.slack.ephemerals("otto")}
    strict.press("otto", root, "Approve")
    assert "asked for this yourself" in strict.whisper("otto", after=before)
    strict.ask_quietly("rita", f"cancel {run_of(strict)}", "stopped")


def test_an_approver_who_was_removed_no_longer_counts(strict: Town) -> None:
    """Ada approved and left the group: Ben's approval is the first one again, and she cannot give another."""
    root = strict.ask("rita", "rotate edge-01 --reason now")
    strict.press("ada", root, "Approve")
    strict.says(root, "1 of 2")
    member(strict, "U0BEN", "U0CARL")
    try:
        strict.press("ben", root, "Approve")
        strict.wait(lambda: strict.thread(root).count("approved: 1 of 2") == 2)
        strict.press("ada", root, "Approve")
        strict.whisper("ada", "not an approver of this")
    finally:
        member(strict, "U0ADA", "U0BEN")
    strict.ask_quietly("rita", f"cancel {run_of(strict)}", "stopped")


def test_nobody_is_a_member_of_a_group_that_slack_does_not_tell(strict: Town) -> None:
    """The last answer counts for some minutes; then every click is refused, and says why."""
    root = strict.ask("rita", "rotate edge-01 --reason now")
    faults = strict.slack.faults
    faults.only, faults.server_errors = {"usergroups.users.list"}, 1_000
    strict.clock.skip += STALE_SECONDS + 1
    try:
        strict.press("ada", root, "Approve")
        strict.whisper("ada", "nobody counts as a member")
    finally:
        faults.only, faults.server_errors = set(), 0
    strict.deny("ada", root, "later")
    strict.says(root, "later")


def test_a_reason_is_asked_for_and_deny_by_one_is_enough(strict: Town) -> None:
    """Without --reason nothing is proposed in Production; one of two approvers denies, and it is over."""
    assert "--reason" in strict.ask_quietly("rita", "rotate edge-01", "asks for a reason")
    root = strict.ask("rita", "rotate edge-01 --reason now")
    strict.press("ada", root, "Approve")
    strict.says(root, "1 of 2")
    strict.deny("ben", root, "not today")
    strict.says(root, "not today")
    assert strict.effects("edge-01", "make") == 0


def test_the_policy_is_shown(strict: Town) -> None:
    """Everybody can read who may approve what."""
    shown = strict.ask_quietly("rita", "policy", "May approve")
    assert "2 different people must approve" in shown
    assert "Production" in shown


def run_of(town: Town) -> str:
    """Return the id of the newest run."""
    assert town.bot
    return town.bot.ledger.recent(1)[0].id
