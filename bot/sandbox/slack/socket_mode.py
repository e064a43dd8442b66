"""Socket Mode: connections of the bot, envelopes to one of them, acknowledgements back.

Source: docs.slack.dev/apis/events-api/using-socket-mode. An envelope goes to any one connection, and the first
acknowledgement counts.
"""

import asyncio
import contextlib
import json
import random
import secrets
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.sandbox.slack.delivery import ACK_SECONDS, POLL_SECONDS, Answer, Delivery
from bot.sandbox.slack.model import APP_ID, Json
from bot.sandbox.slack.workspace import Workspace

MOST_CONNECTIONS = 10
TICKET_SECONDS = 60.0
GRACE_SECONDS = {"warning": 10.0, "refresh_requested": 1.0}  # between the message and the end of the connection
CONNECTION_SECONDS = 18060  # what hello announces


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One WebSocket of the bot; `leaving` when it was told that it will end."""

    socket: WebSocket
    name: str
    leaving: bool = False


class SocketHub(Delivery):
    """All Socket Mode connections; its coroutines belong to the server's loop."""

    def __init__(self, workspace: Workspace, ack_seconds: float = ACK_SECONDS) -> None:
        super().__init__(workspace, ack_seconds)
        self.enabled = True  # false after "link_disabled"
        self.connections: list[Connection] = []
        self._tickets: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[Json]] = {}

    def ticket(self) -> str:
        """Return a new ticket for one connection."""
        ticket = secrets.token_urlsafe(24)
        with self.workspace.lock:
            self._tickets[ticket] = self.workspace.clock.monotonic()
        return ticket

    # --- connections ------------------------------------------------------------------------------------------

    async def serve(self, socket: WebSocket) -> None:
        """Hold one connection of the bot from hello to its end."""
        with self.workspace.lock:
            issued = self._tickets.pop(socket.query_params.get("ticket", ""), None)
        if issued is None or self.workspace.clock.monotonic() - issued > TICKET_SECONDS:
            await socket.close(4001)
            return
        await socket.accept()
        if len(self.connections) >= MOST_CONNECTIONS:
            await socket.send_text(json.dumps({"type": "disconnect", "reason": "too_many_websockets"}))
            await socket.close()
            return
        connection = Connection(socket=socket, name=f"applink-{secrets.token_hex(3)}")
        self.connections.append(connection)
        hello = {
            "type": "hello",
            "num_connections": len(self.connections),
            "connection_info": {"app_id": APP_ID},
            "debug_info": {
                "host": connection.name,
                "build_number": 1,
                "approximate_connection_time": CONNECTION_SECONDS,
            },
        }
        try:
            await socket.send_text(json.dumps(hello))
            self.workspace.touch()
            while True:
                self._acknowledged(json.loads(await socket.receive_text()))
        except WebSocketDisconnect:
            pass
        except (ValueError, KeyError, AttributeError, RuntimeError):
            await self._close(connection)  # it sent something that is no text frame of a JSON object
        finally:
            if connection in self.connections:
                self.connections.remove(connection)
            self.workspace.touch()

    def _acknowledged(self, message: Json) -> None:
        """Take an acknowledgement; one for an envelope that nobody waits for any more is ignored, as Slack does."""
        waiting = self._waiting.get(str(message.get("envelope_id", "")))
        if waiting is not None and not waiting.done():
            payload = message.get("payload")
            waiting.set_result(payload if isinstance(payload, dict) else {})

    async def disconnect(self, reason: str) -> None:
        """Tell every connection that it ends, and end it after the reason's grace time."""
        if reason == "link_disabled":
            self.enabled = False
        for connection in list(self.connections):
            connection.leaving = True
            message = {"type": "disconnect", "reason": reason, "debug_info": {"host": connection.name}}
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await connection.socket.send_text(json.dumps(message))
            self.background(self._close_later(connection, GRACE_SECONDS.get(reason, 0.0)))

    async def _close(self, connection: Connection) -> None:
        """Close one connection from our side."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await connection.socket.close()

    async def _close_later(self, connection: Connection, seconds: float) -> None:
        """Close a connection that was told of its end."""
        await self.pause(seconds)
        await self._close(connection)

    # --- deliveries -------------------------------------------------------------------------------------------

    async def _deliver(self, kind: str, payload: Json, attempt: int, reason: str) -> Answer:
        """Send one envelope to any one connection and wait."""
        able = [connection for connection in self.connections if not connection.leaving] or list(self.connections)
        if not able:
            return Answer(payload={}, error="dispatch_failed")
        envelope: Json = {
            "envelope_id": secrets.token_hex(16),
            "type": kind,
            "accepts_response_payload": kind != "events_api",
            "payload": payload,
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": attempt, "retry_reason": reason}
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[envelope["envelope_id"]] = waiting
        copies = 1
        if self.workspace.faults.duplicate_envelopes > 0:
            self.workspace.faults.duplicate_envelopes -= 1
            copies = 2
        end = self.workspace.clock.monotonic() + self.ack_seconds
        try:
            for _ in range(copies):
                connection = random.choice(able)
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await connection.socket.send_text(json.dumps(envelope))
            while not waiting.done() and self.workspace.clock.monotonic() < end:
                await asyncio.wait({waiting}, timeout=POLL_SECONDS)
            if waiting.done():
                return Answer(payload=waiting.result())
            return Answer(payload={}, error="operation_timeout")
        finally:
            self._waiting.pop(envelope["envelope_id"], None)
