"""The Python package against a fake server: order, splitting, retries, errors, streams, asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
import unittest
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar
from unittest import mock

import grpc
import numpy as np

import bertrand
from bertrand import _health, _requests
from bertrand._messages import load
from bertrand._proto import bertrand_pb2 as pb
from fake_server import CLS, DIMENSIONS, SEP, Failure, FakeServer, vector_of

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class ClientCase(unittest.TestCase):
    """A fake server and a client for each test."""

    def setUp(self) -> None:
        self.server = self.enterContext(FakeServer())
        self.client = self.enterContext(bertrand.Client(self.server.address, timeout=20))

    def run_async(self, test: Callable[[bertrand.AsyncClient], Coroutine[Any, Any, None]]) -> None:
        async def with_client() -> None:
            async with bertrand.AsyncClient(self.server.address, timeout=20) as client:
                await test(client)

        asyncio.run(with_client())

    def assert_vectors(self, result: bertrand.Embeddings, texts: list[str]) -> None:
        expected = np.stack([vector_of(text) for text in texts])
        np.testing.assert_array_equal(result.embeddings, expected)


class EmbedTest(ClientCase):
    def test_one_text(self) -> None:
        result = self.client.embed("hello there")
        self.assertEqual(result.embeddings.shape, (1, DIMENSIONS))
        self.assertEqual(result.embeddings.dtype, np.float32)
        self.assertEqual(result.dimensions, DIMENSIONS)
        self.assertEqual(result.stats, [bertrand.InputStats(4, 0)])
        self.assertEqual(result.timing, bertrand.Timing(1, 2, 3, 10))
        self.assert_vectors(result, ["hello there"])

    def test_the_result_is_writable_and_an_array(self) -> None:
        result = self.client.embed(["a", "b"])
        result.embeddings[0, 0] = 5
        self.assertEqual(np.asarray(result)[0, 0], 5)
        self.assertEqual(len(result), 2)
        self.assertEqual([len(row) for row in result], [DIMENSIONS] * 2)

    def test_every_kind_of_input(self) -> None:
        inputs = [
            "text",
            ("first", "second"),
            bertrand.TextPair("third", "fourth"),
            [CLS, 7, SEP],
            np.array([CLS, 8, SEP]),
            bertrand.TokenIds([CLS, 9, SEP], [0, 0, 1]),
        ]
        texts = ["text", "first|second", "third|fourth", "ids 101 7 102", "ids 101 8 102"]
        result = self.client.embed(inputs)
        self.assert_vectors(result, [*texts, "ids 101 9 102"])
        self.assertEqual(list(self.server.requests[0][1].inputs[5].tokens.type_ids), [0, 0, 1])

    def test_single_inputs_that_are_not_text(self) -> None:
        self.assert_vectors(self.client.embed(bertrand.TextPair("a", "b")), ["a|b"])
        self.assert_vectors(self.client.embed(bertrand.TokenIds([5])), ["ids 5"])
        self.assert_vectors(self.client.embed([5, 6]), ["ids 5 6"])
        self.assert_vectors(self.client.embed(np.array([[5, 6], [7, 8]])), ["ids 5 6", "ids 7 8"])
        self.assert_vectors(self.client.embed(("a", "b")), ["a", "b"])

    def test_no_inputs_make_no_call(self) -> None:
        self.assertEqual(self.client.embed([]).embeddings.shape, (0, 0))
        self.assertEqual(self.server.requests, [])

    def test_options_reach_the_server(self) -> None:
        self.client.embed(
            "x",
            model="fake",
            pooling="mean_sqrt_len",
            normalize=False,
            dimensions=4,
            output_type="float16",
            prompt="query: ",
            truncation="only_first",
            truncation_side="left",
            max_tokens=16,
        )
        request = self.server.requests[0][1]
        expected = pb.EmbedRequest(
            model="fake",
            inputs=[pb.Input(text="x")],
            pooling=pb.POOLING_MEAN_SQRT_LEN,
            normalize=False,
            dimensions=4,
            output_type=pb.DATA_TYPE_FLOAT16,
            prompt="query: ",
            truncation=pb.Truncation(
                mode=pb.Truncation.MODE_ONLY_FIRST,
                side=pb.Truncation.SIDE_LEFT,
                max_tokens=16,
            ),
        )
        self.assertEqual(request, expected)

    def test_unset_options_stay_unset(self) -> None:
        self.client.embed("x")
        self.assertEqual(self.server.requests[0][1], pb.EmbedRequest(inputs=[pb.Input(text="x")]))

    def test_arguments_that_cannot_be_sent(self) -> None:
        cases: list[tuple[Callable[[], object], type[Exception], str]] = [
            (lambda: self.client.embed(5), TypeError, "expected an input or a sequence"),
            (lambda: self.client.embed(["a", 5]), TypeError, r"inputs\[1\]"),
            (lambda: self.client.embed([[]]), TypeError, r"inputs\[0\]"),
            (lambda: self.client.embed([("a", "b", "c")]), TypeError, r"inputs\[0\]"),
            (lambda: self.client.embed([[True, False]]), TypeError, r"inputs\[0\]"),
            (lambda: self.client.embed([[1.5]]), TypeError, r"inputs\[0\]"),
            (lambda: self.client.embed(["a", [-1]]), ValueError, r"inputs\[1\]"),
            (lambda: self.client.embed(["a", "\ud800"]), ValueError, r"inputs\[1\]"),
            (lambda: self.client.embed("a", pooling="median"), ValueError, "pooling.*cls, mean"),
            (lambda: self.client.embed("a", poling="mean"), TypeError, "poling"),
            (lambda: self.client.embed_stream("a"), TypeError, "embed_stream"),
            (lambda: self.client.embed_stream(["a"], batch_size=0), ValueError, "0 is not in"),
        ]
        for call, kind, message in cases:
            with self.subTest(message), self.assertRaisesRegex(kind, message):
                call()
        self.assertEqual(self.server.requests, [])


class OutputTypeTest(ClientCase):
    TEXTS: ClassVar[list[str]] = ["one", "two", "three"]

    def setUp(self) -> None:
        super().setUp()
        self.exact = np.stack([vector_of(text) for text in self.TEXTS])

    def test_decoded_to_float32(self) -> None:
        # Half a unit in the last place of values below 1: 2^-12 for float16; bfloat16 here is cut,
        # not rounded, so a whole one, 2^-8; int8 has steps of at most 1 / 127.
        for kind, tolerance in (("float16", 2**-12), ("bfloat16", 2**-8), ("int8", 0.5 / 127)):
            with self.subTest(kind):
                result = self.client.embed(self.TEXTS, output_type=kind)
                self.assertEqual(result.embeddings.dtype, np.float32)
                self.assertEqual(result.output_type, kind)
                np.testing.assert_allclose(result.embeddings, self.exact, rtol=0, atol=tolerance)

    def test_binary_becomes_signs(self) -> None:
        result = self.client.embed(self.TEXTS, output_type="binary")
        np.testing.assert_array_equal(result.embeddings, np.where(self.exact > 0, 1.0, -1.0))
        self.assertEqual(result.embeddings.dtype, np.float32)

    def test_raw(self) -> None:
        for kind, dtype, width in (
            ("float32", np.float32, DIMENSIONS),
            ("float16", np.float16, DIMENSIONS),
            ("bfloat16", np.uint16, DIMENSIONS),
            ("int8", np.int8, DIMENSIONS),
            ("binary", np.uint8, 2),
        ):
            with self.subTest(kind):
                result = self.client.embed(self.TEXTS, output_type=kind, raw=True)
                self.assertEqual(result.embeddings.dtype, dtype)
                self.assertEqual(result.embeddings.shape, (3, width))
                self.assertEqual(result.dimensions, DIMENSIONS)
                self.assertEqual(result.scales is not None, kind == "int8")

    def test_vectors_that_do_not_add_up(self) -> None:
        from bertrand import _results

        for vectors in (
            pb.Vectors(type=1, count=2, dimensions=3, data=b"1234"),
            pb.Vectors(type=4, count=1, dimensions=4, data=b"1234"),
            pb.Vectors(type=99, count=1, dimensions=1, data=b"1234"),
        ):
            with self.assertRaises(bertrand.Internal):
                _results.embeddings([pb.EmbedResponse(embeddings=vectors)])


class SplittingTest(ClientCase):
    def test_by_count_in_order(self) -> None:
        texts = [f"text {index}" for index in range(2500)]
        result = self.client.embed(texts)
        self.assert_vectors(result, texts)
        self.assertEqual(len(result.stats), 2500)
        self.assertEqual(result.timing.total_us, 30)
        self.assertCountEqual(self.server.sizes("Embed"), [1024, 1024, 452])

    def test_order_holds_when_later_requests_are_answered_first(self) -> None:
        self.server.failures.extend([Failure(EXHAUSTED, pushback_ms="300"), None, None])
        texts = [f"text {index}" for index in range(3000)]
        self.assert_vectors(self.client.embed(texts), texts)
        self.assertEqual(len(self.server.sizes("Embed")), 4)

    def test_by_size(self) -> None:
        texts = [str(index) + "x" * 1_500_000 for index in range(5)]
        self.assert_vectors(self.client.embed(texts), texts)
        self.assertEqual(sorted(self.server.sizes("Embed")), [1, 2, 2])

    def test_every_request_stays_below_the_limit(self) -> None:
        texts = ["ä" * (index % 4000) for index in range(5000)]
        template = pb.EmbedRequest(prompt="p" * 100_000)
        chunks = list(_requests.split(_requests.Chunker(template, 1024), texts))
        self.assertEqual(sum(len(chunk.request.inputs) for chunk in chunks), 5000)
        self.assertGreater(len(chunks), 5)
        for chunk in chunks:
            self.assertLess(chunk.request.ByteSize(), 4 << 20)
            self.assertEqual(chunk.request.inputs[0].text, texts[chunk.first_input])

    def test_several_requests_are_under_way_but_not_all(self) -> None:
        self.server.delay_s = 0.2
        self.client.embed([str(index) for index in range(5 * 1024)])
        self.assertEqual(self.server.in_flight_max, 2)

    def test_an_error_names_where_its_request_began(self) -> None:
        self.server.failures.extend([None, Failure(grpc.StatusCode.INVALID_ARGUMENT, "inputs[3]")])
        self.server.delay_s = 0.05  # So that the two arrive in order.
        with self.assertRaises(bertrand.InvalidArgument) as caught:
            self.client.embed([str(index) for index in range(1100)])
        self.assertIn(caught.exception.first_input, (0, 1024))

    def test_token_embeddings_go_in_small_requests(self) -> None:
        result = self.client.embed_tokens([f"a b{index}" for index in range(40)], layers=[-1, 0])
        self.assertEqual(len(result), 40)
        self.assertEqual(max(self.server.sizes("EmbedTokens")), 8)


class ErrorTest(ClientCase):
    def test_classes(self) -> None:
        for code, kind in (
            (grpc.StatusCode.INVALID_ARGUMENT, bertrand.InvalidArgument),
            (grpc.StatusCode.NOT_FOUND, bertrand.NotFound),
            (grpc.StatusCode.FAILED_PRECONDITION, bertrand.FailedPrecondition),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, bertrand.ResourceExhausted),
            (grpc.StatusCode.DEADLINE_EXCEEDED, bertrand.DeadlineExceeded),
            (grpc.StatusCode.UNIMPLEMENTED, bertrand.Unimplemented),
            (grpc.StatusCode.UNAUTHENTICATED, bertrand.Unauthenticated),
            (grpc.StatusCode.PERMISSION_DENIED, bertrand.PermissionDenied),
            (grpc.StatusCode.INTERNAL, bertrand.Internal),
            (grpc.StatusCode.DATA_LOSS, bertrand.Error),
        ):
            with self.subTest(code.name):
                self.server.failures.append(Failure(code, "the reason"))
                with self.assertRaises(bertrand.Error) as caught:
                    self.client.embed("x")
                self.assertIs(type(caught.exception), kind)
                self.assertEqual(caught.exception.code, code.name)
                self.assertEqual(caught.exception.message, "the reason")
                self.assertIsNone(caught.exception.retry_after)
        self.assertEqual(len(self.server.requests), 10, "none of these is worth a retry")

    def test_the_servers_own_refusal(self) -> None:
        with self.assertRaisesRegex(bertrand.NotFound, "no model 'other'"):
            self.client.embed("x", model="other")

    def test_timeout(self) -> None:
        self.server.delay_s = 1.0
        with self.assertRaises(bertrand.DeadlineExceeded):
            self.client.embed("x", timeout=0.1)

    def test_no_server_says_how_to_start_one(self) -> None:
        with (
            bertrand.Client("127.0.0.1:1", timeout=5) as client,
            self.assertRaisesRegex(bertrand.Unavailable, r"127\.0\.0\.1:1; .*run serve MODEL"),
        ):
            client.models()


class RetryTest(ClientCase):
    def test_pushback_is_honoured(self) -> None:
        self.server.failures.extend([Failure(EXHAUSTED, pushback_ms="200")] * 2)
        begin = time.monotonic()
        self.assert_vectors(self.client.embed("x"), ["x"])
        self.assertGreaterEqual(time.monotonic() - begin, 0.4)
        self.assertEqual(len(self.server.requests), 3)

    def test_a_limit_without_a_hint_is_final(self) -> None:
        self.server.failures.append(Failure(EXHAUSTED, "more than --max-inputs"))
        with self.assertRaises(bertrand.ResourceExhausted) as caught:
            self.client.embed("x")
        self.assertIsNone(caught.exception.retry_after)
        self.assertEqual(len(self.server.requests), 1)

    def test_hints_that_forbid(self) -> None:
        for hint in ("-1", "soon"):
            with self.subTest(hint):
                self.server.failures.append(Failure(UNAVAILABLE, pushback_ms=hint))
                with self.assertRaises(bertrand.Unavailable):
                    self.client.embed("x")
        self.assertEqual(len(self.server.requests), 2)

    def test_the_deadline_bounds_retries(self) -> None:
        self.server.failures.append(Failure(EXHAUSTED, pushback_ms="60000"))
        begin = time.monotonic()
        with self.assertRaises(bertrand.ResourceExhausted) as caught:
            self.client.embed("x", timeout=5)
        self.assertLess(time.monotonic() - begin, 4, "a wait beyond the deadline is not begun")
        self.assertEqual(caught.exception.retry_after, 60)

    def test_many_hints_are_followed_while_there_is_time(self) -> None:
        self.server.failures.extend([Failure(EXHAUSTED, pushback_ms="0")] * 20)
        self.client.embed("x")
        self.assertEqual(len(self.server.requests), 21)

    def test_unavailable_backs_off_and_gives_up(self) -> None:
        self.server.failures.extend([Failure(UNAVAILABLE)] * 2)
        self.client.embed("x")
        self.assertEqual(len(self.server.requests), 3)
        self.server.failures.extend([Failure(UNAVAILABLE, "shutting down")] * 10)
        with self.assertRaisesRegex(bertrand.Unavailable, "shutting down"):
            self.client.embed("x")
        self.assertEqual(len(self.server.requests), 3 + 5)

    def test_async(self) -> None:
        async def test(client: bertrand.AsyncClient) -> None:
            self.server.failures.extend([Failure(EXHAUSTED, pushback_ms="100"), None])
            self.assert_vectors(await client.embed("x"), ["x"])
            self.server.failures.append(Failure(EXHAUSTED))
            with self.assertRaises(bertrand.ResourceExhausted):
                await client.embed("x")
            self.assertEqual(len(self.server.requests), 3)

        self.run_async(test)


class StreamTest(ClientCase):
    TEXTS: ClassVar[list[str]] = [f"text {index}" for index in range(1000)]

    def check_all(self, batches: list[bertrand.Embeddings], batch_size: int) -> None:
        self.assertEqual([len(batch) for batch in batches][:-1], [batch_size] * (len(batches) - 1))
        seen = 0
        for batch in batches:
            self.assertEqual(batch.first_index, seen)
            self.assert_vectors(batch, self.TEXTS[seen : seen + len(batch)])
            seen += len(batch)
        self.assertEqual(seen, len(self.TEXTS))

    def test_order_and_sizes(self) -> None:
        batches = list(self.client.embed_stream(iter(self.TEXTS), batch_size=30, model="fake"))
        self.check_all(batches, 30)

    def test_nothing(self) -> None:
        self.assertEqual(list(self.client.embed_stream([])), [])

    def test_memory_is_bounded_by_the_window(self) -> None:
        num_read, lead_max, num_yielded = 0, 0, 0
        reader: set[int] = set()

        def corpus() -> Iterator[str]:
            nonlocal num_read, lead_max
            for text in self.TEXTS:
                num_read += 1
                lead_max = max(lead_max, num_read - num_yielded)
                reader.add(threading.get_ident())
                yield text

        for batch in self.client.embed_stream(corpus(), batch_size=10, max_in_flight=3):
            num_yielded += len(batch)
        self.assertEqual(num_yielded, 1000)
        self.assertLessEqual(lead_max, 30)
        self.assertEqual(reader, {threading.get_ident()})

    def test_unanswered_batches_are_sent_again(self) -> None:
        self.server.failures.extend(
            [None, None, Failure(UNAVAILABLE), None, Failure(EXHAUSTED, pushback_ms="50")]
        )
        self.check_all(list(self.client.embed_stream(self.TEXTS, batch_size=50)), 50)

    def test_errors_come_after_the_answers_before_them(self) -> None:
        self.server.failures.extend([None, Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad")])
        batches = self.client.embed_stream(self.TEXTS, batch_size=100)
        self.assertEqual(len(next(batches)), 100)
        with self.assertRaises(bertrand.InvalidArgument) as caught:
            next(batches)
        self.assertEqual(caught.exception.first_input, 100)

    def test_errors_of_the_corpus_reach_the_caller(self) -> None:
        def corpus() -> Iterator[str]:
            yield from self.TEXTS[:5]
            raise OSError("disk gone")

        with self.assertRaisesRegex(OSError, "disk gone"):
            list(self.client.embed_stream(corpus(), batch_size=2))

    def test_leaving_early_ends_the_call(self) -> None:
        batches = self.client.embed_stream(self.TEXTS, batch_size=10)
        next(batches)
        threads = threading.active_count()
        batches.close()
        gc.collect()
        self.assertLessEqual(threading.active_count(), threads)
        self.assert_vectors(self.client.embed("still alive"), ["still alive"])

    def test_timeout(self) -> None:
        def corpus() -> Iterator[str]:
            yield from self.TEXTS[:20]
            time.sleep(0.4)
            yield "late"

        with self.assertRaises(bertrand.DeadlineExceeded):
            list(self.client.embed_stream(corpus(), batch_size=1, max_in_flight=2, timeout=0.2))

    def test_async(self) -> None:
        async def test(client: bertrand.AsyncClient) -> None:
            async def corpus() -> Any:
                for text in self.TEXTS:
                    yield text

            self.server.failures.extend([None, Failure(UNAVAILABLE)])
            self.check_all([b async for b in client.embed_stream(corpus(), batch_size=30)], 30)
            self.check_all([b async for b in client.embed_stream(self.TEXTS, batch_size=64)], 64)
            self.server.failures.append(Failure(grpc.StatusCode.NOT_FOUND))
            with self.assertRaises(bertrand.NotFound):
                _ = [b async for b in client.embed_stream(self.TEXTS)]
            async with contextlib.aclosing(client.embed_stream(self.TEXTS, batch_size=5)) as some:
                async for batch in some:
                    self.assertEqual(len(batch), 5)
                    break
            self.assert_vectors(await client.embed("still alive"), ["still alive"])

        self.run_async(test)


class OtherMethodsTest(ClientCase):
    def check_tokens(self, tokenized: bertrand.TokenizedInput, text: str) -> None:
        words = [token for token in tokenized if not token.special]
        self.assertEqual([token.text for token in words], text.split())
        for token in words:
            span = token.span
            self.assertEqual(text[span.start : span.end], token.text)
            surface = text.encode()[span.start_byte : span.end_byte].decode()
            self.assertEqual(surface, token.text)
        self.assertEqual([tokenized.ids[0], tokenized.ids[-1]], [CLS, SEP])

    def test_tokenize_and_detokenize(self) -> None:
        text = "Grüße an alle"
        (tokenized,) = self.client.tokenize(text)
        self.check_tokens(tokenized, text)
        self.assertEqual(len(self.client.tokenize([text], add_special_tokens=False)[0]), 3)
        self.assertEqual(self.client.detokenize([[CLS, 5, 6, SEP], []]), ["5 6", ""])
        self.assertEqual(self.client.detokenize([CLS, 5], skip_special_tokens=False), ["101 5"])
        with self.assertRaises(TypeError):
            self.client.detokenize(["text"])

    def test_many_to_tokenize(self) -> None:
        texts = [f"word{index}" for index in range(3000)]
        tokenized = self.client.tokenize(texts)
        self.assertEqual([item.tokens[1].text for item in tokenized], texts)

    def test_embed_tokens(self) -> None:
        (result,) = self.client.embed_tokens("two words", output_type="int8")
        self.assertEqual(
            [token.text for token in result.tokens], ["[CLS]", "two", "words", "[SEP]"]
        )
        self.assertEqual(result.embeddings.shape, (4, DIMENSIONS))
        np.testing.assert_allclose(result.embeddings[1], vector_of("two"), rtol=0, atol=0.5 / 127)

    def test_models(self) -> None:
        (info,) = self.client.models()
        self.assertEqual(info, self.client.model("fake"))
        self.assertEqual(info, self.client.model())
        self.assertEqual((info.state, info.family), ("ready", "bert"))
        self.assertEqual(info.tasks, ["embed", "embed_tokens"])
        with self.assertRaises(bertrand.NotFound):
            self.client.model("other")

    def test_health(self) -> None:
        self.assertEqual(self.client.health(), "serving")
        self.assertEqual(self.client.health("fake"), "serving")
        self.assertEqual(self.client.health("other"), "service_unknown")
        self.server.serving = False
        self.assertEqual(self.client.health(), "not_serving")
        self.assertEqual(_health.decode_response(b""), "unknown")
        self.assertEqual(_health.encode_request("x" * 200)[:3], b"\x0a\xc8\x01")

    def test_wait_ready(self) -> None:
        self.client.wait_ready(5)
        self.server.serving = False
        threading.Timer(0.3, setattr, (self.server, "serving", True)).start()
        begin = time.monotonic()
        self.client.wait_ready(5, model="fake")
        self.assertGreater(time.monotonic() - begin, 0.2)
        with self.assertRaisesRegex(bertrand.DeadlineExceeded, "service_unknown"):
            self.client.wait_ready(0.3, model="other")

    def test_async(self) -> None:
        async def test(client: bertrand.AsyncClient) -> None:
            await client.wait_ready(5)
            text = "ein paar Wörter"
            self.check_tokens((await client.tokenize(text))[0], text)
            self.assertEqual(await client.detokenize([[CLS, 5, 6, SEP]]), ["5 6"])
            self.assertEqual((await client.embed_tokens(text))[0].embeddings.shape[0], 5)
            self.assertEqual((await client.models())[0], await client.model())
            self.assertEqual(await client.health(), "serving")
            self.assertEqual(await client.health("other"), "service_unknown")
            texts = [f"text {index}" for index in range(2500)]
            many = await asyncio.gather(*(client.embed(texts) for _ in range(3)))
            for result in many:
                self.assert_vectors(result, texts)
            with self.assertRaises(bertrand.NotFound):
                await client.embed(texts, model="other")

        self.run_async(test)


class ConnectionTest(ClientCase):
    def test_the_environments_address(self) -> None:
        with (
            mock.patch.dict(os.environ, BERTRAND_ADDRESS=self.server.address),
            bertrand.Client() as client,
        ):
            self.assertEqual(client.address, self.server.address)
            self.assertEqual(client.health(), "serving")
        with mock.patch.dict(os.environ):
            os.environ.pop("BERTRAND_ADDRESS", None)
            with bertrand.Client() as client:
                self.assertEqual(client.address, "127.0.0.1:50051")

    def test_a_proxy_is_not_asked_for_this_machine(self) -> None:
        with (
            mock.patch.dict(os.environ, http_proxy="http://127.0.0.1:1", no_proxy=""),
            bertrand.Client(self.server.address) as client,
        ):
            self.assertEqual(client.health(timeout=5), "serving")

    def test_metadata(self) -> None:
        metadata = [("authorization", "Bearer secret")]
        with bertrand.Client(self.server.address, metadata=metadata) as client:
            client.embed("x")
            self.assertEqual(self.server.metadata["authorization"], "Bearer secret")
            list(client.embed_stream(["x"]))
            self.assertEqual(self.server.metadata["authorization"], "Bearer secret")

    def test_threads_share_a_client(self) -> None:
        errors: list[BaseException] = []

        def work(name: str) -> None:
            try:
                for index in range(20):
                    text = f"{name} {index}"
                    self.assert_vectors(self.client.embed(text), [text])
            except BaseException as error:  # Shown by the main thread.
                errors.append(error)

        threads = [threading.Thread(target=work, args=(str(name),)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])


class MessagesTest(unittest.TestCase):
    def test_another_copy_of_the_proto_does_not_clash(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool

        proto = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
        proto.name = "elsewhere/bertrand.proto"
        descriptor_pool.Default().AddSerializedFile(proto.SerializeToString())
        again = load(descriptor_pb2.FileDescriptorSet(file=[proto]).SerializeToString())
        self.assertEqual(again["EmbedRequest"](model="x").SerializeToString(), b"\x0a\x01x")


if __name__ == "__main__":
    unittest.main()
