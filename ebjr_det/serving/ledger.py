"""What is written down of every request of HTTP."""

import json
import sys
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ebjr_det.serving.metrics import Meters

REMARKS = ("pictures", "deferred")


class Ledger:
    """Counts every request, and writes a line of JSON on stderr for each."""

    def __init__(self, app: ASGIApp, meters: Meters, log: bool) -> None:
        self.app, self.meters, self.log = app, meters, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see with which status it ends."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = monotonic(), 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = monotonic() - started
            if scope["path"].endswith("/infer"):
                self.meters.ended(status, seconds)
            if self.log:
                self._write(scope, status, seconds)

    def _write(self, scope: Scope, status: int, seconds: float) -> None:
        line = {"method": scope["method"], "path": scope["path"], "status": status}
        remarks = {name: value for name, value in scope.get("state", {}).items() if name in REMARKS}
        print(json.dumps(line | {"ms": round(1000 * seconds, 3)} | remarks), file=sys.stderr, flush=True)
