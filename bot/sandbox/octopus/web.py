"""An ASGI application served by uvicorn on a thread of its own, at an address that it keeps over restarts."""

import errno
import socket
import threading
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

_STOP_SECONDS = 5.0


class WebServer:
    """Serves at one address and port; between `stop` and `start` connections are refused."""

    def __init__(self, application: Starlette, address: str, port: int, files: tuple[Path, Path] | None = None) -> None:
        """Serve HTTPS where `files` (PEM of certificate and key) are given; a port that is taken is replaced."""
        self._application = application
        self._files = files
        self._address = address
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._bind()

    @property
    def url(self) -> str:
        """The base address, without a slash at its end."""
        return f"{'https' if self._files else 'http'}://{self._address}:{self._port}"

    def start(self) -> None:
        """Serve; nothing happens if it does already."""
        with self._lock:
            if self._thread is not None:
                return
            if self._socket is None:
                self._bind()
            assert self._socket is not None
            self._socket.listen(128)
            certificate, key = self._files or (None, None)
            config = uvicorn.Config(
                self._application,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                timeout_graceful_shutdown=1,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
            self._server = uvicorn.Server(config)
            self._thread = threading.Thread(
                target=self._server.run, args=([self._socket],), name="octopus-web", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Serve no more; nothing happens if it does not."""
        with self._lock:
            if self._server is not None and self._thread is not None:
                self._server.should_exit = True
                self._thread.join(_STOP_SECONDS)
                self._server = self._thread = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _bind(self) -> None:
        # asyncio switches Nagle's algorithm off for sockets of this protocol only; with it each answer takes 40 ms
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((self._address, self._port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                made.close()
                raise
            made.bind((self._address, 0))
        self._port = made.getsockname()[1]
        self._socket = made
