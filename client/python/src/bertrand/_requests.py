"""From Python values to requests: inputs, options, and long lists cut to what a server takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

import numpy as np

from bertrand._proto import bertrand_pb2 as pb
from bertrand.types import (
    Activation,
    Aggregation,
    Input,
    Inputs,
    LongMode,
    OutputType,
    Pooling,
    TextPair,
    TokenIds,
    TruncationMode,
    TruncationSide,
)

# The server refuses more inputs than this in a request, and gRPC's default is 4 MB a message.
MAX_INPUTS = 1024
MAX_REQUEST_BYTES = 4 * 1024 * 1024 - 1024
# Tag and length of an element of a repeated field.
_ELEMENT_OVERHEAD_BYTES = 6


@dataclass(frozen=True)
class Chunk:
    """A request, and the index in the whole call of its first input."""

    request: Any
    first_input: int = 0


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_token_ids(value: object) -> TypeGuard[Sequence[int]]:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, Sequence) and len(value) > 0 and _is_integer(value[0])


def to_input(value: object, index: int) -> pb.Input:
    """Converts one input. Raises TypeError or ValueError that names its index."""
    try:
        if isinstance(value, str):
            return pb.Input(text=value)
        if isinstance(value, TokenIds):
            return pb.Input(tokens=pb.TokenIds(ids=value.ids, type_ids=value.type_ids))
        if _is_token_ids(value):
            return pb.Input(tokens=pb.TokenIds(ids=value))
        if isinstance(value, Sequence) and len(value) == 2:
            first, second = value
            if isinstance(first, str) and isinstance(second, str):
                return pb.Input(pair=pb.TextPair(first=first, second=second))
    except (TypeError, ValueError) as error:  # Lone surrogates, ids below 0 or beyond 32 bits.
        raise type(error)(*error.args[:-1], f"inputs[{index}]: {error.args[-1]}") from None
    raise TypeError(
        f"inputs[{index}]: expected a str, two strs, or token ids; got {_describe(value)}"
    )


def to_token_ids(value: object, index: int) -> pb.TokenIds:
    """Converts one list of ids, which may be empty. Raises as to_input does."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 0:
        return pb.TokenIds()
    converted = to_input(value, index)
    if not converted.HasField("tokens"):
        raise TypeError(f"inputs[{index}]: expected token ids, got {_describe(value)}")
    return converted.tokens


def _describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def listed_texts(texts: str | Sequence[str], name: str) -> Sequence[str]:
    """Returns a sequence of texts, which for a single text is one long."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Sequence):
        raise TypeError(f"{name}: expected a str or a sequence of them, got {_describe(texts)}")
    return [to_text(text, index, name) for index, text in enumerate(texts)]


def questions(question: str | Sequence[str], context: str | Sequence[str]) -> list[tuple[str, str]]:
    """Pairs questions with contexts, one by one; a single one goes with each of the others."""
    asked, given = listed_texts(question, "question"), listed_texts(context, "context")
    if isinstance(question, str):
        asked = list(asked) * len(given)
    elif isinstance(context, str):
        given = list(given) * len(asked)
    if len(asked) != len(given):
        raise ValueError(f"{len(asked)} questions for {len(given)} contexts")
    return list(zip(asked, given, strict=True))


def listed(inputs: Inputs) -> Sequence[Input]:
    """Returns a sequence of inputs, which for a single input is one long."""
    if isinstance(inputs, str | TextPair | TokenIds) or _is_token_ids(inputs):
        return [inputs]
    if isinstance(inputs, np.ndarray):
        return list(inputs)
    if not isinstance(inputs, Sequence):
        raise TypeError(
            f"expected an input or a sequence of inputs, got {_describe(inputs)}; "
            "embed_stream takes any iterable"
        )
    return inputs  # type: ignore[return-value]


def to_text(value: object, index: int, name: str = "texts") -> str:
    """Checks one text. Raises TypeError or ValueError that names its index."""
    if not isinstance(value, str):
        raise TypeError(f"{name}[{index}]: expected a str, got {_describe(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # A lone surrogate.
        raise ValueError(f"{name}[{index}]: {error}") from None
    return value


def to_pair(value: object, index: int) -> pb.TextPair:
    """Converts one pair of texts. Raises as to_input does."""
    converted = to_input(value, index)
    if not converted.HasField("pair"):
        raise TypeError(f"pairs[{index}]: expected two strs, got {_describe(value)}")
    return converted.pair


def to_question(value: tuple[str, str], index: int) -> pb.QuestionContext:
    """Converts a question and its context, which listed_texts has checked."""
    return pb.QuestionContext(question=value[0], context=value[1])


class Chunker:
    """Gathers inputs into copies of a request, none beyond max_inputs or MAX_REQUEST_BYTES.

    convert makes the elements of the request's repeated field of that name. An input that alone is
    too large goes out alone: the server's refusal says more than ours could.
    """

    def __init__(
        self,
        template: Any,
        max_inputs: int,
        field: str = "inputs",
        convert: Callable[[Any, int], Any] = to_input,
    ) -> None:
        if not 1 <= max_inputs <= MAX_INPUTS:
            raise ValueError(f"inputs per request: {max_inputs} is not in 1..{MAX_INPUTS}")
        self._template = template
        self._max_inputs = max_inputs
        self._bytes_max = MAX_REQUEST_BYTES - template.ByteSize()
        self._field = field
        self._convert = convert
        self._items: list[Any] = []
        self._bytes = 0
        self._num_seen = 0

    def add(self, value: object) -> list[Chunk]:
        """Takes an input; returns the requests, 0 to 2, that it completes."""
        item = self._convert(value, self._num_seen)
        size = len(item.encode()) if isinstance(item, str) else item.ByteSize()
        size += _ELEMENT_OVERHEAD_BYTES
        complete = self.flush() if self._bytes + size > self._bytes_max else []
        self._items.append(item)
        self._bytes += size
        self._num_seen += 1
        if len(self._items) >= self._max_inputs:
            complete += self.flush()
        return complete

    def flush(self) -> list[Chunk]:
        """Returns what is gathered as a request, or nothing if there is nothing."""
        if not self._items:
            return []
        request = type(self._template)()
        request.CopyFrom(self._template)
        getattr(request, self._field).extend(self._items)
        chunk = Chunk(request, self._num_seen - len(self._items))
        self._items, self._bytes = [], 0
        return [chunk]


def split(chunker: Chunker, inputs: Iterable[object]) -> Iterator[Chunk]:
    """Yields the requests that inputs make, in order, reading no further than asked for."""
    for value in inputs:
        yield from chunker.add(value)
    yield from chunker.flush()


def _choice(prefix: str, value: str | None, choices: tuple[str, ...], option: str) -> str | None:
    """Returns an enum value's name in the proto, given in lower case; None is unset."""
    if value is None:
        return None
    if value not in choices:
        raise ValueError(f"{option}: {value!r} is not one of {', '.join(choices)}")
    return f"{prefix}_{value.upper()}"


def _truncation(
    mode: TruncationMode | None, side: TruncationSide | None, max_tokens: int
) -> pb.Truncation | None:
    if mode is None and side is None and max_tokens == 0:
        return None
    return pb.Truncation(
        mode=_choice("MODE", mode, get_args(TruncationMode), "truncation"),
        side=_choice("SIDE", side, get_args(TruncationSide), "truncation_side"),
        max_tokens=max_tokens,
    )


def _long_input(
    mode: LongMode | None, window_tokens: int, overlap_tokens: int, memory_tokens: int
) -> pb.LongInput | None:
    if mode is None:
        if window_tokens or overlap_tokens or memory_tokens:
            raise ValueError("window_tokens, overlap_tokens, memory_tokens: need long_input")
        return None
    return pb.LongInput(
        mode=_choice("MODE", mode, get_args(LongMode), "long_input"),
        window_tokens=window_tokens,
        overlap_tokens=overlap_tokens,
        memory_tokens=memory_tokens,
    )


def _activation(value: Activation | None) -> str | None:
    return _choice("ACTIVATION", value, get_args(Activation), "activation")


def _output_type(value: OutputType | None) -> str | None:
    return _choice("DATA_TYPE", value, get_args(OutputType), "output_type")


def embed_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    prompt: str = "",
    prompt_name: str = "",
    long_input: LongMode | None = None,
    window_tokens: int = 0,
    overlap_tokens: int = 0,
    memory_tokens: int = 0,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    dimensions: int = 0,
    output_type: OutputType | None = None,
) -> pb.EmbedRequest:
    """Returns an EmbedRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.EmbedRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        long_input=_long_input(long_input, window_tokens, overlap_tokens, memory_tokens),
        pooling=_choice("POOLING", pooling, get_args(Pooling), "pooling"),
        normalize=normalize,
        dimensions=dimensions,
        output_type=_output_type(output_type),
        prompt=prompt,
        prompt_name=prompt_name,
    )


def embed_tokens_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    prompt: str = "",
    prompt_name: str = "",
    layers: Sequence[int] = (),
    output_type: OutputType | None = None,
    exclude_special_tokens: bool = False,
) -> pb.EmbedTokensRequest:
    """Returns an EmbedTokensRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.EmbedTokensRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        layers=layers,
        output_type=_output_type(output_type),
        exclude_special_tokens=exclude_special_tokens,
        prompt=prompt,
        prompt_name=prompt_name,
    )


def tokenize_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    prompt: str = "",
    prompt_name: str = "",
    add_special_tokens: bool | None = None,
) -> pb.TokenizeRequest:
    """Returns a TokenizeRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.TokenizeRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        add_special_tokens=add_special_tokens,
        prompt=prompt,
        prompt_name=prompt_name,
    )


def embed_sparse_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    prompt: str = "",
    prompt_name: str = "",
    top_k: int = 0,
) -> pb.EmbedSparseRequest:
    """Returns an EmbedSparseRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.EmbedSparseRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        top_k=top_k,
        prompt=prompt,
        prompt_name=prompt_name,
    )


def classify_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    long_input: LongMode | None = None,
    window_tokens: int = 0,
    overlap_tokens: int = 0,
    memory_tokens: int = 0,
    top_k: int = 0,
    activation: Activation | None = None,
) -> pb.ClassifyRequest:
    """Returns a ClassifyRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.ClassifyRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        long_input=_long_input(long_input, window_tokens, overlap_tokens, memory_tokens),
        top_k=top_k,
        activation=_activation(activation),
    )


def zero_shot_template(
    candidate_labels: Sequence[str],
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    hypothesis_template: str = "",
    multi_label: bool = False,
) -> pb.ClassifyZeroShotRequest:
    """Returns a ClassifyZeroShotRequest without texts. Raises ValueError for an unknown choice."""
    return pb.ClassifyZeroShotRequest(
        model=model,
        candidate_labels=candidate_labels,
        hypothesis_template=hypothesis_template,
        multi_label=multi_label,
        truncation=_truncation(truncation, truncation_side, max_tokens),
    )


def rerank_template(
    query: str,
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    top_n: int = 0,
    activation: Activation | None = None,
) -> pb.RerankRequest:
    """Returns a RerankRequest without documents. Raises ValueError for an unknown choice."""
    return pb.RerankRequest(
        model=model,
        query=query,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        top_n=top_n,
        activation=_activation(activation),
    )


def classify_tokens_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    aggregation: Aggregation | None = None,
    ignore_labels: Sequence[str] = (),
    keep_all_labels: bool = False,
    stride_tokens: int | None = None,
) -> pb.ClassifyTokensRequest:
    """Returns a ClassifyTokensRequest without inputs. Raises ValueError for an unknown choice."""
    name = _choice("AGGREGATION", aggregation, get_args(Aggregation), "aggregation")
    return pb.ClassifyTokensRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        aggregation=None if name == "AGGREGATION_NONE" else name,
        ignore_labels=listed_texts(ignore_labels, "ignore_labels"),
        keep_all_labels=keep_all_labels,
        stride_tokens=stride_tokens,
    )


def answer_template(
    *,
    model: str = "",
    top_k: int = 0,
    max_seq_tokens: int = 0,
    doc_stride_tokens: int | None = None,
    max_answer_tokens: int = 0,
    allow_no_answer: bool = False,
    align_to_words: bool | None = None,
) -> pb.AnswerQuestionRequest:
    """Returns an AnswerQuestionRequest without inputs."""
    return pb.AnswerQuestionRequest(
        model=model,
        top_k=top_k,
        max_seq_tokens=max_seq_tokens,
        doc_stride_tokens=doc_stride_tokens,
        max_answer_tokens=max_answer_tokens,
        allow_no_answer=allow_no_answer,
        align_to_words=align_to_words,
    )


def fill_mask_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    top_k: int = 0,
    targets: Sequence[str] = (),
) -> pb.FillMaskRequest:
    """Returns a FillMaskRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.FillMaskRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        top_k=top_k,
        targets=listed_texts(targets, "targets"),
    )


def detect_replaced_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
    by_word: bool = False,
) -> pb.DetectReplacedTokensRequest:
    """Returns a DetectReplacedTokensRequest without inputs."""
    return pb.DetectReplacedTokensRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
        by_word=by_word,
    )


def sentence_pair_template(
    *,
    model: str = "",
    truncation: TruncationMode | None = None,
    truncation_side: TruncationSide | None = None,
    max_tokens: int = 0,
) -> pb.PredictSentencePairRequest:
    """Returns a PredictSentencePairRequest without pairs."""
    return pb.PredictSentencePairRequest(
        model=model, truncation=_truncation(truncation, truncation_side, max_tokens)
    )
