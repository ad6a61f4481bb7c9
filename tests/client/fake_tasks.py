"""The fake server's answers to the methods of heads: they follow from the words of the inputs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

from bertrand._proto import bertrand_pb2 as pb

MASK = "[MASK]"


def text_of(item: Any) -> str:
    """Returns what the fake server takes an input's text to be."""
    if item.HasField("pair"):
        return f"{item.pair.first}|{item.pair.second}"
    if item.HasField("tokens"):
        return "ids " + " ".join(str(id) for id in item.tokens.ids)
    return str(item.text)


def span_of(text: str, start: int, end: int) -> Any:
    """Returns the span of text[start:end]."""
    begin = len(text[:start].encode())
    return pb.TextSpan(
        start=start,
        end=end,
        start_byte=begin,
        end_byte=begin + len(text[start:end].encode()),
    )


def words_of(text: str) -> Iterator[tuple[str, Any]]:
    """Yields the words of a text with their spans."""
    for match in re.finditer(r"\w+", text):
        yield match[0], span_of(text, match.start(), match.end())


def stats_of(texts: list[str]) -> list[Any]:
    """Returns one InputStats per text; of more than 1000 words the rest was cut."""
    counts = [len(text.split()) for text in texts]
    return [
        pb.InputStats(num_tokens=min(count, 1000) + 2, num_truncated_tokens=max(0, count - 1000))
        for count in counts
    ]


TIMING = pb.Timing(tokenize_us=1, queue_us=2, inference_us=3, total_us=10)


def embed_sparse(request: Any) -> Any:
    """Gives each word its length as its weight."""
    texts = [request.prompt + text_of(item) for item in request.inputs]
    response = pb.EmbedSparseResponse(stats=stats_of(texts), timing=TIMING)
    for text in texts:
        weights = {zlib.crc32(word.encode()) % 30000: len(word) for word, _ in words_of(text)}
        ids = sorted(weights)[: request.top_k or None]
        response.embeddings.add(indices=ids, values=[weights[id] for id in ids])
    return response


def classify(request: Any) -> Any:
    """Finds texts with a "good" in them positive."""
    texts = [text_of(item) for item in request.inputs]
    response = pb.ClassifyResponse(stats=stats_of(texts), timing=TIMING)
    for text in texts:
        labels = [("positive", 1), ("negative", 0)]
        if "good" not in text:
            labels.reverse()
        pairs = zip(labels, (0.75, 0.25), strict=True)
        scores = [pb.LabelScore(label=name, score=s, label_id=id) for (name, id), s in pairs]
        response.results.add(labels=scores[: request.top_k or None])
    return response


def classify_zero_shot(request: Any) -> Any:
    """Scores labels by whether the text has them."""
    response = pb.ClassifyZeroShotResponse(stats=stats_of(request.texts), timing=TIMING)
    for text in request.texts:
        scores = [
            pb.LabelScore(label=label, score=0.9 if label in text else 0.1, label_id=index)
            for index, label in enumerate(request.candidate_labels)
        ]
        response.results.add(labels=sorted(scores, key=lambda score: -score.score))
    return response


def rerank(request: Any) -> Any:
    """Likes the documents that have most of the query's letters in them."""
    response = pb.RerankResponse(stats=stats_of(request.documents), timing=TIMING)
    letters = set(request.query)
    ranks = [
        pb.RerankResponse.Rank(index=index, score=len(letters & set(document)))
        for index, document in enumerate(request.documents)
    ]
    ranks.sort(key=lambda rank: -rank.score)
    response.ranks.extend(ranks[: request.top_n or None])
    return response


def classify_tokens(request: Any) -> Any:
    """Finds persons where words are capitalised."""
    texts = [text_of(item) for item in request.inputs]
    response = pb.ClassifyTokensResponse(stats=stats_of(texts), timing=TIMING)
    for text in texts:
        entities = response.results.add().entities
        for index, (word, span) in enumerate(words_of(text)):
            if word[0].isupper():
                entities.add(label="PER", score=0.5, token_index=index + 1, text=word, span=span)
    return response


def answer_question(request: Any) -> Any:
    """Answers with the context's longest word, or with nothing."""
    response = pb.AnswerQuestionResponse(
        stats=stats_of([item.context for item in request.inputs]), timing=TIMING
    )
    for item in request.inputs:
        answers = response.results.add().answers
        words = sorted(words_of(item.context), key=lambda word: -len(word[0]))
        for rank, (word, span) in enumerate(words[: request.top_k or 1]):
            answers.add(text=word, score=0.5 / (rank + 1), span=span)
        if request.allow_no_answer:
            answers.add(score=0.01, span=pb.TextSpan())
    return response


def fill_mask(request: Any) -> Any:
    """Fills every mask with the targets, or with cats and dogs."""
    texts = [text_of(item) for item in request.inputs]
    response = pb.FillMaskResponse(stats=stats_of(texts), timing=TIMING)
    for text in texts:
        masks = response.results.add().masks
        for match in re.finditer(re.escape(MASK), text):
            mask = masks.add(span=span_of(text, match.start(), match.end()))
            for rank, word in enumerate(request.targets or ("cat", "dog")):
                filled = text[: match.start()] + word + text[match.end() :]
                mask.candidates.add(
                    token=word, score=0.5 / (rank + 1), token_id=rank, sequence=filled
                )
    return response


def detect_replaced_tokens(request: Any) -> Any:
    """Suspects words with an x."""
    texts = [text_of(item) for item in request.inputs]
    response = pb.DetectReplacedTokensResponse(stats=stats_of(texts), timing=TIMING)
    for text in texts:
        verdicts = response.results.add().verdicts
        for word, span in words_of(text):
            replaced = "x" in word
            verdicts.add(text=word, score=0.9 if replaced else 0.1, replaced=replaced, span=span)
    return response


def predict_sentence_pair(request: Any) -> Any:
    """Believes in the alphabet's order."""
    response = pb.PredictSentencePairResponse(
        stats=stats_of([pair.first + " " + pair.second for pair in request.pairs]),
        timing=TIMING,
    )
    for pair in request.pairs:
        score = 0.75 if pair.first <= pair.second else 0.25
        response.results.add(in_order=score, not_in_order=1 - score)
    return response


# By RPC; messages are NAMERequest and NAMEResponse.
ANSWERS = {
    "EmbedSparse": embed_sparse,
    "Classify": classify,
    "ClassifyZeroShot": classify_zero_shot,
    "Rerank": rerank,
    "ClassifyTokens": classify_tokens,
    "AnswerQuestion": answer_question,
    "FillMask": fill_mask,
    "DetectReplacedTokens": detect_replaced_tokens,
    "PredictSentencePair": predict_sentence_pair,
}
