"""The policy while time passes and in the middle of a run, each in a town of its own."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.scenarios.serving import LOST, ServerTown
from tests.scenarios.town import Town

TWO = """
[[policy.rules]]
actions = ["rotate-server", "clean-up"]
approvals = 2
"""


def test_a_plan_that_waits_is_told_to_more_and_more_people(tmp_path: Path) -> None:
    """After ten minutes a reminder, after twenty Otto may approve, too."""
    policy = 'remind_minutes = 10\nescalate_minutes = 20\nescalate_to = ["U0OTTO"]\n'
    with Town(tmp_path, policy=policy) as town:
        root = town.ask("rita", "rotate web-01")
        town.press("otto", root, "Approve")
        town.whisper("otto", "not an approver")
        town.clock.shift = timedelta(minutes=11)
        town.says(root, "still waits")
        town.clock.shift = timedelta(minutes=21)
        town.says(root, "you may approve this plan, too")
        town.press("otto", root, "Approve")
        town.end(root)
        town.assert_good("web-01")


@pytest.mark.timeout(180)
def test_a_gate_in_the_middle_of_a_run_needs_as_many_as_the_policy_says(tmp_path: Path) -> None:
    """The plan and the Server's new certificate are approved by two people each, counted apart, and reminded of."""
    policy = 'remind_minutes = 10\nescalate_minutes = 20\nescalate_to = ["U0OTTO"]\n'
    with ServerTown(tmp_path, extra=TWO, policy=policy) as town:
        root = town.ask_server(LOST)
        assert "needs 2 approvals" in town.slack.message(root.ts).content
        town.press("ada", root, "Approve")
        town.says(root, "1 of 2")
        town.press("ben", root, "Approve")
        question = town.question(root, "made a new certificate")
        town.press("ada", question, "Approve")
        town.wait(lambda: town.thread(root).count("approved: 1 of 2") == 2)
        assert town.octopus.thumbprint == town.old
        town.clock.shift = timedelta(minutes=11)
        assert "This certificate still waits for 1 of 2 approvals" in town.says(root, "still waits for 1 of 2")
        town.press("otto", question, "Approve")
        town.whisper("otto", "not an approver")
        town.clock.shift = timedelta(minutes=21)
        town.says(root, "you may approve this certificate, too")
        town.press("otto", question, "Approve")
        town.wait(lambda: town.octopus.thumbprint != town.old, 90)
