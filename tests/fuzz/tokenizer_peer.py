"""Runs tokenizer_dump and compares what it says with Hugging Face `tokenizers`."""

import struct
import subprocess
import threading
from array import array

MODES = {"fail": 0, "longest_first": 1, "only_first": 2, "only_second": 3}
SIDES = {"configured": 0, "right": 1, "left": 2}
NO_LIMIT = (1 << 63) - 1


class Case:
    """One call. `pair` None: a single text."""

    def __init__(self, text, pair=None, special=True, mode="longest_first", side="configured", limit=NO_LIMIT):
        self.text, self.pair, self.special = text, pair, special
        self.mode, self.side, self.limit = mode, side, limit

    def __repr__(self):
        escaped = [None if t is None else ascii(t) for t in (self.text, self.pair)]
        limit = "" if self.limit == NO_LIMIT else f" {self.mode} {self.side} {self.limit}"
        return f"{escaped[0]} | {escaped[1]} special={self.special}{limit}"

    def record(self):
        first, second = self.text.encode(), (self.pair or "").encode()
        head = struct.pack(
            "<BBBBBq", 0, self.pair is not None, self.special, MODES[self.mode], SIDES[self.side], self.limit
        )
        return head + struct.pack("<I", len(first)) + first + struct.pack("<I", len(second)) + second


class Answer:
    """ids, type_ids, special, sequence, spans (code points), words, or an error."""

    def __init__(self, **fields):
        self.error, self.panic = None, False
        self.__dict__.update(fields)

    def key(self, without=()):
        if self.error is not None:
            return "error"
        fields = ("ids", "type_ids", "special", "sequence", "spans", "words")
        return [getattr(self, f) for f in fields if f not in without]

    def __repr__(self):
        if self.error is not None:
            return f"error: {self.error}"
        return f"ids {self.ids} spans {self.spans} types {self.type_ids} special {self.special} words {self.words} sequence {self.sequence}"


def parse(data):
    """The answers in tokenizer_dump's output to encode records; byte spans are checked by the caller."""
    at = 0
    while at < len(data):
        ok, size = struct.unpack_from("<BI", data, at)
        at += 5
        if not ok:
            yield Answer(error=data[at : at + size].decode())
            at += size
            continue
        at += 8
        columns = []
        for code, width in (("i", 4), ("i", 4), ("B", 1), ("b", 1), ("I", 16), ("i", 4)):
            column = array(code)
            column.frombytes(data[at : at + width * size])
            columns.append(column.tolist())
            at += width * size
        ids, types, special, sequence, spans, words = columns
        quads = list(zip(spans[0::4], spans[1::4], spans[2::4], spans[3::4]))
        yield Answer(
            ids=ids, type_ids=types, special=special, sequence=sequence,
            spans=[q[:2] for q in quads], byte_spans=[q[2:] for q in quads], words=words,
        )


def dump(program, tokenizer_path, data, *flags):
    done = subprocess.run([program, tokenizer_path, *flags], input=data, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"tokenizer_dump ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def run_bertrand(program, tokenizer_path, cases, *flags):
    data = dump(program, tokenizer_path, b"".join(c.record() for c in cases), *flags)
    answers = list(parse(data))
    assert len(answers) == len(cases), (len(answers), len(cases))
    return answers


def byte_spans_wrong(case, answer):
    """Byte spans must be the code point spans in bytes."""
    for (a, b), (p, q), sequence in zip(answer.spans, answer.byte_spans, answer.sequence):
        text = case.pair if sequence == 1 else case.text
        if (len(text[:a].encode()), len(text[:b].encode())) != (p, q):
            return True
    return False


def run_reference(tokenizer, cases):
    """`tokenizer`: a tokenizers.Tokenizer without padding."""
    groups = {}
    for i, c in enumerate(cases):
        groups.setdefault((c.special, c.mode, c.side, c.limit), []).append(i)
    answers = [None] * len(cases)
    for (special, mode, side, limit), indices in groups.items():
        if limit == NO_LIMIT:
            tokenizer.no_truncation()
        else:
            direction = "right" if side == "configured" else side
            tokenizer.enable_truncation(limit, strategy=mode, direction=direction)
        inputs = [cases[i].text if cases[i].pair is None else (cases[i].text, cases[i].pair) for i in indices]
        try:
            encodings = tokenizer.encode_batch(inputs, add_special_tokens=special)
        except BaseException:
            encodings = []
            for one in inputs:
                try:
                    encodings.extend(tokenizer.encode_batch([one], add_special_tokens=special))
                except BaseException as error:
                    encodings.append(error)
        for i, e in zip(indices, encodings):
            if isinstance(e, BaseException):
                answers[i] = Answer(error=str(e), panic=type(e).__name__ == "PanicException")
                continue
            added = e.special_tokens_mask
            sequence = [-1 if s is None else s for s in e.sequence_ids]
            answers[i] = Answer(
                ids=e.ids, type_ids=e.type_ids, special=added, sequence=sequence, spans=e.offsets,
                words=[-1 if w is None else w for w in e.word_ids],
            )
    tokenizer.no_truncation()
    return answers


def run_decode(program, tokenizer_path, cases):
    """`cases`: (ids, skip_special_tokens)."""
    data = b"".join(struct.pack("<BBI", 1, skip, len(ids)) + array("I", ids).tobytes() for ids, skip in cases)
    out, at, texts = dump(program, tokenizer_path, data), 0, []
    while at < len(out):
        ok, size = struct.unpack_from("<BI", out, at)
        texts.append(out[at + 5 : at + 5 + size].decode() if ok else None)
        at += 5 + size
    assert len(texts) == len(cases)
    return texts


def compare_decode(program, tokenizer_path, tokenizer, cases, show=5):
    wrong = 0
    for (ids, skip), got in zip(cases, run_decode(program, tokenizer_path, cases)):
        try:
            want = tokenizer.decode(ids, skip_special_tokens=skip)
        except BaseException:  # a panic in the library: nothing to compare with
            continue
        if want != got:
            wrong += 1
            if wrong <= show:
                print(f"DIFFERENT decode {ids} skip={skip}\n  want {want!r}\n  got  {got!r}")
    return wrong


def compare(program, tokenizer_path, tokenizer, cases, *flags, show=5, skip_panics=False, without=()):
    """Number of cases whose answers differ; the first are printed. `skip_panics`: where the library
    panics, as it does for odd files, there is nothing to compare with. `without`: fields not compared."""
    result = {}

    def ours():
        try:
            result["answers"] = run_bertrand(program, tokenizer_path, cases, *flags)
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=ours)
    thread.start()
    expected = run_reference(tokenizer, cases)
    thread.join()
    if "error" in result:
        raise result["error"]
    wrong = 0
    for case, want, got in zip(cases, expected, result["answers"]):
        if want.key(without) == got.key(without) and (got.error is not None or not byte_spans_wrong(case, got)):
            continue
        if want.panic and skip_panics:
            continue
        wrong += 1
        if wrong <= show:
            print(f"DIFFERENT {case!r}\n  want {want!r}\n  got  {got!r}")
    return wrong
