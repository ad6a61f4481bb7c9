"""From responses to results: vectors to numpy, spans and models to dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from bertrand._proto import bertrand_pb2 as pb
from bertrand.errors import Internal
from bertrand.types import (
    Embeddings,
    InputStats,
    ModelInfo,
    OutputType,
    Span,
    Timing,
    Token,
    TokenEmbeddings,
    TokenEmbeddingsList,
    TokenizedInput,
)

_OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
_WIRE_TYPES: dict[OutputType, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "binary": np.dtype("u1"),
}


def _output_type(vectors: pb.Vectors) -> OutputType:
    # Unspecified means float32; the other numbers follow the order of the names.
    index = max(int(vectors.type), 1) - 1
    if index >= len(_OUTPUT_TYPES):
        raise Internal(f"vectors of the unknown type {vectors.type}", code="INTERNAL")
    return _OUTPUT_TYPES[index]


def _wire_matrix(vectors: pb.Vectors, kind: OutputType) -> npt.NDArray[Any]:
    """Returns vectors.data as [count, width], a read-only view. Raises Internal if it cannot be."""
    dtype = _WIRE_TYPES[kind]
    width = -(-vectors.dimensions // 8) if kind == "binary" else vectors.dimensions
    if len(vectors.data) != vectors.count * width * dtype.itemsize:
        raise Internal(
            f"{len(vectors.data)} bytes for {vectors.count} x {vectors.dimensions} values of "
            f"type {kind}",
            code="INTERNAL",
        )
    if kind == "int8" and len(vectors.scales) != vectors.count:
        raise Internal(
            f"{len(vectors.scales)} scales for {vectors.count} int8 vectors", code="INTERNAL"
        )
    return np.frombuffer(vectors.data, dtype=dtype).reshape(vectors.count, width)


def to_float32(
    matrix: npt.NDArray[Any],
    kind: OutputType,
    dimensions: int,
    scales: npt.NDArray[np.float32] | None,
) -> npt.NDArray[np.float32]:
    """Returns float32 [count, dimensions], writable; binary becomes +1 and -1."""
    if kind == "bfloat16":
        return (matrix.astype(np.uint32) << 16).view(np.float32)
    if kind == "int8" and scales is not None:
        return matrix.astype(np.float32) * scales[:, np.newaxis]
    if kind == "binary":
        bits = np.unpackbits(matrix, axis=1, count=dimensions)
        return bits.astype(np.float32) * 2 - 1
    return matrix.astype(np.float32)


def _decode(
    vectors: pb.Vectors, raw: bool
) -> tuple[npt.NDArray[Any], OutputType, npt.NDArray[np.float32] | None]:
    """Returns an array of its own, the wire's type, and int8's scales."""
    kind = _output_type(vectors)
    matrix = _wire_matrix(vectors, kind)
    scales = np.array(vectors.scales, dtype=np.float32) if kind == "int8" else None
    if raw:
        return matrix.copy(), kind, scales
    return to_float32(matrix, kind, vectors.dimensions, scales), kind, scales


def _stats(responses: Sequence[Any]) -> list[InputStats]:
    return [
        InputStats(stats.num_tokens, stats.num_truncated_tokens)
        for response in responses
        for stats in response.stats
    ]


def _timing(responses: Sequence[Any]) -> Timing:
    total = Timing()
    for response in responses:
        timing = response.timing
        total += Timing(timing.tokenize_us, timing.queue_us, timing.inference_us, timing.total_us)
    return total


def embeddings(
    responses: Sequence[pb.EmbedResponse], raw: bool = False, first_index: int = 0
) -> Embeddings:
    """Joins the responses of one call; none gives an array [0, 0]."""
    if not responses:
        return Embeddings(np.zeros((0, 0), np.float32), 0, "float32", first_index=first_index)
    decoded = [_decode(response.embeddings, raw) for response in responses]
    scales = [part[2] for part in decoded if part[2] is not None]
    return Embeddings(
        embeddings=_joined([part[0] for part in decoded]),
        dimensions=responses[0].embeddings.dimensions,
        output_type=decoded[0][1],
        scales=_joined(scales) if scales else None,
        stats=_stats(responses),
        timing=_timing(responses),
        first_index=first_index,
    )


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _token(token: pb.Token) -> Token:
    span = token.span
    return Token(
        id=token.id,
        text=token.text,
        span=Span(span.start, span.end, span.start_byte, span.end_byte, span.sequence_index),
        special=token.special,
        type_id=token.type_id,
    )


def token_embeddings(
    responses: Sequence[pb.EmbedTokensResponse], raw: bool = False
) -> TokenEmbeddingsList:
    """Joins the responses of one call."""
    results = []
    for response in responses:
        for result in response.results:
            matrix, kind, scales = _decode(result.vectors, raw)
            results.append(
                TokenEmbeddings(
                    tokens=[_token(token) for token in result.tokens],
                    embeddings=matrix,
                    dimensions=result.vectors.dimensions,
                    output_type=kind,
                    scales=scales,
                )
            )
    return TokenEmbeddingsList(results, _stats(responses), _timing(responses))


def tokenized(responses: Sequence[pb.TokenizeResponse]) -> list[TokenizedInput]:
    """Joins the responses of one call."""
    return [
        TokenizedInput([_token(token) for token in result.tokens])
        for response in responses
        for result in response.results
    ]


def texts(responses: Sequence[pb.DetokenizeResponse]) -> list[str]:
    """Joins the responses of one call."""
    return [text for response in responses for text in response.texts]


def _enum_name(message: Any, field: str, number: int) -> str:
    """Returns an enum value's name in lower case without its prefix; unspecified gives ""."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    if number not in enum.values_by_number:
        return str(number)  # A newer server.
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    name: str = enum.values_by_number[number].name
    return "" if number == 0 else name.removeprefix(prefix).lower()


def model_info(info: pb.ModelInfo) -> ModelInfo:
    """Converts one model."""
    return ModelInfo(
        name=info.name,
        source=info.source,
        revision=info.revision,
        state=_enum_name(info, "state", info.state),
        family=_enum_name(info, "family", info.family),
        architecture=info.architecture,
        tasks=[_enum_name(info, "tasks", task) for task in info.tasks],
        hidden_size=info.hidden_size,
        num_layers=info.num_layers,
        num_heads=info.num_heads,
        vocab_size=info.vocab_size,
        max_tokens=info.max_tokens,
        labels=list(info.labels),
        compute_type=info.compute_type,
        devices=list(info.devices),
        weight_bytes=info.weight_bytes,
        num_parameters=info.num_parameters,
        error=info.error,
    )
