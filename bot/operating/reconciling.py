"""Reconciling: after a restore, what the hosts' journals tell that the ledger does not know. It only reads."""

import uuid
from pathlib import Path

import click

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.journals import Comparison, Find, compare
from bot.domain.names import targets
from bot.operating import terminal
from bot.runs.inspector import Inspector
from bot.runs.server_inspector import ServerInspector
from bot.slack.text import clean

EXIT_DIFFERENT = 3
"""Something deserves a look: a host tells otherwise than the ledger, or could not be asked."""
LONGEST = 1_000
"""Characters of one sentence on the terminal."""


def run(config: Path, inspector: Inspector, servers: ServerInspector) -> int:
    """Compare the database of a configuration with all hosts and print what differs; return the exit code."""
    with terminal.opened(config) as desk:
        what = "reconcile (in a terminal): the hosts' journals are compared with the ledger"
        desk.audit.append(f"command:{uuid.uuid4().hex}", Entry(kind="command", who=terminal.who(), what=what))
        return show(look(inspector, servers, desk.ledger.find))


def look(inspector: Inspector, servers: ServerInspector, find: Find) -> Comparison:
    """Visit every host of the estate, and every node of the Server, and compare their journals with the ledger."""
    index = inspector.index()
    facts = inspector.look(targets(index), index, deeply=False, sighted=False)
    server = next((t.server for t in facts if t.server), None)
    if server is None:
        return compare(facts, (), find, None, ["the Server's nodes: the key may not read the Server's certificate"])
    try:
        nodes = servers.nodes(server)
    except UserError as error:
        return compare(facts, (), find, server, [f"the Server's nodes: {error}"])
    return compare(facts, nodes, find, server)


def show(found: Comparison) -> int:
    """Print what was found, with what to do next; return the exit code."""
    for one in found.differences:
        click.echo(clean(one.where, LONGEST))
        for title, said in (
            ("the host says", one.host_says),
            ("the ledger says", one.ledger_says),
            ("do next", one.advice),
        ):
            click.echo(f"  {title:16} {clean(said, LONGEST)}")
    for unseen in found.unseen:
        click.echo(f"not seen: {clean(unseen, LONGEST)}")
    summary = f"{found.journals} journals were read, {len(found.differences)} tell otherwise than the ledger"
    missing = f"; {len(found.unseen)} could not be asked" if found.unseen else ""
    click.echo(f"{summary}{missing}.")
    if found.differences or found.unseen:
        click.echo("When all of that is settled, lift the freeze by `unfreeze` in Slack.")
        return EXIT_DIFFERENT
    click.echo("Lift the freeze by `unfreeze` in Slack.")
    return 0
