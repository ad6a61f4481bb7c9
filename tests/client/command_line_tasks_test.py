"""build/bertrand's commands for heads against a fake server: what they print, what they send."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import unittest
from typing import Any

from bertrand._proto import bertrand_pb2 as pb
from fake_server import FakeServer

CLI = os.environ.get("BERTRAND_CLI", "build/bertrand")


class TasksTest(unittest.TestCase):
    """Each test has a fake server, whose address the environment names."""

    def setUp(self) -> None:
        self.server = self.enterContext(FakeServer())
        self.environment = {**os.environ, "BERTRAND_ADDRESS": self.server.address}

    def run_cli(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Runs the command; returns standard output, or standard error where status is not 0."""
        done = subprocess.run(
            [CLI, *arguments],
            input=stdin.encode(),
            capture_output=True,
            env=self.environment,
            timeout=60,
        )
        self.assertEqual(done.returncode, status, done.stdout.decode() + done.stderr.decode())
        return (done.stderr if status else done.stdout).decode()

    def run_errors(self, *arguments: str) -> str:
        """Runs the command, which succeeds; returns standard error."""
        done = subprocess.run([CLI, *arguments], capture_output=True, env=self.environment, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stderr.decode()

    def run_json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self.run_cli(*arguments, "--json", stdin=stdin))["results"]

    def run_on_terminal(self, *arguments: str, columns: int = 80) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**self.environment, "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        subprocess.run([CLI, *arguments], stdout=theirs, env=environment, check=True, timeout=60)
        os.close(theirs)
        text = os.read(ours, 100_000).decode()
        os.close(ours)
        return text

    def test_narrow_terminals(self) -> None:
        for columns in (80, 60, 44, 36):
            for command in (["classify", "x" * 200], ["answer", "who?", "ada " * 100]):
                with self.subTest(columns=columns, command=command[0]):
                    out = self.run_on_terminal(*command, columns=columns)
                    lines = re.sub("\x1b\\[[0-9;]*m", "", out).splitlines()
                    self.assertLessEqual(max(map(len, lines)), columns)

    def sent(self, index: int = -1) -> Any:
        return self.server.requests[index][1]

    def test_classify(self) -> None:
        out = self.run_cli("classify", "good", "bad")
        self.assertRegex(
            out, r"(?m)^good\n  positive  █{22}▌ +0\.7500\n  negative  █{7}▌ +0\.2500$"
        )
        (result,) = self.run_json("classify", "good")
        self.assertEqual(result["text"], "good")
        self.assertEqual(result["labels"][0], {"label": "positive", "score": 0.75, "label_id": 1})
        self.assertEqual(result["num_tokens"], 3)
        options = "--top-k 1 --activation sigmoid --long recurrence --memory-tokens 9 -m fake"
        self.run_cli("classify", *options.split(), "x", "--second", "")
        self.assertEqual(
            self.sent(),
            pb.ClassifyRequest(
                model="fake",
                inputs=[pb.Input(pair=pb.TextPair(first="x"))],
                long_input=pb.LongInput(mode=pb.LongInput.MODE_RECURRENCE, memory_tokens=9),
                top_k=1,
                activation=pb.ACTIVATION_SIGMOID,
            ),
        )

    def test_documents_are_one_text(self) -> None:
        text = "line one\n\nline two\n"
        (result,) = self.run_json("classify", "--document", stdin=text)
        self.assertEqual(result["text"], text.rstrip("\n"))
        self.assertEqual(len(self.run_json("classify", stdin=text)), 3)

    def test_zero_shot(self) -> None:
        out = self.run_cli("zero-shot", "about sport", "--labels", "art,sport")
        self.assertRegex(out, r"(?m)^about sport\n  sport  █{27} +0\.9000\n  art    █{3} ")
        self.run_cli("zero-shot", "x", "-l", "a", "-l", "b", "--template", "{}?", "--multi-label")
        self.assertEqual(
            self.sent(),
            pb.ClassifyZeroShotRequest(
                texts=["x"],
                candidate_labels=["a", "b"],
                hypothesis_template="{}?",
                multi_label=True,
            ),
        )
        labels = ",".join(f"l{index}" for index in range(600))
        self.assertEqual(len(self.run_json("zero-shot", "a", "b", "--labels", labels)), 2)
        self.assertEqual([len(request.texts) for _, request in self.server.requests[2:]], [1, 1])
        self.assertIn("--labels", self.run_cli("zero-shot", "x", status=2))
        self.run_cli("zero-shot", "x", "--labels", " a b ,, c")
        self.assertEqual(list(self.sent().candidate_labels), ["a b", "c"])
        failed = self.run_cli("zero-shot", "x", "--labels", " ,", status=2)
        self.assertIn("--labels: names no label", failed)

    def test_pair(self) -> None:
        out = self.run_cli("pair", "a one", "b two")
        self.assertRegex(out, r"(?m)^a one\nb two\n  in order +█{22}▌ +0\.7500\n  not in order ")
        results = self.run_json("pair", stdin="a\tb\nd\tc\n")
        self.assertEqual([result["in_order"] for result in results], [0.75, 0.25])
        self.assertIn("no second text", self.run_cli("pair", "alone", status=1))

    def test_rerank(self) -> None:
        out = self.run_cli("rerank", "abc", "x", "ab", "abc")
        self.assertRegex(
            out, r"(?m)^ +1  3\.0000  3  abc\n +2  2\.0000  2  ab\n +3  0\.0000  1  x$"
        )
        lines = ["a"] * 1500
        lines[1300] = "ab"
        results = self.run_json("rerank", "ab", "--top-n", "2", stdin="\n".join(lines))
        self.assertEqual([result["index"] for result in results], [1300, 0])
        self.assertEqual(results[0]["document"], "ab")
        self.assertEqual(self.sent().top_n, 2)

    def test_entities(self) -> None:
        out = self.run_cli("entities", "we saw Ada\nand Götz")
        self.assertIn("we saw [Ada PER] and [Götz PER]\n", out)
        self.assertRegex(out, r"(?m)^  PER +0\.5000 +15-19 +Götz$")
        self.assertEqual(self.sent().aggregation, pb.ClassifyTokensRequest.AGGREGATION_SIMPLE)
        (result,) = self.run_json("entities", "über Ada")
        self.assertEqual(
            result["entities"],
            [
                {
                    "label": "PER",
                    "score": 0.5,
                    "text": "Ada",
                    "token_index": 2,
                    "start": 5,
                    "end": 8,
                    "start_byte": 6,
                    "end_byte": 9,
                    "sequence_index": 0,
                }
            ],
        )
        options = "--aggregation none --ignore O --ignore X --all-labels --stride 0"
        self.run_cli("entities", *options.split(), "x")
        expected = pb.ClassifyTokensRequest(
            inputs=[pb.Input(text="x")],
            ignore_labels=["O", "X"],
            keep_all_labels=True,
            stride_tokens=0,
        )
        self.assertEqual(self.sent(), expected)

    def test_cut_texts_are_said(self) -> None:
        long = "word " * 1234
        for command, remedy in (
            (["classify"], " (--long reads all)"),
            (["entities"], " (--stride reads all)"),
            (["rerank", "q"], ""),
            (["fill-mask"], ""),
        ):
            note = f"bertrand: cut 1 of 2 texts: 234 tokens were not read{remedy}\n"
            self.assertEqual(self.run_errors(*command, long, "short"), note)
            self.assertEqual(self.run_errors(*command, "short"), "")
            self.assertEqual(self.run_errors(*command, "--json", long), "")

    def test_nothing_to_see(self) -> None:
        self.assertEqual(
            self.run_cli("entities", "we saw"), "we saw\n  (no entities)\n\n"
        )
        self.assertIn("(blank)\n  (no entities)\n", self.run_cli("entities", " \t"))
        self.assertTrue(self.run_cli("classify", "").startswith("(blank)\n  "))

    def test_colour_is_for_terminals(self) -> None:
        self.assertNotIn("\x1b", self.run_cli("entities", "Ada"))
        out = self.run_on_terminal("entities", "we saw Ada")
        self.assertRegex(out, "we saw \x1b\\[1;3[1-6]mAda\x1b\\[0m\x1b\\[2m PER\x1b\\[0m")

    def test_answer(self) -> None:
        context = "x" * 3 + " so " * 40 + "Frankenstein" + " on " * 40
        out = self.run_cli("answer", "what?", context)
        self.assertIn("0.5000  Frankenstein\n", out)
        self.assertRegex(out, r"(?m)^ +\.\.\.[so ]{60}\[Frankenstein\][on ]{60}\.\.\.$")
        (result,) = self.run_json("answer", "what?", "it was", "--top-k", "2", "--allow-no-answer")
        texts = [answer["text"] for answer in result["answers"]]
        self.assertEqual((result["question"], texts), ("what?", ["was", "it", ""]))
        self.assertIn("(no answer)", self.run_cli("answer", "q", "c", "--allow-no-answer"))
        options = "--max-seq-tokens 64 --doc-stride 0 --max-answer-tokens 5 --any-token"
        self.run_cli("answer", "q", "c", *options.split())
        self.assertEqual(
            self.sent(),
            pb.AnswerQuestionRequest(
                inputs=[pb.QuestionContext(question="q", context="c")],
                max_seq_tokens=64,
                doc_stride_tokens=0,
                max_answer_tokens=5,
                align_to_words=False,
            ),
        )

    def test_fill_mask(self) -> None:
        out = self.run_cli("fill-mask", "a [MASK] here")
        self.assertRegex(out, r"(?m)^a \[MASK\] here\n  cat  █{15} +0\.5000\n  dog  █{7}▌ ")
        out = self.run_cli("fill-mask", "[MASK] [MASK]", "--target", "x")
        self.assertIn("mask 2\n", out)
        self.assertEqual(list(self.sent().targets), ["x"])
        (result,) = self.run_json("fill-mask", "a [MASK]", "--top-k", "2")
        (mask,) = result["masks"]
        self.assertEqual((mask["start"], mask["end"]), (2, 8))
        self.assertEqual(mask["candidates"][1]["sequence"], "a dog")

    def test_replaced(self) -> None:
        out = self.run_cli("replaced", "a xylo sang")
        self.assertRegex(out, r"(?m)^a \[xylo\] sang\n  a +█{3} +0\.1000\n  xylo  █{27} +0\.9000$")
        self.assertTrue(self.sent().by_word)
        (result,) = self.run_json("replaced", "x", "--by-token")
        self.assertTrue(result["verdicts"][0]["replaced"])
        self.assertFalse(self.sent().by_word)

    def test_sparse(self) -> None:
        out = self.run_cli("sparse", "one three")
        self.assertRegex(
            out, r"(?m)^one three\n +weight +id +word\n +5\.0000 +\d+ +\d+\n +3\.0000 "
        )
        (result,) = self.run_json("sparse", "one three", "--prompt", "eleven ")
        self.assertEqual(sorted(result["values"]), [3, 5, 6])
        self.assertEqual(len(result["indices"]), 3)
        many = " ".join(f"w{index}" for index in range(40))
        self.assertIn("... 40 weights in all\n", self.run_cli("sparse", many))

    def test_nothing_and_no_server(self) -> None:
        for command in (
            ["classify"],
            ["entities"],
            ["fill-mask"],
            ["replaced"],
            ["sparse"],
        ):
            self.assertEqual(self.run_json(*command), [])
            failed = self.run_cli(*command, "x", "--address", "127.0.0.1:1", status=1)
            self.assertIn("no server answers at 127.0.0.1:1", failed)
            self.assertIn("./run serve MODEL", failed)


if __name__ == "__main__":
    unittest.main()
