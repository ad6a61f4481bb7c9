"""The asyncio client: Client's methods, awaited."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc
import grpc.aio

from bertrand import _operations, _results
from bertrand._connection import (
    DEFAULT_TIMEOUT_S,
    REQUESTS_IN_FLIGHT,
    Retry,
    channel_options,
    resolve_address,
)
from bertrand._operations import Methods, Operation
from bertrand._requests import Chunk, Chunker
from bertrand.errors import DeadlineExceeded, Error, NotFound
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


class AsyncClient:
    """Client for asyncio; arguments, results and errors are Client's.

    Make it, and use it, in one running event loop. Tasks may share it.
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
            grpc.aio.insecure_channel(self.address, settings)
            if credentials is None
            else grpc.aio.secure_channel(self.address, credentials, settings)
        )
        self._methods = Methods(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls under way are cancelled."""
        await self._channel.close()

    async def embed(
        self, inputs: Inputs, *, timeout: float | None = None, **options: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Returns one vector per input; see Client.embed."""
        return await self._run(_operations.embed(inputs, **options), timeout)

    async def embed_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[EmbedTokensOptions],
    ) -> TokenEmbeddingsList:
        """Returns one vector per token; see Client.embed_tokens."""
        return await self._run(_operations.embed_tokens(inputs, **options), timeout)

    async def embed_sparse(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[EmbedSparseOptions],
    ) -> Results[SparseVector]:
        """Returns the lexical (SPLADE) weights of each input; see Client.embed_sparse."""
        operation = _operations.embed_sparse(inputs, **options)
        return await self._run(operation, timeout)

    async def classify(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Results[list[LabelScore]]:
        """Returns the labels of each input, best first; see Client.classify."""
        operation = _operations.classify(inputs, **options)
        return await self._run(operation, timeout)

    async def classify_zero_shot(
        self,
        texts: str | Sequence[str],
        candidate_labels: Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[ZeroShotOptions],
    ) -> Results[list[LabelScore]]:
        """Returns which of the labels fit each text, best first; see Client.classify_zero_shot."""
        operation = _operations.classify_zero_shot(texts, candidate_labels, **options)
        return await self._run(operation, timeout)

    async def rerank(
        self,
        query: str,
        documents: str | Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[RerankOptions],
    ) -> Ranking:
        """Returns the documents by their relevance to the query; see Client.rerank."""
        operation = _operations.rerank(query, documents, **options)
        return await self._run(operation, timeout)

    async def classify_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[ClassifyTokensOptions],
    ) -> Results[list[Entity]]:
        """Returns the entities of each input; see Client.classify_tokens."""
        operation = _operations.classify_tokens(inputs, **options)
        return await self._run(operation, timeout)

    async def answer_question(
        self,
        question: str | Sequence[str],
        context: str | Sequence[str],
        *,
        timeout: float | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Results[list[Answer]]:
        """Returns answers, best first; see Client.answer_question."""
        operation = _operations.answer_question(question, context, **options)
        return await self._run(operation, timeout)

    async def fill_mask(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[FillMaskOptions],
    ) -> Results[list[Mask]]:
        """Returns the masks of each input, each with its candidates; see Client.fill_mask."""
        operation = _operations.fill_mask(inputs, **options)
        return await self._run(operation, timeout)

    async def detect_replaced_tokens(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[DetectReplacedOptions],
    ) -> Results[list[Verdict]]:
        """Returns a verdict on each token or word; see Client.detect_replaced_tokens."""
        operation = _operations.detect_replaced_tokens(inputs, **options)
        return await self._run(operation, timeout)

    async def predict_sentence_pair(
        self,
        pairs: TextPair | Sequence[TextPair | tuple[str, str]],
        *,
        timeout: float | None = None,
        **options: Unpack[TextOptions],
    ) -> Results[PairPrediction]:
        """Returns whether second texts follow first; see Client.predict_sentence_pair."""
        operation = _operations.predict_sentence_pair(pairs, **options)
        return await self._run(operation, timeout)

    async def tokenize(
        self, inputs: Inputs, *, timeout: float | None = None, **options: Unpack[TokenizeOptions]
    ) -> list[TokenizedInput]:
        """Returns the tokens of each input; see Client.tokenize."""
        return await self._run(_operations.tokenize(inputs, **options), timeout)

    async def detokenize(
        self,
        inputs: Inputs,
        *,
        model: str = "",
        skip_special_tokens: bool | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """Returns the text of each list of token ids; see Client.detokenize."""
        return await self._run(_operations.detokenize(inputs, model, skip_special_tokens), timeout)

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Returns what the server knows of each of its models."""
        return await self._run(_operations.list_models(), timeout)

    async def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Returns one model, by default the default one. Raises NotFound."""
        return await self._run(_operations.get_model(name), timeout)

    async def health(self, model: str = "", *, timeout: float | None = None) -> HealthStatus:
        """Returns the health of the server or of one model; "service_unknown": no such model."""
        try:
            return await self._run(_operations.health(model), timeout)
        except NotFound:
            return "service_unknown"

    async def wait_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Waits until the server, or one of its models, serves. Raises DeadlineExceeded."""
        deadline, last = time.monotonic() + timeout, "not asked"
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                last = await self.health(model, timeout=min(remaining, 2.0))
            except Error as error:
                last = str(error)
            if last == "serving":
                return
            await asyncio.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        raise DeadlineExceeded(
            f"{self.address} not ready after {timeout:g} s: {last}", code="DEADLINE_EXCEEDED"
        )

    def embed_stream(
        self,
        inputs: Iterable[Input] | AsyncIterable[Input],
        *,
        batch_size: int = 64,
        max_in_flight: int = 8,
        timeout: float | None = None,
        **options: Unpack[EmbedOptions],
    ) -> AsyncIterator[Embeddings]:
        """Yields the vectors of a corpus of any size; see Client.embed_stream.

        `inputs` may be asynchronous. A loop that ends early should close the iterator
        (contextlib.aclosing), or its calls live until the garbage collector finds it.
        """
        chunker, raw = _operations.embed_chunker(inputs, batch_size, max_in_flight, **options)
        return self._stream(_split(chunker, inputs), max_in_flight, timeout, raw)

    async def _run(self, operation: Operation[Result], timeout: float | None) -> Result:
        method = self._methods.by_name[operation.method]
        seconds = self.timeout if timeout is None else timeout
        chunks = iter(operation.chunks)
        pending: deque[asyncio.Task[Any]] = deque()
        responses: list[Any] = []
        try:
            while True:
                for chunk in itertools.islice(chunks, REQUESTS_IN_FLIGHT - len(pending)):
                    pending.append(asyncio.create_task(self._call(method, chunk, seconds)))
                if not pending:
                    return operation.merge(responses)
                responses.append(await pending[0])
                pending.popleft()
        finally:
            await _cancel(pending)

    async def _call(self, method: Any, chunk: Chunk, seconds: float) -> Any:
        retry = Retry(self.address, time.monotonic() + seconds, chunk.first_input)
        while True:
            try:
                return await method(
                    chunk.request, timeout=retry.remaining(), metadata=self._metadata
                )
            except grpc.RpcError as error:
                await asyncio.sleep(retry.delay(error))

    async def _stream(
        self, chunks: AsyncIterator[Chunk], max_in_flight: int, timeout: float | None, raw: bool
    ) -> AsyncIterator[Embeddings]:
        # Unary calls, unlike Client: when a server ends a stream while grpc.aio still writes to it,
        # grpc.aio reports INTERNAL in place of the server's status (seen with grpcio 1.85).
        method = self._methods.by_name["Embed"]
        deadline = None if timeout is None else time.monotonic() + timeout
        pending: deque[tuple[Chunk, asyncio.Task[Any]]] = deque()
        exhausted = False
        try:
            while True:
                while len(pending) < max_in_flight and not exhausted:
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        exhausted = True
                        break
                    seconds = self.timeout
                    if deadline is not None:
                        seconds = min(seconds, max(0.0, deadline - time.monotonic()))
                    task = asyncio.create_task(self._call(method, chunk, seconds))
                    pending.append((chunk, task))
                if not pending:
                    return
                chunk, task = pending[0]
                response = await task
                pending.popleft()
                yield _results.embeddings([response], raw, chunk.first_input)
        finally:
            await _cancel([task for _, task in pending])


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _split(
    chunker: Chunker, inputs: Iterable[Input] | AsyncIterable[Input]
) -> AsyncIterator[Chunk]:
    """Yields the requests that inputs make, reading no further than asked for."""
    if isinstance(inputs, AsyncIterable):
        async for value in inputs:
            for chunk in chunker.add(value):
                yield chunk
    else:
        for value in inputs:
            for chunk in chunker.add(value):
                yield chunk
    for chunk in chunker.flush():
        yield chunk
