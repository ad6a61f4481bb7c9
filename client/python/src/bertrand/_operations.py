"""What each method sends and makes of the answers: all that Client and AsyncClient share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bertrand import _health, _requests, _results
from bertrand._proto import bertrand_pb2 as pb
from bertrand._requests import MAX_INPUTS, Chunk, Chunker
from bertrand.types import (
    Answer,
    Embeddings,
    Entity,
    HealthStatus,
    Inputs,
    LabelScore,
    Mask,
    ModelInfo,
    PairPrediction,
    Ranking,
    Results,
    SparseVector,
    TextPair,
    TokenEmbeddingsList,
    TokenizedInput,
    Verdict,
)

Result = TypeVar("Result")

# 16 x 512 tokens x 1,024 values of 4 bytes are half of the 64 MB that an answer may have.
_EMBED_TOKENS_INPUTS = 16


# Unary methods of bertrand.v1.Inference.
_INFERENCE_METHODS = (
    "Embed",
    "EmbedTokens",
    "EmbedSparse",
    "Classify",
    "ClassifyZeroShot",
    "Rerank",
    "ClassifyTokens",
    "AnswerQuestion",
    "FillMask",
    "DetectReplacedTokens",
    "PredictSentencePair",
    "Tokenize",
    "Detokenize",
)


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
        # Each RPC with its messages: Embed, EmbedRequest, EmbedResponse.
        self.by_name = {
            name: unary(
                inference + name, getattr(pb, name + "Request"), getattr(pb, name + "Response")
            )
            for name in _INFERENCE_METHODS
        }
        self.by_name["ListModels"] = unary(
            models + "ListModels", pb.ListModelsRequest, pb.ListModelsResponse
        )
        self.by_name["GetModel"] = unary(models + "GetModel", pb.GetModelRequest, pb.ModelInfo)
        self.by_name["Check"] = channel.unary_unary(
            _health.METHOD,
            request_serializer=_health.encode_request,
            response_deserializer=_health.decode_response,
        )
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


def embed_sparse(inputs: Inputs, **options: Any) -> Operation[Results[SparseVector]]:
    """EmbedSparse, in requests of at most 1,024 inputs."""
    template = _requests.embed_sparse_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("EmbedSparse", chunks, _results.sparse_vectors)


def classify(inputs: Inputs, **options: Any) -> Operation[Results[list[LabelScore]]]:
    """Classify, in requests of at most 1,024 inputs."""
    template = _requests.classify_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("Classify", chunks, _results.labels)


def classify_zero_shot(
    texts: str | Sequence[str], candidate_labels: Sequence[str], **options: Any
) -> Operation[Results[list[LabelScore]]]:
    """ClassifyZeroShot; each text counts as many inputs as there are labels."""
    labels = _requests.listed_texts(candidate_labels, "candidate_labels")
    template = _requests.zero_shot_template(labels, **options)
    max_texts = max(1, MAX_INPUTS // max(1, len(labels)))
    chunker = Chunker(template, max_texts, "texts", _requests.to_text)
    chunks = _requests.split(chunker, _requests.listed_texts(texts, "texts"))
    return Operation("ClassifyZeroShot", chunks, _results.labels)


def rerank(
    query: str, documents: str | Sequence[str], *, top_n: int = 0, **options: Any
) -> Operation[Ranking]:
    """Rerank, in requests of at most 1,024 documents, whose ranks are merged."""
    template = _requests.rerank_template(
        _requests.to_text(query, 0, "query"), top_n=top_n, **options
    )
    listed = _requests.listed_texts(documents, "documents")
    chunker = Chunker(template, MAX_INPUTS, "documents", _requests.to_text)
    return Operation(
        "Rerank",
        _requests.split(chunker, listed),
        lambda responses: _results.ranking(responses, listed, top_n),
    )


def classify_tokens(inputs: Inputs, **options: Any) -> Operation[Results[list[Entity]]]:
    """ClassifyTokens, in requests of at most 1,024 inputs."""
    template = _requests.classify_tokens_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("ClassifyTokens", chunks, _results.entities)


def answer_question(
    question: str | Sequence[str], context: str | Sequence[str], **options: Any
) -> Operation[Results[list[Answer]]]:
    """AnswerQuestion, in requests of at most 1,024 questions."""
    template = _requests.answer_template(**options)
    chunker = Chunker(template, MAX_INPUTS, "inputs", _requests.to_question)
    chunks = _requests.split(chunker, _requests.questions(question, context))
    return Operation("AnswerQuestion", chunks, _results.answers)


def fill_mask(inputs: Inputs, **options: Any) -> Operation[Results[list[Mask]]]:
    """FillMask, in requests of at most 1,024 inputs."""
    template = _requests.fill_mask_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("FillMask", chunks, _results.masks)


def detect_replaced_tokens(inputs: Inputs, **options: Any) -> Operation[Results[list[Verdict]]]:
    """DetectReplacedTokens, in requests of at most 1,024 inputs."""
    template = _requests.detect_replaced_template(**options)
    chunks = _requests.split(Chunker(template, MAX_INPUTS), _requests.listed(inputs))
    return Operation("DetectReplacedTokens", chunks, _results.verdicts)


def predict_sentence_pair(
    pairs: TextPair | Sequence[TextPair | tuple[str, str]], **options: Any
) -> Operation[Results[PairPrediction]]:
    """PredictSentencePair, in requests of at most 1,024 pairs."""
    template = _requests.sentence_pair_template(**options)
    chunker = Chunker(template, MAX_INPUTS, "pairs", _requests.to_pair)
    chunks = _requests.split(chunker, _requests.listed(pairs))
    return Operation("PredictSentencePair", chunks, _results.pair_predictions)


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
    chunker = Chunker(template, MAX_INPUTS, "inputs", _requests.to_token_ids)
    chunks = _requests.split(chunker, _requests.listed(inputs))
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
