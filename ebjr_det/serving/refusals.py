"""Faults as answers of HTTP: a status and one line that says nothing of the machine's insides."""

import math

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ebjr_det.serving.fault import Fault


def _error(status: int, message: str, retry_after: float | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


async def refuse(request: Request, error: Exception) -> Response:
    """One line; what the machine's folders are called is nobody's business."""
    message, folder = str(error), request.app.state.desk.bench.served.folder
    if folder:
        message = message.replace(f"{folder}/", "").replace(folder, "the pair's folder")
    if isinstance(error, Fault):
        return _error(error.status, message, error.retry_after)
    return _error(400, message)


async def refuse_http(request: Request, error: Exception) -> Response:
    """An address or a method that is not there."""
    assert isinstance(error, HTTPException)
    texts = {404: "Expected an address of the protocol, got another.", 405: "Expected another method."}
    return JSONResponse(
        {"error": texts.get(error.status_code, error.detail)}, error.status_code, error.headers
    )


async def fail(request: Request, error: Exception) -> Response:
    """A defect of ours: the server's log has it, its client learns no more than that."""
    return _error(500, "Expected an answer, got a defect of this server. Its log tells more.")
