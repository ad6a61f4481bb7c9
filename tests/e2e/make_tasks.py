"""Makes tests/e2e/tasks: one tiny random checkpoint per head, and what transformers and
sentence-transformers answer with them, for tasks_test.py.

Run with the oracle's interpreter from the source tree's root:  oracle tests/e2e/make_tasks.py

Everything is seeded; a second run gives the same files.
"""

import json
import shutil
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizerFast,
    ElectraConfig,
    ElectraForPreTraining,
    PreTrainedTokenizerFast,
    XLNetConfig,
    XLNetForSequenceClassification,
    pipeline,
)

ROOT = Path(__file__).resolve().parent / "tasks"
SUITE_TOKENIZERS = Path(__file__).resolve().parents[1] / "parity" / "suite" / "tokenizers"
POSITIONS = 48

TEXTS = [
    "ada saw paris in the rain .",
    "the cat sat on the mat , and ada sang",
    "unseen w\u00f6rds , x y z",
    "",
]
LONG = "ada and the cat saw the mat . " * 12
PAIRS = [("the cat sat .", "ada saw the mat ."), ("paris", "rain in paris"), ("ada", "ada")]
QUESTIONS = [
    ("who saw paris ?", "in the rain ada saw paris and sang ."),
    ("where was the cat ?", LONG + "the cat was in paris . " + LONG),
]
MASKED = ["the [MASK] sat on the mat .", "[MASK] saw the [MASK] in paris"]
DOCUMENTS = ["the cat sat .", "ada saw paris", "", "rain , rain and rain"]
ENTITY_LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
NLI_LABELS = ["contradiction", "neutral", "entailment"]


def vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.,?"]
    tokens += "ada the cat sat saw on in mat and sang paris rain who where was this is".split()
    return tokens + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz"]


def make_tokenizer(folder):
    folder.mkdir(parents=True, exist_ok=True)
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(vocab), model_max_length=POSITIONS)
    tokenizer.save_pretrained(folder)
    for name in ("vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink()
    return tokenizer


def make(name, model_class, config_class=BertConfig, **options):
    """A checkpoint with weights so large that mistakes show, and its tokenizer."""
    folder = ROOT / name
    tokenizer = make_tokenizer(folder)
    config = config_class(
        vocab_size=len(vocabulary()), hidden_size=24, num_attention_heads=3, num_hidden_layers=1,
        intermediate_size=36, max_position_embeddings=POSITIONS, **options)
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    for key, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator) * 0.4
        parameter.data = values + 1 if "LayerNorm.weight" in key else values
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return model, tokenizer


def labels(names):
    return dict(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})


def classify(model, tokenizer):
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    inputs = [*TEXTS, *({"text": a, "text_pair": b} for a, b in PAIRS)]
    return {"texts": TEXTS, "pairs": PAIRS, "results": [pipe([each])[0] for each in inputs]}


def classify_windows(model, tokenizer, window=20, overlap=4):
    """The mean of the windows' probabilities, weighted by their tokens."""
    encoded = tokenizer(LONG, max_length=window, stride=overlap, truncation=True,
                        return_overflowing_tokens=True)
    total, weights = 0, 0
    for ids in encoded["input_ids"]:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        total, weights = total + torch.softmax(logits, -1) * len(ids), weights + len(ids)
    return {"text": LONG, "window_tokens": window, "overlap_tokens": overlap,
            "num_windows": len(encoded["input_ids"]), "num_tokens": weights,
            "scores": (total / weights).tolist()}


def zero_shot(model, tokenizer):
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer)
    names = ["rain", "the cat", "paris"]
    template = "this is {} ."
    results = {}
    for multi in (False, True):
        answers = pipe(TEXTS[:3], names, hypothesis_template=template, multi_label=multi)
        results["multi" if multi else "single"] = [
            {"labels": answer["labels"], "scores": answer["scores"]} for answer in answers]
    return {"texts": TEXTS[:3], "labels": names, "template": template, **results}


def rerank():
    model = CrossEncoder(str(ROOT / "relevance"), device="cpu")
    ranks = model.rank("the cat", DOCUMENTS)
    return {"query": "the cat", "documents": DOCUMENTS,
            "ranks": [{"index": int(r["corpus_id"]), "score": float(r["score"])} for r in ranks]}


def entity(found):
    return {"label": found.get("entity_group") or found["entity"], "score": float(found["score"]),
            "text": found["word"], "start": int(found["start"]), "end": int(found["end"])}


def entities(model, tokenizer):
    results = {}
    for strategy in ("none", "simple", "first", "average", "max"):
        pipe = pipeline("token-classification", model=model, tokenizer=tokenizer,
                        aggregation_strategy=strategy)
        results[strategy] = [[entity(found) for found in pipe(text)] for text in TEXTS[:3]]
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer,
                    aggregation_strategy="simple", stride=8)
    results["stride"] = [[entity(found) for found in pipe(LONG)]]
    return {"texts": TEXTS[:3], "long": LONG, **results}


def answers(model, tokenizer):
    pipe = pipeline("question-answering", model=model, tokenizer=tokenizer)
    cases = []
    for options in (dict(top_k=3), dict(top_k=1, handle_impossible_answer=True),
                    dict(top_k=2, max_seq_len=32, doc_stride=8, max_answer_len=4)):
        results = []
        for question, context in QUESTIONS:
            found = pipe(question=question, context=context, **{"max_seq_len": POSITIONS,
                                                               "doc_stride": 16, **options})
            results.append([{k: f[k] for k in ("answer", "score", "start", "end")}
                            for f in (found if isinstance(found, list) else [found])])
        cases.append({"options": {"max_seq_len": POSITIONS, "doc_stride": 16, **options},
                      "results": results})
    return {"questions": QUESTIONS, "cases": cases}


def masks(model, tokenizer):
    pipe = pipeline("fill-mask", model=model, tokenizer=tokenizer)
    results = []
    for text in MASKED:
        found = pipe(text, top_k=4)
        results.append(found if isinstance(found[0], list) else [found])
    targets = pipe(MASKED[0], targets=["rain", "cat"])
    return {"texts": MASKED, "results": results, "targets": ["rain", "cat"],
            "targeted": [targets]}


def sparse(model, tokenizer):
    vectors = []
    for text in TEXTS:
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        weights = torch.log1p(torch.relu(logits)).amax(0)
        ids = weights.nonzero().flatten().tolist()
        vectors.append({"indices": ids, "values": weights[ids].tolist()})
    return {"texts": TEXTS, "vectors": vectors}


def replaced(model, tokenizer):
    results = []
    for text in TEXTS[:3]:
        encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        spans = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            logits = model(**encoded).logits[0]
        results.append([{"start": s, "end": e, "score": torch.sigmoid(x).item(),
                         "replaced": x.item() > 0}
                        for (s, e), x in zip(spans[1:-1], logits[1:-1], strict=True)])
    return {"texts": TEXTS[:3], "results": results}


def pairs(model, tokenizer):
    scores = []
    for first, second in PAIRS:
        with torch.no_grad():
            logits = model(**tokenizer(first, second, return_tensors="pt")).logits[0]
        scores.append(torch.softmax(logits, -1).tolist())
    return {"pairs": PAIRS, "scores": scores}


def make_recurrent():
    """A model with a memory, and a tokenizer of the parity suite."""
    folder = ROOT / "recurrent"
    shutil.copytree(SUITE_TOKENIZERS / "unigram_xlnet", folder, dirs_exist_ok=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    config = XLNetConfig(vocab_size=len(tokenizer), d_model=24, n_head=3, n_layer=2, d_inner=36, mem_len=16,
                         **labels(NLI_LABELS))
    model = XLNetForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(sum(map(ord, "recurrent")))
    for key, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data = values + 1 if "layer_norm.weight" in key else values
    model.half().float().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return model, tokenizer


def recurrence(model, tokenizer, window=20):
    """Segments of documents of several lengths, one of them beyond what the server computes at once."""
    documents = [LONG, LONG * 24, "the cat sat ."]
    vectors, scores, num_tokens = [], [], []
    for document in documents:
        batch = tokenizer(document.strip(), return_tensors="pt")
        mems, states = None, []
        for begin in range(0, batch["input_ids"].shape[1], window):
            part = {k: batch[k][:, begin : begin + window] for k in ("input_ids", "token_type_ids")}
            with torch.no_grad():
                out = model(**part, mems=mems, use_mems=True, output_hidden_states=True)
            mems = out.mems
            states.append(out.hidden_states[-1][0])
        states = torch.cat(states)
        vectors.append(torch.nn.functional.normalize(states.mean(0), dim=0).tolist())
        scores.append(out.logits[0].softmax(-1).tolist())
        num_tokens.append(len(states))
    return {"documents": documents, "window_tokens": window, "vectors": vectors, "scores": scores,
            "num_tokens": num_tokens}


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def main():
    nli = make("nli", BertForSequenceClassification, **labels(NLI_LABELS))
    make("relevance", BertForSequenceClassification, num_labels=1)
    ner = make("entities", BertForTokenClassification, **labels(ENTITY_LABELS))
    reader = make("answers", BertForQuestionAnswering)
    masked = make("masks", BertForMaskedLM)
    electra = make("replaced", ElectraForPreTraining, ElectraConfig, embedding_size=16)
    following = make("pairs", BertForNextSentencePrediction)
    recurrent = make_recurrent()
    expected = {
        "recurrence": recurrence(*recurrent),
        "classify": classify(*nli), "classify_windows": classify_windows(*nli),
        "zero_shot": zero_shot(*nli), "rerank": rerank(), "entities": entities(*ner),
        "answers": answers(*reader), "masks": masks(*masked), "sparse": sparse(*masked),
        "replaced": replaced(*electra), "pairs": pairs(*following)}
    text = json.dumps(rounded(expected), indent=1, ensure_ascii=True)
    (ROOT / "expected.json").write_text(text + "\n")


main()
