"""Options of the clients' methods, as keyword arguments. All may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from bertrand.types import (
    Activation,
    Aggregation,
    LongMode,
    OutputType,
    Pooling,
    TruncationMode,
    TruncationSide,
)


class TextOptions(TypedDict, total=False):
    """Options of every method that takes texts.

    model: name of the model; empty or left out: the server's default for the task.
    truncation: "fail" refuses an input that is too long; the others cut it. Left out: as the
        server was told (longest_first by default); tokenize then cuts nothing.
    truncation_side: which end is cut. Left out: as the tokenizer's configuration says.
    max_tokens: tokens per input, special ones included. Left out: the model's limit.
    """

    model: str
    truncation: TruncationMode
    truncation_side: TruncationSide
    max_tokens: int


class _PromptOptions(TextOptions, total=False):
    """Options of the methods that embed or tokenise, besides those of every method.

    prompt: text put before each input; prompt_name: the same, by its name in the checkpoint.
    """

    prompt: str
    prompt_name: str


class _LongOptions(TypedDict, total=False):
    """What is done with inputs that are longer than the model's limit, instead of cutting them.

    long_input: "windows" (overlapping, their results combined) or "recurrence" (XLNet: segments
        that carry the memory of earlier ones).
    window_tokens: tokens of a window or segment. Left out: the model's limit.
    overlap_tokens: tokens that windows share.
    memory_tokens: tokens that a segment remembers. Left out: the checkpoint's, or window_tokens.
    """

    long_input: LongMode
    window_tokens: int
    overlap_tokens: int
    memory_tokens: int


class EmbedOptions(_PromptOptions, _LongOptions, total=False):
    """Options of embed and embed_stream, besides those of every method.

    pooling: how token vectors become one. Left out: as the checkpoint says.
    normalize: scale to length 1. Left out: as the checkpoint says.
    dimensions: keep the first n, normalised again when normalising.
    output_type: what crosses the wire. Results are float32 all the same, unless raw is set.
    raw: leave int8 and binary (and the bits of bfloat16, as uint16) as they came.
    """

    pooling: Pooling
    normalize: bool
    dimensions: int
    output_type: OutputType
    raw: bool


class EmbedTokensOptions(_PromptOptions, total=False):
    """Options of embed_tokens, besides those of every method.

    layers: 0 is the embeddings' output, n is after layer n, -1 the last (the default). Several
        are laid side by side in each vector.
    output_type, raw: as for embed.
    exclude_special_tokens: leave out [CLS], [SEP] and their like.
    """

    layers: Sequence[int]
    output_type: OutputType
    raw: bool
    exclude_special_tokens: bool


class TokenizeOptions(_PromptOptions, total=False):
    """Options of tokenize, besides those of every method.

    add_special_tokens: put [CLS], [SEP] and their like around (the default).
    """

    add_special_tokens: bool


class EmbedSparseOptions(_PromptOptions, total=False):
    """Options of embed_sparse, besides those of every method.

    top_k: only the largest weights. Left out: every weight that is not zero.
    """

    top_k: int


class ClassifyOptions(TextOptions, _LongOptions, total=False):
    """Options of classify, besides those of every method.

    top_k: only the best labels. Left out: every label.
    activation: what makes scores of logits. Left out: as the checkpoint says.
    """

    top_k: int
    activation: Activation


class ZeroShotOptions(TextOptions, total=False):
    """Options of classify_zero_shot, besides those of every method.

    hypothesis_template: the claim about a text, with {} for the label; left out: "This example is
        {}."
    multi_label: each label is judged by itself, so that several may fit.
    """

    hypothesis_template: str
    multi_label: bool


class RerankOptions(TextOptions, total=False):
    """Options of rerank, besides those of every method.

    top_n: only the best documents. Left out: all.
    activation: what makes scores of logits. Left out: as the checkpoint says.
    """

    top_n: int
    activation: Activation


class ClassifyTokensOptions(TextOptions, total=False):
    """Options of classify_tokens, besides those of every method.

    aggregation: how tokens become entities. Left out, or "none": one entity per token.
    ignore_labels: labels to leave out. Left out: "O", unless keep_all_labels.
    stride_tokens: read long texts in windows that share so many tokens; with grouping only.
    """

    aggregation: Aggregation
    ignore_labels: Sequence[str]
    keep_all_labels: bool
    stride_tokens: int


class AnswerOptions(TypedDict, total=False):
    """Options of answer_question.

    model: name of the model; empty or left out: the server's default for the task.
    top_k: answers per input. Left out: 1.
    max_seq_tokens: tokens of a window, the question among them. Left out: the model's limit, at
        most 384.
    doc_stride_tokens: tokens that windows share. Left out: 128, at most half a window.
    max_answer_tokens: tokens of an answer. Left out: 15.
    allow_no_answer: the context may have none (Hugging Face's handle_impossible_answer).
    align_to_words: answers begin and end with words. Left out: they do.
    """

    model: str
    top_k: int
    max_seq_tokens: int
    doc_stride_tokens: int
    max_answer_tokens: int
    allow_no_answer: bool
    align_to_words: bool


class FillMaskOptions(TextOptions, total=False):
    """Options of fill_mask, besides those of every method.

    top_k: candidates per mask. Left out: 5.
    targets: score only these words.
    """

    top_k: int
    targets: Sequence[str]


class DetectReplacedOptions(TextOptions, total=False):
    """Options of detect_replaced_tokens, besides those of every method.

    by_word: one verdict per word, by the highest score of its tokens, instead of one per token.
    """

    by_word: bool
