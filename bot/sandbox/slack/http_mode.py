"""HTTP mode: signed POSTs to the bot's request URL, with url_verification, ssl_check, and retry headers.

Source: docs.slack.dev, "Verifying requests from Slack" and "Events API".
"""

import asyncio
import hashlib
import hmac
import http.client
import json
import time
from urllib.parse import urlencode, urlsplit

from bot.sandbox.slack.delivery import ACK_SECONDS, Answer, Delivery
from bot.sandbox.slack.model import Json
from bot.sandbox.slack.workspace import Workspace


class HttpDelivery(Delivery):
    """Delivers to one request URL for everything; interactions by form, events as JSON."""

    retry_reason = "http_timeout"

    def __init__(
        self, workspace: Workspace, request_url: str, signing_secret: str, ack_seconds: float = ACK_SECONDS
    ) -> None:
        super().__init__(workspace, ack_seconds)
        self._url = urlsplit(request_url)
        self._secret = signing_secret

    def signed(self, body: bytes) -> dict[str, str]:
        """Return the headers by which the bot knows that a body comes from Slack."""
        # The bot checks against the machine's clock, whatever clock the sandbox runs on; skew is a fault of Slack's.
        stamp = str(int(time.time() + self.workspace.faults.clock_skew))
        digest = hmac.new(self._secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}

    def post(
        self, content_type: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """POST one signed body; return (status, headers in lower case, body). OSError when nobody answers in time."""
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=self.ack_seconds)
        try:
            whole = {"Content-Type": content_type, "User-Agent": "Slackbot 1.0", **self.signed(body), **(headers or {})}
            connection.request("POST", self._url.path or "/", body, whole)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def verify_url(self) -> bool:
        """Ask the bot to prove that it owns the URL (`url_verification`), and say whether it echoed the challenge."""
        body = json.dumps({"type": "url_verification", "token": "sandbox", "challenge": "3eZbrw1aB10cert"}).encode()
        status, _, answer = self.post("application/json", body)
        return status == 200 and b"3eZbrw1aB10cert" in answer

    def ssl_check(self) -> int:
        """Send Slack's certificate check of a command URL and return the status."""
        return self.post("application/x-www-form-urlencoded", b"ssl_check=1&token=sandbox")[0]

    async def _deliver(self, kind: str, payload: Json, attempt: int, reason: str) -> Answer:
        """Send one delivery by HTTP and take the answer for its acknowledgement."""
        headers = {"X-Slack-Retry-Num": str(attempt), "X-Slack-Retry-Reason": reason} if attempt else {}
        if kind == "events_api":
            content_type, body = "application/json", json.dumps(payload).encode()
        else:
            content_type = "application/x-www-form-urlencoded"
            body = urlencode(payload if kind == "slash_commands" else {"payload": json.dumps(payload)}).encode()
        try:
            status, answered, content = await asyncio.to_thread(self.post, content_type, body, headers)
        except TimeoutError:
            return Answer(payload={}, error="operation_timeout")
        except (OSError, http.client.HTTPException):
            return Answer(payload={}, error="dispatch_failed")
        if not 200 <= status < 300:
            return Answer(payload={}, error="dispatch_failed", final=answered.get("x-slack-no-retry") == "1")
        if "json" in answered.get("content-type", ""):
            document = json.loads(content or b"{}")
            return Answer(payload=document if isinstance(document, dict) else {})
        return Answer(payload={"text": content.decode()} if content else {})
