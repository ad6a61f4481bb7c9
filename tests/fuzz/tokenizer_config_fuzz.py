"""Random tokenizer.json files (tokenizer_configs.py) times random texts, through tokenizer_dump and
Hugging Face `tokenizers`: ids, spans, type ids, masks, words and decodings must be equal.

    python tokenizer_config_fuzz.py --program build/tokenizer_dump [--configs 10000] [--texts 40]
                                    [--seed 0] [--only INDEX] [--keep FOLDER]

Needs tokenizers==0.22.2. A file that ours refuses as not supported is counted by its message; one that
ours refuses as wrong, where the library loads it, is a difference. --only repeats one file of a seed,
--keep writes those that differ.
"""

import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tokenizer_configs
import tokenizer_fuzz
import tokenizer_texts
from tokenizer_peer import compare, compare_decode
from tokenizers import Tokenizer


def words_for(config):
    vocabulary = config["model"]["vocab"]
    tokens = [t if isinstance(t, str) else t[0] for t in vocabulary]
    own = [t["content"] for t in config["added_tokens"]]
    return tokenizer_configs.WORDS + own * 3 + [t.removeprefix("##") for t in tokens[:400]] + ["\u2581", "_"]


def refusal(program, path):
    """Why ours does not load the file; empty when it does."""
    done = subprocess.run([program, path], input=b"", capture_output=True)
    return "" if done.returncode == 0 else done.stderr.decode().strip() or f"ended with {done.returncode}"


def not_compared(config):
    """Fields in which the library's answer is an accident. A Sequence of post-processors numbers the
    parts of an answer, special tokens included, instead of the texts. Byte fallback counts the bytes of
    affixes, which are not in the text, so that spans end behind it."""
    model, post_processor = config["model"], config["post_processor"]
    without = []
    if post_processor is not None and post_processor["type"] == "Sequence":
        without.append("sequence")
    if model.get("byte_fallback") and (model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")):
        without.append("spans")
    return without


def run_one(args, index, path, refusals):
    r = random.Random(f"{args.seed} {index}")
    config = tokenizer_configs.random_tokenizer(r)
    text = json.dumps(config, ensure_ascii=False)
    Path(path).write_text(text)
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException:
        refusals["(refused by tokenizers)"] += 1
        return 0
    why = refusal(args.program, path)
    if why:
        refusals[re.sub(r'"[^"]*"|\d+', "*", why)] += 1
        known = any(text in why for text in ("not supported", "a Sequence with two of", "nothing is left of token", "times as long", "special tokens", "stand for texts"))
        if not known:
            print(f"REFUSED {index}: {why}", flush=True)
        return not known
    words = words_for(config)
    cases = [tokenizer_texts.random_case(r, words) for _ in range(args.texts)]
    for case in cases:  # the limit must leave room for the special tokens
        case.limit = max(case.limit, tokenizer.num_special_tokens_to_add(case.pair is not None) if case.special else 0)
    wrong = compare(args.program, path, tokenizer, cases, show=2, skip_panics=True, without=not_compared(config))
    decodings = list(tokenizer_fuzz.decode_cases(r, tokenizer, args.texts // 4))
    wrong += compare_decode(args.program, path, tokenizer, decodings, show=2)
    if wrong:
        parts = {k: v if k != "model" else {a: b for a, b in v.items() if a not in ("vocab", "merges")} for k, v in config.items()}
        print(f"  in file {index} of seed {args.seed}: {wrong} different: {json.dumps(parts, ensure_ascii=False)[:3000]}", flush=True)
        if args.keep:
            (Path(args.keep) / f"config_{args.seed}_{index}.json").write_text(text)
    return wrong


def hide_panics():
    """The library's panics, which are expected for odd files, write to the process's standard error
    what looks like a crash. Python's own goes on to where it went."""
    ours = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = os.fdopen(ours, "w", buffering=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--configs", type=int, default=10000)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep")
    args = parser.parse_args()
    hide_panics()
    start, refusals, wrong = time.time(), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for index in range(args.configs) if args.only is None else [args.only]:
            wrong += run_one(args, index, str(Path(folder) / "tokenizer.json"), refusals) > 0
            if wrong > 20:
                print("too many differ; stopped")
                break
    for why, count in refusals.most_common():
        print(f"{count:6} refused: {why}")
    print(f"{args.configs} files of {args.texts} texts, {sum(refusals.values())} refused, {wrong} files differ, {time.time() - start:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
