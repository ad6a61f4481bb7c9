"""Inputs and results of the clients' methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler"]
OutputType = Literal["float32", "float16", "bfloat16", "int8", "binary"]
TruncationMode = Literal["fail", "longest_first", "only_first", "only_second"]
TruncationSide = Literal["right", "left"]
LongMode = Literal["windows", "recurrence"]
Activation = Literal["none", "sigmoid", "softmax"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
HealthStatus = Literal["unknown", "serving", "not_serving", "service_unknown"]


class TextPair(NamedTuple):
    """Two texts that the model reads together, as `[CLS] first [SEP] second [SEP]`."""

    first: str
    second: str


@dataclass(frozen=True)
class TokenIds:
    """An input that is tokenised already, special tokens included.

    type_ids is as long as ids, or empty for all 0.
    """

    ids: Sequence[int] | npt.NDArray[np.integer[Any]]
    type_ids: Sequence[int] | npt.NDArray[np.integer[Any]] = ()


# One input: a text, a pair of texts, or token ids.
Input = str | TextPair | tuple[str, str] | TokenIds | Sequence[int] | npt.NDArray[np.integer[Any]]
# What a method takes: one text, TextPair, TokenIds or sequence of ids; or a sequence of inputs. A
# plain tuple of two strings is a pair only inside a sequence; by itself it is two texts.
Inputs = str | TextPair | TokenIds | Sequence[int] | Sequence[Input] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class InputStats:
    """Tokens fed to the model, special ones included, and tokens that truncation dropped."""

    num_tokens: int
    num_truncated_tokens: int


@dataclass(frozen=True)
class Timing:
    """The server's wall times in microseconds, summed where a call went out as several requests."""

    tokenize_us: int = 0
    queue_us: int = 0
    inference_us: int = 0
    total_us: int = 0

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.tokenize_us + other.tokenize_us,
            self.queue_us + other.queue_us,
            self.inference_us + other.inference_us,
            self.total_us + other.total_us,
        )


@dataclass(frozen=True)
class Embeddings:
    """One vector per input, in the order of the inputs.

    Attributes:
        embeddings: float32 [n, d]. With raw: float16 [n, d], uint16 [n, d] (bits of bfloat16),
            int8 [n, d], or uint8 [n, ceil(d / 8)] (binary, most significant bit first). Binary
            without raw gives +1 and -1.
        dimensions: d.
        output_type: what crossed the wire.
        scales: float32 [n] with int8, of which value = scale * int8; otherwise None.
        stats: one per input.
        timing: of the server.
        first_index: where in the whole iteration these inputs began (embed_stream).

    numpy.asarray(result), len(result) and iteration go to `embeddings`.
    """

    embeddings: npt.NDArray[Any]
    dimensions: int
    output_type: OutputType
    scales: npt.NDArray[np.float32] | None = None
    stats: list[InputStats] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)
    first_index: int = 0

    def __len__(self) -> int:
        return len(self.embeddings)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter(self.embeddings)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        row: npt.NDArray[Any] = self.embeddings[index]
        return row

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy:
            return np.array(self.embeddings, dtype=dtype)
        return np.asarray(self.embeddings, dtype=dtype)


@dataclass(frozen=True)
class Span:
    """A span of an input's text, ends exclusive.

    start and end count Unicode code points, so text[start:end] is the span; start_byte and
    end_byte count UTF-8 bytes. sequence_index is 1 in a pair's second text, else 0.
    """

    start: int
    end: int
    start_byte: int
    end_byte: int
    sequence_index: int


@dataclass(frozen=True)
class Token:
    """A token: text is the vocabulary's entry ("##ing"), span the surface; special has none."""

    id: int
    text: str
    span: Span
    special: bool
    type_id: int


@dataclass(frozen=True)
class TokenizedInput:
    """The tokens of one input."""

    tokens: list[Token]

    @property
    def ids(self) -> list[int]:
        """Token ids, ready to be an input again."""
        return [token.id for token in self.tokens]

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)


@dataclass(frozen=True)
class TokenEmbeddings:
    """The token vectors of one input: embeddings [len(tokens), layers * hidden size].

    Types, and scales per token, are those of Embeddings.
    """

    tokens: list[Token]
    embeddings: npt.NDArray[Any]
    dimensions: int
    output_type: OutputType
    scales: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TokenEmbeddingsList:
    """Results of embed_tokens, one per input, in order; iterates over them."""

    results: list[TokenEmbeddings]
    stats: list[InputStats] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[TokenEmbeddings]:
        return iter(self.results)

    def __getitem__(self, index: int) -> TokenEmbeddings:
        return self.results[index]


Item = TypeVar("Item")


@dataclass(frozen=True)
class Results(Generic[Item]):
    """Results of a call, one per input, in the order of the inputs; iterates over them."""

    results: list[Item]
    stats: list[InputStats] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Item:
        return self.results[index]


@dataclass(frozen=True)
class SparseVector:
    """The weights of one text: indices uint32 (vocabulary ids, ascending), values float32."""

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)

    def to_dict(self) -> dict[int, float]:
        """Returns the weights by vocabulary id."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


@dataclass(frozen=True)
class LabelScore:
    """A label, its score, and its index in the model (in zero-shot: among the candidates)."""

    label: str
    score: float
    label_id: int


@dataclass(frozen=True)
class Rank:
    """A document's place: index in the call's documents, score, and the document itself."""

    index: int
    score: float
    document: str


@dataclass(frozen=True)
class Ranking:
    """Result of rerank, best first; iterates over the ranks. stats: per document, as given."""

    ranks: list[Rank]
    stats: list[InputStats] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)

    def __len__(self) -> int:
        return len(self.ranks)

    def __iter__(self) -> Iterator[Rank]:
        return iter(self.ranks)

    def __getitem__(self, index: int) -> Rank:
        return self.ranks[index]


@dataclass(frozen=True)
class Entity:
    """A labelled part of a text; token_index is its first token's, special ones counted."""

    label: str
    score: float
    text: str
    span: Span
    token_index: int


@dataclass(frozen=True)
class Answer:
    """A part of the context; without text, and with an empty span: there is no answer."""

    text: str
    score: float
    span: Span


@dataclass(frozen=True)
class MaskCandidate:
    """What may stand for a mask: token, its probability, and the input with it in place."""

    token: str
    score: float
    token_id: int
    sequence: str


@dataclass(frozen=True)
class Mask:
    """A mask of the input, and its candidates, best first; iterates over them."""

    span: Span
    candidates: list[MaskCandidate]

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[MaskCandidate]:
        return iter(self.candidates)

    def __getitem__(self, index: int) -> MaskCandidate:
        return self.candidates[index]


@dataclass(frozen=True)
class Verdict:
    """Whether a token, or a word, was replaced; score is the probability."""

    text: str
    score: float
    replaced: bool
    span: Span


@dataclass(frozen=True)
class PairPrediction:
    """Whether the second text follows the first (BERT), or the order is right (ALBERT)."""

    in_order: float
    not_in_order: float


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server knows.

    Enum values are the proto's names in lower case, without their prefix: state "ready", family
    "bert", tasks ["embed", "embed_tokens"]. max_tokens 0 means no limit.
    """

    name: str
    source: str
    revision: str
    state: str
    family: str
    architecture: str
    tasks: list[str]
    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    max_tokens: int
    labels: list[str]
    compute_type: str
    devices: list[str]
    weight_bytes: int
    num_parameters: int
    error: str
