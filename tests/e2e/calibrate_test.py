"""`bertrand calibrate` and a server with --dtype float8 on the emulated GPU, from texts to answers and
through everything that may go wrong on the way. Needs only Python's standard library.

Environment: BERTRAND_SERVER and BERTRAND_CLI, the binaries, in one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

SERVER = os.environ["BERTRAND_SERVER"]
CLI = os.environ["BERTRAND_CLI"]
# Its tokenizer; its sizes are none that float8 takes.
OTHER = Path(__file__).parent / "tasks" / "nli"
HIDDEN, INNER, POSITIONS = 32, 64, 48
TEXTS = ["ada saw paris in the rain .", "the cat sat on the mat", "who was ada ?"]


def write_checkpoint(folder: Path, seed: int) -> None:
    """A BERT of one layer with a classifier."""
    folder.mkdir()
    for file in OTHER.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, folder)
    config = json.loads((OTHER / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": 2,
               "num_hidden_layers": 1, "max_position_embeddings": POSITIONS}
    (folder / "config.json").write_text(json.dumps(config))
    layer = "bert.encoder.layer.0."
    shapes = {
        "bert.embeddings.word_embeddings": [config["vocab_size"], HIDDEN],
        "bert.embeddings.position_embeddings": [POSITIONS, HIDDEN],
        "bert.embeddings.token_type_embeddings": [2, HIDDEN],
        layer + "intermediate.dense": [INNER, HIDDEN], layer + "output.dense": [HIDDEN, INNER],
        "classifier": [3, HIDDEN], "bert.pooler.dense": [HIDDEN, HIDDEN],
        **{f"{layer}attention.{name}": [HIDDEN, HIDDEN]
           for name in ("self.query", "self.key", "self.value", "output.dense")},
        **{f"{name}.LayerNorm": [HIDDEN]
           for name in ("bert.embeddings", layer + "attention.output", layer + "output")}}
    generator = random.Random(seed)
    header, payload = {}, b""
    for name, shape in shapes.items():
        parts = {"weight": shape} if "_embeddings" in name else {"weight": shape, "bias": shape[:1]}
        for part, dims in parts.items():
            count = dims[0] * (dims[1] if len(dims) > 1 else 1)
            is_gain = part == "weight" and len(dims) == 1
            values = [(1 if is_gain else 0) + generator.uniform(-0.4, 0.4) for _ in range(count)]
            begin, payload = len(payload), payload + struct.pack(f"<{count}f", *values)
            header[f"{name}.{part}"] = {"dtype": "F32", "shape": dims,
                                        "data_offsets": [begin, len(payload)]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + payload)


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Its address for gRPC."""
    process = subprocess.Popen(
        [SERVER, "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--threads=1",
         "--log-level=error", *arguments], stdout=subprocess.PIPE)
    try:
        yield re.match(rb"ready grpc=(\S+) ", process.stdout.readline())[1].decode()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class CalibrateTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.model = self.folder / "model"
        write_checkpoint(self.model, 1)
        self.scales = self.model / "bertrand-fp8.json"

    def texts(self, *lines: str | bytes) -> str:
        path = self.folder / "texts.txt"
        path.write_bytes(b"\n".join(
            line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
        return str(path)

    def calibrate(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> str:
        """Standard error; nothing goes to standard output."""
        done = subprocess.run([CLI, "calibrate", *arguments], input=stdin, capture_output=True,
                              timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (status, b""), done.stderr)
        return done.stderr.decode()

    def run_server(self, *arguments: str, device: str = "emulated") -> str:
        """Standard error of one that does not start."""
        done = subprocess.run([SERVER, "--check", f"--device={device}", "--dtype=float8",
                               *arguments], capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, b""), done.stderr)
        return done.stderr.decode()

    def ask(self, address: str, *arguments: str) -> dict:
        done = subprocess.run([CLI, *arguments, "--json", "--address", address],
                              capture_output=True, timeout=60, check=True)
        return json.loads(done.stdout)

    def test_from_texts_to_answers(self) -> None:
        said = self.calibrate(str(self.model), self.texts(*TEXTS, "", "ada\tparis", "a " * 100))
        self.assertIn("calibrated with 5 texts (1 cut), ", said)
        self.assertEqual(len(json.loads(self.scales.read_text())["blocks"]), 1)
        answers = []
        for dtype in ("float32", "float8"):
            with server(f"--model=m={self.model}", "--device=emulated",
                        f"--dtype={dtype}") as address:
                model = self.ask(address, "models")["models"][0]
                self.assertEqual((model["compute_type"], model["devices"]), (dtype, ["emulated"]))
                # Three times: as they are, recorded, replayed.
                each = [self.ask(address, "classify", *TEXTS)["results"] for _ in range(3)]
                self.assertEqual(each[0], each[1])
                self.assertEqual(each[0], each[2])
                answers.append([{label["label"]: label["score"] for label in result["labels"]}
                                for result in each[0]])
        differences = [abs(one[label] - other[label])
                       for one, other in zip(*answers, strict=True) for label in one]
        self.assertLess(max(differences), 0.1)
        self.assertGreater(max(differences), 1e-5)

    def test_elsewhere(self) -> None:
        output = self.folder / "scales.json"
        self.calibrate(str(self.model), "-", "--output", str(output),
                       stdin=b"\xef\xbb\xbfada\r\n\r\n  \nparis\n")
        self.assertEqual(json.loads(output.read_text())["num_texts"], 2)
        self.assertFalse(self.scales.exists())
        with server(f"--model=m={self.model}", "--device=emulated", "--dtype=float8",
                    f"--fp8-scales={output}") as address:
            self.assertEqual(self.ask(address, "models")["models"][0]["compute_type"], "float8")

    def test_every_model_has_its_own(self) -> None:
        other = self.folder / "other"
        write_checkpoint(other, 2)
        self.calibrate(str(self.model), self.texts(*TEXTS))
        models = [f"--model=a={self.model}", f"--model=b={other}"]
        said = self.run_server(*models)
        for part in ("--model b: ", "other/bertrand-fp8.json", "bertrand calibrate",
                     "--fp8-scales", "another server"):
            self.assertIn(part, said)
        # Of the same sizes and names, but not the same.
        shutil.copy(self.scales, other)
        said = self.run_server(*models)
        self.assertIn("other/bertrand-fp8.json: weights is", said)
        self.assertIn("another checkpoint's", said)

    def test_what_float8_is_not_for(self) -> None:
        said = self.run_server(f"--model={self.model}", device="cpu")
        self.assertIn("float8 needs a GPU of compute capability 8.9", said)
        self.assertIn("hidden states have 24 values, expected a multiple of 16",
                      self.run_server(f"--model={OTHER}"))
        self.assertIn("hidden states have 24 values",
                      self.calibrate(str(OTHER), self.texts(*TEXTS), status=1))

    def test_texts_that_are_none(self) -> None:
        model = str(self.model)
        self.assertIn("nothing.txt: No such file", self.calibrate(model, "nothing.txt", status=1))
        self.assertIn(": a folder", self.calibrate(model, str(self.folder), status=1))
        self.assertIn("has no texts", self.calibrate(model, self.texts("", " \t "), status=1))
        self.assertRegex(self.calibrate(model, self.texts("ada", b"\xff"), status=1),
                         r"line 2: .*UTF-8")
        self.assertRegex(self.calibrate(model, self.texts("a" * (5 << 20)), status=1),
                         r"line 1: a text of 5242880 bytes, expected at most 4194304")
        self.assertIn("TEXTS is required", self.calibrate(model, status=2))
        self.assertIn("no such folder", self.calibrate("nothing", self.texts("ada"), status=1))
        self.assertFalse(self.scales.exists())

    def test_where_nothing_can_be_written(self) -> None:
        texts = self.texts(*TEXTS)
        for output in (self.folder / "nothing" / "scales.json", self.model):
            said = self.calibrate(str(self.model), texts, "--output", str(output), status=1)
            self.assertIn(f"cannot write {output}: ", said)
            self.assertIn("--output FILE", said)

    def test_a_terminal_is_told_and_ends_it(self) -> None:
        ours, theirs = pty.openpty()
        process = subprocess.Popen([CLI, "calibrate", str(self.model), "-"],
                                   stdin=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        said = ""
        with contextlib.suppress(BrokenPipeError), contextlib.closing(process.stdin) as stdin:
            end = time.monotonic() + 30
            while "calibrating: " not in said and time.monotonic() < end:
                stdin.write(b"ada saw paris .\n" * 200)
                stdin.flush()
                os.set_blocking(ours, False)
                with contextlib.suppress(BlockingIOError):
                    said += os.read(ours, 10_000).decode()
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(20), 128 + signal.SIGINT)
        os.close(ours)
        self.assertRegex(said, r"\rcalibrating: \d+ texts, \d+ tokens")
        self.assertEqual([path.name for path in self.model.iterdir() if "fp8" in path.name], [])


if __name__ == "__main__":
    unittest.main()
