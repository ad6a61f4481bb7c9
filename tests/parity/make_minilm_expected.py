"""Makes tests/parity/minilm: 200 sentences and the vectors that sentence-transformers gives for them
with the real all-MiniLM-L6-v2.

Run with the oracle's interpreter from the source tree's root:
    oracle tests/parity/make_minilm_expected.py [FOLDER, default .cache/models/all-MiniLM-L6-v2]

sentences.json is an array of strings; expected.f32 the vectors, little-endian float32 [200, 384].
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

ROOT = Path(__file__).resolve().parent / "minilm"

WORDS = """the a of to and in is that for it as was with be by on not he his but at are this have from
or had an they which one you were her all she there would their we him been has when who will more no
if out so said what up its about into than them can only other new some could time these two may then
do first any my now such like our over man me even most made after also did many before must through
years where much your way well down should because each just those people how too little state good
very make world still own see men work long get here between both life being under never day same
another know while last might us great old year off come since against go came right used take three
unhappiness tokenization encyclopaedia antidisestablishmentarianism photosynthesis electrodynamics
naive cafe resume Zurich O'Neill don't rock-and-roll e-mail 3.14159 2024-01-31 $19.99 100% #hashtag
@user https://example.org/path?q=1&r=2 C++ x^2+y^2=z^2 snake_case camelCase HTTP/2 NATO U.S.A.""".split()

FIXED = [
    "", " ", "\t\n\r", "\u3000\u2003\u00a0", "a", "A", ".", "[SEP]", "[CLS] hello [MASK]", "[mask]",
    "This is an example sentence", "Each sentence is converted", "The quick brown fox jumps over the lazy dog.",
    "A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u5427\u3002",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\u30ab\u30bf\u30ab\u30ca",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u039f\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2 \u039f\u0394\u039f\u03a3", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\U0001f600\U0001f680", "I \u2764\ufe0f NY \U0001f5fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "na\u00efve caf\u00e9 r\u00e9sum\u00e9 Z\u00fcrich \u0130stanbul",
    "e\u0301 vs \u00e9, n\u0303 vs \u00f1", "tab\tnew\nline\x0bvt\x0cff", "nul\x00byte \x01\x02\x7f control",
    "zero\u200bwidth\u00adsoft\ufeffbom", "c\x85d joined", "replacement \ufffd character",
    "\u2028line\u2029separators", "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2026", "\uff21\uff22\uff23 fullwidth",
    "\u212b \u2126 \ufb01 ligature", "1234567890" * 12, "x" * 99, "y" * 100, "z" * 101, "supercalifragilisticexpialidocious",
    "   leading and trailing   ", "\x1cpython strip\x1f", "!!!???...", "(((nested)))", "a" + " " * 300 + "b",
    "word " * 600, "\u6587" * 600, "mixed \u4e2d\u6587 and \u0627\u0644\u0639\u0631\u0628\u064a\u0629 and \U0001f4a9 text",
    "\ud7a3\uac00\u1100\u1161", "\U00020000\U0002a6d6 rare ideographs", "\u00df\u1e9e sharp s",
]


def sentences():
    source = random.Random(20240131)
    texts = list(FIXED)
    while len(texts) < 200:
        count = source.choice([1, 2, 3, 5, 8, 13, 21, 34, 55, 120, 250, 280])
        words = [source.choice(WORDS) for _ in range(count)]
        text = " ".join(words)
        texts.append(text if source.random() < 0.5 else text[0].upper() + text[1:] + ".")
    return texts


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else ".cache/models/all-MiniLM-L6-v2"
    torch.set_num_threads(1)
    texts = sentences()
    model = SentenceTransformer(folder, device="cpu")
    # One at a time: padding would change the last digits.
    vectors = model.encode(texts, batch_size=1).astype("<f4")
    assert vectors.shape == (200, 384) and np.isfinite(vectors).all()
    ROOT.mkdir(exist_ok=True)
    (ROOT / "sentences.json").write_text(json.dumps(texts, indent=0) + "\n", encoding="ascii")
    (ROOT / "expected.f32").write_bytes(vectors.tobytes())


main()
