"""Fresh random checkpoints of every family and head, and random texts and options, compared with
transformers: what make_suite.py keeps a few of, by the thousand. Nothing is kept.

    cmake --build build --target suite_parity_test
    oracle tests/parity/random_suite.py [--seed SEED] [--checkpoints 24] [--only NAME]

For each checkpoint a line with the seed that makes it again; differences below it. Ends non-zero when
there are any. Probabilities that are equal but for their last digits may fall into another order in
float32: look before you change anything.
"""

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import make_suite
import suite_calls as calls
import suite_xlnet_answers as xlnet_answers
import torch
from suite_tokenizers import LINES, make_tokenizers
from transformers import (
    AlbertForPreTraining,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForNextSentencePrediction,
    BertForPreTraining,
    ElectraForPreTraining,
    XLNetForQuestionAnswering,
    XLNetForQuestionAnsweringSimple,
    logging,
)

ODD = ["\u200b", "\u0301", "e\u0301\u0323", "👍🏽", "👨\u200d👩\u200d👧", "😀", "\u00a0", "\u3000", "\t", "\n", "\r\n",
       "  ", "   ", "\u2028", "\u00ad", "\ufeff", "İ", "Σ", "ς", "ß", "ﬁ", "①", "½", "中", "文字", "한국어", "नमस्ते",
       "مرحبا", "שלום", "\u202eabc\u202c", "Å", "ﷺ", "[SEP]", "[MASK]", "<s>", "</s>", "<mask>", "<unk>", "[UNK]",
       "``", "''", "...", "!?", "1,234.50", "3.50 €", "O'Neill", "don't", "e-mail@x.org", "#tag", "a" * 40, "1" * 12,
       "##ing", "▁", "Ġ", "\x01", "\x7f", "~", "\\", '"', "{}", "<b>"]
ACTIVATIONS = ["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh",
               "relu", "silu", "swish", "tanh", "sigmoid", "linear"]
PROBLEMS = [None, "regression", "multi_label_classification", "single_label_classification"]
WORDS = [word for line in LINES for word in line.split()]


@contextlib.contextmanager
def unless_refused():
    """What transformers refuses is not compared. `tokenizers` panics, which is no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001
        print(f"    refused: {type(error).__name__}: {str(error)[:90]}".replace("\n", " "))


class Texts:
    def __init__(self, rng):
        self.rng = rng

    def one(self, longest=14):
        rng = self.rng
        parts = []
        for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, longest)):
            parts.append(rng.choice(WORDS if rng.random() < 0.7 else ODD))
            parts.append(rng.choice([" "] * 8 + ["", "", "  ", ", ", ".", "\n"]))
        return "".join(parts[:-1]) + rng.choice(["", "", "", " ", ".", "\n"])

    def plain(self, longest=6):
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(1, longest)))

    def long(self):
        return " ".join(self.one() for _ in range(12))


def attempt(make):
    def guarded(folder):
        with unless_refused():
            return make(folder)
        return []
    return guarded


# ---- Calls with random options


def shortest_window(tokenizer, question, context, options):
    """Spans that the window with the fewest has."""
    limit = options.get("max_seq_len", min(tokenizer.model_max_length, 384))
    stride = options.get("doc_stride", min(limit // 2, 128))
    batch = tokenizer(question, context, truncation="only_second", max_length=limit, stride=stride,
                      return_overflowing_tokens=True)
    tokens = min(batch.sequence_ids(i).count(1) for i in range(len(batch["input_ids"])))
    longest = min(tokens, options.get("max_answer_len", 15))
    return longest * (2 * tokens - longest + 1) // 2


def answer(rng, texts, families_own=None):
    def make(folder):
        if families_own is not None:
            return families_own(folder)
        reader = calls.pipe("question-answering", folder)
        result = []
        for _ in range(6):
            options = {}
            if rng.random() < 0.8:
                options["top_k"] = rng.choice([1, 2, 3, 5, 20])
            if rng.random() < 0.3:
                options["align_to_words"] = False
            if rng.random() < 0.4:
                options["handle_impossible_answer"] = True
            if rng.random() < 0.5:
                limit = reader.tokenizer.model_max_length  # beyond it Bertrand refuses
                options |= {"max_seq_len": rng.randint(24, limit), "doc_stride": rng.randint(1, 9)}
            if rng.random() < 0.5:
                options["max_answer_len"] = rng.choice([1, 2, 4, 30])
            inputs, expected = [], []
            for _ in range(4):
                question = texts.plain(4) if rng.random() < 0.6 else texts.one(3)
                context = texts.long() if rng.random() < 0.4 else texts.one()
                with unless_refused():
                    found = reader(question=question, context=context, **options)
                    found = found if isinstance(found, list) else [found]
                    if shortest_window(reader.tokenizer, question, context, options) < 2 * options.get("top_k", 1) + 12:
                        continue  # which of the spans of score 0 it takes is up to numpy
                    expected.append([[a["answer"], float(a["score"]), a["start"], a["end"]] for a in found])
                    inputs.append([question, context])
            if inputs:
                result.append(calls.call("answer", inputs, expected, **options))
        return result
    return make


def fill_mask(rng, texts):
    def make(folder):
        filler = calls.pipe("fill-mask", folder)
        mask = filler.tokenizer.mask_token
        vocabulary = filler.model.config.vocab_size
        result = []
        for _ in range(6):
            options = {}
            kind = rng.random()
            if kind < 0.4:
                options["top_k"] = rng.choice([1, 3, 17, vocabulary - 3])
            elif kind < 0.8:
                options["targets"] = [rng.choice([texts.one(2) or "x", rng.choice(WORDS), rng.choice(WORDS).lower()])
                                      for _ in range(rng.randint(1, 5))]
                if rng.random() < 0.3:
                    options["top_k"] = 2
            inputs, expected = [], []
            for _ in range(3):
                parts = [texts.one(6) for _ in range(rng.randint(2, 4))]
                if rng.random() < 0.2:
                    parts.insert(1, texts.long())
                text = rng.choice([mask, " " + mask, mask + " ", f" {mask} "]).join(parts)
                with unless_refused():
                    found = filler(text, tokenizer_kwargs={"truncation": True}, **options)
                    masks = found if isinstance(found[0], list) else [found]
                    expected.append([[[c["token_str"], c["score"], c["token"], c["sequence"]] for c in m] for m in masks])
                    inputs.append([text])
            if inputs:
                result.append(calls.call("fill_mask", inputs, expected, **options))
        return result
    return make


def zero_shot(rng, texts):
    def make(folder):
        classifier = calls.pipe("zero-shot-classification", folder)
        result = []
        for _ in range(4):
            labels = list(dict.fromkeys(texts.plain(2).replace(",", "") for _ in range(rng.randint(1, 5))))
            template = rng.choice([None, "{}", "It's {}, isn't it?", "この文は{}。", "👍🏽{}\u0301", "  {}  ", "x{}", "<s>{}</s>"])
            options = {} if template is None else {"hypothesis_template": template}
            if rng.random() < 0.5:
                options["multi_label"] = True
            inputs, expected = [], []
            for _ in range(3):
                text = texts.long() if rng.random() < 0.3 else texts.one()
                if not text:
                    continue
                found = classifier(text, labels, **options)
                inputs.append([text])
                expected.append([[label, s] for label, s in zip(found["labels"], found["scores"])])
            result.append(calls.call("zero_shot", inputs, expected, labels=labels, **options))
        return result
    return make


def entities(rng, texts):
    def make(folder):
        result = []
        for _ in range(6):
            aggregation = rng.choice(["none", "simple", "first", "average", "max"])
            options = {}
            if aggregation != "none" and rng.random() < 0.5:
                options["stride"] = rng.randint(0, 12)
            tagger = calls.pipe("token-classification", folder, aggregation_strategy=aggregation, **options)
            ignored = {}
            if rng.random() < 0.4:
                names = list(tagger.model.config.label2id) + [name[2:] for name in tagger.model.config.label2id]
                ignored["ignore_labels"] = rng.sample(names, rng.randint(0, 3))
            inputs, expected = [], []
            label = "entity" if aggregation == "none" else "entity_group"
            for _ in range(4):
                text = texts.long() if rng.random() < 0.4 else texts.one()
                with unless_refused():
                    found = tagger(text, **ignored)
                    inputs.append([text])
                    expected.append([[e[label], float(e["score"]), e["start"], e["end"], e["word"]] for e in found])
            if inputs:
                if ignored == {"ignore_labels": []}:
                    ignored["keep_all_labels"] = True
                result.append(calls.call("classify_tokens", inputs, expected, aggregation=aggregation, **options, **ignored))
        return result
    return make


def truncations(rng, texts):
    """What is cut, of which text, from which side."""
    def make(folder):
        model, tokenizer = calls.load(AutoModelForSequenceClassification, folder)
        result = []
        for _ in range(6):
            options = {"truncation": rng.choice(["longest_first", "only_first", "only_second"])}
            if rng.random() < 0.6:
                options["side"] = rng.choice(["left", "right"])
            if rng.random() < 0.8:
                options["max_tokens"] = rng.randint(4, 24)
            tokenizer.truncation_side = options.get("side", "right")
            inputs, expected = [], []
            for _ in range(4):
                given = [texts.one(), texts.one() or "x"][: rng.randint(1, 2)]
                if len(given) == 1 and options["truncation"] == "only_second":
                    continue
                limit = options.get("max_tokens", tokenizer.model_max_length)
                with unless_refused(), torch.no_grad():
                    batch = tokenizer(*given, truncation=options["truncation"], max_length=limit, return_tensors="pt")
                    scores = model(**batch).logits[0].softmax(-1).tolist()
                    order = sorted(range(len(scores)), key=lambda i: -scores[i])
                    expected.append([[model.config.id2label[i], scores[i]] for i in order])
                    inputs.append(given)
            if inputs:
                result.append(calls.call("classify", inputs, expected, activation="softmax", **options))
        return result
    return make


def random_windows(rng, special=4):
    window = rng.randint(special + 3, 24)
    return {"window": window, "overlap": rng.randint(0, window - special - 2)}


# ---- Checkpoints


def random_size(rng, family):
    # Of fewer than 16 values a norm leaves so few states that most scores are equal.
    head = rng.choice([1, 2, 5, 7, 8, 12, 16, 20, 24, 32, 48, 64, 80, 96, 128, 160, 256])
    heads = rng.choice([n for n in (1, 2, 3, 4, 5, 7, 12, 16, 24) if 16 <= n * head <= 256])
    if family == "xlnet" and head * heads % 2:  # half of the distances' values are sines
        heads *= 2
    make_suite.SIZES["random"] = (head * heads, heads, rng.randint(1, 3), rng.choice([1, 7, 37, 64, 101, 128]))


def random_config(rng, family, limit):
    config = {}
    if family != "distilbert" and family != "xlnet":
        config["layer_norm_eps"] = rng.choice([0, 1e-12, 1e-5, 1e-3, 0.02, 1])
        config["hidden_act"] = rng.choice(ACTIVATIONS)
        config["max_position_embeddings"] = limit
    if family in ("roberta", "xlm-roberta", "camembert"):
        # Positions count from it on, and tokens of this id do not count.
        config["pad_token_id"] = rng.choice([1, 1, 1, 0, 2])  # others give equal tokens equal states
        config["max_position_embeddings"] = limit + config["pad_token_id"] + 1
        config["type_vocab_size"] = rng.choice([1, 1, 2, 4])
    if family in ("bert", "electra", "albert"):
        config["type_vocab_size"] = rng.choice([2, 2, 2, 2, 2, 1, 3, 5])
        config["pad_token_id"] = rng.choice([0, 0, 0, 3])
    if family == "distilbert":
        config |= {"max_position_embeddings": limit, "activation": rng.choice(ACTIVATIONS),
                   "sinusoidal_pos_embds": rng.random() < 0.5}
    if family == "electra":
        config["embedding_size"] = rng.choice([4, 20, make_suite.SIZES["random"][0]])
    if family == "albert":
        config["embedding_size"] = rng.choice([4, 20, make_suite.SIZES["random"][0]])
        layers = make_suite.SIZES["random"][2]
        config["num_hidden_groups"] = rng.randint(1, layers)
        # More make transformers look beyond its list of head masks.
        config["inner_group_num"] = rng.randint(1, layers // config["num_hidden_groups"])
    if family == "xlnet":
        config |= {"clamp_len": rng.choice([-1, -1, 3, 20]), "untie_r": rng.random() < 0.5,
                   "ff_activation": rng.choice(ACTIVATIONS),
                   "layer_norm_eps": rng.choice([1e-12, 1e-3]), "mem_len": rng.choice([None, 0, 7]),
                   "same_length": rng.random() < 0.3, "reuse_len": rng.choice([None, None, 4]),
                   "summary_activation": rng.choice(["tanh", None])}
    return config


def head_of(rng, family, texts):
    """The head's class, its calls and what the configuration says of it."""
    has_pooler = family not in ("distilbert", "electra", "xlnet")
    kinds = ["base", "classes", "zero_shot", "tokens", "answers", "rerank"]
    if family != "xlnet":
        kinds += ["masks", "masks", "answers", "tokens"]
    kinds += {"bert": ["next", "pretraining"], "albert": ["pretraining"], "electra": ["replaced"],
              "xlnet": ["beam", "base"]}.get(family, [])
    kind = rng.choice(kinds)
    one = AutoModelForSequenceClassification
    labels = [f"{start}{name}" for name in ("PER", rng.choice(["LOC", "LOC-x", "", "O"]), "日本")
              for start in rng.choice([("B-", "I-"), ("B-", "I-"), ("",), ("I-",), ("B-",), ("b-", "S-"), ("I-", "E-", "B_")])]
    if kind == "base":
        made = [lambda f: calls.embed(f, has_pooler)]
        if family == "xlnet":
            made += [lambda f: calls.recurrence(f, rng.randint(5, 40), rng.randint(0, 40),
                                                rng.choice(["mean", "max", "mean_sqrt_len", "weighted_mean"])) for _ in range(3)]
        else:
            made.append(lambda f: calls.embed_windows(f, **random_windows(rng), pooling=rng.choice(list(calls.POOLINGS))))
        made.append(calls.embed_poolings)
        return kind, AutoModel, made, {}
    if kind == "classes":
        made = [calls.classify, truncations(rng, texts)]
        if rng.random() < 0.4:
            count = rng.randint(1, 5)
            made = made[:1]
            names = rng.sample(["LABEL_0", "Ünïcode 日本", "👍", "", "a b", "entailment", "1"], count)
            return kind, one, made, {"labels": names, "problem_type": rng.choice(PROBLEMS)}
        if family == "xlnet" and rng.random() < 0.5:
            return kind, one, made, {"labels": ["a", "b"], "summary_type": rng.choice(["first", "last"])}
        if family == "xlnet":
            made.append(lambda f: calls.classify_recurrence(f, rng.randint(6, 30), rng.choice([0, 5, 30])))
        else:
            made.append(lambda f: calls.classify_windows(f, **random_windows(rng)))
        return kind, one, made, {"labels": [f"label {i}" for i in range(rng.randint(2, 7))]}
    if kind == "zero_shot":
        nli = rng.sample([rng.choice([name, name.upper(), name.title()]) for name in make_suite.NLI], 3)
        more = {"labels": nli if rng.random() < 0.8 else ["x", "y"]}
        if rng.random() < 0.3:  # what finds the entailment, and need not be the other way around
            more["label2id"] = {name: i for i, name in enumerate(rng.sample(["Entail", "no", "ENTAILS", "x"], len(more["labels"])))}
        return kind, one, [zero_shot(rng, texts)], more
    if kind == "rerank":
        return kind, one, [lambda f: calls.rerank(f, **({"max_length": 4096} if family == "xlnet" else {}))], {
            "labels": ["LABEL_0"]}
    if kind == "tokens":
        return kind, AutoModelForTokenClassification, [entities(rng, texts)], {"labels": ["O", *dict.fromkeys(labels)]}
    if kind == "masks":
        return kind, AutoModelForMaskedLM, [fill_mask(rng, texts), calls.embed_sparse], {
            "tie_word_embeddings": rng.random() < 0.7}
    if kind == "next":
        return kind, BertForNextSentencePrediction, [
            lambda f: calls.sentence_pair(f, BertForNextSentencePrediction)], {}
    if kind == "pretraining":
        model, logits = ((BertForPreTraining, "seq_relationship_logits") if family == "bert"
                         else (AlbertForPreTraining, "sop_logits"))
        return kind, model, [lambda f: calls.sentence_pair(f, model, logits), fill_mask(rng, texts)], {}
    if kind == "replaced":
        return kind, ElectraForPreTraining, [lambda f: calls.replaced_tokens(f, ElectraForPreTraining)], {}
    if kind == "beam":
        return kind, XLNetForQuestionAnswering, [xlnet_answers.answer_beam], {
            "start_n_top": rng.randint(1, 6), "end_n_top": rng.randint(1, 6)}
    if family == "xlnet":
        return kind, XLNetForQuestionAnsweringSimple, [xlnet_answers.answer_simple], {}
    return kind, AutoModelForQuestionAnswering, [answer(rng, texts)], {}


SCORED = {"classify", "zero_shot", "rerank", "answer"}


def is_ambiguous(task, expected):
    """Whether scores are so near that float32 may order them otherwise."""
    if task == "fill_mask":
        return any(is_ambiguous("classify", mask) for mask in expected)
    if task not in SCORED:
        return False
    scores = [item[1] for item in expected]
    return any(abs(a - b) < 2e-5 * max(abs(a), abs(b), 1e-3) for a, b in zip(scores, scores[1:]))


def drop_ambiguous(file):
    suite = json.loads(file.read_text(encoding="utf-8"))
    kept = []
    for call in suite["calls"]:
        if call["task"] == "rerank":
            if not is_ambiguous("rerank", call["expected"]):
                kept.append(call)
            continue
        pairs = [(i, e) for i, e in zip(call["inputs"], call["expected"]) if not is_ambiguous(call["task"], e)]
        if pairs:
            kept.append(call | {"inputs": [i for i, _ in pairs], "expected": [e for _, e in pairs]})
    suite["calls"] = kept
    file.write_text(json.dumps(suite, ensure_ascii=False), encoding="utf-8")
    return sum(len(call["inputs"]) for call in kept)


def make_one(seed, tokenizers, work, only):
    rng = random.Random(seed)
    texts = Texts(rng)
    family = rng.choice(list(make_suite.FAMILIES))
    tokenizer, _ = make_suite.FAMILIES[family]
    if family == "bert" and rng.random() < 0.3:
        tokenizer = "wordpiece_cased"
    limit = rng.choice([26, 33, 48, 48, 48, 150, 520])
    random_size(rng, family)
    kind, head, made, more = head_of(rng, family, texts)
    name = f"{family}_{kind}_{seed}"
    if only and not name.startswith(only):
        return None
    calls.TEXTS = [texts.one() for _ in range(4)] + [texts.long()]
    calls.LONG = texts.long()
    calls.PAIRS = [(texts.one(), texts.one() or "x") for _ in range(2)] + [(texts.one(), texts.long())]
    xlnet_answers.INPUTS = [[texts.plain(4), texts.one() + " a"], [texts.one(3) + "x", texts.long()]]
    config = json.loads((work / "tokenizers" / tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    files = {}
    if family != "xlnet":
        files["tokenizer_config.json"] = config | {"model_max_length": limit}
    spec = {"family": family, "size": "random", "head": head, "tokenizer": tokenizer, "files": files,
            "calls": [attempt(call) for call in made],
            "config": random_config(rng, family, limit) | more,
            "scale": rng.choice([None, None, 0.1])}
    make_suite.make_checkpoint(name, spec, tokenizers, work)
    shutil.rmtree(work / name)
    return name


def is_equal(program, run, name, count):
    """Runs the suite's program over what lies below `run`, and says what it found."""
    done = subprocess.run([program, "--gtest_filter=Suite/*"], cwd=run, capture_output=True, text=True, check=False)
    print(f"{name}: {count} answers, {'equal' if done.returncode == 0 else 'DIFFERENT'}", flush=True)
    if done.returncode != 0:
        print("\n".join(line for line in done.stdout.splitlines() if not line.startswith("[")))
    return done.returncode == 0


def distances(first, second):
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return max((distances(a, b) for a, b in zip(first, second)), default=0)
    if isinstance(first, float) and isinstance(second, (int, float)):
        return abs(first - second) / max(1, abs(second))
    return 0 if first == second else float("inf")


def say_own_error(file, make_again):
    """How far float32 is from float64 in transformers itself: a difference as large is nobody's."""
    if calls.DTYPE == torch.float64:
        return
    before = [call["expected"] for call in json.loads(file.read_text(encoding="utf-8"))["calls"]]
    calls.DTYPE = torch.float64
    make_again()
    drop_ambiguous(file)
    after = [call["expected"] for call in json.loads(file.read_text(encoding="utf-8"))["calls"]]
    calls.DTYPE = torch.float32
    print("    transformers' own float32 is off by", ", ".join(f"{distances(a, b):.1g}" for a, b in zip(before, after)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/suite_parity_test")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--checkpoints", type=int, default=24)
    parser.add_argument("--only", default="")
    parser.add_argument("--float64", action="store_true", help="compare with transformers in float64")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    calls.DTYPE = torch.float64 if arguments.float64 else torch.float32
    program = Path(arguments.program).resolve()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        # The program reads the suite below the folder that it runs in.
        work, run = Path(temporary) / "work", Path(temporary) / "run"
        make_suite.ROOT = run / "tests/parity/suite"
        tokenizers = make_tokenizers(work / "tokenizers")
        shutil.copytree(work / "tokenizers", make_suite.ROOT / "tokenizers")
        for seed in range(arguments.seed, arguments.seed + arguments.checkpoints):
            name = make_one(seed, tokenizers, work, arguments.only)
            if name is None:
                continue
            file = make_suite.ROOT / f"{name}.json"
            count = drop_ambiguous(file)
            if count == 0:
                file.unlink()
                continue
            if not is_equal(program, run, name, count):
                failed += 1
                say_own_error(file, lambda seed=seed: make_one(seed, tokenizers, work, ""))
            file.unlink()
    print(f"{failed} of {arguments.checkpoints} checkpoints differ; the first seed was {arguments.seed}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
