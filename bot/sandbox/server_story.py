"""The story of the Server: trust, switch, follow, prove, and a clean-up with an approval of its own."""

import re
from typing import Any

from bot.domain.facts import ServiceState, Style
from bot.sandbox.octopus.node import Node
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.stories import Ending, Say, Thread, is_over
from bot.sandbox.windows.tentacle import TentacleInstance

SECONDS = 420.0
"""How long the story waits for each of its two parts, on a busy machine."""
_CLEAN_UP = "Remove the old trust"
_LOST = re.compile(r"--accept (lost:\d+)")


def server(sandbox: Sandbox, say: Say) -> Ending:
    """Refused while machines would be lost unseen → accepted → approved → switched → proven → cleaned up."""
    octopus = sandbox.octopus
    old = {node.name: str(node.served) for node in octopus.nodes}
    thread = Thread(sandbox, say)
    plan = thread.command("rita", "rotate server --with pfx:server --reason “the key is ten years old”")
    lost = _LOST.search(plan.content)
    refused = bool(lost) and "Approve" not in plan.buttons
    if lost:
        thread.command(
            "rita", f"rotate server --with pfx:server --accept {lost[1]} --reason “the key is ten years old”"
        )
    untouched = [str(node.served) for node in octopus.nodes] == list(old.values())
    thread.press("ada", "Approve")
    thread.follow(lambda root: is_over(root) or thread.question(_CLEAN_UP) is not None, SECONDS)
    question = thread.question(_CLEAN_UP)
    if question is None:
        say("The Server's new certificate was not proven, so there is nothing to clean up.")
        return Ending(ok=False)
    new = str(octopus.thumbprint)
    both = [n for n, one in _reachable(sandbox).items() if _trusts(one) >= {new, *old.values()}]
    thread.press("ada", _CLEAN_UP, question)
    root = thread.follow(is_over, SECONDS)
    replies = " ".join(m.content for m in sandbox.slack.thread(root.ts))
    nodes = [_node(n, old[n.name]) for n in octopus.nodes]
    tentacles = [_tentacle(sandbox, name, one, new) for name, one in sandbox.estate.instances.items()]
    switched = all(n["new"] == new and n["new"] != n["old"] and n["consistent"] for n in nodes)
    proven = [t for t in tentacles if t["reachable"] and t["health"] == "Healthy"]
    kept = [t for t in tentacles if t["reachable"] and t["health"] != "Healthy"]
    well = (
        all(t["consistent"] for t in tentacles if t["reachable"])
        and all(t["trusted"] == [new] for t in proven)
        and all(new in t["trusted"] for t in kept)
        and bool(proven and both)
    )
    for wrong in (t for t in tentacles if t["reachable"] and not t["consistent"]):
        say(f"The world is not as promised: {wrong}")
    told = all(thumbprint in replies for thumbprint in (new, *old.values()))
    return Ending(refused and untouched and switched and well and told, [*nodes, *tentacles])


def _reachable(sandbox: Sandbox) -> dict[str, TentacleInstance]:
    """Return the listening Tentacles that a visit can reach and that are who Octopus says they are."""
    return {
        name: one
        for name, one in sandbox.estate.instances.items()
        if one.style is Style.LISTENING and not one.host.faults.unreachable and sandbox.consistent(name)
    }


def _trusts(one: TentacleInstance) -> set[str]:
    return {str(t.thumbprint) for t in one.trusted_by_process}


def _node(node: Node, old: str) -> dict[str, Any]:
    running = node.is_running and not node.is_drained
    return {
        "name": node.name,
        "old": old,
        "new": str(node.served),
        "health": "Healthy" if running else "Unhealthy",
        "consistent": running,
    }


def _tentacle(sandbox: Sandbox, name: str, one: TentacleInstance, new: str) -> dict[str, Any]:
    """Return what the world says of one Tentacle: consistent is one that runs and would let the Server in."""
    row = next(r for r in sandbox.rows() if r["name"] == name)
    trusted = sorted(_trusts(one))
    return {
        "name": name,
        "style": one.style.value,
        "trusted": trusted,
        "health": row["health"],
        "reachable": not one.host.faults.unreachable and sandbox.consistent(name),
        "consistent": one.service.state is ServiceState.RUNNING and new in trusted,
    }
