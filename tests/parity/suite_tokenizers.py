"""The tokenizers of the parity suite: small, one of each family's kind, trained on a few lines of
many scripts. Used by make_suite.py."""

import json
import random
import shutil
from pathlib import Path

import sentencepiece
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AlbertTokenizerFast,
    BertTokenizerFast,
    CamembertTokenizerFast,
    DistilBertTokenizerFast,
    ElectraTokenizerFast,
    RobertaTokenizerFast,
    XLMRobertaTokenizerFast,
    XLNetTokenizerFast,
)

# Of every checkpoint but those of XLNet, which has no limit.
MAX_TOKENS = 48

LINES = [
    "The quick brown fox jumps over the lazy dog while Angela Merkel visits Paris.",
    "Where does the Norwegian Polar Institute keep its oldest maps? In Tromsø, says O'Neill.",
    "It is not what you look at that matters, it's what you see; don't you think so?",
    "Zürich's naïve café served crème brûlée for 3.50 € on 12/11/2019.",
    "Привет, мир! Как дела, товарищ? Москва не сразу строилась.",
    "مرحبا بالعالم كيف حالك اليوم",
    "नमस्ते दुनिया आप कैसे हैं",
    "東京タワーは高い。日本語の文章です。",
    "한국어 문장을 씁니다 안녕하세요",
    "Ο ΔΡΟΜΟΣ του Σίσυφου, όπως λένε, είναι μακρύς.",
    "This film was great, this food was bad, this example is about politics or sport.",
    "hello world is in one, and another one and another one again",
]


def word_pieces(lines, lower):
    words = {}
    for line in lines:
        for word in (line.lower() if lower else line).replace(",", " ").replace(".", " ").split():
            words[word] = words.get(word, 0) + 1
    characters = sorted({c for line in lines for c in (line.lower() if lower else line) if c != " "})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    tokens += ["##" + c for c in characters]
    # Words and beginnings of words, so that some texts are whole words and some are pieces.
    tokens += sorted(word for word in words if word.isascii() and word.isalpha() and len(word) > 1)
    tokens += ["##ing", "##ed", "##er", "##es", "##st", "##is", "norw", "pol", "insti", "##tute"]
    return list(dict.fromkeys(tokens))


def unigram(path, **options):
    """A spiece.model. Without a charsmap: the real ones are 240 KB."""
    words = [word for line in LINES for word in line.split()]
    shuffle = random.Random(1)
    lines = LINES + [" ".join(shuffle.choices(words, k=9)) for _ in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(path.with_suffix("")), model_type="unigram",
        vocab_size=420, normalization_rule_name="identity", num_threads=1, minloglevel=2,
        character_coverage=1.0, hard_vocab_limit=False, **options)
    path.with_suffix(".vocab").unlink()
    return str(path)


def make_wordpiece(folder, kind, lower, **options):
    (folder / "vocab.txt").write_text("\n".join(word_pieces(LINES, lower)) + "\n", encoding="utf-8")
    return kind(str(folder / "vocab.txt"), do_lower_case=lower, **options)


def make_byte_level(folder, **options):
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(LINES, vocab_size=520, min_frequency=2, show_progress=False,
                                special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trainer.save_model(str(folder))
    return RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), **options)


def make_unigram(folder, kind, **options):
    return kind(unigram(folder / "spiece.model", **options))


def make_tokenizers(root):
    """Writes ROOT/NAME/..., and gives NAME -> the tokenizer. save_pretrained's own files are kept but
    for those that only Python reads."""
    albert = dict(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                  control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    xlnet = dict(unk_id=0, bos_id=1, eos_id=2,
                 control_symbols=["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"],
                 user_defined_symbols=["<eop>"])
    makers = {
        "wordpiece": lambda f: make_wordpiece(f, BertTokenizerFast, True),
        "wordpiece_cased": lambda f: make_wordpiece(f, BertTokenizerFast, False, strip_accents=False),
        "wordpiece_electra": lambda f: make_wordpiece(f, ElectraTokenizerFast, True),
        "wordpiece_distilbert": lambda f: make_wordpiece(f, DistilBertTokenizerFast, True),
        "byte_level": make_byte_level,
        "byte_level_spaced": lambda f: make_byte_level(f, add_prefix_space=True),
        "unigram_xlmr": lambda f: make_unigram(f, XLMRobertaTokenizerFast, unk_id=0, bos_id=1, eos_id=2),
        "unigram_camembert": lambda f: make_unigram(f, CamembertTokenizerFast, unk_id=0, bos_id=1, eos_id=2),
        "unigram_albert": lambda f: make_unigram(f, AlbertTokenizerFast, **albert),
        "unigram_xlnet": lambda f: make_unigram(f, XLNetTokenizerFast, **xlnet),
    }
    made = {}
    for name, maker in makers.items():
        folder = root / name
        folder.mkdir(parents=True)
        tokenizer = maker(folder)
        for file in folder.iterdir():
            file.unlink()
        if name != "unigram_xlnet":
            tokenizer.model_max_length = MAX_TOKENS
        tokenizer.save_pretrained(folder)
        for file in folder.iterdir():
            if file.name not in ("tokenizer.json", "tokenizer_config.json"):
                file.unlink()
        text = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        (folder / "tokenizer.json").write_text(
            json.dumps(text, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        made[name] = tokenizer
    # No tokenizer.json: vocab.txt alone.
    folder = root / "vocabulary"
    folder.mkdir()
    made["vocabulary"] = make_wordpiece(folder, BertTokenizerFast, True)
    return made


if __name__ == "__main__":
    target = Path("/tmp/suite_tokenizers")
    shutil.rmtree(target, ignore_errors=True)
    for name, tokenizer in make_tokenizers(target).items():
        print(name, len(tokenizer), tokenizer.tokenize(LINES[1])[:20])
