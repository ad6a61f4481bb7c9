"""A server of bertrand.v1 without models, for tests of the clients: answers follow from the inputs.

The vector of a text is vector_of(text), the tokens of a text are its words, with [CLS] and [SEP]
around. What arrives is recorded, and failures can be ordered. Run as a program it prints its
address and serves until standard input closes.
"""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from bertrand._proto import bertrand_pb2 as pb
from fake_tasks import ANSWERS, text_of

DIMENSIONS = 12
CLS, SEP = 101, 102


def vector_of(text: str) -> npt.NDArray[np.float32]:
    """Returns float32 [DIMENSIONS] in -1..1, different for different texts."""
    generator = np.random.default_rng(zlib.crc32(text.encode()))
    return generator.uniform(-1, 1, DIMENSIONS).astype(np.float32)


class Failure:
    """An ordered failure: a status, and what grpc-retry-pushback-ms says, if anything."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str = "ordered",
        pushback_ms: str | None = None,
    ) -> None:
        self.code, self.message, self.pushback_ms = code, message, pushback_ms


class FakeServer:
    """Serves on a free port of 127.0.0.1 between __enter__ and __exit__.

    Attributes:
        address: host:port.
        requests: (method, request) of each request that arrived, in order.
        metadata: the last call's, as a dict.
        failures: taken from the left, one per unary call or per stream request; None lets one pass.
        delay_s: how long a unary Embed takes.
        serving: what the health service says.
        in_flight_max: the most Embed calls seen at once.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.failures: deque[Failure | None] = deque()
        self.delay_s = 0.0
        self.serving = True
        self.in_flight_max = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=16),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 4 << 20),
            ],
        )
        self._server.add_generic_rpc_handlers(self._handlers())
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> FakeServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def sizes(self, method: str) -> list[int]:
        """Returns the number of inputs of each request that arrived for a method."""
        return [len(request.inputs) for name, request in self.requests if name == method]

    def _handlers(self) -> tuple[Any, ...]:
        def unary(name: str, request: Any, answer: Any) -> Any:
            def call(message: Any, context: Any) -> Any:
                self._record(name, message, context)
                return answer(message, context)

            return grpc.unary_unary_rpc_method_handler(
                call, request.FromString, lambda response: response.SerializeToString()
            )

        inference = {
            "Embed": unary("Embed", pb.EmbedRequest, self._embed),
            "EmbedTokens": unary("EmbedTokens", pb.EmbedTokensRequest, self._embed_tokens),
            "Tokenize": unary("Tokenize", pb.TokenizeRequest, self._tokenize),
            "Detokenize": unary("Detokenize", pb.DetokenizeRequest, self._detokenize),
            "EmbedStream": grpc.stream_stream_rpc_method_handler(
                self._embed_stream,
                pb.EmbedRequest.FromString,
                lambda response: response.SerializeToString(),
            ),
        }
        for name, answer in ANSWERS.items():
            inference[name] = unary(name, getattr(pb, name + "Request"), without_context(answer))
        models = {
            "ListModels": unary("ListModels", pb.ListModelsRequest, self._list_models),
            "GetModel": unary("GetModel", pb.GetModelRequest, self._get_model),
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(self._check)}
        return (
            grpc.method_handlers_generic_handler("bertrand.v1.Inference", inference),
            grpc.method_handlers_generic_handler("bertrand.v1.Models", models),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )

    def _record(self, name: str, message: Any, context: Any) -> None:
        with self._lock:
            self.requests.append((name, message))
            self.metadata = dict(context.invocation_metadata())
            failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            if failure.pushback_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", failure.pushback_ms),))
            context.abort(failure.code, failure.message)

    def _embed(self, request: Any, context: Any) -> Any:
        with self._lock:
            self._in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self._in_flight)
        try:
            time.sleep(self.delay_s)
            return self._embedded(request, context)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _embedded(self, request: Any, context: Any) -> Any:
        if request.model not in ("", "fake"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}")
        for index, item in enumerate(request.inputs):
            if item.WhichOneof("content") is None:
                message = f"inputs[{index}]: without content"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        texts = [request.prompt + text_of(item) for item in request.inputs]
        matrix = np.stack([vector_of(text) for text in texts])
        if request.normalize:
            matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        return pb.EmbedResponse(
            embeddings=encode(matrix, request.output_type),
            stats=[pb.InputStats(num_tokens=len(text.split()) + 2) for text in texts],
            timing=pb.Timing(tokenize_us=1, queue_us=2, inference_us=3, total_us=10),
        )

    def _embed_stream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            self._record("EmbedStream", request, context)
            yield self._embedded(request, context)

    def _embed_tokens(self, request: Any, context: Any) -> Any:
        response = pb.EmbedTokensResponse(timing=pb.Timing(total_us=10))
        layers = max(1, len(request.layers))
        for item in request.inputs:
            tokens = tokens_of(text_of(item))
            matrix = np.stack([np.tile(vector_of(token.text), layers) for token in tokens])
            response.results.add(tokens=tokens, vectors=encode(matrix, request.output_type))
            response.stats.add(num_tokens=len(tokens))
        return response

    def _tokenize(self, request: Any, context: Any) -> Any:
        response = pb.TokenizeResponse()
        special = not request.HasField("add_special_tokens") or request.add_special_tokens
        for item in request.inputs:
            tokens = tokens_of(text_of(item))
            response.results.add(tokens=tokens if special else tokens[1:-1])
        return response

    def _detokenize(self, request: Any, context: Any) -> Any:
        skip = not request.HasField("skip_special_tokens") or request.skip_special_tokens
        return pb.DetokenizeResponse(
            texts=[
                " ".join(str(id) for id in item.ids if not (skip and id in (CLS, SEP)))
                for item in request.inputs
            ]
        )

    def _list_models(self, request: Any, context: Any) -> Any:
        return pb.ListModelsResponse(models=[model_info()])

    def _get_model(self, request: Any, context: Any) -> Any:
        if request.model not in ("", "fake"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}")
        return model_info()

    def _check(self, request: bytes, context: Any) -> bytes:
        # HealthCheckRequest{service = 1} and HealthCheckResponse{status = 1}, by hand.
        if request not in (b"", b"\x0a\x04fake"):
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08\x01" if self.serving else b"\x08\x02"


def without_context(answer: Any) -> Any:
    """Returns answer(request) as a handler that is given a context too."""
    return lambda request, _: answer(request)


def tokens_of(text: str) -> list[Any]:
    """Returns [CLS], one token per word of text, [SEP]."""
    tokens, start = [pb.Token(id=CLS, text="[CLS]", special=True)], 0
    for word in text.split():
        start = text.index(word, start)
        end = start + len(word)
        span = pb.TextSpan(
            start=start,
            end=end,
            start_byte=len(text[:start].encode()),
            end_byte=len(text[:end].encode()),
        )
        tokens.append(pb.Token(id=zlib.crc32(word.encode()) % 30000, text=word, span=span))
        start = end
    return [*tokens, pb.Token(id=SEP, text="[SEP]", special=True)]


def encode(matrix: npt.NDArray[np.float32], kind: int) -> Any:
    """Returns matrix [n, d] as Vectors of a DataType."""
    vectors = pb.Vectors(
        type=kind or pb.DATA_TYPE_FLOAT32,
        count=matrix.shape[0],
        dimensions=matrix.shape[1],
    )
    if kind == pb.DATA_TYPE_FLOAT16:
        vectors.data = matrix.astype("<f2").tobytes()
    elif kind == pb.DATA_TYPE_BFLOAT16:
        vectors.data = (matrix.view(np.uint32) >> 16).astype("<u2").tobytes()
    elif kind == pb.DATA_TYPE_INT8:
        scales = np.abs(matrix).max(axis=1) / 127
        vectors.data = np.rint(matrix / scales[:, np.newaxis]).astype(np.int8).tobytes()
        vectors.scales.extend(scales)
    elif kind == pb.DATA_TYPE_BINARY:
        vectors.data = np.packbits(matrix > 0, axis=1).tobytes()
    else:
        vectors.data = matrix.astype("<f4").tobytes()
    return vectors


def model_info() -> Any:
    """Returns the one model that the fake server has."""
    return pb.ModelInfo(
        name="fake",
        source="nowhere/fake",
        state=pb.ModelInfo.STATE_READY,
        family=pb.FAMILY_BERT,
        architecture="BertModel",
        tasks=[pb.TASK_EMBED, pb.TASK_EMBED_TOKENS],
        hidden_size=DIMENSIONS,
        num_layers=6,
        num_heads=3,
        vocab_size=30000,
        max_tokens=512,
        compute_type="float32",
        devices=["cpu"],
        weight_bytes=90_000_000,
        num_parameters=22_500_000,
    )


if __name__ == "__main__":
    with FakeServer() as server:
        print(server.address, flush=True)
        sys.stdin.read()
