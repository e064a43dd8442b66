"""Unlocking: a person gives back the lock of a host, where its run never will."""

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.run import TERMINAL
from bot.runs.ledger import Ledger


def unlocked(ledger: Ledger, audit: AuditLog, clock: Clock, host: str, *, by: str, force: bool) -> str:
    """Give a host's lock back and return a sentence; UserError where there is none, or its run is under way."""
    holder = ledger.lock_of(host)
    if holder is None:
        held = ", ".join(ledger.locked_hosts()) or "no host at all"
        raise UserError(f"No run holds the lock of {host}. Locked: {held}.")
    run = ledger.find(holder)
    if run and not run.state.is_over and not force:
        raise UserError(
            f"The run {holder} is {run.state.value} and may work on {host} now. Cancel it in Slack first; if it will "
            "never end, and you are sure that nothing works on that host, use --force."
        )
    what = f"{by} gave the lock of {host} back on the command line{' by force' if force else ''}"
    entry = Entry(kind="unlocked", who=f"{TERMINAL}{by}"[:40], run=holder, what=what)
    audit.append(f"{holder}:unlocked:{host}:{clock.now().isoformat()}", entry)
    ledger.release_hosts(holder, [host])
    return f"The lock of {host}, which the run {holder} held, was given back."
