"""Writes data/: what Hugging Face `tokenizers` and transformers answer to the tests' cases.

    python make_expected.py [--only-characters | --only-cases]

needs tokenizers==0.22.2 and transformers==4.57.6; about three minutes.
"""

import argparse
import json
import random
import re
import shutil
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from tokenizers import Tokenizer, normalizers

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_tokenizers
from make_tokenizers import DATA

TABLES = Path(__file__).resolve().parents[3] / "models" / "tokenizer" / "unicode_tables.inc"
BLOCK = 256
LARGE_BLOCK = 4096  # of those that were added later; their files are small


def characters():
    """Code points that tell behaviours apart: all that normalisation changes, what it makes of them,
    three of each kind that it leaves alone, and a sample of the rest."""
    text = TABLES.read_text()
    stage1, stage2 = (
        [int(n) for n in re.search(name + r"\[\d+\] = \{(.*?)\};", text, re.S).group(1).split(",") if n.strip()]
        for name in ("kStage1", "kStage2")
    )
    nfd, lower = normalizers.NFD().normalize_str, normalizers.Lowercase().normalize_str
    found, seen = set(range(0x20, 0x250)), {}
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        record = stage2[stage1[c >> 7] * 128 + (c & 127)]
        seen[record] = seen.get(record, 0) + 1
        if seen[record] <= 3 or c % 997 == 0:
            x = chr(c)
            found.update(map(ord, x + nfd(x) + lower(x) + lower(nfd(x))))
    return sorted(found)


def texts_of_code_point(c):
    """Alone, inside a word, and among combining marks of several classes. The C++ test has the same."""
    x = chr(c)
    return f"{x} a{x}B e\u0301{x}\u302e\u0323d"


def code_point_hashes(tokenizer, block):
    """CRC-32 of (count, then id, start, end, special of each token) over blocks of code points."""
    for start in range(0, 0x110000, block):
        texts = [texts_of_code_point(c) for c in range(start, start + block) if not 0xD800 <= c < 0xE000]
        crc = 0
        for e in tokenizer.encode_batch(texts):
            row = [len(e.ids)]
            for i, (a, b), s in zip(e.ids, e.offsets, e.special_tokens_mask):
                row += [i, a, b, s]
            crc = zlib.crc32(struct.pack(f"<{len(row)}I", *row), crc)
        yield crc


def load(text):
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def words_of(e):
    text, last = [], -1
    for word in e.word_ids:
        text.append("-" if word is None else "=" if word == last else "+" if word == last + 1 else f"({word})")
        last = last if word is None else word
    return "".join(text)


def answer(e):
    # Columns of one digit a token are strings.
    return {
        "ids": e.ids,
        "types": "".join(map(str, e.type_ids)),
        "special": "".join(map(str, e.special_tokens_mask)),
        "sequence": "".join("-" if s is None else str(s) for s in e.sequence_ids),
        "spans": [x for pair in e.offsets for x in pair],
        # Most words follow the one before: + for the next, = for the same, - for none, else itself.
        "words": words_of(e),
    }


TEXTS = [
    "", " ", "a", "The quick brown fox.", "  two  spaces\tand\nlines ", "don't do not isn't it's!", "unaffable embeddings runner",
    "R\u00e9sum\u00e9 na\u00efve Z\u00fcrich \u00c5ngstr\u00f6m", "Re\u0301sume\u0301 e\u0323\u0301\u302e", "c\x85d a\u00adb \u200b \u2028x\u3000y", "\u4e2d\u6587abc\u4e2d",
    "\u0130stanbul \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f\u0394\u039f\u03a3", "\ud55c\uad6d\uc5b4 \uac01", "a" * 100, "a" * 101, "e\u0301" * 100, "\u00e9" * 101, "zzzzz qqqqqq",
    "[CLS] in [SEP]text[MASK] [mask][SE[[SEP]]", "x<l> \t<l>y  <r>  z<w> <w>w <m>\u2003<m> , <m>,", "new tok New Tok NEW TOK newtok cat concat cat.",
    "\u00dcn\u00ef \u00fcn\u00efx u\u0308ni\u0308 Fox  FOX foxy <M> <m><l> <L> dog dogs the dog", "a b don't ... ...... ## ##xyz abc## #", "\u2260\u226e\u037e\u1fef x\u2260y",
    "12345 3.14 U.S.A. $5.00+10%", "\ufffd\x00\ufeffa\ufffe\U000e0001b", "\u302e\u0301a \U0001d15e\U0001d165\u0323b", "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "@@a a@@b abab @@",
    "the the  and an ethane aaaa aaaaaaa q\u4e2d q q\u4e2d\u4e2d \u00e9 \u00e9e abcabcabc aabc 1,234", "<mask> x <mask>  <mask>y </s> <s>the  ``quoted'' ", " \n we're  they'LL\tI'm\u00a0it's  \u3000 ",
]


def small_cases(tokenizer, truncation):
    """Encodings of TEXTS, of some pairs, and of `truncation` in each mode; decodings."""
    cases = []

    def add(text, pair=None, special=True, mode="longest_first", side="right", limit=None):
        # `tokenizers` subtracts special tokens from an unsigned limit and does not truncate at all where
        # they do not fit; that is an error here.
        if limit is not None and special and limit < tokenizer.num_special_tokens_to_add(pair is not None):
            return []
        case = {"text": text}
        if pair is not None:
            case["pair"] = pair
        if not special:
            case["plain"] = True
        if limit is None:
            tokenizer.no_truncation()
        else:
            case.update(mode=mode, side=side, limit=limit)
            tokenizer.enable_truncation(limit, strategy=mode, direction=side)
        try:
            encoding = tokenizer.encode(text, pair, add_special_tokens=special)
            case.update(answer(encoding))
            return encoding.ids
        except BaseException as error:
            case["error"] = str(error)
        finally:
            cases.append(case)
            tokenizer.no_truncation()
        return []

    decoded = []
    vocabulary_size = max(tokenizer.get_vocab().values()) + 1
    r = random.Random(7)
    for i, text in enumerate(TEXTS):
        ids = add(text)
        if tokenizer.num_special_tokens_to_add(False):
            add(text, special=False)
        if i % 3 == 0:
            add(text, TEXTS[-1 - i], special=i % 2 == 0)
        ids = ids + [r.randrange(vocabulary_size) for _ in range(6)]
        decoded += [(ids, skip) for skip in (False, True)]
    add("", "")
    add("a cat", "")
    add("", "a cat")
    words = "a cat sat on the mat and the dog ran over it".split()
    for first, second in ((10, 10), (10, 2), (2, 10), (9, 10), (10, 9), (1, 1), (0, 5)) * truncation:
        for mode in ("longest_first", "only_first", "only_second"):
            for limit in (3, 4, 7, 8, 12, 22, 40):
                add(" ".join(words[:first]), " ".join(words[-second:]), True, mode, "left" if limit % 2 else "right", limit)
    for mode in ("longest_first", "only_first", "only_second"):
        for limit in (3, 5, 20):
            add(" ".join(words), None, True, mode, "left", limit)
            add(" ".join(words), None, False, mode, "right", limit)
    decodings = [{"ids": ids, "skip": skip, "text": tokenizer.decode(ids, skip)} for ids, skip in decoded]
    return {"encode": cases, "decode": decodings}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def write_hashes(name, tokenizer, block=BLOCK):
    (DATA / f"{name}.crc").write_text("\n".join(f"{h:08x}" for h in code_point_hashes(tokenizer, block)) + "\n")


def write_saved(name, tokenizer):
    """The tokenizer.json that transformers saves of a conversion, but for the map: the test has that."""
    whole = json.loads(tokenizer.to_str())
    for step in whole["normalizer"]["normalizers"]:
        if step["type"] == "Precompiled":
            step["precompiled_charsmap"] = "@charsmap"
    write_json(DATA / f"{name}.json", whole)


def folders():
    """Checkpoint folders without tokenizer.json, or whose tokenizer_config.json overrides it:
    name -> {file: text}."""
    vocabulary = make_tokenizers.small_vocabulary()
    lines = "\n".join(vocabulary) + "\n"
    tokenizer = make_tokenizers.small_tokenizers()
    extra = {"content": "<extra>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True}
    bert = {"model_type": "bert"}
    trained = {"vocab.json": "@vocab.json", "merges.txt": "@merges.txt"}
    model = {"sentencepiece.bpe.model": "@unigram.model"}
    piece = {"spiece.model": "@unigram.model"}
    lean = {"spiece.model": "@lean.model"}
    mask = {"__type": "AddedToken", "content": "<mask>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True}
    bpe = make_tokenizers.bpe_tokenizers()
    unigram = make_tokenizers.unigram_tokenizers()
    own = {
        "roberta_slow": {**trained, "config.json": {"model_type": "roberta"}},
        "roberta_slow_prefix": {**trained, "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True, "trim_offsets": False, "mask_token": mask}},
        "roberta_slow_added": {**trained, "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizerFast", "additional_special_tokens": ["<one>"]}, "added_tokens.json": {"<two>": 900}},
        "roberta_json": {"tokenizer.json": bpe["bpe_prefix"], "config.json": {"model_type": "roberta"}},
        "roberta_json_prefix": {"tokenizer.json": bpe["bpe"], "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}},
        "bpe_generic": {"tokenizer.json": bpe["bpe_prefix"], "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1000000000000000019884624838656}},
        "bpe_generic_sequence": {"tokenizer.json": bpe["bpe_sequence"], "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}},
        "xlm_roberta_slow": {**model, "config.json": {"model_type": "xlm-roberta"}},
        "xlm_roberta_json": {"tokenizer.json": unigram["unigram_first"], "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizerFast"}},
        "camembert_slow": {**model, "tokenizer_config.json": {"tokenizer_class": "CamembertTokenizer"}},
        "albert_slow": {**piece, "config.json": {"model_type": "albert"}},
        "albert_slow_cased": {**lean, "tokenizer_config.json": {"tokenizer_class": "AlbertTokenizer", "do_lower_case": False, "keep_accents": True}},
        "xlnet_slow": {**piece, "tokenizer_config.json": {"tokenizer_class": "XLNetTokenizer"}},
        "xlnet_slow_lower": {**lean, "tokenizer_config.json": {"tokenizer_class": "XLNetTokenizer", "do_lower_case": True}},
    }
    return {
        **own,
        "vocab_only": {"vocab.txt": lines, "config.json": bert},
        "vocab_no_newline": {"vocab.txt": lines[:-1], "config.json": bert, "tokenizer_config.json": {}},
        "vocab_crlf_repeated": {"vocab.txt": (lines + "the\nnew\n\n[UNK]\n").replace("\n", "\r\n"), "config.json": bert},
        "vocab_cased": {
            "vocab.txt": lines,
            "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 64, "clean_up_tokenization_spaces": True},
        },
        "vocab_accents": {
            "vocab.txt": lines,
            "tokenizer_config.json": {"tokenizer_class": "DistilBertTokenizer", "strip_accents": False, "tokenize_chinese_chars": False, "truncation_side": "left"},
        },
        "vocab_other_specials": {
            "vocab.txt": lines.replace("[CLS]", "<cls>").replace("[SEP]", "<sep>").replace("[MASK]\n", ""),
            "tokenizer_config.json": {"tokenizer_class": "ElectraTokenizer", "cls_token": "<cls>"},
            "special_tokens_map.json": {"sep_token": {"content": "<sep>", "lstrip": False, "rstrip": True, "normalized": False, "single_word": False}, "additional_special_tokens": ["<one>", "the"]},
        },
        "vocab_added_tokens": {
            "vocab.txt": lines, "tokenizer_config.json": {"tokenizer_class": "BertTokenizer"},
            "added_tokens.json": {"<two>": len(vocabulary), "Three Four": len(vocabulary) + 1},
        },
        "vocab_decoder": {
            "vocab.txt": lines,
            "tokenizer_config.json": {
                "tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<extra>"],
                "added_tokens_decoder": {"4": {**extra, "content": "[MASK]"}, str(len(vocabulary)): extra, str(len(vocabulary) + 1): {**extra, "content": "Plain", "special": False, "normalized": True}},
            },
            "special_tokens_map.json": {"cls_token": "ignored"},
        },
        "json_overridden": {"tokenizer.json": tokenizer["uncased"], "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False}},
        "json_cased_default": {"tokenizer.json": tokenizer["cased"], "config.json": bert},
        "json_generic": {"tokenizer.json": tokenizer["cased"], "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>", "pad_token": "[PAD]", "model_max_length": 1000000000000000019884624838656}},
        "json_added": {
            "tokenizer.json": tokenizer["added"], "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["cat", "<new>"]},
            "special_tokens_map.json": {"mask_token": "<M>"},
        },
        "json_left": {"tokenizer.json": tokenizer["uncased"].replace('"truncation": null', '"truncation": {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}'), "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
    }


def code_point_tokenizers():
    """Those of other models whose code points are hashed, too: name -> tokenizers.Tokenizer."""
    from transformers import AutoTokenizer

    yield "bpe_prefix", load(make_tokenizers.bpe_tokenizers()["bpe_prefix"])
    yield "unigram_spaces", load(make_tokenizers.unigram_tokenizers()["unigram_spaces"])
    for name in ("xlm_roberta_slow", "xlnet_slow"):
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, folders()[name])
            yield name, AutoTokenizer.from_pretrained(folder).backend_tokenizer


def saved_code_point_tokenizers():
    """SentencePiece's charsmap behind ALBERT's normalisers (quotes, NFKD, accents, lower case) and before
    CamemBERT's (spaces): name -> tokenizers.Tokenizer."""
    from transformers import AutoTokenizer

    for name in ("albert_slow", "camembert_slow"):
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, folders()[name])
            yield name, AutoTokenizer.from_pretrained(folder).backend_tokenizer


def write_folder(folder, files):
    for file, content in files.items():
        content = content if isinstance(content, str) else json.dumps(content)
        known = content.startswith("@")
        data = (make_tokenizers.TRAINED / content[1:]).read_bytes() if known else content.encode()
        (Path(folder) / file).write_bytes(data)


def folder_cases():
    from transformers import AutoTokenizer

    texts = TEXTS[3:12] + TEXTS[18:22] + ["<extra> x<extra>  Plain PLAIN plain <one>the <two>Three Four three four <cls><sep> x <new><mask><M> cat", "``the\u3000\uff21 1,234, \ufb01\u0301 x\u0301'' <mask> [MASK] ", " two  spaces </s> <sep>"]
    result = {}
    for name, files in folders().items():
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, files)
            t = AutoTokenizer.from_pretrained(folder)
        cases = []
        for text in texts:
            e = t(text, return_offsets_mapping=True, return_special_tokens_mask=True)
            ids = e["input_ids"]
            cases.append({
                "text": text, "ids": ids, "spans": [x for pair in e["offset_mapping"] for x in pair],
                "special": e["special_tokens_mask"], "decoded": t.decode(ids), "decoded_skip": t.decode(ids, skip_special_tokens=True),
            })
        cut = t(texts[0], texts[3], truncation=True, max_length=8)
        size = len(t)
        result[name] = {
            "files": {f: c if isinstance(c, str) else json.dumps(c) for f, c in files.items() if f != "tokenizer.json"},
            "tokenizer": next((n for n, j in {**make_tokenizers.small_tokenizers(), **make_tokenizers.model_tokenizers()}.items() if j == files.get("tokenizer.json")), "uncased_left" if "tokenizer.json" in files else ""),
            "cases": cases, "cut": {"text": texts[0], "pair": texts[3], "ids": cut["input_ids"], "types": cut.get("token_type_ids")},
            "special_ids": sorted(i for i, x in t.added_tokens_decoder.items() if x.special), "tokens": {x.content: i for i, x in t.added_tokens_decoder.items()},
            "model_max_length": t.model_max_length if t.model_max_length < 2**31 else None, "len": size,
        }
    return result


def write_models():
    for name, tokenizer in code_point_tokenizers():
        write_hashes(name, tokenizer)
    for name, tokenizer in saved_code_point_tokenizers():
        write_hashes(name, tokenizer, LARGE_BLOCK)
        write_saved(name, tokenizer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only-characters", action="store_true")
    parser.add_argument("--only-cases", action="store_true", help="not the code points")
    parser.add_argument("--only-models", action="store_true", help="the code points of BPE and Unigram alone")
    args = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    if args.only_models:
        write_models()
        return
    if not args.only_cases:
        (DATA / "characters.txt").write_text("\n".join(f"{c:x}" for c in characters()) + "\n")
    if args.only_characters:
        return
    shutil.rmtree(DATA / "tokenizers", ignore_errors=True)
    (DATA / "tokenizers").mkdir()
    expected = {}
    for name, text in {**make_tokenizers.small_tokenizers(), **make_tokenizers.model_tokenizers()}.items():
        (DATA / "tokenizers" / f"{name}.json").write_text(text + "\n")
        expected[name] = small_cases(load(text), name in ("uncased", "prefix", "no_prefix", "whitespace_split", "bpe_prefix"))
    write_json(DATA / "expected.json", expected)
    write_json(DATA / "folders.json", folder_cases())
    if args.only_cases:
        return
    for name, text in make_tokenizers.char_tokenizers().items():
        write_hashes(name, load(text))
    write_models()


if __name__ == "__main__":
    main()
