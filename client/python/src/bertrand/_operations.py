"""What each method sends and makes of the answers: all that Client and AsyncClient share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bertrand import _health, _requests, _results
from bertrand._proto import bertrand_pb2 as pb
from bertrand._requests import MAX_INPUTS, Chunk, Chunker
from bertrand.types import (
    Embeddings,
    HealthStatus,
    Inputs,
    ModelInfo,
    TokenEmbeddingsList,
    TokenizedInput,
)

Result = TypeVar("Result")

# 16 x 512 tokens x 1,024 values of 4 bytes are half of the 64 MB that an answer may have.
_EMBED_TOKENS_INPUTS = 16


@dataclass(frozen=True)
class Operation(Generic[Result]):
    """Requests to send by one RPC, and how their responses, in order, make the result."""

    method: str
    chunks: Iterable[Chunk]
    merge: Callable[[Sequence[Any]], Result]


class Methods:
    """The RPCs of a channel, sync or asyncio, by the names that operations use."""

    def __init__(self, channel: Any) -> None:
        def unary(path: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(
                path,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )

        inference, models = "/bertrand.v1.Inference/", "/bertrand.v1.Models/"
        self.by_name = {
            "Embed": unary(inference + "Embed", pb.EmbedRequest, pb.EmbedResponse),
            "EmbedTokens": unary(
                inference + "EmbedTokens", pb.EmbedTokensRequest, pb.EmbedTokensResponse
            ),
            "Tokenize": unary(inference + "Tokenize", pb.TokenizeRequest, pb.TokenizeResponse),
            "Detokenize": unary(
                inference + "Detokenize", pb.DetokenizeRequest, pb.DetokenizeResponse
            ),
            "ListModels": unary(models + "ListModels", pb.ListModelsRequest, pb.ListModelsResponse),
            "GetModel": unary(models + "GetModel", pb.GetModelRequest, pb.ModelInfo),
            "Check": channel.unary_unary(
                _health.METHOD,
                request_serializer=_health.encode_request,
                response_deserializer=_health.decode_response,
            ),
        }
        self.embed_stream = channel.stream_stream(
            inference + "EmbedStream",
            request_serializer=pb.EmbedRequest.SerializeToString,
            response_deserializer=pb.EmbedResponse.FromString,
        )


def embed(inputs: Inputs, *, raw: bool = False, **options: Any) -> Operation[Embeddings]:
    """Embed, in requests of at most 1,024 inputs."""
    template = _requests.embed_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("Embed", chunks, lambda responses: _results.embeddings(responses, raw))


def embed_chunker(
    inputs: object, batch_size: int, max_in_flight: int, *, raw: bool = False, **options: Any
) -> tuple[Chunker, bool]:
    """Checks the arguments of embed_stream; returns what cuts its requests, and raw."""
    if isinstance(inputs, str):
        raise TypeError("embed_stream takes an iterable of inputs; for one text use embed")
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight: {max_in_flight} is not at least 1")
    return Chunker(_requests.embed_template(**options), batch_size), raw


def embed_tokens(
    inputs: Inputs, *, raw: bool = False, **options: Any
) -> Operation[TokenEmbeddingsList]:
    """EmbedTokens, in requests whose answers stay below the server's limit."""
    template = _requests.embed_tokens_template(**options)
    max_inputs = max(1, _EMBED_TOKENS_INPUTS // max(1, len(template.layers)))
    chunks = _requests.split(Chunker(template, max_inputs), _requests.listed(inputs))
    return Operation(
        "EmbedTokens", chunks, lambda responses: _results.token_embeddings(responses, raw)
    )


def tokenize(inputs: Inputs, **options: Any) -> Operation[list[TokenizedInput]]:
    """Tokenize, in requests of at most 1,024 inputs."""
    template = _requests.tokenize_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("Tokenize", chunks, _results.tokenized)


def detokenize(
    inputs: Inputs, model: str, skip_special_tokens: bool | None
) -> Operation[list[str]]:
    """Detokenize, in requests of at most 1,024 inputs."""
    template = pb.DetokenizeRequest(model=model, skip_special_tokens=skip_special_tokens)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("Detokenize", chunks, _results.texts)


def list_models() -> Operation[list[ModelInfo]]:
    """ListModels."""
    return Operation(
        "ListModels",
        [Chunk(pb.ListModelsRequest())],
        lambda responses: [_results.model_info(info) for info in responses[0].models],
    )


def get_model(name: str) -> Operation[ModelInfo]:
    """GetModel; an empty name is the default model."""
    return Operation(
        "GetModel",
        [Chunk(pb.GetModelRequest(model=name))],
        lambda responses: _results.model_info(responses[0]),
    )


def health(service: str) -> Operation[HealthStatus]:
    """grpc.health.v1's Check; an empty name is the whole server."""

    def only(responses: Sequence[HealthStatus]) -> HealthStatus:
        return responses[0]

    return Operation("Check", [Chunk(service)], only)
