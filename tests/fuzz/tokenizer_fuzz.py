"""Random texts through tokenizer_dump and through Hugging Face `tokenizers`; prints differences.

    python tokenizer_fuzz.py --program build/tokenizer_dump [--tokenizer FILE] [--count 1000000]
                             [--seed 0] [--code-points] [--step-by-step]

Needs tokenizers==0.22.2. Without --tokenizer: the odd ones of make_tokenizers.py, each a share of the
count. --code-points: every code point in several contexts instead of random texts.
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
from tokenizers import Tokenizer

CHUNK = 20000
WORDS = """the of and in to a was is for on as with by he at from his an were are which this be
unaffable embedding tokenizers don't it's U.S.A. 3.14159 e-mail http://example.com/a?b=c naive résumé
São Zürich Ångström ΑΘΗΝΑ Σίσυφος ΟΔΟΣ Москва Ёлка İstanbul ISPARTA ﬁnance ½ ２０２４ 東京 中文字 한국어
กรุงเทพ हिन्दी বাংলা தமிழ் עברית العربية 𝒳𝓎 👩‍👩‍👧 🇩🇪 ≠ ≮ Å ℌ ǅ ẛ̣""".split()
SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[mask]", "[SE", "[[SEP]]", "<m>", "<M>", "New Tok", "new tok", "ünï", "<l>", "<r>", "<w>"]
ODD = [0, 9, 10, 11, 12, 13, 28, 32, 0x7F, 0x85, 0xA0, 0xAD, 0x34F, 0x378, 0x61C, 0x180E, 0x200B, 0x200D, 0x2028, 0x2029, 0x202E,
       0x3000, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0xE0001, 0xE0100, 0x10FFFF, 0x37E, 0x1FEF, 0x2260, 0x226E, 0x130, 0x1E9E, 0xF900, 0x4E00, 0x3400, 0x20000, 0x2F800]
MARKS = [0x300, 0x301, 0x308, 0x323, 0x327, 0x334, 0x345, 0x35C, 0x302E, 0x302F, 0x1D165, 0x1D166, 0x1D16D, 0x16FF0, 0x344, 0xF71, 0xF72,
         0xF73, 0x94D, 0x1939, 0x5B0, 0x64B, 0xE38, 0x1CF7, 0x1DF6, 0x8D3, 0x20D0, 0x20DD, 0x93B, 0x93C, 0x1E8D0, 0x11133, 0x1D15E, 0x1D160, 0x1D1BB, 0xAC01, 0xAC00]
RANGES = [(0x20, 0x7F)] * 6 + [(0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0x1100, 0x1200),
          (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x5000), (0xA640, 0xA6A0), (0xAC00, 0xAD00), (0xF900, 0xFB50),
          (0xFE00, 0x10000), (0x10000, 0x11000), (0x11000, 0x12000), (0x1D000, 0x1D800), (0x1F300, 0x1F700), (0x20000, 0x20100), (0, 0x110000)]


def code_point(r):
    while True:
        low, high = r.choice(RANGES)
        c = r.randrange(low, high)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def piece(r, words):
    kind = r.random()
    if kind < 0.35:
        word = r.choice(words)
        return word if r.random() < 0.7 else r.choice([word.upper(), word.title(), word + r.choice(words)])
    if kind < 0.5:
        return r.choice([" ", "  ", "\t", "\n", " ", " "])
    if kind < 0.58:
        return r.choice(SPECIALS)
    if kind < 0.66:
        return chr(r.choice(ODD))
    if kind < 0.76:
        return "".join(chr(r.choice(MARKS)) for _ in range(r.randrange(1, 6)))
    if kind < 0.78:
        return r.choice("ab9é中़.̂") * r.choice([2, 5, 99, 100, 101, 150])
    return "".join(code_point(r) for _ in range(r.randrange(1, 5)))


def text(r, words):
    pieces = []
    for _ in range(r.choice([0, 1, 1, 2, 3, 5, 8, 13])):
        pieces.append(piece(r, words))
        if r.random() < 0.4:
            pieces.append(" ")
    return "".join(pieces)


def random_case(r, words):
    case = Case(text(r, words))
    if r.random() < 0.3:
        case.pair = text(r, words)
    case.special = r.random() < 0.8
    if r.random() < 0.3:
        case.mode = r.choice(["longest_first", "only_first", "only_second"])
        case.side = r.choice(["left", "right"])
        case.limit = r.randrange(4, 24)  # no tokenizer here adds more than 4 special tokens
    return case


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


def chunks(cases):
    chunk = []
    for case in cases:
        chunk.append(case)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def run(program, name, path, cases, flags):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    start, total, wrong = time.time(), 0, 0
    for chunk in chunks(cases):
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
    parser.add_argument("--step-by-step", action="store_true")
    args = parser.parse_args()
    flags = ["--step-by-step"] if args.step_by_step else []
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        if args.tokenizer:
            paths[Path(args.tokenizer).name] = args.tokenizer
        else:
            for name, tokenizer in make_tokenizers.all_tokenizers().items():
                paths[name] = str(Path(folder) / f"{name}.json")
                Path(paths[name]).write_text(tokenizer)
        wrong = 0
        for name, path in paths.items():
            vocabulary = [t.removeprefix("##") for t in Tokenizer.from_file(path).get_vocab()]
            words = WORDS * 10 + random.Random(args.seed).sample(sorted(vocabulary), min(300, len(vocabulary)))
            r = random.Random(f"{args.seed} {name}")
            share = args.count // len(paths)
            cases = code_point_cases() if args.code_points else (random_case(r, words) for _ in range(share))
            wrong += run(args.program, name, path, cases, flags)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
