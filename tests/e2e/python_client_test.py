"""The real server through the Python client and the command line.

Environment: BERTRAND_SERVER and BERTRAND_CLI, the binaries; MODEL_FOLDER, else
MINILM_FOLDER, a folder with a sentence-embedding checkpoint that has a lower-casing WordPiece
tokenizer, such as all-MiniLM-L6-v2. Without a server or a model everything is skipped, exit status
77; REQUIRE_SERVER=1 makes that a failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import numpy.typing as npt

import bertrand

SERVER = os.environ.get("BERTRAND_SERVER", "build/bertrand-server")
CLI = os.environ.get("BERTRAND_CLI", "build/bertrand")
# The other tests know the model as MINILM_FOLDER.
MODEL_DIR = os.environ.get("MODEL_FOLDER") or os.environ.get("MINILM_FOLDER", "")
START_S = 120

TEXTS = [
    "A cat is sleeping on the warm windowsill.",
    "The kitten naps in the sunshine by the window.",
    "The central bank raised interest rates again.",
    "Naïve café owners — in Zürich — drink 咖啡 😀.",
    "x",
    " ".join(["A long text that fills some part of what the model can take."] * 12),
]


class Server:
    """bertrand-server on free ports; its log is shown when it does not start."""

    def __init__(self, *arguments: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Our own variables begin with BERTRAND_ as well, and the server would warn of them.
        ours = ("SERVER", "CLI", "MODEL_DIR", "MINILM", "ADDRESS")
        inherited = dict(os.environ)
        for name in ours:
            inherited.pop(f"BERTRAND_{name}", None)
        self._process = subprocess.Popen(
            [SERVER, *arguments, "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=inherited,
        )
        self.address = self._ready_address()

    def _ready_address(self) -> str:
        assert self._process.stdout is not None
        timer = threading.Timer(START_S, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line.startswith("ready grpc="):
            self._process.kill()
            self._log.seek(0)
            log = self._log.read().decode()
            self.stop()
            raise RuntimeError(f"no ready line but {line!r}; its log:\n{log}")
        return line.split()[1].removeprefix("grpc=")

    def stop(self) -> int:
        """Ends the server as an operator does; returns its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()


class EndToEndTest(unittest.TestCase):
    """One server for all tests."""

    server: ClassVar[Server]
    client: ClassVar[bertrand.Client]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server("--model", f"mini={MODEL_DIR}")
        cls.addClassCleanup(cls.server.stop)
        cls.client = bertrand.Client(cls.server.address)
        cls.addClassCleanup(cls.client.close)
        cls.client.wait_ready(30)

    def close(self, one: npt.ArrayLike, other: npt.ArrayLike, tolerance: float) -> None:
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)

    def test_models_and_health(self) -> None:
        (info,) = self.client.models()
        self.assertEqual((info.name, info.state), ("mini", "ready"))
        self.assertIn("embed", info.tasks)
        self.assertEqual(self.client.model(), info)
        self.assertEqual(self.client.model("mini"), info)
        self.assertEqual(self.client.embed("x").dimensions, info.hidden_size)
        self.assertEqual(self.client.health(), "serving")
        self.assertEqual(self.client.health("mini"), "serving")
        self.assertEqual(self.client.health("other"), "service_unknown")

    def test_meaning(self) -> None:
        vectors = self.client.embed(TEXTS[:3], normalize=True).embeddings
        similarities = vectors @ vectors.T
        self.close(np.diag(similarities), 1, 1e-5)
        self.assertGreater(similarities[0, 1], similarities[0, 2] + 0.1)

    def test_alone_and_in_a_batch(self) -> None:
        together = self.client.embed(TEXTS)
        for index, text in enumerate(TEXTS):
            alone = self.client.embed(text)
            self.close(alone.embeddings[0], together.embeddings[index], 1e-6)
            self.assertEqual(alone.stats[0], together.stats[index])
        backwards = self.client.embed(TEXTS[::-1])
        self.close(backwards.embeddings[::-1], together.embeddings, 1e-6)

    def test_a_list_of_several_requests_keeps_its_order(self) -> None:
        words = ["cat", "bank", "rocket", "window", "rate"]
        texts = [f"{words[index % 5]} {index}" for index in range(1500)]
        vectors = self.client.embed(texts).embeddings
        self.assertEqual(len(vectors), 1500)
        for index in (0, 1, 1023, 1024, 1499):
            self.close(vectors[index], self.client.embed(texts[index]).embeddings[0], 1e-6)

    def test_stream(self) -> None:
        texts = [f"number {index}" for index in range(300)]
        expected = self.client.embed(texts).embeddings
        batches = list(self.client.embed_stream(iter(texts), batch_size=32, max_in_flight=4))
        self.assertEqual([batch.first_index for batch in batches], list(range(0, 300, 32)))
        self.close(np.concatenate([batch.embeddings for batch in batches]), expected, 1e-6)

    def test_async(self) -> None:
        expected = self.client.embed(TEXTS).embeddings

        async def embed_each() -> list[bertrand.Embeddings]:
            async with bertrand.AsyncClient(self.server.address) as client:
                await client.wait_ready(10)
                streamed = [b async for b in client.embed_stream(TEXTS, batch_size=2)]
                return [*await asyncio.gather(*map(client.embed, TEXTS)), *streamed]

        results = asyncio.run(embed_each())
        self.close(np.concatenate([r.embeddings for r in results[: len(TEXTS)]]), expected, 1e-6)
        self.close(np.concatenate([r.embeddings for r in results[len(TEXTS) :]]), expected, 1e-6)

    def test_threads(self) -> None:
        expected = self.client.embed(TEXTS).embeddings
        failures: list[str] = []

        def work(index: int) -> None:
            for _ in range(5):
                vector = self.client.embed(TEXTS[index]).embeddings[0]
                error = float(np.abs(vector - expected[index]).max())
                if error > 1e-6:
                    failures.append(f"text {index} is off by {error}")

        threads = [threading.Thread(target=work, args=(i % len(TEXTS),)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_token_ids_equal_text(self) -> None:
        ids = [tokens.ids for tokens in self.client.tokenize(TEXTS)]
        self.close(self.client.embed(ids).embeddings, self.client.embed(TEXTS).embeddings, 1e-6)

    def test_options(self) -> None:
        plain = self.client.embed(TEXTS, normalize=False).embeddings
        whole = self.client.embed(TEXTS, normalize=True).embeddings
        self.close(plain / np.linalg.norm(plain, axis=1, keepdims=True), whole, 1e-5)
        short = self.client.embed(TEXTS, normalize=False, dimensions=8)
        self.assertEqual(short.dimensions, 8)
        self.close(short.embeddings, plain[:, :8], 1e-6)
        first = self.client.embed_tokens(TEXTS)
        cls = self.client.embed(TEXTS, pooling="cls", normalize=False).embeddings
        self.close(cls, np.stack([item.embeddings[0] for item in first]), 1e-5)
        mean = self.client.embed(TEXTS, pooling="mean", normalize=False).embeddings
        self.close(mean, np.stack([item.embeddings.mean(axis=0) for item in first]), 1e-5)
        prompted = self.client.embed("a cat", prompt="query: ").embeddings
        self.close(prompted, self.client.embed("query: a cat").embeddings, 1e-6)

    def test_truncation(self) -> None:
        full = self.client.tokenize(TEXTS[5])[0].ids
        cut = self.client.embed(TEXTS[5], max_tokens=16)
        self.assertEqual(cut.stats[0], bertrand.InputStats(16, len(full) - 16))
        kept = [*full[:15], full[-1]]
        self.close(cut.embeddings, self.client.embed([kept]).embeddings, 1e-6)
        with self.assertRaisesRegex(bertrand.InvalidArgument, r"1"):
            self.client.embed([TEXTS[4], TEXTS[5]], truncation="fail", max_tokens=16)

    def test_output_types(self) -> None:
        exact = self.client.embed(TEXTS, normalize=True).embeddings
        # Components are below 1: float16 has steps of 2^-11 there, bfloat16 of 2^-8; int8 of at
        # most 1 / 127. Half a step each.
        for kind, tolerance in (("float16", 2**-12), ("bfloat16", 2**-9), ("int8", 0.5 / 127)):
            with self.subTest(kind):
                coded = self.client.embed(TEXTS, normalize=True, output_type=kind)
                self.close(coded.embeddings, exact, tolerance + 1e-6)
        bits = self.client.embed(TEXTS, normalize=True, output_type="binary", raw=True)
        expected = np.packbits(exact > 0, axis=1)
        self.assertEqual(bits.embeddings.shape, expected.shape)
        differing = np.unpackbits(bits.embeddings ^ expected).sum()
        self.assertLessEqual(differing, 1, "but for a component within rounding of 0")

    def test_tokenize_round_trip(self) -> None:
        for text in ("hello world", "the quick brown fox", "unbelievable tokens"):
            (tokens,) = self.client.tokenize(text)
            self.assertEqual(self.client.detokenize([tokens.ids]), [text])
            self.assertTrue(tokens.tokens[0].special and tokens.tokens[-1].special)
        (tokens,) = self.client.tokenize(TEXTS[3])
        encoded = TEXTS[3].encode()
        for token in tokens:
            span = token.span
            surface = encoded[span.start_byte : span.end_byte].decode()
            self.assertEqual(surface, TEXTS[3][span.start : span.end])
            self.assertEqual(surface == "", token.special)
        (bare,) = self.client.tokenize("hello world", add_special_tokens=False)
        self.assertEqual([token.text for token in bare], ["hello", "world"])

    def test_token_embeddings(self) -> None:
        result = self.client.embed_tokens(TEXTS[:2], layers=[0, -1])
        hidden_size = self.client.model().hidden_size
        for item, stats in zip(result, result.stats, strict=True):
            self.assertEqual(item.embeddings.shape, (stats.num_tokens, 2 * hidden_size))
        inner = self.client.embed_tokens(TEXTS[0], exclude_special_tokens=True)[0]
        self.close(inner.embeddings, result[0].embeddings[1:-1, hidden_size:], 1e-6)

    def test_errors(self) -> None:
        with self.assertRaisesRegex(bertrand.NotFound, "other"):
            self.client.embed("x", model="other")
        with self.assertRaises(bertrand.NotFound):
            self.client.model("other")
        with self.assertRaisesRegex(bertrand.InvalidArgument, "1"):
            self.client.embed(["fine", [10**9]])
        with self.assertRaises(bertrand.InvalidArgument):
            self.client.embed("x", prompt="a", prompt_name="b")
        self.assertEqual(len(self.client.embed("still there")), 1)

    def run_cli(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [CLI, *arguments, "--address", self.server.address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_command_line(self) -> None:
        document = json.loads(self.run_cli("embed", "--json", *TEXTS[:3]))
        vectors = [result["embedding"] for result in document["results"]]
        self.close(vectors, self.client.embed(TEXTS[:3]).embeddings, 1e-6)
        self.assertIn("cosine", self.run_cli("embed", *TEXTS[:3]))
        document = json.loads(self.run_cli("tokenize", "--json", TEXTS[3]))
        ids = [token["id"] for token in document["results"][0]["tokens"]]
        self.assertEqual(ids, self.client.tokenize(TEXTS[3])[0].ids)
        self.assertRegex(self.run_cli("models"), r"mini +bert +ready")
        self.assertIn("not found", self.run_cli("embed", "--model", "other", "x", status=1))

    def test_demo(self) -> None:
        demo = Path(__file__).parents[2] / "client/python/demo.py"
        done = subprocess.run(
            [sys.executable, demo, "--address", self.server.address, "--model", "mini"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), 80)
        # Three topics, two sentences each: every sentence is closest to its sibling.
        rows = [line for line in done.stdout.splitlines() if line.startswith("  S") and "." in line]
        closest = [row.split()[1:] for row in rows if "*" in row]
        starred = [next(i for i, cell in enumerate(row) if "*" in cell) for row in closest]
        self.assertEqual(starred, [1, 0, 3, 2, 5, 4])


class LifeTest(unittest.TestCase):
    """Servers of their own."""

    def test_a_full_server_is_waited_for(self) -> None:
        server = Server("--model", f"mini={MODEL_DIR}", "--max-queue-requests=1")
        self.addCleanup(server.stop)
        with bertrand.Client(server.address) as client:
            expected = client.embed(TEXTS).embeddings
            results: list[bertrand.Embeddings] = []

            def work() -> None:
                results.extend(client.embed(TEXTS) for _ in range(5))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(len(results), 40)
        for result in results:
            np.testing.assert_allclose(result.embeddings, expected, rtol=0, atol=1e-6)

    def test_a_server_that_goes(self) -> None:
        server = Server("--model", f"mini={MODEL_DIR}")
        with bertrand.Client(server.address, timeout=5) as client:
            self.assertEqual(len(client.embed("x")), 1)
            self.assertEqual(server.stop(), 0)
            with self.assertRaisesRegex(bertrand.Unavailable, server.address):
                client.embed("x")


def missing() -> str:
    """Returns what the tests need and do not have, or nothing."""
    if not os.access(SERVER, os.X_OK):
        return f"no server at {SERVER}; build it, or set BERTRAND_SERVER"
    if not MODEL_DIR:
        return "neither MODEL_FOLDER nor MINILM_FOLDER is set"
    return ""


if __name__ == "__main__":
    if (reason := missing()) and os.environ.get("REQUIRE_SERVER") != "1":
        print(f"skipped: {reason}")
        sys.exit(77)
    if reason:
        sys.exit(f"REQUIRE_SERVER is set, but {reason}")
    unittest.main()
