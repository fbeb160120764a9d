"""How refusals look: one shape on all addresses, that of OpenAI's API, so that its clients understand it."""

from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from naturelm.serve.faults import RequestFault

REQUEST_ID = "x-request-id"


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str = Field(description="Kind of refusal, such as `invalid_request`, `busy`, `too_large`.")
    param: str | None = Field(default=None, description="The part of the request that is meant.")
    code: str | None = None


class ErrorBody(BaseModel):
    """Body of every response that is a refusal."""

    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "The request cannot be used; the message says why"),
        (401, "The API key is missing or wrong"),
        (413, "Too much at once"),
        (415, "The body is not JSON"),
        (422, "A part of the request is missing, unknown or of another type"),
        (429, "Too many questions wait; see Retry-After"),
        (503, "The server is stopping"),
        (504, "No answer in time"),
    )
}
"""For OpenAPI."""


def refusal(fault: RequestFault, *, status: int | None = None) -> JSONResponse:
    """The response that tells a client of a fault. status: where it is not that of the fault's kind."""
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.status == 401:
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="naturelm", charset="UTF-8"'
    detail = ErrorDetail(
        message=str(fault), type=fault.kind.value, param=fault.param or None, code=fault.kind.value
    )
    return JSONResponse(
        ErrorBody(error=detail).model_dump(), status_code=status or fault.status, headers=headers
    )
