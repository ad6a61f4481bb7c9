"""The Python package's methods for heads against a fake server: what is sent, what comes out."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np

import bertrand
from bertrand._proto import bertrand_pb2 as pb
from fake_server import FakeServer


class TasksTest(unittest.TestCase):
    """A fake server and a client for each test."""

    def setUp(self) -> None:
        self.server = self.enterContext(FakeServer())
        self.client = self.enterContext(bertrand.Client(self.server.address, timeout=20))

    def sent(self, index: int = 0) -> Any:
        return self.server.requests[index][1]

    def test_embed_sparse(self) -> None:
        results = self.client.embed_sparse(["one three", "eleven"])
        self.assertEqual([len(vector) for vector in results], [2, 1])
        self.assertEqual(sorted(results[0].values.tolist()), [3.0, 5.0])
        self.assertEqual(results[0].indices.dtype, np.uint32)
        self.assertEqual(list(results[1].to_dict().values()), [6.0])
        self.assertEqual(results.stats[0], bertrand.InputStats(4, 0))
        self.assertEqual(results.timing, bertrand.Timing(1, 2, 3, 10))
        self.client.embed_sparse("x", prompt="query: ", top_k=3, model="fake", max_tokens=8)
        self.assertEqual(
            self.sent(1),
            pb.EmbedSparseRequest(
                model="fake",
                inputs=[pb.Input(text="x")],
                truncation=pb.Truncation(max_tokens=8),
                top_k=3,
                prompt="query: ",
            ),
        )

    def test_classify(self) -> None:
        results = self.client.classify(["good", ("bad", "worse")])
        self.assertEqual(results[0][0], bertrand.LabelScore("positive", 0.75, 1))
        self.assertEqual([label.label for label in results[1]], ["negative", "positive"])
        self.client.classify(
            "x",
            top_k=1,
            activation="none",
            long_input="windows",
            window_tokens=64,
            overlap_tokens=8,
            truncation="fail",
        )
        self.assertEqual(
            self.sent(1),
            pb.ClassifyRequest(
                inputs=[pb.Input(text="x")],
                truncation=pb.Truncation(mode=pb.Truncation.MODE_FAIL),
                long_input=pb.LongInput(
                    mode=pb.LongInput.MODE_WINDOWS, window_tokens=64, overlap_tokens=8
                ),
                top_k=1,
                activation=pb.ACTIVATION_NONE,
            ),
        )

    def test_embed_takes_long_inputs(self) -> None:
        self.client.embed("x", long_input="recurrence", window_tokens=32, memory_tokens=16)
        expected = pb.LongInput(
            mode=pb.LongInput.MODE_RECURRENCE, window_tokens=32, memory_tokens=16
        )
        self.assertEqual(self.sent().long_input, expected)

    def test_classify_zero_shot(self) -> None:
        results = self.client.classify_zero_shot("about sport", ["art", "sport"])
        self.assertEqual(len(results), 1)
        self.assertEqual((results[0][0].label, results[0][0].label_id), ("sport", 1))
        self.client.classify_zero_shot(
            ["a", "b"], ["c"], hypothesis_template="It is {}.", multi_label=True
        )
        self.assertEqual(
            self.sent(1),
            pb.ClassifyZeroShotRequest(
                texts=["a", "b"],
                candidate_labels=["c"],
                hypothesis_template="It is {}.",
                multi_label=True,
            ),
        )

    def test_labels_count_as_inputs(self) -> None:
        labels = [f"label {index}" for index in range(300)]
        texts = [f"text {index}" for index in range(7)]
        self.assertEqual(len(self.client.classify_zero_shot(texts, labels)), 7)
        sizes = [len(request.texts) for _, request in self.server.requests]
        self.assertEqual(sizes, [3, 3, 1])

    def test_rerank(self) -> None:
        ranking = self.client.rerank("abc", ["x", "ab", "abc", ""])
        self.assertEqual([rank.index for rank in ranking], [2, 1, 0, 3])
        self.assertEqual(ranking[0], bertrand.Rank(2, 3.0, "abc"))
        self.assertEqual(len(ranking.stats), 4)
        self.client.rerank("q", ["d"], top_n=1, activation="sigmoid", truncation="only_second")
        self.assertEqual(
            self.sent(1),
            pb.RerankRequest(
                query="q",
                documents=["d"],
                truncation=pb.Truncation(mode=pb.Truncation.MODE_ONLY_SECOND),
                top_n=1,
                activation=pb.ACTIVATION_SIGMOID,
            ),
        )

    def test_ranks_of_many_documents_are_merged(self) -> None:
        documents = ["a" if index % 2 else "abc" for index in range(1500)]
        documents[1400] = "abcd"
        ranking = self.client.rerank("abcd", documents, top_n=4)
        self.assertEqual([rank.index for rank in ranking], [1400, 0, 2, 4])
        self.assertEqual(len(ranking.stats), 1500)
        self.assertEqual(len(self.server.requests), 2)

    def test_classify_tokens(self) -> None:
        (entities,) = self.client.classify_tokens("wir sahen Götz")
        self.assertEqual(
            entities,
            [bertrand.Entity("PER", 0.5, "Götz", bertrand.Span(10, 14, 10, 15, 0), 3)],
        )
        self.client.classify_tokens(
            "x", aggregation="first", ignore_labels=["O", "MISC"], stride_tokens=0
        )
        expected = pb.ClassifyTokensRequest(
            inputs=[pb.Input(text="x")],
            aggregation=pb.ClassifyTokensRequest.AGGREGATION_FIRST,
            ignore_labels=["O", "MISC"],
            stride_tokens=0,
        )
        self.assertEqual(self.sent(1), expected)
        self.assertTrue(self.sent(1).HasField("stride_tokens"))
        self.client.classify_tokens("x", aggregation="none", keep_all_labels=True)
        self.assertEqual(
            self.sent(2),
            pb.ClassifyTokensRequest(inputs=[pb.Input(text="x")], keep_all_labels=True),
        )

    def test_answer_question(self) -> None:
        (answers,) = self.client.answer_question("who?", "it was Ada", top_k=2)
        self.assertEqual([answer.text for answer in answers], ["was", "Ada"])
        self.assertEqual(answers[0].span, bertrand.Span(3, 6, 3, 6, 0))
        (answers,) = self.client.answer_question("who?", "it", allow_no_answer=True)
        self.assertEqual((answers[1].text, answers[1].span.end), ("", 0))
        self.client.answer_question(
            "q",
            "c",
            max_seq_tokens=64,
            doc_stride_tokens=0,
            max_answer_tokens=5,
            align_to_words=False,
        )
        self.assertEqual(
            self.sent(2),
            pb.AnswerQuestionRequest(
                inputs=[pb.QuestionContext(question="q", context="c")],
                max_seq_tokens=64,
                doc_stride_tokens=0,
                max_answer_tokens=5,
                align_to_words=False,
            ),
        )

    def test_questions_and_contexts_go_together(self) -> None:
        cases: list[tuple[Any, Any, list[tuple[str, str]]]] = [
            ("q", ["a", "b"], [("q", "a"), ("q", "b")]),
            (["q", "r"], "a", [("q", "a"), ("r", "a")]),
            (["q", "r"], ["a", "b"], [("q", "a"), ("r", "b")]),
        ]
        for index, (question, context, expected) in enumerate(cases):
            self.client.answer_question(question, context)
            sent = [(item.question, item.context) for item in self.sent(index).inputs]
            self.assertEqual(sent, expected)
        with self.assertRaisesRegex(ValueError, "2 questions for 3 contexts"):
            self.client.answer_question(["q", "r"], ["a", "b", "c"])

    def test_fill_mask(self) -> None:
        (masks,) = self.client.fill_mask("a [MASK] ü [MASK]", targets=["x"])
        self.assertEqual([mask.span.start_byte for mask in masks], [2, 12])
        self.assertEqual(masks[1][0], bertrand.MaskCandidate("x", 0.5, 0, "a [MASK] ü x"))
        self.client.fill_mask("[MASK]", top_k=3)
        expected = pb.FillMaskRequest(inputs=[pb.Input(text="[MASK]")], top_k=3)
        self.assertEqual(self.sent(1), expected)

    def test_detect_replaced_tokens(self) -> None:
        (verdicts,) = self.client.detect_replaced_tokens("a xylophone", by_word=True)
        self.assertEqual([verdict.replaced for verdict in verdicts], [False, True])
        self.assertTrue(self.sent().by_word)

    def test_predict_sentence_pair(self) -> None:
        results = self.client.predict_sentence_pair([("a", "b"), bertrand.TextPair("d", "c")])
        self.assertEqual(results[0], bertrand.PairPrediction(0.75, 0.25))
        self.assertEqual([result.in_order for result in results], [0.75, 0.25])
        self.assertEqual(len(self.client.predict_sentence_pair(bertrand.TextPair("a", "b"))), 1)

    def test_no_inputs_make_no_call(self) -> None:
        self.assertEqual(len(self.client.classify([])), 0)
        self.assertEqual(len(self.client.rerank("q", [])), 0)
        self.assertEqual(len(self.client.classify_zero_shot([], ["a"])), 0)
        self.assertEqual(len(self.client.answer_question("q", [])), 0)
        self.assertEqual(self.server.requests, [])

    def test_arguments_that_cannot_be_sent(self) -> None:
        client: Any = self.client
        cases: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: client.classify("a", activation="tanh"),
                ValueError,
                "activation.*none, sig",
            ),
            (
                lambda: client.classify("a", window_tokens=5),
                ValueError,
                "need long_input",
            ),
            (
                lambda: client.classify("a", long_input="cut"),
                ValueError,
                "long_input.*windows",
            ),
            (
                lambda: client.classify_tokens("a", aggregation="last"),
                ValueError,
                "aggregation",
            ),
            (lambda: client.rerank("q", ["a", 5]), TypeError, r"documents\[1\]"),
            (lambda: client.rerank(5, ["a"]), TypeError, "query"),
            (lambda: client.rerank("q", ["\ud800"]), ValueError, r"documents\[0\]"),
            (
                lambda: client.classify_zero_shot("a", [5]),
                TypeError,
                r"candidate_labels\[0\]",
            ),
            (lambda: client.fill_mask("a", targets=[5]), TypeError, r"targets\[0\]"),
            (lambda: client.predict_sentence_pair(["ab"]), TypeError, r"pairs\[0\]"),
            (lambda: client.answer_question("q", 5), TypeError, "context"),
        ]
        for call, kind, message in cases:
            with self.subTest(message), self.assertRaisesRegex(kind, message):
                call()
        self.assertEqual(self.server.requests, [])

    def test_asyncio_has_the_same(self) -> None:
        async def test() -> None:
            async with bertrand.AsyncClient(self.server.address, timeout=20) as client:
                self.assertEqual((await client.classify("good"))[0][0].label, "positive")
                self.assertEqual((await client.rerank("abc", ["", "abc"]))[0].index, 1)
                self.assertEqual((await client.embed_sparse("abc"))[0].values[0], 3)
                self.assertEqual((await client.classify_tokens("Ada"))[0][0].label, "PER")
                self.assertEqual((await client.answer_question("q", "a"))[0][0].text, "a")
                self.assertEqual((await client.fill_mask("[MASK]"))[0][0][0].token, "cat")
                self.assertTrue((await client.detect_replaced_tokens("x"))[0][0].replaced)
                pairs = [("a", "b")]
                self.assertEqual((await client.predict_sentence_pair(pairs))[0].in_order, 0.75)
                zero_shot = await client.classify_zero_shot("art", ["art"])
                self.assertEqual(zero_shot[0][0].label, "art")

        asyncio.run(test())


if __name__ == "__main__":
    unittest.main()
