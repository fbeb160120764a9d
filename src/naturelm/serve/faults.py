"""What goes wrong with a request, in the words that its sender is told. No path of the server, and no trace."""

from enum import StrEnum

from naturelm.errors import NatureLMError


class ServeError(NatureLMError):
    """A server that cannot be started as it was asked for."""


class Fault(StrEnum):
    """Kinds of refusal, as clients may tell them apart."""

    INVALID = "invalid_request"
    UNAUTHORISED = "unauthorised"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    BAD_AUDIO = "bad_audio"
    BUSY = "busy"
    TIMED_OUT = "timed_out"
    STOPPING = "stopping"
    INTERNAL = "internal"


STATUS = {
    Fault.INVALID: 400,
    Fault.UNAUTHORISED: 401,
    Fault.NOT_ALLOWED: 403,
    Fault.NOT_FOUND: 404,
    Fault.TOO_LARGE: 413,
    Fault.BAD_AUDIO: 400,
    Fault.BUSY: 429,
    Fault.TIMED_OUT: 504,
    Fault.STOPPING: 503,
    Fault.INTERNAL: 500,
}
"""The HTTP status of each."""


class RequestFault(NatureLMError):
    """A request, or one item of it, that is not answered.

    kind: what sort of refusal. retry_after: s after which it may be tried again, where that helps.
    param: the part of the request that is meant, "" where it is all of it.
    """

    def __init__(self, kind: Fault, message: str, *, retry_after: int | None = None, param: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.param = param

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return STATUS[self.kind]
