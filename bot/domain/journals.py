"""Journals of hosts against the ledger: what was done that a database from a backup does not know. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.domain.facts import HostFacts, HostJournal, Instance, NodeFacts, ServerInstance, ServiceState, TargetFacts
from bot.domain.run import Outcome, Run, RunState
from bot.domain.thumbprint import Thumbprint

PHASES = ("-trust", "-follow", "-back", "-clean")
"""What a run of the Server adds to its id in the journals of one phase."""
UNBEGUN = (RunState.PROPOSED, RunState.WAITING, RunState.DENIED, RunState.EXPIRED, RunState.CANCELLED)
"""States of runs that have touched no host."""

Find = Callable[[str], Run | None]
"""Returns what the ledger knows of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One journal that the ledger does not explain."""

    where: str
    """The Tentacle's or the node's name, with host and instance."""
    run: str
    host_says: str
    ledger_says: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of looking at all hosts."""

    differences: tuple[Difference, ...]
    unseen: tuple[str, ...]
    """Hosts that could not be looked at, each with why."""
    journals: int
    """How many journals were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An instance on a host, with what is recorded about that host."""

    name: str
    host: HostFacts
    instance: Instance | ServerInstance
    recorded: frozenset[Thumbprint]

    @property
    def thumbprint(self) -> Thumbprint | None:
        """What is in force by the instance's own word."""
        return self.instance.configured if isinstance(self.instance, Instance) else self.instance.stored

    @property
    def where(self) -> str:
        return f"{self.name} ({self.host.address}, instance {self.instance.name})"


def compare(
    targets: Sequence[TargetFacts],
    nodes: Sequence[NodeFacts],
    find: Find,
    server: Thumbprint | None,
    unasked: Sequence[str] = (),
) -> Comparison:
    """Compare every journal that was seen with the ledger.

    `server` is the Server's certificate by its API; `unasked` names what could not be looked at at all, and why.
    """
    places, unseen = _places(targets, nodes, server)
    unseen += unasked
    found = [d for place in places if (d := _difference(place, find))]
    return Comparison(
        differences=tuple(sorted(found, key=lambda d: d.where)),
        unseen=tuple(sorted(unseen)),
        journals=sum(p.instance.journal is not None for p in places),
    )


def run_of(key: str) -> str:
    """Return the id of the run whose visit wrote a journal."""
    phase = next((p for p in PHASES if key.endswith(p)), "")
    return key.removesuffix(phase)


def _places(
    targets: Sequence[TargetFacts], nodes: Sequence[NodeFacts], server: Thumbprint | None
) -> tuple[list[_Place], list[str]]:
    """Return every instance once: not only those that are proven to be a record's, for what is half done is not."""
    unseen = [f"{t.name}: {t.host_error or 'no answer'}" for t in targets if t.host is None]
    unseen += [f"node {n.name}: {n.host_error or 'no answer'}" for n in nodes if n.host is None]
    by_host: dict[str, list[TargetFacts]] = {}
    for target in targets:
        if target.host:
            by_host.setdefault(target.host.address, []).append(target)
    places = []
    for mine in by_host.values():
        host = mine[0].host
        assert host is not None
        recorded = frozenset(r.thumbprint for t in mine for r in t.records if r.thumbprint)
        for one in host.instances:
            names = [t.name for t in mine if t.instance and t.instance.name == one.name] or [t.name for t in mine]
            places.append(_Place(name=", ".join(names), host=host, instance=one, recorded=recorded))
    by_api = frozenset({server} if server else ())
    for node in nodes:
        if node.host:
            name = f"node {node.name}"
            places += [_Place(name=name, host=node.host, instance=i, recorded=by_api) for i in node.host.servers]
    return places, unseen


def _difference(place: _Place, find: Find) -> Difference | None:
    journal = place.instance.journal
    if journal is None:
        return None
    run_id = run_of(journal.run)
    run = find(run_id)
    if run is None:
        knows, advice = "it knows no such run", _advice_unknown(place, run_id)
    else:
        told = _otherwise(place, run)
        if told is None:
            return None
        knows, advice = told
    return Difference(where=place.where, run=run_id, host_says=_said(place, journal), ledger_says=knows, advice=advice)


def _otherwise(place: _Place, run: Run) -> tuple[str, str] | None:
    """Return what the ledger says otherwise than the host, and what to do about it; None where they agree."""
    if run.state in UNBEGUN:
        first = f"Run `octocert cancel {run.id}` first: it must not be approved once more. "
        after = "" if run.state.is_over else first
        return f"the run is {run.state.value}, so no host was touched", after + _advice_unknown(place, run.id)
    if not run.state.is_over:
        goes_on = "When the freeze is lifted it goes on from what the host's journal says. To end it instead:"
        return f"the run is {run.state.value}", f"{goes_on} `octocert cancel {run.id}`."
    outcome = _outcome(place, run)
    if outcome is None:
        return "the run is over, and this instance was none of its targets", _advice_unknown(place, run.id)
    compares = isinstance(place.instance, ServerInstance) or run.plan.server is None
    if compares and outcome.new and place.thumbprint and outcome.new != place.thumbprint:
        return f"it left {outcome.new} in force ({outcome.kind.value})", _advice_of_state(place)
    return None


def _outcome(place: _Place, run: Run) -> Outcome | None:
    names = {
        t.name
        for t in run.plan.targets
        if t.facts.host
        and t.facts.instance
        and (t.facts.host.address, t.facts.instance.name) == (place.host.address, place.instance.name)
    }
    if run.plan.server:
        names |= {n.name for n in run.plan.server.nodes if n.facts.host and n.facts.host.address == place.host.address}
    return next((o for o in run.outcomes if o.target in names), None)


def _said(place: _Place, journal: HostJournal) -> str:
    at = f" at {journal.at:%Y-%m-%d %H:%M} UTC" if journal.at else ""
    return (
        f"the run {journal.run} came to “{journal.phase}”{at}: {journal.old or '?'} → {journal.new or '?'}. "
        f"In force now: {place.thumbprint or 'not known'}; its service is {place.instance.state.value}"
    )


def _advice_unknown(place: _Place, run_id: str) -> str:
    kept = place.instance.backup
    key = (
        f" The copy with the old key that {kept} kept stays on the host, for nobody is left to remove it: once no way "
        "back is wanted, delete its folder under octocert in ProgramData."
        if kept and kept.startswith(run_id)
        else ""
    )
    return _advice_of_state(place) + key


def _advice_of_state(place: _Place) -> str:
    """Return what a person does, by what is seen now: the witnesses count, not what either side remembers."""
    if place.instance.state is not ServiceState.RUNNING:
        return (
            f"Its service “{place.instance.service}” does not run: start it on the host, then look with "
            f"`show-thumbprint {place.name}`."
        )
    if place.thumbprint is None:
        return f"Look with `show-thumbprint {place.name}`: what is in force could not be read."
    if place.thumbprint in place.recorded:
        return f"Octopus goes by this thumbprint, too: nothing is to be mended. `check-health {place.name}` proves it."
    return (
        f"Octopus does not go by {place.thumbprint}. Look with `show-thumbprint {place.name}`; if the host is right, "
        f"set this thumbprint in the record by hand, then run `check-health {place.name}`."
    )
