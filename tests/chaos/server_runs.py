"""Runs of the Server in the chaos suite: the disaster strikes anywhere in them, people answer what they are asked."""

import time
from collections.abc import Iterator

from bot.domain.facts import ServiceState, Style
from bot.sandbox.slack.model import Message
from tests.chaos.disasters import Scene
from tests.scenarios.serving import LOST, Watch
from tests.scenarios.town import Town

LOSABLE = ("lost-01", "moved-01")
"""Those of the estate that cannot be visited."""
ANSWERS = {"Resume": "ada", "Approve": "ben", "Remove the old trust": "ada"}
"""What people press, whenever it is there to be pressed."""
LOOK_SECONDS, CALM_SECONDS = 0.25, 60.0


class ServerRun:
    """One rotation of the Server, by a certificate that it makes, up to the end of its clean-up."""

    def __init__(self, place: Scene) -> None:
        self._town: Town = place.town
        self.octopus = place.town.octopus
        self.reachable = {
            name: one
            for name, one in place.town.sandbox.estate.instances.items()
            if one.style is Style.LISTENING and name not in LOSABLE
        }
        place.targets = [*self.reachable]
        self.watch = Watch(self)
        self._pressed: set[tuple[str, str]] = set()

    def ask(self) -> Message:
        """Have Rita ask for it."""
        return self._town.ask("rita", f"rotate server {LOST}")

    def answer(self, root: Message) -> None:
        """Press what the run asks for; a click that was lost is pressed again when it is still there."""
        for message in self._town.slack.thread(root.ts):
            for label, person in ANSWERS.items():
                if label in message.buttons and not (message.ts == root.ts and label == "Approve"):
                    self._town.slack.click(person, message.ts, label)
                    time.sleep(LOOK_SECONDS)

    def losses(self, run_id: str, root: Message) -> Iterator[str]:
        """Yield a sentence for everything that the world lost by it."""
        nodes = self.octopus.nodes
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end and not all(n.is_running and not n.is_drained for n in nodes):
            time.sleep(LOOK_SECONDS)
        yield from (f"{run_id}: {broken}" for broken in dict.fromkeys(self.watch.broken))
        yield from (f"{run_id}: the node {n.name} is drained" for n in nodes if n.is_drained)
        served = {n.served for n in nodes}
        if len(served) != 1 or None in served:
            yield f"{run_id}: the nodes serve {served}"
        for name, one in self._town.sandbox.estate.instances.items():
            if one.service.state is not ServiceState.RUNNING:
                yield f"{run_id}: the service of {name} is {one.service.state.value}"
            elif name not in LOSABLE and not served & {t.thumbprint for t in one.trusted_by_process}:
                yield f"{run_id}: {name} trusts {[t.text for t in one.trusted_by_process]}, not {served}"
        replies = [m.content for m in self._town.slack.thread(root.ts)[1:] if m.is_bot]
        if sum("The run is over" in r for r in replies) != 1:
            yield f"{run_id}: the thread does not tell the end once"
