"""What a call raises: one exception class per gRPC status that a server gives a meaning to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc


class Error(Exception):
    """A call that failed.

    Attributes:
        code: name of the gRPC status, such as "INVALID_ARGUMENT".
        message: the server's own words; they name what to change.
        retry_after: seconds after which the server would like to be asked again, or None when
            it gave no hint. Calls wait and ask again by themselves while their timeout allows.
        first_input: index, in the call's list of inputs, of the first input of the request that
            failed. Not 0 only where a long list went out as several requests; indices in
            `message` count from there.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        retry_after: float | None = None,
        first_input: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.first_input = first_input

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}"
        if self.first_input:
            text += f" (in a request that starts at input {self.first_input} of the call)"
        if self.retry_after is not None:
            text += f" (retry after {self.retry_after:g} s)"
        return text


class Cancelled(Error):
    """The call was cancelled."""


class InvalidArgument(Error):
    """An input or option is wrong; the message names the index and the field."""


class NotFound(Error):
    """The server has no such model."""


class FailedPrecondition(Error):
    """The model has no head for the task; the message lists what it can do."""


class ResourceExhausted(Error):
    """The queue stayed full (retry_after is set) or a limit was exceeded (it is None)."""


class DeadlineExceeded(Error):
    """The timeout passed, or the server saw that it would."""


class Unavailable(Error):
    """No server at the address, or one that is shutting down or lost its device."""


class Unimplemented(Error):
    """The server does not know the method."""


class Unauthenticated(Error):
    """Credentials are missing or wrong."""


class PermissionDenied(Error):
    """The server does not allow this call."""


class Internal(Error):
    """The server broke, or the answer was not one."""


_CLASSES: dict[str, type[Error]] = {
    "CANCELLED": Cancelled,
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": FailedPrecondition,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
    "UNIMPLEMENTED": Unimplemented,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "INTERNAL": Internal,
}

# gRPC's own convention (gRFC A6): milliseconds to wait; anything else means "do not retry".
_PUSHBACK_KEY = "grpc-retry-pushback-ms"


def pushback_seconds(metadata: Iterable[tuple[str, Any]] | None) -> float | None:
    """Returns the retry hint of trailing metadata: None without one, negative for "do not"."""
    for key, value in metadata or ():
        if key == _PUSHBACK_KEY:
            try:
                return int(value) / 1000
            except ValueError:
                return -1.0
    return None


def from_rpc_error(error: grpc.RpcError, address: str, first_input: int = 0) -> Error:
    """Converts gRPC's exception, of a sync or asyncio call, to this package's."""
    code: str = error.code().name
    message: str = error.details() or "no details"
    hint = pushback_seconds(error.trailing_metadata())
    # gRPC's words for a refused connection are long and do not say what to do.
    if code == "UNAVAILABLE" and "connect" in message.lower():
        message = (
            f"no Bertrand server answers at {address}; start one with `./run serve MODEL` or "
            f"`bertrand-server --model MODEL`, or set BERTRAND_ADDRESS ({message})"
        )
    return _CLASSES.get(code, Error)(
        message,
        code=code,
        retry_after=hint if hint is None or hint >= 0 else None,
        first_input=first_input,
    )
