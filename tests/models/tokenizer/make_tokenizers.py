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


def all_tokenizers():
    return {**small_tokenizers(), **char_tokenizers()}
