"""Health: /healthz says that the process lives, /readyz that it can do its work, /metrics what it did."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot import telemetry
from bot.clock import Clock

log = structlog.get_logger("octocert.health")

FRESH_SECONDS = 2.0
"""How long an answer stands: whoever asks all the time does not make the bot look all the time."""

Probe = Callable[[], str | None]
"""Returns None where all is well, else a sentence for whoever looks at /readyz."""
Gauges = Mapping[str, Mapping[str, float] | float]


class Health:
    """Asks the parts of the bot how they are."""

    def __init__(
        self, alive: Mapping[str, Probe], ready: Mapping[str, Probe], gauges: Callable[[], Gauges], clock: Clock
    ) -> None:
        self._alive = _Asked(alive, clock)
        self._ready = _Asked(ready, clock)
        self._gauges = gauges

    def routes(self) -> list[Route]:
        """Return the routes for a Starlette application."""
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]

    async def _healthz(self, request: Request) -> Response:
        return _report(await run_in_threadpool(self._alive.ask))

    async def _readyz(self, request: Request) -> Response:
        return _report(await run_in_threadpool(self._ready.ask))

    async def _metrics(self, request: Request) -> Response:
        text = await run_in_threadpool(lambda: telemetry.exposition(self._gauges()))
        return Response(text, headers={"Content-Type": telemetry.CONTENT_TYPE})


class _Asked:
    """Some probes, and what they said last."""

    def __init__(self, probes: Mapping[str, Probe], clock: Clock) -> None:
        self._probes = probes
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: dict[str, str | None] = {}
        self._until = float("-inf")

    def ask(self) -> dict[str, str | None]:
        """Return the problem of each part, None where it has none."""
        with self._lock:
            if self._clock.monotonic() >= self._until:
                self._answer = {name: _problem(name, probe) for name, probe in self._probes.items()}
                self._until = self._clock.monotonic() + FRESH_SECONDS
            return self._answer


def _problem(name: str, probe: Probe) -> str | None:
    try:
        return probe()
    except Exception:
        log.exception("a part could not be asked how it is", part=name)
        return "It could not be asked; the log says why."


def _report(answer: Mapping[str, str | None]) -> Response:
    document: dict[str, Any] = {"ok": not any(answer.values()), "parts": {n: t or "ok" for n, t in answer.items()}}
    return JSONResponse(document, 200 if document["ok"] else 503, headers={"Cache-Control": "no-store"})
