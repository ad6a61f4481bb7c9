"""Writes models/task/sentence_text_tables.inc: what Python's str.lower and str.strip know of Unicode.

sentence-transformers lower-cases and strips with Python's own methods, so the tables are asked of
Python itself. Run with the oracle's interpreter from the source tree's root:

    oracle models/task/make_sentence_text_tables.py > models/task/sentence_text_tables.inc

With --checksum it prints what tests/models/task/sentence_text_test.cc compares: the CRC-32 of the
results for every code point, alone and around a capital sigma.
"""

import sys
import unicodedata
import zlib

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def lower_runs():
    """Runs (first, last, step, delta) of code points whose lower case is one code point, delta away."""
    runs = []
    for c in SCALARS:
        lower = chr(c).lower()
        if lower == chr(c) or len(lower) > 1:
            continue
        delta = ord(lower) - c
        if runs:
            first, last, step, run_delta = runs[-1]
            gap = c - last
            if run_delta == delta and gap <= 2 and (first == last or gap == step):
                runs[-1] = (first, c, gap, delta)
                continue
        runs.append((c, c, 1, delta))
    return runs


def ranges(predicate):
    found = []
    for c in SCALARS:
        if not predicate(chr(c)):
            continue
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def is_ignorable(char):
    """Case-ignorable, as str.lower sees it before a sigma: it looks past it to the letter."""
    # A cased character gives a final sigma by itself; an ignorable one only behind a letter.
    return not (char + "\u03a3").lower().endswith("\u03c2") and ("a" + char + "\u03a3").lower(
    ).endswith("\u03c2")


def is_cased(char):
    return (char + "\u03a3").lower().endswith("\u03c2")


def print_ranges(name, comment, found):
    print(f"// {comment}")
    print(f"constexpr CodePointRange {name}[] = {{")
    for first, last in found:
        print(f"    {{0x{first:x}, 0x{last:x}}},")
    print("};\n")


def checksum():
    crc = 0
    for c in map(chr, SCALARS):
        texts = (c, "a" + c + "\u03a3", "a\u03a3" + c, "a\u03a3" + c + "b")
        lines = [text.lower() for text in texts] + [(c + "x" + c).strip()]
        crc = zlib.crc32("\n".join(lines).encode(), crc)
    return crc


def main():
    if sys.argv[1:] == ["--checksum"]:
        print(f"0x{checksum():08x}")
        return
    special = [c for c in SCALARS if len(chr(c).lower()) > 1]
    assert special == [0x130], special  # sentence_text.cc writes this one out
    print(f"// Made by make_sentence_text_tables.py with Python {sys.version.split()[0]}, "
          f"Unicode {unicodedata.unidata_version}.\n")
    print("// Code points first, first + step, ..., last become lower case by adding delta.")
    print("constexpr LowerRun kLowerRuns[] = {")
    for first, last, step, delta in lower_runs():
        print(f"    {{0x{first:x}, 0x{last:x}, {step}, {delta}}},")
    print("};\n")
    print_ranges("kCased", "Cased and not case-ignorable.", ranges(is_cased))
    print_ranges("kCaseIgnorable", "Looked past when a sigma's place in its word is sought.",
                 ranges(is_ignorable))
    print_ranges("kSpace", "str.isspace.", ranges(str.isspace))


main()
