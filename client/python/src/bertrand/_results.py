"""From responses to results: vectors to numpy, spans and models to dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from bertrand._proto import bertrand_pb2 as pb
from bertrand.errors import Internal
from bertrand.types import (
    Answer,
    Embeddings,
    Entity,
    InputStats,
    LabelScore,
    Mask,
    MaskCandidate,
    ModelInfo,
    OutputType,
    PairPrediction,
    Rank,
    Ranking,
    Results,
    Span,
    SparseVector,
    Timing,
    Token,
    TokenEmbeddings,
    TokenEmbeddingsList,
    TokenizedInput,
    Verdict,
)

Item = TypeVar("Item")

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


def _span(span: pb.TextSpan) -> Span:
    return Span(span.start, span.end, span.start_byte, span.end_byte, span.sequence_index)


def _token(token: pb.Token) -> Token:
    return Token(
        id=token.id,
        text=token.text,
        span=_span(token.span),
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


def _joined_results(
    responses: Sequence[Any], convert: Callable[[Any], Item], field: str = "results"
) -> Results[Item]:
    """Joins the responses of one call, each result converted."""
    items = [convert(result) for response in responses for result in getattr(response, field)]
    return Results(items, _stats(responses), _timing(responses))


def sparse_vectors(responses: Sequence[pb.EmbedSparseResponse]) -> Results[SparseVector]:
    """Joins the responses of one call."""

    def convert(vector: Any) -> SparseVector:
        return SparseVector(
            np.array(vector.indices, dtype=np.uint32), np.array(vector.values, dtype=np.float32)
        )

    return _joined_results(responses, convert, "embeddings")


def labels(responses: Sequence[Any]) -> Results[list[LabelScore]]:
    """Joins the responses of one call of Classify or ClassifyZeroShot."""

    def convert(result: Any) -> list[LabelScore]:
        return [LabelScore(item.label, item.score, item.label_id) for item in result.labels]

    return _joined_results(responses, convert)


def ranking(
    responses: Sequence[pb.RerankResponse], documents: Sequence[str], top_n: int
) -> Ranking:
    """Joins the responses of one call: indices count on, and the best of all come first."""
    ranks: list[Rank] = []
    first = 0
    for response in responses:
        for rank in response.ranks:
            index = first + rank.index
            if index >= len(documents):
                raise Internal(f"a rank of document {index} of {len(documents)}", code="INTERNAL")
            ranks.append(Rank(index, rank.score, documents[index]))
        first += len(response.stats)
    if len(responses) > 1:
        ranks.sort(key=lambda rank: -rank.score)
    return Ranking(ranks[: top_n or None], _stats(responses), _timing(responses))


def entities(responses: Sequence[pb.ClassifyTokensResponse]) -> Results[list[Entity]]:
    """Joins the responses of one call."""

    def convert(result: Any) -> list[Entity]:
        return [
            Entity(item.label, item.score, item.text, _span(item.span), item.token_index)
            for item in result.entities
        ]

    return _joined_results(responses, convert)


def answers(responses: Sequence[pb.AnswerQuestionResponse]) -> Results[list[Answer]]:
    """Joins the responses of one call."""

    def convert(result: Any) -> list[Answer]:
        return [Answer(item.text, item.score, _span(item.span)) for item in result.answers]

    return _joined_results(responses, convert)


def masks(responses: Sequence[pb.FillMaskResponse]) -> Results[list[Mask]]:
    """Joins the responses of one call."""

    def convert(result: Any) -> list[Mask]:
        return [
            Mask(
                _span(mask.span),
                [
                    MaskCandidate(item.token, item.score, item.token_id, item.sequence)
                    for item in mask.candidates
                ],
            )
            for mask in result.masks
        ]

    return _joined_results(responses, convert)


def verdicts(responses: Sequence[pb.DetectReplacedTokensResponse]) -> Results[list[Verdict]]:
    """Joins the responses of one call."""

    def convert(result: Any) -> list[Verdict]:
        return [
            Verdict(item.text, item.score, item.replaced, _span(item.span))
            for item in result.verdicts
        ]

    return _joined_results(responses, convert)


def pair_predictions(
    responses: Sequence[pb.PredictSentencePairResponse],
) -> Results[PairPrediction]:
    """Joins the responses of one call."""
    return _joined_results(
        responses, lambda result: PairPrediction(result.in_order, result.not_in_order)
    )


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
