"""Random texts for the comparisons with Hugging Face `tokenizers`: mixed scripts, marks, controls,
white space of every kind, emoji sequences, tokens and parts of tokens, very long words."""

from tokenizer_peer import Case

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


# What joins or ends the words of some tokenizer and not of another.
SPACES = [" "] * 6 + [chr(c) for c in (9, 10, 11, 12, 13, 0x1C, 0x1F, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x2003, 0x200A, 0x200B, 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)]
# Where code points change their length in UTF-8, and what stands beside surrogates and at the ends.
EDGES = [chr(c) for c in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFDD0, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFF, 0xF0000, 0x10FFFF)]
# Characters that stand for something in vocabularies.
MARKED = ["##", "\u2581", "\u0120", "\u010a", "\u00c3\u00a9", "<0xE4>", "<0x0A>", "</w>", "_", "@@"]
EMOJI = [0x1F469, 0x1F468, 0x1F467, 0x1F3F4, 0x1F44D, 0x2764, 0x1F1E9, 0x1F1EA, 0x31, 0x23, 0xA9, 0x1F6F0]
JOINERS = ["\u200d", "\ufe0f", "\ufe0e", "\u20e3", "\U0001f3fd", "\U000e0067", "\U000e007f", "\u200c"]


def emoji(r):
    parts = []
    for _ in range(r.randrange(1, 6)):
        parts.append(chr(r.choice(EMOJI)))
        parts += r.choices(JOINERS, k=r.choice([0, 1, 1, 2]))
    return "".join(parts)


def cut(r, word):
    """A token with something missing or twice."""
    at = r.randrange(len(word) + 1)
    return r.choice([word[:at], word[at:], word[:at] + word, word[:at] + r.choice(SPACES) + word[at:]])


def long_word(r, words):
    """Around the limits of words, of caches and of what is done in one go; one of many lengths."""
    length = r.choice([2, 5, 15, 16, 17, 63, 64, 65, 99, 100, 101, 150, 255, 256, 257, 600])
    unit = r.choice(["a", "b", "9", "\u00e9", "\u4e2d", "\u093c", ".", "\u0302", "ab", "'s", " ", r.choice(words), emoji(r)])
    return (unit * (length // len(unit) + 1))[:length]


def piece(r, words):
    kind = r.random()
    if kind < 0.33:
        word = r.choice(words)
        return word if r.random() < 0.7 else r.choice([word.upper(), word.title(), word + r.choice(words), cut(r, word)])
    if kind < 0.45:
        return "".join(r.choices(SPACES, k=r.choice([1, 1, 1, 2, 4])))
    if kind < 0.53:
        special = r.choice(SPECIALS)
        return special if r.random() < 0.8 else cut(r, special)
    if kind < 0.60:
        return chr(r.choice(ODD)) if r.random() < 0.7 else r.choice(EDGES)
    if kind < 0.70:
        return "".join(chr(r.choice(MARKS)) for _ in range(r.randrange(1, 6)))
    if kind < 0.75:
        return emoji(r)
    if kind < 0.78:
        return r.choice(MARKED)
    if kind < 0.80:
        return long_word(r, words)
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


def unspaced(r, words):
    """What byte-level BPE takes as few long words: 60 to 10,000 letters, digits or other characters of one kind."""
    size = int(60 * 166 ** r.random())
    kind = r.random()
    if kind < 0.25:  # digits, marks, ideographs, letters with accents
        low, high = r.choice([(0x30, 0x3A), (0x21, 0x30), (0x300, 0x330), (0x4E00, 0x4E80), (0xE0, 0xF7), (0x61, 0x7B), (0x61, 0x64)])
        parts = lambda: chr(r.randrange(low, high))
    elif kind < 0.5:  # a unit again and again, at times with something between
        unit = "".join(r.choices(words, k=r.choice([1, 1, 2, 3])))[: r.choice([1, 2, 3, 8, 40, 200])] or "a"
        between = r.choice([0, 0, 0.01, 0.2])
        parts = lambda: unit if r.random() >= between else r.choice(words)
    elif kind < 0.7:  # prefixes
        parts = lambda: "".join(w[: i + 1] for w in [r.choice(words)] for i in range(len(w)))
    else:  # tokens, some of them cut or with a letter too many
        parts = lambda: r.choice(words) if r.random() < 0.9 else cut(r, r.choice(words))
    pieces, count = [], 0
    while count < size:
        piece = parts() or "a"
        pieces.append(piece)
        count += len(piece)
    return "".join(pieces)


def long_case(r, words):
    """One to three long words, with ordinary text between."""
    count = r.choice([1, 1, 2, 3])
    return Case(" ".join(unspaced(r, words) if i % 2 == 0 else text(r, words) for i in range(2 * count - 1)), special=False)
