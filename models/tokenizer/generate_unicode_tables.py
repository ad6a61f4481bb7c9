"""Writes unicode_tables.inc: what Hugging Face `tokenizers` does with each code point.

Everything is asked of the library itself, one code point (or pair) at a time, because the tables
inside it are of several Unicode versions: no other library agrees with all of them.

    python generate_unicode_tables.py [--check]

needs tokenizers==0.22.2; about two minutes. --check writes nothing and fails if the file would change.
"""

import functools
import struct
import sys
from pathlib import Path

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

VERSION = "0.22.2"
BLOCK = 128
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# The order of these is that of the flags in unicode.h.
CLEANED_AWAY, SPACE, PUNCTUATION, IDEOGRAPH, NONSPACING_MARK, WORD, HANGUL = (1 << i for i in range(7))
LETTER, NUMBER, NUMERIC, MARK = (1 << i for i in range(7, 11))
# The order of these is that of GraphemeClass in unicode.h; the flags are beside it.
OTHER, CONTROL, EXTEND, ZWJ, SPACING_MARK, PREPEND, LEAD, VOWEL, TAIL, LV, LVT, PICTURE, CR, LF = range(14)
CONJUNCT_CONSONANT, CONJUNCT_LINKER, CONJUNCT_EXTEND = 16, 32, 64


def bert(**on):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**options, **on}).normalize_str


def pieces(pre_tokenizer, text):
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]


def flags_of(c, nfd, tools):
    clean, chinese, strip, bert_split, space_split, word_split, more = tools
    text, flags = chr(c), 0
    if clean(text) == "":
        flags |= CLEANED_AWAY
    split = pieces(bert_split, "a" + text + "b")
    is_space = len(pieces(space_split, "a" + text + "b")) == 2
    assert is_space == (len(split) == 2), hex(c)
    if is_space:
        flags |= SPACE
        assert clean(text) in ("", " "), hex(c)
    else:
        assert clean(text) in ("", text), hex(c)
    if len(split) == 3:
        flags |= PUNCTUATION
    if chinese(text) == f" {text} ":
        flags |= IDEOGRAPH
    if nfd(text) == text and strip(text) == "":
        flags |= NONSPACING_MARK
    words = pieces(word_split, "a" + text)
    if words == ["a" + text]:
        flags |= WORD
    # `\s` of the regular expressions is the same set as char::is_whitespace.
    assert (words == ["a"]) == is_space, hex(c)
    letter, number, space, numeric, all_marks = more
    assert (len(pieces(space, "a" + text + "b")) == 3) == is_space, hex(c)
    if not pieces(letter, text):
        flags |= LETTER
    if not pieces(number, text):
        flags |= NUMBER
    if len(pieces(numeric, "a" + text + "b")) == 3:
        flags |= NUMERIC
    if all_marks(text) == "":
        flags |= MARK
    return flags


def single_key_map(key):
    """A `precompiled_charsmap` that turns `key` into X: its normaliser shows grapheme clusters.

    A cluster of less than six bytes is looked up as a whole, and of the keys that begin it the shortest
    counts: so what follows the key vanishes if it is in the same cluster. Larger clusters are looked up
    code point by code point: then it stays. The trie's units are those of darts-clone: a block of 256 for
    each state, and from a state's unit to its block by exclusive or."""
    key = key.encode()
    units = [0] * (256 * (len(key) + 2))
    at, base = 0, 256
    for i, byte in enumerate(key):
        units[at] |= (at ^ base) << 10
        at = base ^ byte
        units[at] = byte
        base += 256
    units[at] |= (at ^ base) << 10 | 1 << 8
    units[base] = 1 << 31  # the value: offset 0 in the text that follows
    return normalizers.Precompiled(struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + b"X\0").normalize_str


def grapheme_classes():
    """Code point -> class and flags of extended grapheme clusters, as far as they show."""
    acute, grave, copyright, ka, virama, zwj = "\u0301", "\u0302", "\xa9", "\u0915", "\u094d", "\u200d"
    of = {key: single_key_map(key) for key in ("a", acute, copyright, ka, "\u1100", "\u1161", "\u11a8")}

    def joined(before, after):
        """Whether `after`, one of the keys, is in the cluster of what comes before."""
        return of[after](before + after + acute).endswith("X" + acute)

    result = {}
    for c in CODE_POINTS:
        x = chr(c)
        if x in "\r\n":
            result[c] = CR if x == "\r" else LF
        elif of["a"]("a" + x) == "X":
            kind = EXTEND if of[copyright](copyright + x + zwj + copyright + acute).endswith("X" + acute) else SPACING_MARK
            if joined(ka + x, ka):
                kind |= CONJUNCT_LINKER
            elif joined(ka + x + virama, ka):
                kind |= CONJUNCT_EXTEND
            result[c] = ZWJ | kind & ~15 if x == zwj else kind
        elif joined(x, "a"):
            result[c] = PREPEND
        elif of[acute](x + acute + grave) == x + "X":
            result[c] = CONTROL
        elif joined(x, "\u1100"):
            result[c] = LEAD
        elif joined(x, "\u1161"):
            result[c] = LV if 0xAC00 <= c < 0xAC00 + 11172 else VOWEL
        elif joined(x, "\u11a8"):
            result[c] = LVT if 0xAC00 <= c < 0xAC00 + 11172 else TAIL
        elif of[copyright](copyright + zwj + x).startswith("X" + zwj):
            result[c] = PICTURE
        elif joined(x + virama, ka):
            result[c] = OTHER | CONJUNCT_CONSONANT
        else:
            result[c] = OTHER
    assert result[0x200D] & 15 == ZWJ and result[0x1F600] == PICTURE and result[0xA9] == PICTURE
    return result


def compositions(nfd, nfc):
    """(first, second, composed), sorted. What is composed of more than two is composed step by step."""
    pairs = []
    for c in CODE_POINTS:
        parts = nfd(chr(c))
        if 0xAC00 <= c < 0xAC00 + 11172 or len(parts) < 2 or nfc(chr(c)) != chr(c):
            continue
        first, second = nfc(parts[:-1]), parts[-1]
        assert len(first) == 1 and nfc(first + second) == chr(c), hex(c)
        pairs.append((ord(first), ord(second), c))
    return sorted(pairs)


def combining_classes(nfd):
    """Code point -> rank of its canonical combining class (1, 2, ...) for those that reorder."""
    low, high = "\u0334", "\u0345"  # classes 1 and 240, the first and the last
    plain = [chr(c) for c in CODE_POINTS if nfd(chr(c)) == chr(c)]
    movable = [c for c in plain if nfd(high + c) == c + high or nfd(c + low) == low + c]

    def compare(a, b):
        return -1 if nfd(b + a) == a + b else (1 if nfd(a + b) == b + a else 0)

    movable.sort(key=functools.cmp_to_key(compare))
    ranks, rank = {}, 0
    for i, c in enumerate(movable):
        if i == 0 or nfd(c + movable[i - 1]) != c + movable[i - 1]:
            rank += 1
        ranks[ord(c)] = rank
    return ranks


def records():
    nfd, lower = normalizers.NFD().normalize_str, normalizers.Lowercase().normalize_str
    tools = (
        bert(clean_text=True),
        bert(handle_chinese_chars=True),
        bert(strip_accents=True),
        pre_tokenizers.BertPreTokenizer(),
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Whitespace(),
        (
            # Regular expressions have tables of their own.
            pre_tokenizers.Split(Regex(r"\p{L}"), "removed"),
            pre_tokenizers.Split(Regex(r"\p{N}"), "removed"),
            pre_tokenizers.Split(Regex(r"\s"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            normalizers.StripAccents().normalize_str,
        ),
    )
    nfkd, graphemes = normalizers.NFKD().normalize_str, grapheme_classes()
    classes = combining_classes(nfd)
    sequences, pool = {"": 0}, [0]

    def sequence(text):
        if text not in sequences:
            sequences[text] = len(pool)
            pool.append(len(text))
            pool.extend(map(ord, text))
        return sequences[text]

    known, table, index = {}, [], [0] * 0x110000
    for c in CODE_POINTS:
        text = chr(c)
        flags, decomposed = flags_of(c, nfd, tools), nfd(text)
        if 0xAC00 <= c < 0xAC00 + 11172:
            s = c - 0xAC00
            jamo = chr(0x1100 + s // 588) + chr(0x1161 + s % 588 // 28)
            assert decomposed == jamo + (chr(0x11A7 + s % 28) if s % 28 else ""), hex(c)
            flags, decomposed = flags | HANGUL, text
        record = (
            flags,
            classes.get(c, 0),
            sequence("" if lower(text) == text else lower(text)),
            sequence("" if decomposed == text else decomposed),
            sequence("" if nfkd(text) == text or flags & HANGUL else nfkd(text)),
            graphemes[c],
        )
        if record not in known:
            known[record] = len(table)
            table.append(record)
        index[c] = known[record]
    return index, table, pool


def rows(numbers, width=100):
    line = "  "
    for n in numbers:
        item = f"{n},"
        if len(line) + len(item) > width:
            yield line
            line = "  "
        line += item
    yield line


def render():
    index, table, pool = records()
    composed = compositions(normalizers.NFD().normalize_str, normalizers.NFC().normalize_str)
    assert len(table) < 1 << 16 and len(pool) < 1 << 16
    blocks, stage1 = {}, []
    for start in range(0, 0x110000, BLOCK):
        block = tuple(index[start : start + BLOCK])
        stage1.append(blocks.setdefault(block, len(blocks)))
    out = [
        "// Generated by generate_unicode_tables.py from Hugging Face tokenizers " + VERSION + ".",
        "// Do not edit. Meaning of the fields: unicode.h.",
        "// clang-format off",
        f"inline constexpr int kBlockBits = {BLOCK.bit_length() - 1};",
        f"inline constexpr uint16_t kStage1[{len(stage1)}] = {{",
        *rows(stage1),
        "};",
        f"inline constexpr uint16_t kStage2[{len(blocks) * BLOCK}] = {{",
        *rows(n for block in blocks for n in block),
        "};",
        f"inline constexpr CodePointRecord kRecords[{len(table)}] = {{",
        *rows("{%d,%d,%d,%d,%d,%d}" % r for r in table),
        "};",
        "// Length, then that many code points.",
        f"inline constexpr char32_t kSequences[{len(pool)}] = {{",
        *rows(pool),
        "};",
        "// First, second, composed; sorted.",
        f"inline constexpr char32_t kCompositions[{len(composed)}][3] = {{",
        *rows("{%d,%d,%d}" % c for c in composed),
        "};",
        "// clang-format on",
    ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    if tokenizers.__version__ != VERSION:
        sys.exit(f"tokenizers is {tokenizers.__version__}; these tables are those of {VERSION}")
    path = Path(__file__).with_name("unicode_tables.inc")
    text = render()
    if "--check" in sys.argv:
        sys.exit(0 if path.read_text() == text else f"{path.name} is not what this script makes")
    path.write_text(text)
