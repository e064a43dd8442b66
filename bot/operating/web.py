"""The bot's own web server: one thread with an event loop, on one address."""

import asyncio
import socket
import threading
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from bot.domain.errors import UserError
from bot.settings_operating import Address

GRACE_SECONDS = 5
"""For requests under way when the server stops."""
STOP_SECONDS = 10.0
CONNECTIONS = 200
"""Connections at once; what comes on top is answered 503."""


class WebServer:
    """Serves routes until it is stopped. It listens as soon as it is started; UserError if the address is taken."""

    def __init__(self, address: Address, routes: Sequence[BaseRoute]) -> None:
        self._wanted = address
        self._routes = list(routes)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.address = address

    def start(self) -> None:
        """Listen."""
        host, port = self._wanted
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"The bot cannot listen on {_shown(self._wanted)}: {reason}. Name a free address of this machine."
            ) from None
        self.address = Address(host, listener.getsockname()[1])
        config = uvicorn.Config(
            Starlette(routes=self._routes),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        serving = self._server.serve(sockets=[listener])
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), name="web", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at its end."""
        return f"http://{_shown(self.address)}"

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Listen no more, and let requests under way end."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS)
            self._thread = None


def _shown(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
