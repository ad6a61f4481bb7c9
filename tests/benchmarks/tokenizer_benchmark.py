"""tokenizer_benchmark beside Hugging Face `tokenizers`, one thread each, in turn, processor time.

    python tokenizer_benchmark.py --program build/tokenizer_benchmark --folder FOLDER --text FILE

FILE has a text a line. Needs tokenizers.
"""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--text", required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(Path(args.folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = Path(args.text).read_text().removesuffix("\n").split("\n")
    megabytes = sum(len(t.encode()) for t in texts) / 1e6
    speeds = []
    for _ in range(3):
        ours = json.loads(subprocess.run([args.program, args.folder, args.text], capture_output=True, check=True).stdout)
        start = time.process_time()
        tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts))
        speeds.append(megabytes / (time.process_time() - start))
        assert tokens == ours["tokens"], (tokens, ours["tokens"])
    best = max(speeds)
    print(json.dumps({**ours, "tokenizers_mb_per_s": round(best, 2), "ratio_first": round(ours["first_mb_per_s"] / best, 1),
                      "ratio_best": round(ours["best_mb_per_s"] / best, 1)}))


if __name__ == "__main__":
    main()
