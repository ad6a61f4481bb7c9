"""From Python values to requests: inputs, options, and long lists cut to what a server takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

import numpy as np

from bertrand._proto import bertrand_pb2 as pb
from bertrand.types import (
    Input,
    Inputs,
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


class Chunker:
    """Gathers inputs into copies of a request, none beyond max_inputs or MAX_REQUEST_BYTES.

    An input that alone is too large goes out alone: the server's refusal says more than ours could.
    """

    def __init__(self, template: Any, max_inputs: int) -> None:
        if not 1 <= max_inputs <= MAX_INPUTS:
            raise ValueError(f"inputs per request: {max_inputs} is not in 1..{MAX_INPUTS}")
        self._template = template
        self._max_inputs = max_inputs
        self._bytes_max = MAX_REQUEST_BYTES - template.ByteSize()
        self._convert = to_token_ids if isinstance(template, pb.DetokenizeRequest) else to_input
        self._items: list[Any] = []
        self._bytes = 0
        self._num_seen = 0

    def add(self, value: object) -> list[Chunk]:
        """Takes an input; returns the requests, 0 to 2, that it completes."""
        item = self._convert(value, self._num_seen)
        size = item.ByteSize() + _ELEMENT_OVERHEAD_BYTES
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
        request.inputs.extend(self._items)
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
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    dimensions: int = 0,
    output_type: OutputType | None = None,
) -> pb.EmbedRequest:
    """Returns an EmbedRequest without inputs. Raises ValueError for an unknown choice."""
    return pb.EmbedRequest(
        model=model,
        truncation=_truncation(truncation, truncation_side, max_tokens),
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
