"""Makes the vocabularies of 30,000 tokens that tokenizer_fuzz.py compares, where they are not there yet:

    python make_vocabularies.py --out FOLDER [--seed 0]

FOLDER/bpe and unigram get a tokenizer.json each, trained by tests/benchmarks/tokenizer_vocabularies.py on
this machine's documentation and as much made-up text of other scripts, so that pieces of those are there.
unigram_charsmap is the same vocabulary behind ALBERT's normaliser as the hub has it: with SentencePiece's
precompiled map. Needs tokenizers==0.22.2.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent / "benchmarks"
sys.path[:0] = [str(HERE), str(BENCHMARKS)]

import tokenizer_configs
import tokenizer_peers
from tokenizer_texts import MARKS, RANGES, WORDS, emoji

TRAINED_CHARACTERS = 8_000_000


def made_up(r, size):
    """Lines of words of some hundred stems a script, some with marks and emoji: what training can
    find pieces in."""
    stems = []
    for low, high in RANGES[6:-1]:
        letters = [c for c in map(chr, range(low, high)) if c.isalpha()] or [chr(low)]
        letters = r.sample(letters, min(60, len(letters)))
        stems += ["".join(r.choices(letters, k=r.randrange(1, 7))) for _ in range(600)]
    lines = []
    while size > 0:
        words = []
        for _ in range(r.randrange(3, 20)):
            word = r.choice(WORDS) if r.random() < 0.2 else "".join(r.choices(stems, k=r.choice([1, 1, 2])))
            if r.random() < 0.1:
                word += chr(r.choice(MARKS))
            if r.random() < 0.05:
                word += emoji(r)
            words.append(word)
        lines.append(" ".join(words))
        size -= len(lines[-1])
    return lines


def with_charsmap(text):
    """The steps of convert_slow_tokenizer.py, AlbertConverter."""
    whole = json.loads(text)
    steps = whole["normalizer"]["normalizers"]
    whole["normalizer"]["normalizers"] = [*steps[:-1], {"type": "Precompiled", "precompiled_charsmap": tokenizer_configs.charsmap()}, steps[-1]]
    return json.dumps(whole, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = Path(args.out)
    done = out / "unigram_charsmap" / "tokenizer.json"
    if done.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    r = random.Random(args.seed)
    lines = tokenizer_peers.collect(TRAINED_CHARACTERS)
    lines += made_up(r, TRAINED_CHARACTERS)
    r.shuffle(lines)
    (out / "corpus.txt").write_text("\n".join(line for line in lines if line) + "\n")
    print("training vocabularies of 30,000 tokens", file=sys.stderr)
    script = BENCHMARKS / "tokenizer_vocabularies.py"
    subprocess.run([sys.executable, str(script), "--text", str(out / "corpus.txt"), "--out", str(out), "--kinds", "bpe,unigram"], check=True)
    done.parent.mkdir(exist_ok=True)
    done.write_text(with_charsmap((out / "unigram" / "tokenizer.json").read_text()))


if __name__ == "__main__":
    main()
