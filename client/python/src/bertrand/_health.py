"""grpc.health.v1 by hand: its two messages have one field each.

The official package would tie this one's protobuf version to its own and put its messages in the
process-wide descriptor pool.
"""

from __future__ import annotations

from typing import get_args

from bertrand.types import HealthStatus

METHOD = "/grpc.health.v1.Health/Check"
_LENGTH_DELIMITED_FIELD_1 = b"\x0a"
_VARINT_FIELD_1 = 0x08
_STATUSES: tuple[HealthStatus, ...] = get_args(HealthStatus)


def encode_request(service: str) -> bytes:
    """Returns HealthCheckRequest{service}."""
    name = service.encode()
    if not name:
        return b""
    length, head = len(name), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return _LENGTH_DELIMITED_FIELD_1 + bytes(head) + name


def decode_response(message: bytes) -> HealthStatus:
    """Returns the status of a HealthCheckResponse; "unknown" for anything unexpected."""
    if len(message) == 2 and message[0] == _VARINT_FIELD_1 and message[1] < len(_STATUSES):
        return _STATUSES[message[1]]
    return "unknown"
