"""The benchmark's sandbox in a process of its own: commands by standard input, answers by standard output.

Run by `bot.operating.bench` as `python -m bot.operating.bench_world`; the bot and its peers are other processes.
"""

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bot.operating import bench_hosts
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.slack.model import Message
from bot.sandbox.stories import is_over

ANSWER_SECONDS = 600.0
RUN_SECONDS = 7200.0
_OVER = "The run is over"


class Stage:
    """One sandbox, and what a person does in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._slack = sandbox.slack
        self._requests: dict[str, int] = {}
        self._calls = 0

    def about(self) -> dict[str, Any]:
        """Return what the bot and its peers need to know."""
        user, password = self._sandbox.world.account
        hosts = [
            {
                "name": name,
                "address": instance.host.address,
                "exe": str(instance.host.tentacle_exe),
                "instance": instance.name,
                "service": instance.service.name,
                "machine": self._sandbox.estate.records[name][0],
            }
            for name, instance in self._sandbox.estate.instances.items()
        ]
        return {
            "config": str(self._sandbox.config),
            "octopus": self._sandbox.octopus.url,
            "api_key": self._sandbox.octopus.api_key,
            "user": user,
            "password": password,
            "ca_file": str(self._sandbox.world.ca.file),
            "hosts": hosts,
        }

    def connected(self) -> bool:
        """Wait until the bot is there."""
        self._slack.wait_connected(60)
        return True

    def ask(self, text: str) -> dict[str, Any]:
        """Have Rita ask for something; return the bot's message when it stands in the channel, and the seconds."""
        before, began = {m.ts for m in self._slack.messages()}, time.monotonic()
        self._slack.command("rita", "deployments", text)

        def found() -> Message | None:
            return next((m for m in self._slack.messages() if m.ts not in before and m.is_bot), None)

        message = self._slack.wait_for(found, ANSWER_SECONDS)
        if message is None:
            raise TimeoutError("the bot did not answer")
        return {"ts": message.ts, "buttons": message.buttons, "seconds": time.monotonic() - began}

    def approve(self, ts: str) -> dict[str, Any]:
        """Have Ada approve; return the seconds until the first request reached a host."""
        self.mark()
        before, began = self._total(), time.monotonic()
        receipt = self._slack.click("ada", ts, "Approve")
        acknowledged = time.monotonic() - began
        while self._total() == before and time.monotonic() - began < ANSWER_SECONDS:
            time.sleep(0.002)
        return {"acknowledged": receipt.acknowledged, "ack": acknowledged, "first_step": time.monotonic() - began}

    def over(self, ts: str) -> dict[str, Any]:
        """Wait until the run's message shows that nothing happens any more."""
        is_done = self._slack.wait_for(lambda: is_over(self._slack.message(ts)), RUN_SECONDS)
        return {"over": bool(is_done)}

    def told(self, ts: str) -> bool:
        """Wait until the thread tells the end, too: Slack takes one message a second."""
        self._slack.wait_for(lambda: any(_OVER in m.content for m in self._slack.thread(ts)), RUN_SECONDS)
        return True

    def storm(self, rate: float, seconds: float, text: str) -> list[float | None]:
        """Have commands come at a rate; return the seconds until each was acknowledged, None where it was not."""

        def one() -> float | None:
            began = time.monotonic()
            receipt = self._slack.command("otto", "deployments", text)
            return time.monotonic() - began if receipt.acknowledged else None

        with ThreadPoolExecutor(64) as people:
            begin, waiting = time.monotonic(), []
            for number in range(int(rate * seconds)):
                time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                waiting.append(people.submit(one))
            return [one.result() for one in waiting]

    def mark(self) -> bool:
        """Count requests and calls from now on."""
        self._requests = dict(self._sandbox.winrm.requests)
        self._calls = self._bot_calls()
        return True

    def counts(self) -> dict[str, Any]:
        """Return what was asked of hosts and of Slack since the mark, and whether the world is as it should be."""
        since = {n: c - self._requests.get(n, 0) for n, c in self._sandbox.winrm.requests.items()}
        names = self._sandbox.estate.instances
        return {
            "requests": sum(since.values()),
            "most_requests": max(since.values(), default=0),
            "slack_calls": self._bot_calls() - self._calls,
            "made": sum(e.kind == "make" for e in list(self._sandbox.world.effects)),
            "consistent": sum(self._sandbox.consistent(n) for n in names),
        }

    def _total(self) -> int:
        return sum(self._sandbox.winrm.requests.values())

    def _bot_calls(self) -> int:
        return sum(c.direction == "bot" for c in self._slack.traffic)


def main() -> None:
    """Serve one benchmark until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--remote-seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--rate-limit", type=int, default=0, help="Octopus's requests a minute; 0 for no limit")
    parser.add_argument("--free-slack", action="store_true", help="Slack limits no calls: for storms of commands")
    options = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr
    sandbox = Sandbox(
        options.state,
        hosts=options.hosts,
        pace=options.remote_seconds / 2,
        powershell=None,
        build=bench_hosts.estate,
        start=bench_hosts.start,
        real_limits=not options.free_slack,
    )
    text = sandbox.config.read_text(encoding="utf-8")
    sandbox.config.write_text(text.replace("in_flight = 16", f"in_flight = {options.in_flight}"), encoding="utf-8")
    sandbox.octopus.rate.per_minute = options.rate_limit or None
    stage, writing = Stage(sandbox), threading.Lock()

    def tell(answer: object) -> None:
        with writing:
            out.write(json.dumps(answer) + "\n")
            out.flush()

    tell(stage.about())
    for line in sys.stdin:
        order = json.loads(line)
        try:
            tell({"answer": getattr(stage, order.pop("do"))(**order)})
        except Exception as error:  # noqa: BLE001 -- told to whoever asked
            tell({"error": f"{type(error).__name__}: {error}"})
    sandbox.close()


if __name__ == "__main__":
    main()
