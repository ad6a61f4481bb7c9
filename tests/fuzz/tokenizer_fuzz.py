"""Random texts through tokenizer_dump and through Hugging Face `tokenizers`; prints differences.

    python tokenizer_fuzz.py --program build/tokenizer_dump [--tokenizer NAME=FILE] [--count 1000000]
                             [--seed 0] [--code-points | --long-words] [--step-by-step]

Needs tokenizers==0.22.2. Without --tokenizer: the odd ones of make_tokenizers.py, each a share of the
count. --code-points: every code point in several contexts instead of random texts. --long-words:
texts of words of up to 10,000 bytes, made of the vocabulary's tokens, of letters, of repetitions.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "tokenizer"))

import make_tokenizers
from tokenizer_peer import Case, compare, compare_decode
from tokenizer_texts import WORDS, long_case, random_case
from tokenizers import Tokenizer

CHUNK = 20000


def code_point_cases():
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        x = chr(c)
        for context in (x, f"a{x}b", f"A {x} b", f"e\u0301{x}\u302e\u0323\u1d165b", f"\u302e{x}\u0301", f"{x}{x}[SEP]{x}"):
            yield Case(context, special=False)


def decode_cases(r, tokenizer, count):
    """Random ids; a third are those of a few tokens that clean-up is about."""
    vocabulary = tokenizer.get_vocab()
    ids = sorted(vocabulary.values())
    often = [vocabulary[t] for t in ".,?!'" if t in vocabulary]
    often += [vocabulary[t] for t in ("do", "not", "n", "t", "s", "m", "ve", "re", "don", "it", "##s", "[CLS]", "[UNK]") if t in vocabulary]
    for _ in range(count):
        length = r.choice([0, 1, 2, 5, 12])
        yield [r.choice(often if often and r.random() < 0.35 else ids) for _ in range(length)], r.random() < 0.5


def words_for(tokenizer, seed):
    """The usual ones, the tokenizer's own added tokens, and some of its vocabulary, as texts have them."""
    vocabulary = sorted({t.removeprefix("##") for t in tokenizer.get_vocab()} - {""})
    own = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    some = random.Random(seed).sample(vocabulary, min(600, len(vocabulary)))
    decoded = [t.replace("\u2581", " ").replace("\u0120", " ") for t in some]
    return WORDS * 10 + some[:300] + decoded[300:] + own * 3


def chunks(cases, size):
    chunk = []
    for case in cases:
        chunk.append(case)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def letters_for(tokenizer, seed):
    """Tokens that join to long words: letters alone."""
    tokens = {t.removeprefix("##").strip("\u2581\u0120") for t in tokenizer.get_vocab()}
    letters = sorted(t for t in tokens if t.isalpha())
    return random.Random(seed).sample(letters, min(5000, len(letters))) or ["a"]


def run(program, name, path, cases, flags, chunk_size):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    start, total, wrong = time.time(), 0, 0
    for chunk in chunks(cases, chunk_size):
        wrong += compare(program, str(path), tokenizer, chunk, *flags, show=max(0, 5 - wrong))
        total += len(chunk)
    decodings = list(decode_cases(random.Random(name), tokenizer, min(total // 10, 20000)))
    wrong += compare_decode(program, str(path), tokenizer, decodings, show=max(0, 5 - wrong))
    print(f"{name}: {total} texts and {len(decodings)} decodings, {wrong} different, {time.time() - start:.0f} s", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizer")
    parser.add_argument("--count", type=int, default=1000000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--code-points", action="store_true")
    parser.add_argument("--long-words", action="store_true")
    parser.add_argument("--step-by-step", action="store_true")
    args = parser.parse_args()
    flags = ["--step-by-step"] if args.step_by_step else []
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        if args.tokenizer:
            name, _, path = args.tokenizer.partition("=")
            paths[name] = path
        else:
            for name, tokenizer in make_tokenizers.all_tokenizers().items():
                paths[name] = str(Path(folder) / f"{name}.json")
                Path(paths[name]).write_text(tokenizer)
        wrong = 0
        for name, path in paths.items():
            make_words = letters_for if args.long_words else words_for
            words = make_words(Tokenizer.from_file(path), args.seed)
            r = random.Random(f"{args.seed} {name}")
            make = long_case if args.long_words else random_case
            share = args.count // len(paths)
            cases = code_point_cases() if args.code_points else (make(r, words) for _ in range(share))
            wrong += run(args.program, name, path, cases, flags, CHUNK // 20 if args.long_words else CHUNK)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
