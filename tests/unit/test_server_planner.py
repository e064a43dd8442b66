"""The plan of the Server's rotation: trust before switch, nobody forgotten, nobody lost unasked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain import codec
from bot.domain.by_hand import command_of
from bot.domain.errors import UserError
from bot.domain.facts import Health, ServiceState, Style, Trust
from bot.domain.plan import Caution, Hands, Order, Plan, Severity, Source, StepKind
from bot.domain.server_planner import clones_of, digest_of_target, keeps_old_trust, make_server_plan, refusal_of_lost
from bot.domain.windows import Schedule
from tests.making import (
    NEW_CERTIFICATE,
    NOW,
    SERVER,
    certificate,
    facts,
    host,
    instance,
    pfx_source,
    polling,
    record,
    request,
    thumbprint,
)
from tests.servers import node, other, server_facts, server_instance, server_plan, trusting, unreachable

NEW = thumbprint(7)


def test_listening_tentacles_trust_first_and_forget_last():
    """The switch comes between: at no time is one without a trust that matches the Server."""
    plan = server_plan()
    assert plan.server is not None
    steps = plan.target("web-01").steps
    assert steps.index(StepKind.TRUST) < steps.index(StepKind.RESTART) < steps.index(StepKind.TRUSTING)
    assert steps[-1] is StepKind.UNTRUST
    assert plan.server.trust_waves == (("web-01", "web-02"),)


def test_polling_tentacles_follow_after_the_switch():
    """They cannot trust two: they are in waves of their own, and the plan says that they are away meanwhile."""
    plan = server_plan()
    assert plan.server is not None
    assert plan.server.follow_waves == (("edge-01",),)
    assert StepKind.FOLLOW in plan.target("edge-01").steps
    assert any("polling Tentacles cannot trust two" in c.text for c in plan.cautions)


def test_the_certificate_is_exported_and_imported_once_on_the_first_node():
    """The others are only drained, restarted and looked at."""
    plan = server_plan(nodes=(node("OCTO-1"), node("OCTO-2"), node("OCTO-3")))
    assert plan.server is not None
    assert [StepKind.ADOPT in n.steps for n in plan.server.nodes] == [True, False, False]
    assert plan.server.nodes[0].steps[0] is StepKind.EXPORT
    assert all(n.steps[-1] is StepKind.UNDRAIN for n in plan.server.nodes)


def test_nodes_and_tentacles_are_subjects_of_one_run():
    """Also where a node and a Tentacle have the same name."""
    plan = server_plan(facts("OCTO-1", 1))
    assert [name for name, _ in plan.subjects] == ["node OCTO-1", "OCTO-1"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (node(instance=None, instance_error="has no instance"), "has no instance"),
        (node(host=None, host_error="nobody answers"), "could not be inspected"),
        (node(instance=server_instance(state=ServiceState.STOPPED)), "not Running"),
        (node(instance=server_instance(stored=None, stored_error="Login failed")), "integrated security"),
        (node(instance=server_instance(stored=thumbprint(1234))), "the API tells"),
        (node(instance=server_instance(error="unreadable")), "could not be read"),
    ],
)
def test_a_node_that_cannot_be_done_refuses_the_whole(broken, words):
    """Every node must be restarted, so nothing is begun where one cannot be."""
    with pytest.raises(UserError, match=words):
        server_plan(nodes=(node("OCTO-1"), replace(broken, node=replace(broken.node, name="OCTO-2"))))


def test_a_key_that_sees_less_refuses_the_whole():
    """Hidden Tentacles would be lost unseen."""
    with pytest.raises(UserError, match="cannot read every space"):
        make_server_plan(
            request("server"), NEW_CERTIFICATE, server_facts(facts(), unreadable_spaces=("Payments",)), NOW
        )


def test_the_same_certificate_again_is_refused():
    """And so is one that a Tentacle uses."""
    with pytest.raises(UserError, match="has this certificate already"):
        server_plan(source=Source(text="pfx:web", certificate=certificate(thumbprint=SERVER)))
    with pytest.raises(UserError, match="the one of the Tentacle web-01"):
        server_plan(facts("web-01", 7))


def test_a_node_that_does_not_run_is_named_and_waited_for():
    """It loads the new certificate when it starts; until then the old trust stays."""
    plan = server_plan(nodes=(node("OCTO-1"), node("OCTO-2", is_offline=True)))
    assert plan.server is not None
    assert plan.server.offline == ("OCTO-2",)
    assert any("OCTO-2" in c.text for c in plan.cautions)


def test_what_would_be_lost_is_counted_and_must_be_accepted():
    """Two machines that nobody can reach by WinRM, and one that needs nothing."""
    machines = (facts("web-01", 1), unreachable("lost-01"))
    others = (other("agent-01"), other("ssh-01", "Ssh"))
    plan = server_plan(*machines, others=others)
    assert plan.server is not None
    assert {h.name for h in plan.server.lost} == {"lost-01", "agent-01"}
    assert "--accept lost:2" in str(refusal_of_lost(plan.server))
    accepted = server_plan(*machines, others=others, accept=("lost:2",)).server
    assert accepted is not None
    assert refusal_of_lost(accepted) is None


LINUX = record("a", os="Ubuntu 22.04")
LINUX_POLLING = record("a", style=Style.POLLING, uri="poll://a/", os="Linux")
COMMANDS = [
    (unreachable("a"), Hands.LISTENING, "configure"),
    (unreachable("a", records=(LINUX,)), Hands.LINUX_LISTENING, "/opt/octopus/tentacle/Tentacle"),
    (replace(polling("a"), host=None, instance=None), Hands.POLLING, "update-trust"),
    (replace(polling("a"), host=None, instance=None, records=(LINUX_POLLING,)), Hands.LINUX_POLLING, "update-trust"),
]


@pytest.mark.parametrize(("one", "hands", "words"), COMMANDS, ids=lambda v: v.value if isinstance(v, Hands) else "")
def test_a_person_gets_the_exact_command(one, hands, words):
    """By platform and style; a polling Tentacle must be given both thumbprints."""
    server = server_plan(facts("web-01", 1), one).server
    assert server is not None
    hand = server.lost[0]
    assert hand.hands is hands
    command = command_of(hand, server.old, NEW)
    assert words in command
    assert NEW in command
    assert (SERVER in command) is ("update-trust" in words or "POLLING" in hands.name)


def test_a_restored_copy_of_the_server_keeps_update_trust_away():
    """It would change the copy's entry, too: compare addresses first."""
    one = polling("edge-01", 3)
    assert one.instance is not None
    twin = Trust(text=SERVER, style=Style.POLLING, address="https://restored:10943/", subscription="poll://other/")
    server = server_plan(facts("web-01", 1), trusting(one, *one.instance.trusted, twin)).server
    assert server is not None
    assert "restored copy" in server.lost[0].reason


def test_an_old_tentacle_cannot_follow():
    """It has no update-trust before 3.24.0."""
    one = polling("edge-01", 3)
    server = server_plan(replace(one, host=replace(one.host or host(), tentacle_version="3.23.1"))).server
    assert server is not None
    assert "3.24.0" in server.lost[0].reason


@pytest.mark.parametrize(
    "change",
    [
        {"state": ServiceState.STOPPED},
        {"trusted": (Trust(text=SERVER, style=Style.LISTENING), Trust(text=thumbprint(8), style=Style.LISTENING))},
        {"config": "D:\\elsewhere.config"},
    ],
)
def test_what_decides_changes_the_digest(change):
    """An approval holds for what was shown only."""
    before, after = facts("web-01", 1), facts("web-01", 1, instance=instance(1, **change))
    same = change.keys() == {"state"}
    digests = [digest_of_target(f, Order.DEFAULT, SERVER, NEW) for f in (before, after)]
    assert (digests[0] == digests[1]) is same


def test_that_it_trusts_the_new_one_already_changes_no_digest():
    """Our own work of a moment ago must not make the plan stale."""
    one = facts("web-01", 1)
    new = (Trust(text=SERVER, style=Style.LISTENING), Trust(text=NEW, style=Style.LISTENING))
    digests = {digest_of_target(f, Order.DEFAULT, SERVER, NEW) for f in (one, trusting(one, *new))}
    assert len(digests) == 1


def test_the_documented_order_switches_first_and_says_what_that_costs():
    """Stop, import, start; then on every Tentacle stop, trust, start."""
    plan = server_plan(order=Order.DOCUMENTED)
    assert plan.server is not None
    steps = plan.target("web-01").steps
    assert steps.index(StepKind.STOP) < steps.index(StepKind.TRUST) < steps.index(StepKind.START)
    node_steps = plan.server.nodes[0].steps
    assert node_steps.index(StepKind.STOP) < node_steps.index(StepKind.ADOPT) < node_steps.index(StepKind.START)
    assert any("the Server switches first" in c.text for c in plan.cautions)


def test_a_certificate_that_the_server_makes_is_not_known_yet():
    """Its thumbprint is asked for once more."""
    plan = server_plan(source=NEW_CERTIFICATE)
    assert plan.server is not None
    assert plan.server.new is None
    assert plan.target("web-01").new is None


def test_an_unhealthy_one_and_one_that_does_not_trust_the_server_are_told():
    """Before, so that nobody blames the run for it afterwards."""
    sick = facts("web-01", 1, records=(record("web-01", 1, health=Health.UNAVAILABLE),))
    stranger = trusting(facts("web-02", 2), Trust(text=thumbprint(8), style=Style.LISTENING))
    plan = server_plan(sick, stranger)
    assert "not healthy" in plan.target("web-01").cautions[0].text
    assert "does not trust" in plan.target("web-02").cautions[0].text


def test_a_plan_survives_the_ledger():
    """As JSON and back."""
    plan = server_plan(facts("web-01", 1), unreachable("lost-01"), others=(other("agent"),), source=pfx_source(7))
    assert codec.loads(Plan, codec.dumps(plan)) == plan


def test_a_schedule_is_part_of_what_is_approved():
    """It is asked for with the environments of every Tentacle, and an acknowledgement is told."""
    asked = []
    told = Caution(severity=Severity.WARNING, text="acknowledged: outside")

    def timing(environments):
        asked.extend(environments)
        return Schedule(windows=(), not_before=NOW + timedelta(hours=2)), [told]

    tentacles = (facts("web-01", 1), polling("edge-01", 3))
    source = pfx_source(7)
    plans = [
        make_server_plan(request("server"), source, server_facts(*tentacles), NOW, **more)
        for more in ({}, {"timing": timing})
    ]
    assert asked == [e for t in plans[1].targets for e in t.facts.environments]
    assert [p.schedule is None for p in plans] == [True, False]
    assert plans[0].digest != plans[1].digest
    assert told in plans[1].cautions


HERE = "https://octopus:10943/"


def polls(name: str, address: str = HERE, text: str = SERVER) -> Trust:
    """Return an entry by which a Tentacle polls."""
    return Trust(text=text, style=Style.POLLING, address=address, subscription=f"poll://{name}/")


def test_a_tentacle_that_listens_and_polls_is_done_by_us_on_both_ways():
    """Its two records are two targets on one host: one trusts, one follows, and at the end the old trust may go."""
    listens = Trust(text=SERVER, style=Style.LISTENING)
    both = (listens, polls("both-polling"))
    plan = server_plan(trusting(facts("both", 1), *both), trusting(polling("both-polling", 1), *both))
    assert plan.server is not None
    assert plan.server.by_hand == ()
    assert plan.server.trust_waves == (("both",),)
    assert plan.server.follow_waves == (("both-polling",),)
    assert plan.target("both").cautions == ()


def test_a_polling_entry_that_nobody_moves_on_keeps_its_old_trust():
    """It is told, and where it polls is named as a Server with the same certificate."""
    there = "https://copy:10943/"
    one = trusting(facts("web-01", 1), Trust(text=SERVER, style=Style.LISTENING), polls("stranger", there))
    plan = server_plan(one, polling("edge-01", 3))
    assert plan.server is not None
    assert plan.server.clones == (there,)
    assert any(there in c.text for c in plan.cautions)
    assert any("will not be removed by us" in c.text for c in plan.target("web-01").cautions)
    assert keeps_old_trust(one, SERVER, frozenset())
    assert not keeps_old_trust(one, SERVER, frozenset({"poll://stranger/"}))


def test_an_entry_of_a_former_registration_is_no_copy_of_the_server():
    """Its address is one at which Tentacles of ours poll."""
    stale = trusting(polling("edge-01", 3), polls("edge-01"), polls("former"))
    assert clones_of([stale], SERVER) == ()
