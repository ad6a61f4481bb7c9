"""The small and odd tokenizers that the tests run: name -> tokenizer.json.

Their vocabularies are composed, not trained, so that each run makes the same ones. The `chars_*`
ones have each code point of data/characters.txt as a token of its own, so that their ids show what the
normaliser made of a text.
"""

import json
from collections import Counter
from pathlib import Path

DATA = Path(__file__).with_name("data")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = """
The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it's been 3 years (or 12?) since
1999. Tokenizers turn text into pieces: embedding, embeddings, unaffable, running, runner, ran. Résumé,
naïve, Zürich, São Paulo, Ångström. Le cœur a ses raisons. Der Fluß fließt. ΑΘΗΝΑ Σίσυφος. Москва, Ёлка.
"do not" isn't don't. A cat sat on the mat. U.S.A. e-mail: someone@example.com costs $5.00 + 10%.
"""


def small_vocabulary(prefix="##", unk="[UNK]", lower=True):
    text = TEXT.lower() if lower else TEXT
    words = ["".join(c for c in w if c.isalnum()) for w in text.split()]
    pieces = Counter(w[i : i + n] for w in words for n in (2, 3, 4) for i in range(1, len(w) - n + 1))
    tokens = [unk if t == "[UNK]" else t for t in SPECIALS]
    tokens += sorted({c for c in text if not c.isspace()} | set("abcdefghijklmnopqrstuvwxyz中文"))
    tokens += [prefix + c for c in sorted({c for w in words for c in w} | set("abcdefghijklmnopqrstuvwxyz"))]
    tokens += sorted(set(words) - {""}, key=lambda w: (len(w), w))
    tokens += [prefix + p for p, n in sorted(pieces.items()) if n > 1]
    tokens += ["...", "#", prefix, "a b", "don't", "'s", "abc##", "##xyz", "unaffab", prefix + "ffable"]
    return {t: i for i, t in enumerate(dict.fromkeys(t for t in tokens if t))}


def char_vocabulary():
    codes = [int(h, 16) for h in (DATA / "characters.txt").read_text().split()]
    tokens = SPECIALS + [p + chr(c) for c in codes for p in ("", "##")]
    return {t: i for i, t in enumerate(tokens)}


def added(content, vocabulary, offset=0, **flags):
    token = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return {"id": vocabulary.get(content, len(vocabulary) + offset), "content": content, **token, **flags}


def bert_normalizer(clean=True, chinese=True, strip=None, lower=True):
    return {
        "type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
        "strip_accents": strip, "lowercase": lower,
    }


def template(vocabulary, single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", extra=None):
    def pieces(text):
        for word in text.split():
            name, _, type_id = word.partition(":")
            if name[0] == "$":
                yield {"Sequence": {"id": name[1:], "type_id": int(type_id or 0)}}
            else:
                yield {"SpecialToken": {"id": name, "type_id": int(type_id or 0)}}

    tokens = {t: {"id": t, "ids": [vocabulary[t]], "tokens": [t]} for t in SPECIALS if t in vocabulary}
    tokens.update(extra or {})
    return {
        "type": "TemplateProcessing", "single": list(pieces(single)), "pair": list(pieces(pair)),
        "special_tokens": tokens,
    }


def tokenizer(vocabulary, prefix="##", unk="[UNK]", max_chars=100, **parts):
    whole = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(t, vocabulary) for t in SPECIALS if t in vocabulary],
        "normalizer": bert_normalizer(),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template(vocabulary) if "[CLS]" in vocabulary else None,
        "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": max_chars, "vocab": vocabulary,
        },
    }
    whole.update(parts)
    return json.dumps(whole, ensure_ascii=False)


def char_tokenizers():
    vocabulary = char_vocabulary()
    options = {
        "chars_uncased": {},
        "chars_cased": dict(lower=False),
        "chars_strip_only": dict(clean=False, chinese=False, strip=True, lower=False),
        "chars_lower_accents": dict(clean=True, chinese=False, strip=False, lower=True),
        "chars_no_clean": dict(clean=False, chinese=True, strip=True, lower=True),
    }
    return {name: tokenizer(vocabulary, normalizer=bert_normalizer(**o)) for name, o in options.items()}


def small_tokenizers():
    v = small_vocabulary()
    cased = small_vocabulary(lower=False)
    at = small_vocabulary(prefix="@@", unk="<unk>")
    plain = small_vocabulary(prefix="")
    no_unk = {t: i for i, t in enumerate(t for t in v if t != "[UNK]")}
    own = [added(t, v) for t in SPECIALS]
    strange = [
        added("<l>", v, 0, lstrip=True), added("<r>", v, 1, rstrip=True),
        added("<w>", v, 2, single_word=True), added("<m>", v, 3, lstrip=True, rstrip=True, single_word=True),
        added("[SE", v, 4, special=False), added("new tok", v, 5, special=False),
        added("cat", v, 6, single_word=True, special=False),
    ]
    folded = [
        added("<M>", v, 0, normalized=True, special=False), added("New Tok", v, 1, normalized=True, special=False),
        added("\u00fcn\u00ef", v, 2, normalized=True, special=False, single_word=True),
        added("Fox", v, 3, normalized=True, special=False, lstrip=True, rstrip=True),
        added("FOX", v, 4, normalized=True, special=False), added("<l>", v, 5, normalized=True, lstrip=True),
        added("dog", v, 6, normalized=True, special=False, single_word=True),
    ]
    many = {"<<>>": {"id": "<<>>", "ids": [4, 4, 0], "tokens": ["[MASK]", "[MASK]", "[PAD]"]}}
    punctuation = {"type": "Punctuation", "behavior": "Isolated"}
    return {
        "uncased": tokenizer(v),
        "cased": tokenizer(cased, normalizer=bert_normalizer(lower=False)),
        "added": tokenizer(v, added_tokens=own + strange),
        "added_normalized": tokenizer(v, added_tokens=own + folded),
        "added_normalized_cased": tokenizer(v, added_tokens=own + folded, normalizer=None),
        "prefix": tokenizer(
            at, prefix="@@", unk="<unk>", max_chars=5,
            post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        ),
        "no_prefix": tokenizer(plain, prefix="", max_chars=12, post_processor=None, decoder=None),
        "no_unk": tokenizer(no_unk),
        "whitespace": tokenizer(v, normalizer=None, pre_tokenizer={"type": "Whitespace"}),
        "whitespace_split": tokenizer(
            v, normalizer={"type": "Lowercase"}, pre_tokenizer={"type": "WhitespaceSplit"},
            post_processor=template(v, "<<>> $A:3", "$B:2 [SEP]:7 <<>>:1 $A", many),
        ),
        "sequences": tokenizer(
            v, normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]},
            pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, punctuation]},
        ),
        "contiguous": tokenizer(v, pre_tokenizer={"type": "Punctuation", "behavior": "Contiguous"}),
        "bare": tokenizer(v, normalizer=None, pre_tokenizer=None, max_chars=7, decoder=dict(type="WordPiece", prefix="##", cleanup=False)),
    }


TRAINED = DATA / "trained"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_level(add_prefix_space=False, trim_offsets=True, **more):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": True, **more}


def bpe_tokenizers():
    """Byte-level BPE, and BPE over code points with everything that `tokenizers` has for those."""
    vocabulary = json.loads((TRAINED / "vocab.json").read_text())
    merges = (TRAINED / "merges.txt").read_text().split("\n")[1:-1]
    specials = ["<s>", "<pad>", "</s>", "<unk>"]

    def model(**more):
        return {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges, **more,
        }

    def whole(model, **parts):
        tokens = [added(t, vocabulary) for t in specials] + [added("<mask>", vocabulary, lstrip=True)]
        return json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None,
            "pre_tokenizer": byte_level(), "decoder": byte_level(), "post_processor": None, "model": model, **parts,
        }, ensure_ascii=False)

    def roberta(add_prefix_space=False, trim_offsets=True):
        return {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": trim_offsets, "add_prefix_space": add_prefix_space}

    split = {"type": "Split", "pattern": {"Regex": GPT2}, "behavior": "Isolated", "invert": False}
    sequence = {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}
    few = {t: i for i, t in enumerate(["<unk>", *"abcdefghilmnoprstuw", "\u00e9", "th", "the", "an", "and", "er", "<0xE4>", "<0xB8>", "<0xAD>", "in", "ing", "##e", "##r", "##h", "##er", "##er</w>", "##r</w>", "e</w>"])}
    few_merges = ["t h", "a n", "th e", "an d", "i n", "in g", "e r"]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True}
    characters = {"vocab": few, "merges": few_merges, "unk_token": "<unk>"}
    # Merges that training does not make: out of order, and two that make one token.
    odd = {t: i for i, t in enumerate(["a", "b", "c", "ab", "bc", "abc", "abcabc", "aa", "aaa"])}
    odd_merges = ["b c", "a bc", "abc abc", "ab c", "a b", "aa a", "a a", "a aa"]
    hole = {t: i for i, t in enumerate(t for t in vocabulary if t not in ("\u00c3", "e", "\u0120"))}
    hole_merges = [m for m in merges if all(t in hole for t in (*m.split(), m.replace(" ", "")))]
    return {
        "bpe": whole(model(), post_processor=roberta()),
        "bpe_prefix": whole(model(), pre_tokenizer=byte_level(True), post_processor=roberta(True)),
        "bpe_untrimmed": whole(model(merges=[m.split() for m in merges]), post_processor=roberta(True, False), pre_tokenizer=byte_level(True)),
        "bpe_sequence": whole(model(), normalizer={"type": "NFC"}, pre_tokenizer=sequence, post_processor={"type": "Sequence", "processors": [byte_level(), template({"[CLS]": 0, "[SEP]": 2})]}),
        "bpe_no_regex": whole(model(ignore_merges=True), pre_tokenizer=byte_level(use_regex=False), post_processor=byte_level()),
        "bpe_holes": whole(model(vocab=hole, merges=hole_merges), added_tokens=[], post_processor=byte_level()),
        "bpe_characters": whole(model(**characters), added_tokens=[], pre_tokenizer=metaspace, decoder=metaspace),
        "bpe_fused": whole(model(**characters, fuse_unk=True, byte_fallback=True), added_tokens=[], pre_tokenizer={"type": "WhitespaceSplit"}, decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "an"}, "content": "<>"}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": "t", "start": 2, "stop": 1}]}),
        "bpe_affixes": whole(model(**{**characters, "merges": ["t ##h", "##e ##r</w>"]}, continuing_subword_prefix="##", end_of_word_suffix="</w>"), added_tokens=[], pre_tokenizer={"type": "Whitespace"}, decoder={"type": "BPEDecoder", "suffix": "</w>"}),
        "bpe_odd": whole(model(vocab=odd, merges=odd_merges), added_tokens=[], pre_tokenizer=None, decoder=None),
    }


def unigram_tokenizers():
    pieces = [["<unk>", 0.0], ["\u2581", -3.1], ["\u2581the", -4.05], ["e", -2.9], ["t", -3.0], ["h", -3.3], ["a", -2.95], ["n", -3.2], ["an", -5.91], ["d", -3.4], ["nd", -6.600000000000001], ["s", -3.1], ["<0xC3>", -9.0], ["<0xA9>", -9.0], ["\u00e9e", -12.0], ["q\u4e2d", -13.0], ["aaa", -8.849999999999998], ["aa", -5.9], ["er", -4.3], ["\u2581a", -4.2], ["1,", -5.0], ["1", -4.4], [",", -4.0], ["aa", -5.8]]
    vocabulary = {t: i for i, (t, _) in enumerate(pieces)}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}

    def whole(normalizer, pre_tokenizer, byte_fallback=False, unk_id=0, **parts):
        return json.dumps({
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [added("<mask>", vocabulary, lstrip=True), added("[SEP]", vocabulary, 1)],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": unk_id, "vocab": pieces, "byte_fallback": byte_fallback}, **parts,
        }, ensure_ascii=False)

    def replace(pattern, content):
        return {"type": "Replace", "pattern": pattern, "content": content}

    lean = {"type": "Sequence", "normalizers": [replace({"String": "``"}, '"'), replace({"String": "''"}, '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, replace({"Regex": " {2,}"}, " ")]}
    spaces = {"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": True}, replace({"Regex": "\\s+"}, "\u2581"), {"type": "Prepend", "prepend": "\u2581"}]}
    split = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "MergedWithPrevious"}, metaspace]}
    parts = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{N}+"}, "behavior": "MergedWithNext", "invert": True}, {"type": "Split", "pattern": {"String": "the"}, "behavior": "Contiguous", "invert": False}]}
    return {
        "unigram": whole(lean, metaspace),
        "unigram_bytes": whole({"type": "NFC"}, metaspace, byte_fallback=True),
        "unigram_first": whole({"type": "NFD"}, {**metaspace, "prepend_scheme": "first"}),
        "unigram_spaces": whole(spaces, None),
        "unigram_split": whole(None, split),
        "unigram_parts": whole({"type": "NFKC"}, parts, decoder={**metaspace, "prepend_scheme": "never"}),
        "unigram_unsplit": whole(None, {**metaspace, "split": False}),
        "unigram_no_unk": whole(None, metaspace, unk_id=None),
    }


def model_tokenizers():
    return {**bpe_tokenizers(), **unigram_tokenizers()}


def all_tokenizers():
    return {**small_tokenizers(), **model_tokenizers(), **char_tokenizers()}
