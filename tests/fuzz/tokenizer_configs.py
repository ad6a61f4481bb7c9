"""Random tokenizer.json files: parts of every kind put together, over small vocabularies.

`random_tokenizer(r)` returns the object of one; `r` is a random.Random. Everything that `tokenizers`
has for these families is drawn, in combinations that nobody would choose.
"""

import base64
import struct
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "models" / "tokenizer" / "data"
WORDS = """the of and in to a was is embedding tokenizers don't it's U.S.A. 3.14159 e-mail aaab abab aaaa
naïve résumé re\u0301sume\u0301 São Ångström ΟΔΟΣ Σίσυφος Москва İst ﬁn ½ ２０２４ 東京 中文字 한국어 각 กรุงเทพ
हिन्दी עברית العربية 👩‍👩‍👧 🇩🇪 ≠ ẛ̣ ... ,, '' `` -- 1,234 A\u030a \u1e9b\u0323 \u302e\u0301""".split()
SPECIALS = ["[CLS]", "[SEP]", "<s>", "</s>", "<mask>", "[PAD]"]
CONTENTS = ["<m>", "<M>", "New Tok", "new", "tok ", " tok", "ünï", "u\u0308", "\u00c9", "cat", "a", "ab", "abab", "東", " ", "\u2581", "the", "THE",
            "\u2581the", "Ġthe", "\u0301", "  ", "\t<t>\t", "<<", "<<>>", "1", "...", "İ", "ﬁ", "[CLS] ", "don"]
REGEXES = ["\\s+", " {2,}", "\\s", "\\S+", "\\p{L}+", "\\p{N}", "\\P{L}+", "[^\\s]+", "a", "a+", "ab", "\\.", "\\.+", "\\p{N}{3,}", "é", "a{2,}",
           r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def maybe(r, share=0.5):
    return r.random() < share


def byte_characters():
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = iter(range(0x100, 0x200))
    return [chr(b) if b in own else chr(next(extra)) for b in range(256)]


BYTES = byte_characters()


def pattern(r):
    if maybe(r):
        return {"String": r.choice(["a", " ", "  ", "ab", "the", "aa", "é", "東", "\u2581", "``", "''", ".", "\u0301", "I"])}
    return {"Regex": r.choice(REGEXES)}


_charsmap = None


def charsmap():
    """The one of data/trained/unigram.model: SentencePiece's nmt_nfkc."""
    global _charsmap
    if _charsmap is None:
        data = (DATA / "trained" / "unigram.model").read_bytes()
        at = 0
        while at < len(data):  # the messages' top level: tag, length, bytes
            tag, at = data[at], at + 1
            size = shift = 0
            while True:
                byte, at = data[at], at + 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            if tag == 0x1A:  # normalizer_spec
                body = data[at : at + size]
                start = body.index(b"\x12") + 1  # precompiled_charsmap, behind the short name
                n = shift = 0
                while True:
                    byte, start = body[start], start + 1
                    n |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                _charsmap = base64.b64encode(body[start : start + n]).decode()
                assert struct.unpack("<I", base64.b64decode(_charsmap)[:4])[0] < n
            at += size
    return _charsmap


def normalizer(r, depth=0):
    kind = r.choice([None, "BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "Prepend", "Replace", "Precompiled", "Sequence", "Sequence"])
    if kind is None:
        return None if depth == 0 else {"type": "NFD"}
    if kind == "BertNormalizer":
        return {"type": kind, "clean_text": maybe(r), "handle_chinese_chars": maybe(r), "strip_accents": r.choice([None, True, False]), "lowercase": maybe(r)}
    if kind == "Strip":
        return {"type": kind, "strip_left": maybe(r), "strip_right": maybe(r)}
    if kind == "Prepend":
        return {"type": kind, "prepend": r.choice(["\u2581", " ", "ab", "é"])}
    if kind == "Replace":
        return {"type": kind, "pattern": pattern(r), "content": r.choice(["", " ", "\u2581", "a", "é東", '"', "ab cd"])}
    if kind == "Precompiled":
        return {"type": kind, "precompiled_charsmap": charsmap()}
    if kind == "Sequence":
        return {"type": kind, "normalizers": [normalizer(r, depth + 1) for _ in range(r.choice([0, 1, 2, 3, 4]))] if depth < 2 else []}
    return {"type": kind}


def metaspace(r):
    part = {"type": "Metaspace", "replacement": r.choice(["\u2581", "\u2581", "_", "a"]), "prepend_scheme": r.choice(["always", "first", "never"]), "split": maybe(r, 0.7)}
    if maybe(r, 0.1):
        del part["prepend_scheme"], part["split"]
        part["add_prefix_space"] = part["replacement"] == "\u2581"
    return part


def pre_tokenizer(r, depth=0):
    kind = r.choice([None, "BertPreTokenizer", "Metaspace", "Metaspace", "Whitespace", "WhitespaceSplit", "Split", "Split", "Punctuation", "Digits", "Sequence", "Sequence"])
    if kind is None:
        return None if depth == 0 else {"type": "WhitespaceSplit"}
    if kind == "Metaspace":
        return metaspace(r)
    if kind == "Split":
        return {"type": kind, "pattern": pattern(r), "behavior": r.choice(BEHAVIORS), "invert": maybe(r)}
    if kind == "Punctuation":
        return {"type": kind, "behavior": r.choice(BEHAVIORS)}
    if kind == "Digits":
        return {"type": kind, "individual_digits": maybe(r)}
    if kind == "Sequence":
        return {"type": kind, "pretokenizers": [pre_tokenizer(r, depth + 1) for _ in range(r.choice([0, 1, 2, 3]))] if depth < 2 else []}
    return {"type": kind}


def byte_level(r):
    return {"type": "ByteLevel", "add_prefix_space": maybe(r), "trim_offsets": maybe(r), "use_regex": maybe(r, 0.7)}


def byte_level_pre_tokenizer(r):
    if maybe(r, 0.6):
        return byte_level(r)
    return {"type": "Sequence", "pretokenizers": [pre_tokenizer(r, 1) for _ in range(r.choice([0, 1, 2]))] + [byte_level(r)]}


def symbols_of(r, byte_words):
    words = list(WORDS)
    if byte_words:
        words = ["".join(BYTES[b] for b in (r.choice(["", " "]) + w).encode()) for w in words]
    else:
        words += ["\u2581" + w for w in WORDS[:20]]
    return words


def bpe(r, byte_words):
    """Merges that a training could have made, or, sometimes, any."""
    prefix = r.choice(["", "", "", "", "##"]) if not byte_words or maybe(r, 0.1) else ""
    suffix = r.choice(["", "", "", "</w>"]) if not byte_words or maybe(r, 0.1) else ""
    words = symbols_of(r, byte_words)
    base = BYTES if byte_words else sorted({c for w in words for c in w} | {"\u2581", "_"})
    share = r.choice([1, 1, 0.9, 0.6])
    singles = [c for c in base if maybe(r, share)]
    tokens = ["<unk>"] + SPECIALS + singles
    tokens += [prefix + c for c in singles if prefix] + [c + suffix for c in singles if suffix] + [prefix + c + suffix for c in singles if prefix and suffix]
    merges, known = [], set(tokens)
    for _ in range(r.choice([0, 5, 30, 120])):
        word = r.choice(words)
        parts = [(prefix if i else "") + c for i, c in enumerate(word)]
        parts[-1] += suffix
        for _ in range(r.choice([1, 2, 3, 6])):
            if len(parts) < 2:
                break
            i = r.randrange(len(parts) - 1)
            left, right = parts[i : i + 2]
            made = left + right[len(prefix) :]
            if left not in known or right not in known:
                continue
            if made not in known or maybe(r, 0.15):
                merges.append((left, right))
                known.add(made)
                tokens.append(made)
            parts[i : i + 2] = [made]
    if maybe(r, 0.15):
        r.shuffle(merges)
    if maybe(r, 0.4):
        tokens += [f"<0x{b:02X}>" for b in range(256) if maybe(r, 0.97)]
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    if maybe(r, 0.1):
        vocabulary = {t: 2 * i for t, i in vocabulary.items()}
    return {
        "type": "BPE", "dropout": None, "unk_token": r.choice([None, "<unk>", "<unk>", "<missing>"] if maybe(r, 0.3) else ["<unk>", None]),
        "continuing_subword_prefix": prefix or r.choice([None, ""]), "end_of_word_suffix": suffix or r.choice([None, ""]), "fuse_unk": maybe(r), "byte_fallback": maybe(r, 0.4),
        "ignore_merges": maybe(r, 0.3), "vocab": vocabulary, "merges": [list(m) for m in merges] if maybe(r) else [f"{a} {b}" for a, b in merges],
    }


def substrings(r, words, count):
    result = []
    for _ in range(count):
        word = r.choice(words)
        i = r.randrange(len(word))
        result.append(word[i : i + r.choice([1, 1, 2, 3, 4, 8])])
    return result


def unigram(r):
    words = symbols_of(r, False)
    tokens = SPECIALS + ["<unk>"] + substrings(r, words, r.choice([5, 50, 200]))
    tokens += sorted({c for w in words for c in w if maybe(r, 0.7)})
    if maybe(r, 0.4):
        tokens += [f"<0x{b:02X}>" for b in range(256) if maybe(r, 0.97)]
    tokens = list(dict.fromkeys(tokens))
    scores = r.choice([lambda: -round(r.random() * 12, 2), lambda: -r.random() * 12, lambda: float(-r.randrange(4)), lambda: r.random() * 3 - 1.5])
    unk = r.choice([tokens.index("<unk>"), tokens.index("<unk>"), r.randrange(len(tokens)), None])
    return {"type": "Unigram", "unk_id": unk, "vocab": [[t, scores()] for t in tokens], "byte_fallback": maybe(r, 0.4)}


def wordpiece(r):
    prefix = r.choice(["##", "##", "##", "@", ""])
    words = symbols_of(r, False)
    tokens = SPECIALS + ["<unk>"] + substrings(r, words, r.choice([5, 60, 250])) + [prefix + t for t in substrings(r, words, r.choice([5, 60, 250]))]
    for c in sorted({c for w in words for c in w}):
        tokens += [c] * maybe(r, 0.8) + [prefix + c] * maybe(r, 0.8)
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    if maybe(r, 0.1):
        vocabulary = {t: 3 * i + 1 for t, i in vocabulary.items()}
    return {"type": "WordPiece", "unk_token": "<unk>" if maybe(r, 0.9) else "<missing>", "continuing_subword_prefix": prefix, "max_input_chars_per_word": r.choice([100, 100, 1, 5, 12]), "vocab": vocabulary}


def template(r, vocabulary):
    specials = {t: {"id": t, "ids": [vocabulary[t]], "tokens": [t]} for t in SPECIALS if t in vocabulary}
    specials["<many>"] = {"id": "<many>", "ids": [vocabulary["<s>"], vocabulary["[SEP]"]], "tokens": ["<s>", "[SEP]"]}

    def some():
        return [{"SpecialToken": {"id": r.choice(sorted(specials)), "type_id": r.choice([0, 0, 1, 5])}} for _ in range(r.choice([0, 1, 1, 2]))]

    def sequence(name, type_id):
        return [{"Sequence": {"id": name, "type_id": type_id}}]

    single = some() + sequence("A", r.choice([0, 0, 2])) + some()
    parts = [sequence("A", r.choice([0, 0, 3])), sequence("B", r.choice([1, 1, 0]))]
    if maybe(r, 0.15):
        parts.reverse()
    return {"type": "TemplateProcessing", "single": single, "pair": some() + parts[0] + some() + parts[1] + some(), "special_tokens": specials}


def post_processor(r, vocabulary, depth=0):
    kind = r.choice([None, "BertProcessing", "RobertaProcessing", "TemplateProcessing", "TemplateProcessing", "ByteLevel", "Sequence"])
    if kind is None or (kind == "Sequence" and depth > 0):
        return None if depth == 0 else byte_level(r)
    if kind == "TemplateProcessing":
        return template(r, vocabulary)
    if kind == "ByteLevel":
        return byte_level(r)
    if kind == "Sequence":
        return {"type": kind, "processors": [post_processor(r, vocabulary, depth + 1) for _ in range(r.choice([0, 1, 2]))]}
    part = {"type": kind, "sep": ["[SEP]", vocabulary["[SEP]"]], "cls": ["[CLS]", vocabulary["[CLS]"]]}
    if kind == "RobertaProcessing":
        part.update(trim_offsets=maybe(r), add_prefix_space=maybe(r))
    return part


def decoder(r, depth=0):
    kind = r.choice([None, "WordPiece", "ByteLevel", "Metaspace", "Fuse", "Strip", "Replace", "ByteFallback", "BPEDecoder", "Sequence"])
    if kind is None:
        return None if depth == 0 else {"type": "Fuse"}
    if kind == "WordPiece":
        return {"type": kind, "prefix": r.choice(["##", "@", ""]), "cleanup": maybe(r)}
    if kind == "ByteLevel":
        return byte_level(r)
    if kind == "Metaspace":
        return metaspace(r)
    if kind == "Strip":
        return {"type": kind, "content": r.choice([" ", "a", "\u2581", "é"]), "start": r.choice([0, 1, 3]), "stop": r.choice([0, 1, 3])}
    if kind == "Replace":
        return {"type": kind, "pattern": pattern(r), "content": r.choice(["", " ", "x", "東"])}
    if kind == "BPEDecoder":
        return {"type": kind, "suffix": r.choice(["</w>", "a", "é"])}
    if kind == "Sequence":
        return {"type": kind, "decoders": [decoder(r, depth + 1) for _ in range(r.choice([0, 1, 2, 3]))] if depth < 2 else []}
    return {"type": kind}


def added_tokens(r, vocabulary):
    contents = SPECIALS[: r.randrange(len(SPECIALS) + 1)]
    contents = contents + r.sample(CONTENTS, r.choice([0, 0, 1, 3, 8])) + r.sample(sorted(vocabulary), r.choice([0, 0, 1]))
    tokens, following = [], max(vocabulary.values()) + 1
    for content in dict.fromkeys(c for c in contents if c):
        known = content in vocabulary
        tokens.append({
            "id": vocabulary[content] if known else following, "content": content, "single_word": maybe(r, 0.25), "lstrip": maybe(r, 0.3),
            "rstrip": maybe(r, 0.3), "normalized": maybe(r, 0.35), "special": maybe(r, 0.6),
        })
        following += not known
    return sorted(tokens, key=lambda t: t["id"])


def random_tokenizer(r):
    kind = r.choice(["WordPiece", "BPE", "bytes", "bytes", "Unigram", "Unigram"])
    model = {"WordPiece": wordpiece, "BPE": lambda r: bpe(r, False), "bytes": lambda r: bpe(r, True), "Unigram": unigram}[kind](r)
    vocabulary = model["vocab"]
    if kind == "Unigram":
        vocabulary = {t: i for i, (t, _) in enumerate(vocabulary)}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(r, vocabulary), "normalizer": normalizer(r),
        "pre_tokenizer": byte_level_pre_tokenizer(r) if kind == "bytes" else pre_tokenizer(r), "post_processor": post_processor(r, vocabulary),
        "decoder": decoder(r), "model": model,
    }
