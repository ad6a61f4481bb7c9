"""The blocking client."""

from __future__ import annotations

import itertools
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc

from bertrand import _operations, _requests, _results
from bertrand._connection import (
    DEFAULT_TIMEOUT_S,
    REQUESTS_IN_FLIGHT,
    Retry,
    channel_options,
    resolve_address,
)
from bertrand._operations import Methods, Operation
from bertrand._requests import Chunk
from bertrand.errors import DeadlineExceeded, Error, Internal, NotFound
from bertrand.options import (
    AnswerOptions,
    ClassifyOptions,
    ClassifyTokensOptions,
    DetectReplacedOptions,
    EmbedOptions,
    EmbedSparseOptions,
    EmbedTokensOptions,
    FillMaskOptions,
    RerankOptions,
    TextOptions,
    TokenizeOptions,
    ZeroShotOptions,
)
from bertrand.types import (
    Answer,
    Embeddings,
    Entity,
    HealthStatus,
    Input,
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


class Client:
    """A connection to a Bertrand server. Threads may share it; close it, or use it in `with`.

    Args:
        address: host:port; left out: $BERTRAND_ADDRESS, else 127.0.0.1:50051. Connecting happens
            with the first call.
        timeout: seconds that each request may take, retries included. A list too long for one
            request goes out as several, each with its own.
        credentials: for TLS, from grpc.ssl_channel_credentials.
        metadata: sent with every call, such as [("authorization", "Bearer ...")].
        options: gRPC channel options besides, or instead of, this package's.

    Methods raise bertrand.Error. Requests that the server is too busy for, and those that found it
    unavailable, are sent again by themselves for as long as their timeout allows. TypeError and
    ValueError mean that the arguments could not be sent at all.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.address = resolve_address(address)
        self.timeout = timeout
        self._metadata = tuple(metadata)
        settings = channel_options(self.address, options)
        self._channel = (
            grpc.insecure_channel(self.address, settings)
            if credentials is None
            else grpc.secure_channel(self.address, credentials, settings)
        )
        self._methods = Methods(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls under way are cancelled."""
        self._channel.close()

    def embed(
        self, inputs: Inputs, *, timeout: float | None = None, **options: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Returns one vector per input, [n, d]; a single text gives n = 1.

        A list of any length may be given; the result holds all of it, so for a corpus use
        embed_stream. Options: EmbedOptions.
        """
        return self._run(_operations.embed(inputs, **options), timeout)

    def embed_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[EmbedTokensOptions],
    ) -> TokenEmbeddingsList:
        """Returns, per input, its tokens and one vector for each. Options: EmbedTokensOptions."""
        return self._run(_operations.embed_tokens(inputs, **options), timeout)

    def embed_sparse(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[EmbedSparseOptions],
    ) -> Results[SparseVector]:
        """Returns the lexical (SPLADE) weights of each input. Options: EmbedSparseOptions."""
        operation = _operations.embed_sparse(inputs, **options)
        return self._run(operation, timeout)

    def classify(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Results[list[LabelScore]]:
        """Returns the labels of each input, best first. Options: ClassifyOptions."""
        operation = _operations.classify(inputs, **options)
        return self._run(operation, timeout)

    def classify_zero_shot(
        self,
        texts: str | Sequence[str],
        candidate_labels: Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[ZeroShotOptions],
    ) -> Results[list[LabelScore]]:
        """Returns which of the labels fit each text, best first. Options: ZeroShotOptions."""
        operation = _operations.classify_zero_shot(texts, candidate_labels, **options)
        return self._run(operation, timeout)

    def rerank(
        self,
        query: str,
        documents: str | Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[RerankOptions],
    ) -> Ranking:
        """Returns the documents by their relevance to the query. Options: RerankOptions."""
        operation = _operations.rerank(query, documents, **options)
        return self._run(operation, timeout)

    def classify_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[ClassifyTokensOptions],
    ) -> Results[list[Entity]]:
        """Returns the entities of each input. Options: ClassifyTokensOptions."""
        operation = _operations.classify_tokens(inputs, **options)
        return self._run(operation, timeout)

    def answer_question(
        self,
        question: str | Sequence[str],
        context: str | Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Results[list[Answer]]:
        """Returns the parts of each context that answer its question, best first.

        One question may go with many contexts, many questions with one context, or as many with as
        many. Options: AnswerOptions.
        """
        operation = _operations.answer_question(question, context, **options)
        return self._run(operation, timeout)

    def fill_mask(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[FillMaskOptions],
    ) -> Results[list[Mask]]:
        """Returns the masks of each input, each with its candidates. Options: FillMaskOptions."""
        operation = _operations.fill_mask(inputs, **options)
        return self._run(operation, timeout)

    def detect_replaced_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[DetectReplacedOptions],
    ) -> Results[list[Verdict]]:
        """Returns a verdict on each token or word. Options: DetectReplacedOptions."""
        operation = _operations.detect_replaced_tokens(inputs, **options)
        return self._run(operation, timeout)

    def predict_sentence_pair(
        self,
        pairs: TextPair | Sequence[TextPair | tuple[str, str]],
        *,
        timeout: float | None = None,
        **options: Unpack[TextOptions],
    ) -> Results[PairPrediction]:
        """Returns whether the second text of each pair follows the first. Options: TextOptions."""
        operation = _operations.predict_sentence_pair(pairs, **options)
        return self._run(operation, timeout)

    def tokenize(
        self, inputs: Inputs, *, timeout: float | None = None, **options: Unpack[TokenizeOptions]
    ) -> list[TokenizedInput]:
        """Returns the tokens of each input. Options: TokenizeOptions."""
        return self._run(_operations.tokenize(inputs, **options), timeout)

    def detokenize(
        self,
        inputs: Inputs,
        *,
        model: str = "",
        skip_special_tokens: bool | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """Returns the text of each list of token ids; special tokens are skipped by default."""
        return self._run(_operations.detokenize(inputs, model, skip_special_tokens), timeout)

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Returns what the server knows of each of its models."""
        return self._run(_operations.list_models(), timeout)

    def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Returns one model, by default the default one. Raises NotFound."""
        return self._run(_operations.get_model(name), timeout)

    def health(self, model: str = "", *, timeout: float | None = None) -> HealthStatus:
        """Returns the health of the server or of one model; "service_unknown": no such model."""
        try:
            return self._run(_operations.health(model), timeout)
        except NotFound:
            return "service_unknown"

    def wait_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Waits until the server, or one of its models, serves. Raises DeadlineExceeded.

        An unknown model and a server that is not there yet are waited for too.
        """
        deadline, last = time.monotonic() + timeout, "not asked"
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                last = self.health(model, timeout=min(remaining, 2.0))
            except Error as error:
                last = str(error)
            if last == "serving":
                return
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        raise DeadlineExceeded(
            f"{self.address} not ready after {timeout:g} s: {last}", code="DEADLINE_EXCEEDED"
        )

    def embed_stream(
        self,
        inputs: Iterable[Input],
        *,
        batch_size: int = 64,
        max_in_flight: int = 8,
        timeout: float | None = None,
        **options: Unpack[EmbedOptions],
    ) -> Iterator[Embeddings]:
        """Yields the vectors of a corpus of any size, batch_size inputs at a time, in order.

        At most max_in_flight batches have been read from `inputs` and not yielded, so memory does
        not grow with the corpus; the server sets the pace. `inputs` is read by the caller's thread.
        A batch is smaller than batch_size where it would pass 4 MB. A connection that breaks is
        made again and unanswered batches are sent again, until nothing has come for the client's
        timeout. `timeout` bounds the whole stream; None: no bound. Options: EmbedOptions.
        """
        chunker, raw = _operations.embed_chunker(inputs, batch_size, max_in_flight, **options)
        return self._stream(_requests.split(chunker, inputs), max_in_flight, timeout, raw)

    def _run(self, operation: Operation[Result], timeout: float | None) -> Result:
        method = self._methods.by_name[operation.method]
        seconds = self.timeout if timeout is None else timeout
        chunks = iter(operation.chunks)
        head = list(itertools.islice(chunks, 2))
        if len(head) == 1:  # The common case, without the thread that futures need.
            return operation.merge([self._call(method, head[0], self._retry(head[0], seconds))])
        chunks = itertools.chain(head, chunks)
        pending: deque[tuple[Chunk, Retry, grpc.Future]] = deque()
        responses: list[Any] = []
        try:
            while True:
                for chunk in itertools.islice(chunks, REQUESTS_IN_FLIGHT - len(pending)):
                    retry = self._retry(chunk, seconds)
                    call = method.future(chunk.request, timeout=seconds, metadata=self._metadata)
                    pending.append((chunk, retry, call))
                if not pending:
                    return operation.merge(responses)
                chunk, retry, call = pending[0]
                try:
                    responses.append(call.result())
                except grpc.RpcError as error:
                    time.sleep(retry.delay(error))
                    responses.append(self._call(method, chunk, retry))
                pending.popleft()
        finally:
            for _, _, call in pending:
                call.cancel()

    def _retry(self, chunk: Chunk, seconds: float) -> Retry:
        return Retry(self.address, time.monotonic() + seconds, chunk.first_input)

    def _call(self, method: Any, chunk: Chunk, retry: Retry) -> Any:
        while True:
            try:
                return method(chunk.request, timeout=retry.remaining(), metadata=self._metadata)
            except grpc.RpcError as error:
                time.sleep(retry.delay(error))

    def _stream(
        self, chunks: Iterator[Chunk], max_in_flight: int, timeout: float | None, raw: bool
    ) -> Iterator[Embeddings]:
        deadline = None if timeout is None else time.monotonic() + timeout
        window: deque[Chunk] = deque()  # Sent and not answered.
        retry: Retry | None = None  # Since the last answer.
        stream: _Stream | None = None
        exhausted = False
        try:
            while True:
                if stream is None:
                    stream = self._open_stream(deadline, window)
                while len(window) < max_in_flight and not exhausted:
                    chunk = next(chunks, None)
                    if chunk is None:
                        exhausted = True
                    else:
                        window.append(chunk)
                        stream.send(chunk)
                if not window:
                    return
                if exhausted:
                    stream.end()
                try:
                    response = stream.receive()
                except grpc.RpcError as error:
                    if retry is None:
                        stall = time.monotonic() + self.timeout
                        until = stall if deadline is None else min(stall, deadline)
                        retry = Retry(self.address, until, window[0].first_input)
                    stream.close()
                    stream = None
                    time.sleep(retry.delay(error))
                    continue
                retry = None
                yield _results.embeddings([response], raw, window.popleft().first_input)
        finally:
            if stream is not None:
                stream.close()

    def _open_stream(self, deadline: float | None, window: Iterable[Chunk]) -> _Stream:
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        stream = _Stream(self._methods.embed_stream, seconds, self._metadata)
        for chunk in window:
            stream.send(chunk)
        return stream


class _Stream:
    """One EmbedStream call. gRPC's thread takes requests from a queue that the window bounds."""

    def __init__(self, method: Any, seconds: float | None, metadata: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended = False
        self._call = method(iter(self._requests.get, None), timeout=seconds, metadata=metadata)

    def send(self, chunk: Chunk) -> None:
        self._requests.put(chunk.request)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._requests.put(None)

    def receive(self) -> Any:
        """Returns the next response. Raises grpc.RpcError, or Internal at an early end."""
        try:
            return next(self._call)
        except StopIteration:
            raise Internal("the stream ended before its last answer", code="INTERNAL") from None

    def close(self) -> None:
        self.end()
        self._call.cancel()
