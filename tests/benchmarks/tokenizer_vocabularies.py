"""Trains what tokenizer_peers.py measures: WordPiece, byte-level BPE and Unigram vocabularies of 30,000.

    python tokenizer_vocabularies.py --text FILE --out FOLDER [--kinds wordpiece,bpe,unigram]

FILE has a text a line; its first half is trained on, and up to two megabytes of the second become
FOLDER/text.txt: words in it were not all seen. FOLDER/wordpiece, bpe and unigram get a tokenizer.json
each, as BERT's (uncased), RoBERTa's and ALBERT's are put together. Needs tokenizers.
"""

import argparse
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SIZE = 30000
MEASURED_BYTES = 2_000_000


def train_wordpiece(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=specials, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def train_bpe(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=SIZE, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def train_unigram(texts):
    tokenizer = Tokenizer(models.Unigram())
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    folding = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(quotes + folding + [normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=specials, unk_token="<unk>", show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--kinds", default="wordpiece,bpe,unigram")
    args = parser.parse_args()
    texts = Path(args.text).read_text().split("\n")
    half = len(texts) // 2
    measured, size = [], 0
    for text in texts[half:]:
        if size > MEASURED_BYTES:
            break
        measured.append(text)
        size += len(text.encode())
    out = Path(args.out)
    # Training a Unigram model takes long: a fifth of the text is enough for it.
    for name, train, seen in (("wordpiece", train_wordpiece, texts[:half]), ("bpe", train_bpe, texts[:half]), ("unigram", train_unigram, texts[: half // 5])):
        if name not in args.kinds.split(","):
            continue
        (out / name).mkdir(parents=True, exist_ok=True)
        train(seen).save(str(out / name / "tokenizer.json"))
    (out / "text.txt").write_text("\n".join(measured) + "\n")


if __name__ == "__main__":
    main()
