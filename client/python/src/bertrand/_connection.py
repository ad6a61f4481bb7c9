"""What both clients agree on about the wire: address, channel options, and when to ask again."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import Any

import grpc

from bertrand import errors

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 120.0
# Requests of one long list under way at once: one computed, the next tokenised and waiting.
REQUESTS_IN_FLIGHT = 2
# The server's --max-response-bytes is 64 MB by default and may be set higher.
_RECEIVE_BYTES_MAX = 256 * 1024 * 1024

_LOOPBACK = ("127.", "localhost", "[::1]")


def resolve_address(address: str | None) -> str:
    """Returns address, or $BERTRAND_ADDRESS, or the server's default."""
    return address or os.environ.get("BERTRAND_ADDRESS") or DEFAULT_ADDRESS


def channel_options(address: str, extra: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Returns gRPC's channel options; those in `extra` come last and win."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _RECEIVE_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.primary_user_agent", "bertrand-client"),
        # gRPC's own back-off between connection attempts grows to two minutes, which would make
        # wait_ready miss a server that has long been up.
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if address.startswith(_LOOPBACK):
        # http_proxy in the environment is never meant for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return [*options, *extra]


class Retry:
    """Decides, after each failure of one request, how long to wait before asking again.

    Asked again: RESOURCE_EXHAUSTED with the server's retry hint, as long as the deadline allows;
    UNAVAILABLE, with the hint or exponential back-off, at most UNAVAILABLE_ATTEMPTS times. All
    methods are pure, so asking twice does no harm. Not thread-safe; one per request.
    """

    UNAVAILABLE_ATTEMPTS = 4
    BACKOFF_S = 0.1
    BACKOFF_MAX_S = 2.0
    # A hint of 0 must not become a busy loop.
    WAIT_MIN_S = 0.005

    def __init__(self, address: str, deadline: float, first_input: int = 0) -> None:
        """Deadline is a time of time.monotonic()."""
        self.deadline = deadline
        self._address = address
        self._first_input = first_input
        self._num_unavailable = 0

    def remaining(self) -> float:
        """Returns the seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - time.monotonic())

    def delay(self, error: grpc.RpcError) -> float:
        """Returns the seconds to wait, or raises the error in this package's terms."""
        hint = errors.pushback_seconds(error.trailing_metadata())
        seconds: float | None = None
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            seconds = hint
        elif error.code() == grpc.StatusCode.UNAVAILABLE:
            self._num_unavailable += 1
            if self._num_unavailable <= self.UNAVAILABLE_ATTEMPTS:
                seconds = self._backoff() if hint is None else hint
        if seconds is None or seconds < 0 or seconds >= self.remaining():
            raise errors.from_rpc_error(error, self._address, self._first_input) from error
        return max(seconds, self.WAIT_MIN_S)

    def _backoff(self) -> float:
        # Jitter, so that clients cut off together do not come back together.
        limit = self.BACKOFF_S * 2 ** (self._num_unavailable - 1)
        return min(float(limit), self.BACKOFF_MAX_S) * random.uniform(0.5, 1.0)
