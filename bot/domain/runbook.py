"""The runbook of a target that a run left half done: what to look at, what to run by hand, how to go back. Pure."""

from collections.abc import Iterator

from bot.domain.facts import Style
from bot.domain.plan import TargetPlan
from bot.domain.run import Run, StepState, TargetProgress


def runbook(run: Run, name: str | None = None) -> str:
    """Return what a person does by hand about the targets of a run; of one target where it is named."""
    chosen = [t for t in run.targets if name is None or t.name.casefold() == name.casefold()]
    plans = {t.name: t for t in run.plan.targets}
    lines = [f"Run {run.id}: {run.state.value}. Freeze first if the bot still works: octocert freeze REASON."]
    for target in chosen:
        if target.name in plans:
            lines += ["", *_target(run, target, plans[target.name])]
    if len(lines) == 1:
        lines.append("There is no target of this name in it." if name else "It has no targets.")
    return "\n".join(lines)


def _target(run: Run, progress: TargetProgress, plan: TargetPlan) -> Iterator[str]:
    facts, host, instance = plan.facts, plan.facts.host, plan.facts.instance
    yield f"== {plan.name} =="
    if progress.outcome:
        yield f"It ended: {progress.outcome.kind.value}. {progress.outcome.now or progress.outcome.what}".rstrip()
    else:
        done = [s.step.value for s in progress.steps if s.state is StepState.COMPLETE]
        now = [s.step.value for s in progress.steps if s.state in {StepState.IN_PROGRESS, StepState.ERROR}]
        yield f"Done: {'; '.join(done) or 'nothing'}. Begun, and not known to be done: {'; '.join(now) or 'nothing'}."
    new = progress.outcome.new if progress.outcome and progress.outcome.kind.changed else plan.new
    yield f"Old thumbprint: {plan.old}"
    yield f"New thumbprint: {new or 'made on the host; step 2 shows it'}"
    if host is None or instance is None:
        yield "Its host was never seen; look for it in Octopus first."
        return
    exe, option = f'& "{host.exe}"', f'--instance="{instance.name}"'
    yield f"On the host {host.address}, in an administrator's PowerShell:"
    yield f'1. Is the service up?            Get-Service "{instance.service}"; Start-Service "{instance.service}"'
    yield f"2. Which certificate has it?     {exe} show-thumbprint {option} --nologo"
    yield f'3. How far did the bot come?     Get-Content "{instance.config}.octocert.json"'
    yield f'4. Where is the copy from before? dir "$env:ProgramData\\octocert" -Recurse (folder of run {run.id})'
    yield "In Octopus, the thumbprint of each record must be the one that step 2 shows:"
    for record in facts.records:
        yield f"5. {record.name} in {record.space}: {record.url or record.id}"
    yield "6. Check health there. It is healthy: nothing more to do."
    yield (
        f'To go back: Stop-Service "{instance.service}"; put the copy of step 4 in the place of "{instance.config}"; '
        f'Start-Service "{instance.service}"; write {plan.old} into the records of step 5; check health.'
    )
    if facts.style is Style.POLLING:
        yield "It polls: Octopus hears of it again within two minutes of its start, if its record has its thumbprint."
