"""Trains data/trained/: the byte-level BPE and Unigram vocabularies of the tests, on the text below.

    python make_trained.py

needs tokenizers==0.22.2 and sentencepiece. Not run again unless the text changes: training is not
promised to give the same vocabulary in every version.
"""

import io
import sys
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_tokenizers import DATA, TEXT

MORE = """
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.
We're sure they've said that I'll come; he'd rather not. 12,345 people paid $1,299.99 in 2024, not 1,000.
In the beginning there were numbers: 1, 2, 3, 10, 100. The U.S. and the U.K. agreed on 5% of it.
\u00bfC\u00f3mo est\u00e1s? L'\u00e9l\u00e8ve a mang\u00e9 une p\u00eache. Stra\u00dfe, \u00dcbung, M\u00e4dchen. \u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439\u0442\u0435, \u043c\u0438\u0440!
\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002 \ud55c\uad6d\uc5b4 \ubb38\uc7a5 \uc785\ub2c8\ub2e4. \u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e. \u0627\u0644\u0639\u0631\u0628\u064a\u0629
tokenizers embeddings question answering entities answers sentences documents servers requests
the the the and and of of to in a is that it was he for on are with as his they at be this from have or
"""
TRAINED = DATA / "trained"
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def main():
    lines = [line for line in (TEXT + MORE).split("\n") if line]
    TRAINED.mkdir(parents=True, exist_ok=True)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(lines * 3, trainer)
    bpe.model.save(str(TRAINED))
    # XLM-R's model has no <pad>, ALBERT's has.
    for name, rule, pad_id in (("unigram", "nmt_nfkc", -1), ("lean", "identity", 3)):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 3), model_writer=model, vocab_size=600, hard_vocab_limit=False,
            normalization_rule_name=rule, user_defined_symbols=["<sep>", "<cls>", "[CLS]", "[SEP]", "[MASK]"],
            pad_id=pad_id, pad_piece="<pad>", minloglevel=2,
        )
        (TRAINED / f"{name}.model").write_bytes(model.getvalue())


if __name__ == "__main__":
    main()
