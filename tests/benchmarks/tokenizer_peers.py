"""Tokenizers beside each other, one thread, English seen for the first time: a table of MB/s.

    python tokenizer_peers.py --program build/tokenizer_benchmark [--text FILE] [--wordpiece FOLDER]
                              [--rounds 5] [--kinds bpe,...] [--cache FOLDER] [--hostile [--megabytes 10]]

`./run bench-tokenizers` installs what it needs (requirements-tokenizers.txt) and calls it. Peers are
Hugging Face `tokenizers` and the fastest others on PyPI for each kind. FILE has a text a line; without
it, the English prose among this machine's documentation is taken. tokenizer_vocabularies.py trains
30,000 tokens of each kind on the first half; the second half is measured. FOLDER is a checkpoint with
a WordPiece tokenizer.json that is used instead of a trained one.

Each measurement is a process of its own, all in turn, round by round: its first pass over the texts is
by a tokenizer that has seen no word yet. Processor time, best of the rounds. Ids are compared with
Hugging Face's text by text; peers that add no special tokens are compared without them.

--hostile: instead, what a byte costs Bertrand in texts that are made to take long, and how many times
that of the measured texts, for each kind of tokenizer and with other normalisers.
"""

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
from array import array
from pathlib import Path

PEERS = {
    "wordpiece": ["bertrand", "tokenizers", "nanotoken", "kitoken"],
    "bpe": ["bertrand", "tokenizers", "gigatoken", "kitoken"],
    "unigram": ["bertrand", "tokenizers", "kitoken"],
}
COMMON = set("the of and to in a is that for it as be on with are this by or from an not which can you if will at have has".split())


def is_prose(paragraph):
    words = paragraph.split()
    letters = sum(c.isalpha() or c.isspace() for c in paragraph)
    common = sum(w.lower() in COMMON for w in words)
    return 60 < len(paragraph) < 2000 and letters > 0.9 * len(paragraph) and common > 0.25 * len(words)


def collect(limit=16_000_000):
    """English paragraphs of this machine's documentation, each once, in a fixed order."""
    files = sorted(Path("/usr/share/common-licenses").glob("*"))
    files += sorted(p for p in Path("/usr/share/doc").rglob("*") if p.suffix in ("", ".gz", ".txt", ".md", ".rst", ".html"))
    files += sorted(p for p in Path("/usr/share/info").rglob("*.gz")) + sorted(Path(os.__file__).parent.rglob("*.py"))
    seen, size = {}, 0
    for path in files:
        try:
            if not path.is_file() or path.stat().st_size > 1_000_000:
                continue
            text = (gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()).decode("utf-8")
        except (OSError, UnicodeDecodeError, EOFError):
            continue
        if path.suffix == ".py":
            text = "\n\n".join(re.findall(r'"""(.*?)"""', text, re.S))
        if path.suffix == ".html":
            text = re.sub(r"<[^>]+>", " ", text)
        for paragraph in re.split(r"\n\s*\n", text):
            paragraph = re.sub(r"\s+", " ", paragraph.strip())
            if paragraph not in seen and is_prose(paragraph):
                seen[paragraph] = None
                size += len(paragraph.encode())
        if size > limit:
            break
    texts = list(seen)
    random.Random(1).shuffle(texts)
    return texts


# ---- Workers: one process measures one peer once ---------------------------------------------------


def make(peer, path):
    """texts -> a sequence of id sequences."""
    from tokenizers import Tokenizer

    if peer == "tokenizers":
        tokenizer = Tokenizer.from_file(path)
        return lambda texts: tokenizer.encode_batch_fast(texts), lambda e: e.ids
    if peer == "nanotoken":
        import nanotoken

        tokenizer = nanotoken.Tokenizer(path)
        return lambda texts: tokenizer.encode_batch(texts, parallel=False), list
    if peer == "gigatoken":
        import gigatoken

        tokenizer = gigatoken.Tokenizer(Tokenizer.from_file(path))
        return lambda texts: tokenizer.encode_batch(texts, parallel=False), list
    import kitoken

    tokenizer = kitoken.Kitoken.from_file(path)
    return lambda texts: [tokenizer.encode(t, True) for t in texts], list


def work(peer, path, texts_path, ids_path):
    texts = Path(texts_path).read_text().removesuffix("\n").split("\n")
    megabytes = sum(len(t.encode()) for t in texts) / 1e6
    run, ids_of = make(peer, path)
    run(["A first call may set things up."])
    speeds = []
    for i in range(3):
        start = time.process_time()
        result = run(texts)
        speeds.append(megabytes / (time.process_time() - start))
        if i == 0 and ids_path:
            rows = array("I")
            for row in result:
                ids = [int(x) for x in ids_of(row)]
                rows.append(len(ids))
                rows.extend(ids)
            Path(ids_path).write_bytes(rows.tobytes())
    print(json.dumps({"first": speeds[0], "again": max(speeds[1:])}))


def measure(args, peer, folder, texts_path, ids_path):
    if peer == "bertrand":
        command = [args.program, str(folder), str(texts_path), "2", *([str(ids_path)] if ids_path else [])]
        done = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return {"first": done["first_mb_per_s"], "again": done["best_mb_per_s"]}
    command = [sys.executable, __file__, "--worker", peer, str(folder / "tokenizer.json"), str(texts_path), str(ids_path or "")]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{peer}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def read_ids(path):
    data = array("I")
    data.frombytes(Path(path).read_bytes())
    at, rows = 0, []
    while at < len(data):
        rows.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return rows


def equal_share(expected, got):
    """Of texts with equal ids; and whether only without the two special tokens around them."""
    share = sum(a == b for a, b in zip(expected, got)) / len(expected)
    inner = sum(a[1:-1] == b for a, b in zip(expected, got)) / len(expected)
    return f"{share:.2%}" if share >= inner else f"{inner:.2%} without special tokens"


# ---- Hostile texts ---------------------------------------------------------------------------------


def hostile_variants(cache, wordpiece):
    """name -> a tokenizer.json's contents."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))
    from tokenizer_configs import charsmap

    def read(kind):
        return json.loads((cache / kind / "tokenizer.json").read_text())

    def variant(kind, **parts):
        return {**read(kind), **parts}

    bert = "given" if wordpiece else "wordpiece"
    endless = {**read(bert)["model"], "max_input_chars_per_word": 10**9}
    lower = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
    return {
        "WordPiece": variant(bert),
        "WordPiece, words of any length": variant(bert, model=endless),
        "WordPiece, NFKC, words of any length": variant(bert, model=endless, normalizer=lower),
        "BPE": variant("bpe"),
        "BPE, NFC": variant("bpe", normalizer={"type": "NFC"}),
        "Unigram, NFKD": variant("unigram"),
        "Unigram, NFC": variant("unigram", normalizer={"type": "NFC"}),
        "Unigram, NFKC": variant("unigram", normalizer={"type": "NFKC"}),
        "Unigram, charsmap": variant("unigram", normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap()}),
    }


def measure_hostile(args, cache):
    """A row a text, a column a tokenizer: how many times the cost of ordinary text, spans wanted in brackets."""
    columns = {}
    for name, contents in hostile_variants(cache, args.wordpiece).items():
        if args.kinds and name.split(",")[0].lower() not in args.kinds.split(","):
            continue
        folder = cache / "hostile"
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(contents))
        command = [args.program, "--hostile", str(folder), str(cache / "text.txt"), str(args.megabytes)]
        lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
        columns[name] = {row["text"]: row for row in map(json.loads, lines)}
        worst = max(row["ratio"] for row in columns[name].values())
        print(f"{name}: {columns[name]['ordinary']['ns_per_byte']} ns/byte, at most {worst} times that", file=sys.stderr)
    print(f"\n{args.megabytes} MB in one text; ns/byte of ordinary text, then ratios to it (with spans)\n")
    print("| text | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for text in next(iter(columns.values())):
        rows = [column[text] for column in columns.values()]
        if text == "ordinary":
            cells = [f"{row['ns_per_byte']:.1f} ({row['spans_ns_per_byte']:.1f})" for row in rows]
        else:
            cells = [f"{row['ratio']:.2f} ({row['spans_ratio']:.2f})" for row in rows]
        print(f"| {text} | " + " | ".join(cells) + " |")
    if args.json:
        Path(args.json).write_text(json.dumps(columns, indent=1) + "\n")


def main():
    if sys.argv[1:2] == ["--worker"]:
        return work(*sys.argv[2:6])
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--text")
    parser.add_argument("--wordpiece")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", default=".cache/tokenizer-bench")
    parser.add_argument("--kinds", help="of " + ",".join(PEERS) + "; without it, all")
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--json")
    args = parser.parse_args()
    cache = Path(args.cache)
    cache.mkdir(parents=True, exist_ok=True)
    texts = Path(args.text).read_text().split("\n") if args.text else collect()
    if sum(map(len, texts)) < 4_000_000:
        sys.exit(f"only {sum(map(len, texts))} characters of English found here; give at least 4 million with --text")
    corpus = "\n".join(texts) + "\n"
    kept = cache / "corpus.txt"
    if not (cache / "text.txt").exists() or not kept.exists() or kept.read_text() != corpus:
        kept.write_text(corpus)
        script = Path(__file__).with_name("tokenizer_vocabularies.py")
        print("training vocabularies of 30,000 tokens", file=sys.stderr)
        subprocess.run([sys.executable, str(script), "--text", str(kept), "--out", str(cache)], check=True)
    if args.wordpiece:  # without truncation and padding, so that all see the same work
        whole = json.loads((Path(args.wordpiece) / "tokenizer.json").read_text())
        (cache / "given").mkdir(exist_ok=True)
        (cache / "given" / "tokenizer.json").write_text(json.dumps({**whole, "truncation": None, "padding": None}))
    if args.hostile:
        return measure_hostile(args, cache)
    measured = cache / "text.txt"
    size = measured.stat().st_size
    count = measured.read_text().count("\n")
    report = {"bytes": size, "texts": count, "rounds": args.rounds}
    print(f"{size / 1e6:.1f} MB in {count} texts, one thread, best of {args.rounds} rounds, processor time\n")
    print("| kind | tokenizer | MB/s, first pass | median | MB/s, again | texts with Hugging Face's ids |\n|---|---|---|---|---|---|")
    for kind in args.kinds.split(",") if args.kinds else PEERS:
        peers = PEERS[kind]
        folder = cache / ("given" if kind == "wordpiece" and args.wordpiece else kind)
        results = {peer: [] for peer in peers}
        for i in range(args.rounds):
            for peer in peers:
                ids = cache / f"{kind}-{peer}.ids" if i == 0 else None
                results[peer].append(measure(args, peer, folder, measured, ids))
        expected = read_ids(cache / f"{kind}-tokenizers.ids")
        report[kind] = {}
        for peer, rounds in results.items():
            first = sorted(r["first"] for r in rounds)
            row = {"first": first[-1], "median": first[len(first) // 2], "again": max(r["again"] for r in rounds), "equal": equal_share(expected, read_ids(cache / f"{kind}-{peer}.ids"))}
            report[kind][peer] = row
            print(f"| {kind} | {peer} | {row['first']:.1f} | {row['median']:.1f} | {row['again']:.1f} | {row['equal']} |")
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
