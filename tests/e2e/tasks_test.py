"""Every task through a real server, against what transformers and sentence-transformers answered.

The checkpoints and the expected answers are those of make_tasks.py. Environment: BERTRAND_SERVER
and BERTRAND_CLI, the binaries. Without a server everything is skipped, exit status 77;
REQUIRE_SERVER=1 makes that a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from python_client_test import CLI, SERVER, Server

import bertrand

TASKS = Path(__file__).resolve().parent / "tasks"
NAMES = ["nli", "relevance", "entities", "answers", "masks", "replaced", "pairs", "recurrent"]
TOLERANCE = 1e-4


class TasksTest(unittest.TestCase):
    """All models in one server."""

    server: ClassVar[Server]
    client: ClassVar[bertrand.Client]
    expected: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        arguments = [word for name in NAMES for word in ("--model", f"{name}={TASKS / name}")]
        cls.server = Server(*arguments)
        cls.client = bertrand.Client(cls.server.address, timeout=30)
        cls.expected = json.loads((TASKS / "expected.json").read_text())

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()
        status = cls.server.stop()
        assert status == 0, f"the server ended with {status}"

    def assert_scores(self, actual: Any, expected: Any) -> None:
        np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)

    def assert_labels(self, actual: list[bertrand.LabelScore], expected: list[Any]) -> None:
        self.assertEqual([x.label for x in actual], [x["label"] for x in expected])
        self.assert_scores([x.score for x in actual], [x["score"] for x in expected])

    def test_classify(self) -> None:
        case = self.expected["classify"]
        inputs = [*case["texts"], *map(tuple, case["pairs"])]
        results = self.client.classify(inputs, model="nli")
        self.assertEqual(len(results), len(case["results"]))
        for actual, expected in zip(results, case["results"], strict=True):
            self.assert_labels(actual, expected)
        best = self.client.classify(inputs[0], model="nli", top_k=1)[0]
        self.assert_labels(best, case["results"][0][:1])
        logits = self.client.classify(inputs[0], model="nli", activation="none")[0]
        scores = np.exp([x.score for x in logits])
        self.assert_scores(scores / scores.sum(), [x["score"] for x in case["results"][0]])

    def test_windows_of_a_long_text(self) -> None:
        case = self.expected["classify_windows"]
        options: Any = {
            "model": "nli",
            "long_input": "windows",
            "window_tokens": case["window_tokens"],
            "overlap_tokens": case["overlap_tokens"],
        }
        result = self.client.classify(case["text"], **options)
        scores = {x.label_id: x.score for x in result[0]}
        self.assert_scores([scores[i] for i in range(3)], case["scores"])
        self.assertEqual(result.stats[0], bertrand.InputStats(case["num_tokens"], 0))
        # Some hundred windows of many inputs, over many batches.
        long = " ".join([case["text"]] * 20)
        results = self.client.classify([long] * 10 + ["ada ."] + [case["text"]], **options)
        for i in range(1, 10):
            self.assertEqual(results[i], results[0])
        self.assertGreater(results.stats[0].num_tokens, 2000)
        self.assert_scores([x.score for x in results[11]], [x.score for x in result[0]])
        short = self.client.classify("ada .", model="nli")[0]
        self.assert_scores([x.score for x in results[10]], [x.score for x in short])

    def test_recurrence_over_long_documents(self) -> None:
        case = self.expected["recurrence"]
        options: Any = {
            "model": "recurrent",
            "long_input": "recurrence",
            "window_tokens": case["window_tokens"],
        }
        documents = [document.strip() for document in case["documents"]]
        vectors = self.client.embed(documents, normalize=True, **options)
        self.assert_scores(np.asarray(vectors), case["vectors"])
        self.assertEqual([s.num_tokens for s in vectors.stats], case["num_tokens"])
        self.assertGreater(max(case["num_tokens"]), 4096)
        results = self.client.classify(documents, **options)
        for result, expected in zip(results, case["scores"], strict=True):
            scores = {x.label_id: x.score for x in result}
            self.assert_scores([scores[i] for i in range(3)], expected)
        # Without segments, what no batch holds is an error, at once; so is a memory without a model.
        with self.assertRaisesRegex(bertrand.InvalidArgument, "4096"):
            self.client.embed(documents[1], model="recurrent", truncation="fail")
        with self.assertRaisesRegex(bertrand.InvalidArgument, "MODE_RECURRENCE needs a model"):
            self.client.classify("ada", model="nli", long_input="recurrence", window_tokens=9)
        with self.assertRaisesRegex(bertrand.InvalidArgument, "does not fit --max-batch-tokens"):
            self.client.embed(documents[1], memory_tokens=4090, **options)

    def test_zero_shot(self) -> None:
        case = self.expected["zero_shot"]
        for multi in (False, True):
            results = self.client.classify_zero_shot(
                case["texts"],
                case["labels"],
                model="nli",
                hypothesis_template=case["template"],
                multi_label=multi,
            )
            wanted = case["multi" if multi else "single"]
            for actual, expected in zip(results, wanted, strict=True):
                self.assertEqual([x.label for x in actual], expected["labels"])
                self.assert_scores([x.score for x in actual], expected["scores"])
                self.assertEqual(case["labels"][actual[0].label_id], actual[0].label)

    def test_rerank(self) -> None:
        case = self.expected["rerank"]
        ranking = self.client.rerank(case["query"], case["documents"], model="relevance")
        self.assertEqual([x.index for x in ranking], [x["index"] for x in case["ranks"]])
        self.assert_scores([x.score for x in ranking], [x["score"] for x in case["ranks"]])
        best = self.client.rerank(case["query"], case["documents"], model="relevance", top_n=2)
        self.assertEqual(best.ranks, ranking.ranks[:2])

    def assert_entities(self, actual: list[bertrand.Entity], expected: list[Any]) -> None:
        self.assertEqual(
            [(x.label, x.text, x.span.start, x.span.end) for x in actual],
            [(x["label"], x["text"], x["start"], x["end"]) for x in expected],
        )
        self.assert_scores([x.score for x in actual], [x["score"] for x in expected])

    def test_entities(self) -> None:
        case = self.expected["entities"]
        for aggregation in ("none", "simple", "first", "average", "max"):
            with self.subTest(aggregation):
                results = self.client.classify_tokens(
                    case["texts"], model="entities", aggregation=aggregation
                )
                for actual, expected in zip(results, case[aggregation], strict=True):
                    self.assert_entities(actual, expected)
        (entities,) = self.client.classify_tokens(
            case["long"], model="entities", aggregation="simple", stride_tokens=8
        )
        self.assert_entities(entities, case["stride"][0])
        with self.assertRaisesRegex(bertrand.InvalidArgument, "stride_tokens"):
            self.client.classify_tokens("x", model="entities", stride_tokens=8)

    def test_answers(self) -> None:
        case = self.expected["answers"]
        questions, contexts = zip(*case["questions"], strict=True)
        for each in case["cases"]:
            wanted = each["options"]
            options: Any = {
                "model": "answers",
                "top_k": wanted["top_k"],
                "max_seq_tokens": wanted["max_seq_len"],
                "doc_stride_tokens": wanted["doc_stride"],
                "max_answer_tokens": wanted.get("max_answer_len", 0),
                "allow_no_answer": wanted.get("handle_impossible_answer", False),
            }
            with self.subTest(wanted):
                results = self.client.answer_question(questions, contexts, **options)
                for context, actual, expected in zip(
                    contexts, results, each["results"], strict=True
                ):
                    self.assertEqual(
                        [(x.text, x.span.start, x.span.end) for x in actual],
                        [(x["answer"], x["start"], x["end"]) for x in expected],
                    )
                    self.assert_scores([x.score for x in actual], [x["score"] for x in expected])
                    for x in actual:
                        self.assertEqual(x.text, context[x.span.start : x.span.end])

    def test_masks(self) -> None:
        case = self.expected["masks"]
        results = [
            *self.client.fill_mask(case["texts"], model="masks", top_k=4),
            self.client.fill_mask(case["texts"][0], model="masks", targets=case["targets"])[0],
        ]
        wanted = [*case["results"], case["targeted"]]
        texts = [*case["texts"], case["texts"][0]]
        for text, actual, expected in zip(texts, results, wanted, strict=True):
            self.assertEqual(len(actual), len(expected))
            for mask, candidates in zip(actual, expected, strict=True):
                self.assertEqual(text[mask.span.start : mask.span.end], "[MASK]")
                self.assertEqual(
                    [(x.token, x.token_id, x.sequence) for x in mask],
                    [(x["token_str"], x["token"], x["sequence"]) for x in candidates],
                )
                self.assert_scores([x.score for x in mask], [x["score"] for x in candidates])
        with self.assertRaisesRegex(bertrand.InvalidArgument, r"inputs\[1\]"):
            self.client.fill_mask(["[MASK]", "nothing to fill"], model="masks")

    def test_replaced_tokens(self) -> None:
        case = self.expected["replaced"]
        results = self.client.detect_replaced_tokens(case["texts"], model="replaced")
        for text, actual, expected in zip(case["texts"], results, case["results"], strict=True):
            spans = [(x.span.start, x.span.end) for x in actual]
            self.assertEqual(spans, [(x["start"], x["end"]) for x in expected])
            self.assertEqual([x.text for x in actual], [text[s:e] for s, e in spans])
            self.assert_scores([x.score for x in actual], [x["score"] for x in expected])
            self.assertEqual([x.replaced for x in actual], [x["replaced"] for x in expected])

    def test_sentence_pairs(self) -> None:
        case = self.expected["pairs"]
        pairs = [(first, second) for first, second in case["pairs"]]
        results = self.client.predict_sentence_pair(pairs, model="pairs")
        self.assert_scores([[x.in_order, x.not_in_order] for x in results], case["scores"])

    def test_sparse(self) -> None:
        case = self.expected["sparse"]
        results = self.client.embed_sparse(case["texts"], model="masks")
        for actual, expected in zip(results, case["vectors"], strict=True):
            self.assertEqual(actual.indices.tolist(), expected["indices"])
            self.assert_scores(actual.values, expected["values"])
        (best,) = self.client.embed_sparse(case["texts"][0], model="masks", top_k=3)
        largest = sorted(case["vectors"][0]["values"])[-3:]
        self.assert_scores(sorted(best.values.tolist()), largest)

    def test_models_tell_their_tasks_and_labels(self) -> None:
        models = {model.name: model for model in self.client.models()}
        primary = {name: models[name].tasks[0] for name in NAMES}
        self.assertEqual(
            primary,
            {
                "nli": "classify",
                "relevance": "rerank",
                "entities": "classify_tokens",
                "answers": "answer_question",
                "masks": "fill_mask",
                "replaced": "detect_replaced_tokens",
                "pairs": "predict_sentence_pair",
                "recurrent": "classify",
            },
        )
        self.assertEqual(models["nli"].labels, ["contradiction", "neutral", "entailment"])
        self.assertEqual(models["entities"].labels[:2], ["O", "B-PER"])
        self.assertEqual((models["replaced"].family, models["nli"].family), ("electra", "bert"))

    def test_a_model_without_the_head_says_what_it_has(self) -> None:
        for call in (
            lambda: self.client.classify("x", model="masks"),
            lambda: self.client.rerank("q", ["d"], model="answers"),
            lambda: self.client.predict_sentence_pair([("a", "b")], model="nli"),
        ):
            with self.assertRaisesRegex(bertrand.FailedPrecondition, "it has: .*embed"):
                call()

    def test_without_a_name_the_first_that_has_the_task(self) -> None:
        named = self.client.rerank("the cat", ["a", "b"], model="relevance")
        self.assertEqual(self.client.rerank("the cat", ["a", "b"]).ranks, named.ranks)

    def test_the_command_line(self) -> None:
        environment = {**os.environ, "BERTRAND_ADDRESS": self.server.address}

        def run(*arguments: str) -> Any:
            done = subprocess.run(
                [CLI, *arguments, "--json"], env=environment, capture_output=True, timeout=60
            )
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            return json.loads(done.stdout)["results"]

        case = self.expected["classify"]
        (result,) = run("classify", "-m", "nli", case["texts"][0])
        self.assertEqual(
            [x["label"] for x in result["labels"]], [x["label"] for x in case["results"][0]]
        )
        ranks = run("rerank", "-m", "relevance", "the cat", *self.expected["rerank"]["documents"])
        self.assertEqual(
            [x["index"] for x in ranks], [x["index"] for x in self.expected["rerank"]["ranks"]]
        )
        case = self.expected["entities"]
        (result,) = run("entities", "-m", "entities", case["texts"][0])
        texts = [x["text"] for x in result["entities"]]
        self.assertEqual(texts, [x["text"] for x in case["simple"][0]])
        (result,) = run("fill-mask", "-m", "masks", self.expected["masks"]["texts"][0])
        best = self.expected["masks"]["results"][0][0][0]
        self.assertEqual(result["masks"][0]["candidates"][0]["token"], best["token_str"])
        question, context = self.expected["answers"]["questions"][0]
        (result,) = run("answer", "-m", "answers", question, context)
        answer = result["answers"][0]
        self.assertEqual(answer["text"], context[answer["start"] : answer["end"]])
        (result,) = run("sparse", "-m", "masks", self.expected["sparse"]["texts"][0])
        self.assertEqual(result["indices"], self.expected["sparse"]["vectors"][0]["indices"])


if __name__ == "__main__":
    if not os.access(SERVER, os.X_OK):
        reason = f"no server at {SERVER}; build it, or set BERTRAND_SERVER"
        if os.environ.get("REQUIRE_SERVER") == "1":
            sys.exit(f"REQUIRE_SERVER is set, but {reason}")
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main()
