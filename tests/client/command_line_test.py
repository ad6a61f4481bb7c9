"""build/bertrand against a fake server: what it prints, what it sends, how it fails."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

import grpc
import numpy as np

from bertrand._proto import bertrand_pb2 as pb
from fake_server import DIMENSIONS, Failure, FakeServer, vector_of

CLI = os.environ.get("BERTRAND_CLI", "build/bertrand")


class CommandLineTest(unittest.TestCase):
    """Each test has a fake server, whose address the environment names."""

    def setUp(self) -> None:
        self.server = self.enterContext(FakeServer())
        self.environment = {**os.environ, "BERTRAND_ADDRESS": self.server.address}

    def run_cli(
        self, *arguments: str, stdin: bytes = b"", status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command; standard output and error are text. Checks the exit status."""
        done = subprocess.run(
            [CLI, *arguments], input=stdin, capture_output=True, env=self.environment, timeout=60
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        self.assertEqual(text.returncode, status, text.stdout + text.stderr)
        return text

    def test_embed_json(self) -> None:
        texts = ['a "quoted" text', "ünï\n"]
        document = json.loads(self.run_cli("embed", "--json", *texts).stdout)
        self.assertEqual(document["dimensions"], DIMENSIONS)
        self.assertEqual(document["timing_us"]["total"], 10)
        for index, text in enumerate(texts):
            result = document["results"][index]
            self.assertEqual((result["index"], result["text"]), (index, text))
            vector = np.array(result["embedding"], np.float32)
            np.testing.assert_array_equal(vector, vector_of(text))

    def test_embed_for_people(self) -> None:
        out = self.run_cli("embed", "one text", "another").stdout
        self.assertIn(f"{DIMENSIONS} dimensions", out)
        self.assertIn("one text", out)
        self.assertRegex(out, r"(?m)^  1 +1\.000 +-?0\.\d{3}$")
        self.assertRegex(out, r"2 texts, 7 tokens in .* ms \(server 0\.0")
        self.assertNotIn("\x1b", out)
        self.assertNotIn("cosine", self.run_cli("embed", "alone").stdout)

    def test_embed_lines_of_standard_input(self) -> None:
        lines = [f"line {index}" for index in range(2500)]
        out = self.run_cli("embed", "--json", stdin="\r\n".join(lines).encode()).stdout
        results = json.loads(out)["results"]
        self.assertEqual([result["text"] for result in results], lines)
        self.assertEqual([result["index"] for result in results], list(range(2500)))
        self.assertEqual(self.server.sizes("Embed"), [1024, 1024, 452])
        self.assertEqual(len(json.loads(self.run_cli("embed", "--json", "-").stdout)["results"]), 0)

    def test_requests_stay_below_4_mb(self) -> None:
        lines = [str(index) + "x" * 1_500_000 for index in range(5)]
        out = self.run_cli("embed", stdin="\n".join(lines).encode()).stdout
        self.assertEqual(self.server.sizes("Embed"), [2, 2, 1])
        self.assertLess(max(map(len, out.splitlines())), 1200)

    def test_options_reach_the_server(self) -> None:
        options = (
            "--model fake --pooling last_token --no-normalize --dimensions 4 --prompt query: "
            "--truncation only-first --max-tokens 16"
        )
        self.run_cli("embed", *options.split(), "x")
        truncation = pb.Truncation(mode=pb.Truncation.MODE_ONLY_FIRST, max_tokens=16)
        expected = pb.EmbedRequest(
            model="fake",
            inputs=[pb.Input(text="x")],
            pooling=pb.POOLING_LAST_TOKEN,
            normalize=False,
            dimensions=4,
            output_type=pb.DATA_TYPE_FLOAT32,
            prompt="query:",
            truncation=truncation,
        )
        self.assertEqual(self.server.requests[0][1], expected)
        self.run_cli("embed", "--normalize", "x")
        self.assertTrue(self.server.requests[1][1].normalize)
        self.run_cli("embed", "x")
        self.assertFalse(self.server.requests[2][1].HasField("normalize"))

    def test_tokenize(self) -> None:
        out = self.run_cli("tokenize", "Grüße an\x1b[31m alle").stdout
        self.assertRegex(out, r"(?m)^  0 +101 +\[CLS\] +\(special\)$")
        self.assertRegex(out, r"(?m)^  1 +\d+ +Grüße +0-5 +Grüße$")
        self.assertNotIn("\x1b", out)
        document = json.loads(self.run_cli("tokenize", "--json", "Grüße an", "x").stdout)
        token = document["results"][0]["tokens"][2]
        self.assertEqual((token["text"], token["start"], token["start_byte"]), ("an", 6, 8))
        self.assertTrue(document["results"][1]["tokens"][0]["special"])
        out = self.run_cli("tokenize", "--no-special-tokens", "a b").stdout
        self.assertNotIn("CLS", out)
        self.assertEqual(json.loads(self.run_cli("tokenize", "--json").stdout), {"results": []})

    def test_models(self) -> None:
        out = self.run_cli("models").stdout
        self.assertRegex(out, r"fake +bert +ready +6 +12 +512 +22\.5 M +float32 +cpu")
        self.assertIn("fake: embed, embed_tokens", out)
        (model,) = json.loads(self.run_cli("models", "--json", "fake").stdout)["models"]
        self.assertEqual((model["name"], model["tasks"]), ("fake", ["embed", "embed_tokens"]))

    def test_no_server(self) -> None:
        for command in (["models"], ["embed", "x"], ["tokenize", "x"]):
            failed = self.run_cli(*command, "--address", "127.0.0.1:1", status=1)
            self.assertIn("no server answers at 127.0.0.1:1", failed.stderr)
            self.assertIn("./run serve MODEL", failed.stderr)
            self.assertIn("bertrand-server --model", failed.stderr)
            self.assertEqual(failed.stdout, "")

    def test_the_servers_errors(self) -> None:
        failed = self.run_cli("embed", "--model", "other", "x", status=1)
        self.assertEqual(failed.stderr, "bertrand: not found: no model 'other'\n")
        self.server.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"))
        self.assertIn("too many", self.run_cli("embed", "x", status=1).stderr)

    def test_a_full_server_is_asked_again(self) -> None:
        busy = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", pushback_ms="50")
        self.server.failures.extend([busy, busy])
        self.run_cli("embed", "x")
        self.assertEqual(len(self.server.requests), 3)
        self.server.failures.append(busy)
        self.assertIn("full", self.run_cli("embed", "x", "--timeout", "0.04", status=1).stderr)

    def test_wrong_command_lines(self) -> None:
        for arguments in (
            [],
            ["embed", "--pooling", "median", "x"],
            ["embed", "--dimensions", "-1", "x"],
            ["embed", "--normalize", "--no-normalize", "x"],
            ["models", "--timeout", "soon"],
        ):
            with self.subTest(arguments):
                self.assertIn("--help", self.run_cli(*arguments, status=2).stderr)
        self.assertEqual(self.server.requests, [])

    def test_wrong_command_lines_are_told_in_one_line(self) -> None:
        for arguments, words in (
            (["sing"], 'unknown command "sing"; there are embed, sparse,'),
            (["embed", "--window-tokens", "9", "x"], "--window-tokens requires --long"),
            (["models", "--address", "here"], '"here" is not HOST:PORT, such as 127.0.0.1:50051'),
            (["embed", "--pooling", "median", "x"], "{cls,mean,max,mean-sqrt-len,"),
        ):
            with self.subTest(arguments):
                failed = self.run_cli(*arguments, status=2).stderr
                self.assertIn(words, failed)
                self.assertEqual(failed.count("\n"), 1, failed)
        self.run_cli("embed", "--pooling", "mean-sqrt-len", "x")
        self.run_cli("embed", "--pooling", "mean_sqrt_len", "x")
        for _, request in self.server.requests:
            self.assertEqual(request.pooling, pb.POOLING_MEAN_SQRT_LEN)

    def test_files(self) -> None:
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "texts.txt"
        path.write_bytes("\ufeffone\r\ntw\u00f6\n".encode())
        self.run_cli("embed", "-f", str(path))
        self.run_cli("embed", "--document", "--file", str(path))
        sent = [[i.text for i in request.inputs] for _, request in self.server.requests]
        self.assertEqual(sent, [["one", "tw\u00f6"], ["one\r\ntw\u00f6"]])
        missing = self.run_cli("embed", "-f", f"{path}.not", status=1).stderr
        self.assertEqual(missing, f"bertrand: {path}.not: No such file or directory\n")
        self.assertIn("a folder", self.run_cli("embed", "-f", str(path.parent), status=1).stderr)
        self.assertIn("which?", self.run_cli("embed", "-f", str(path), "x", status=1).stderr)
        path.write_bytes(b"\xff")
        self.assertIn(f"{path}: line 1", self.run_cli("embed", "-f", str(path), status=1).stderr)
        self.assertIn("--document", self.run_cli("embed", "--document", "x", status=1).stderr)
        self.assertEqual(self.run_cli("embed").stderr, "bertrand: no texts\n")

    def test_errors_name_the_line_of_the_file(self) -> None:
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "texts"
        path.write_text("".join(f"text {index}\n" for index in range(4000)))
        wrong = Failure(grpc.StatusCode.INVALID_ARGUMENT, "inputs[951].text: is wrong")
        for command in (["classify"], ["embed"], ["tokenize"], ["entities"], ["fill-mask"]):
            with self.subTest(command=command[0]):
                self.server.failures.extend([None, None, wrong])
                failed = self.run_cli(*command, "-f", str(path), status=1).stderr
                self.assertIn(f"{path}: line 3000: is wrong", failed)
                self.server.failures.extend([None, None, wrong])
                piped = self.run_cli(*command, stdin=path.read_bytes(), status=1).stderr
                self.assertIn("line 3000: is wrong", piped)
        self.server.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "inputs[1]: wrong"))
        self.assertIn("inputs[1]: wrong", self.run_cli("embed", "a", "b", status=1).stderr)

    def test_text_that_is_not_utf8(self) -> None:
        failed = self.run_cli("embed", stdin=b"good\nb\xffd\n", status=1)
        self.assertIn("line 2 is not valid UTF-8", failed.stderr)

    def test_help(self) -> None:
        overview = self.run_cli("--help").stdout
        self.assertEqual(self.run_cli("help").stdout, overview)
        self.assertEqual(self.run_cli(status=2).stderr, overview)
        commands = re.findall(r"(?m)^  ([a-z-]+) {3,}", overview.split("Subcommands:")[1])
        self.assertEqual(len(commands), 12)
        for command in commands:
            out = self.run_cli(command, "-h").stdout
            self.assertEqual(self.run_cli("help", command).stdout, out)
            self.assertRegex(out, rf"(?m)^Examples:\n  bertrand {command}")
            self.assertIn("BERTRAND_ADDRESS", out)
            self.assertLessEqual(max(map(len, out.splitlines())), 100)
        self.assertRegex(self.run_cli("--version").stdout, r"^bertrand \d+\.\d+\.\d+\n$")

    def test_the_readme(self) -> None:
        root = Path(__file__).parents[2]
        lines = re.findall(r"(?m)^\$ build/bertrand (.+)$", (root / "README.md").read_text())
        self.assertGreater(len(lines), 8)
        for line in lines:
            with self.subTest(line), contextlib.chdir(root):
                self.assertNotEqual(self.run_cli(*shlex.split(line)).stdout, "")
        self.assertEqual(self.server.requests[-1][1].long_input.mode, pb.LongInput.MODE_RECURRENCE)

    def test_a_terminal_gets_styles_unless_it_declines(self) -> None:
        for variables, styled in (({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False)):
            ours, theirs = pty.openpty()
            environment = {**self.environment, "TERM": "xterm", **variables}
            subprocess.run([CLI, "models"], stdout=theirs, env=environment, check=True, timeout=60)
            os.close(theirs)
            self.assertEqual(b"\x1b[1m" in os.read(ours, 100_000), styled)
            os.close(ours)

    def test_a_reader_that_leaves_stops_the_work(self) -> None:
        lines = "\n".join(str(index) for index in range(50_000)).encode()
        self.server.delay_s = 0.02
        command = f"{CLI} embed 2>/dev/null | head -n 1"
        subprocess.run(
            ["bash", "-c", command], input=lines, env=self.environment, check=True, timeout=60
        )
        self.assertLess(len(self.server.requests), 40)


if __name__ == "__main__":
    unittest.main()
