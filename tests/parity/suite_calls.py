"""What transformers and sentence-transformers answer to the calls of the parity suite. Used by
make_suite.py: each function gives calls with their expected results, for one checkpoint's folder.

A call is {"task", "inputs", "options", "expected"}; suite_parity_test.cc makes the same call.
"""

import numpy
import torch
from sentence_transformers import CrossEncoder
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

# Of the models' weights and activations; make_low_precision.py asks again in others.
DTYPE = torch.float32

# Longer than any limit of the suite, in tokens of any kind.
LONG = ("The quick brown fox jumps over the lazy dog, and another one visits Paris; Zürich's café is "
        "great. Привет, мир! 東京タワーは高い。 Where does O'Neill keep its oldest maps? ") * 2
TEXTS = [
    "hello world",
    "Angela Merkel visits Paris, and Zürich's naïve café served crème brûlée!",
    "東京タワーは高い。 Привет, мир! مرحبا",
    "नमस्ते  दुनिया 한국어\t문장을\n👍🏽 \u00a0 emoji\u200b x\u0301",
    "It's what you see; don't you think so? " + "q" * 30,
    LONG,
]
PAIRS = [("The fox jumps over the dog.", "hello world"), ("this film was great", ""), (TEXTS[1], LONG)]
CONTEXT = ("The Norwegian Polar Institute keeps its oldest maps in Tromsø, says O'Neill. Angela Merkel "
           "visits Paris, the café in Zürich served crème brûlée for 3.50 €. Москва не сразу "
           "строилась, 東京タワーは高い。 It is not what you look at that matters.")


def rounded(value):
    """Nine digits tell a float32 exactly; seven are enough for a tolerance of 1e-4."""
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, (torch.Tensor, numpy.ndarray)):
        return rounded(value.tolist())
    return float(f"{value:.7g}") if isinstance(value, float) else value


def call(task, inputs, expected, **options):
    return {"task": task, "inputs": inputs, "options": options, "expected": rounded(expected)}


def load(kind, folder):
    return kind.from_pretrained(folder, dtype=DTYPE).eval(), AutoTokenizer.from_pretrained(folder)


def pipe(task, folder, **options):
    return pipeline(task, model=folder, dtype=DTYPE, device="cpu", **options)


# ---- Encoders


def embed(folder, has_pooler, **limit):
    model, tokenizer = load(AutoModel, folder)
    means, poolers, tokens = [], [], []
    for text in TEXTS:
        # As sentence-transformers does it.
        inputs = tokenizer(text.strip(), truncation=True, return_tensors="pt", **limit)
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        means.append(out.last_hidden_state[0].mean(0))
        if has_pooler:
            poolers.append(out.pooler_output[0])
        last = len(out.hidden_states) - 1
        tokens.append(torch.cat([out.hidden_states[i][0] for i in (0, last - 1, last)], -1))
    calls = [call("embed", [[t] for t in TEXTS], [v.tolist() for v in means], normalize=False)]
    if has_pooler:
        calls.append(call("embed", [[t] for t in TEXTS], [v.tolist() for v in poolers],
                          pooling="pooler", normalize=False))
    calls.append(call("embed_tokens", [[TEXTS[0]]], [tokens[0].flatten().tolist()],
                      layers=[0, last - 1, last]))
    return calls


def windows(tokenizer, text, window, overlap):
    batch = tokenizer(text, truncation=True, max_length=window, stride=overlap,
                      return_overflowing_tokens=True)
    for i in range(len(batch["input_ids"])):
        yield {key: torch.tensor([batch[key][i]]) for key in batch if key != "overflow_to_sample_mapping"}


def embed_windows(folder, window=20, overlap=6, pooling="mean"):
    """The mean of the windows' pooled vectors weighted by their tokens; normalised once, at last."""
    model, tokenizer = load(AutoModel, folder)
    vectors = []
    for text in (LONG.strip(), "hello world"):
        total, count = 0, 0
        for inputs in windows(tokenizer, text, window, overlap):
            with torch.no_grad():
                states = model(**inputs).last_hidden_state[0]
            total = total + POOLINGS[pooling](states) * len(states)
            count += len(states)
        vectors.append(torch.nn.functional.normalize(total / count, dim=0).tolist())
    return [call("embed", [[LONG.strip()], ["hello world"]], vectors, normalize=True, pooling=pooling,
                 window_tokens=window, overlap_tokens=overlap)]


def embed_poolings(folder):
    """Every pooling, of texts and of pairs, as sentence-transformers tokenises them."""
    model, tokenizer = load(AutoModel, folder)
    inputs = [[text] for text in TEXTS] + [list(pair) for pair in PAIRS]
    states = []
    for given in inputs:
        with torch.no_grad():
            batch = tokenizer(*[[text.strip()] for text in given], truncation="longest_first", return_tensors="pt")
            states.append(model(**batch).last_hidden_state[0])
    return [call("embed", inputs, [pool(s).tolist() for s in states], normalize=False, pooling=name)
            for name, pool in POOLINGS.items()]


def segments(model, tokenizer, given, window, memory):
    """A document as segments that carry the memory of those before."""
    model.config.mem_len = memory
    getattr(model, "transformer", model).mem_len = memory
    batch = tokenizer(*given, return_tensors="pt")
    mems = None
    for begin in range(0, batch["input_ids"].shape[1], window):
        with torch.no_grad():
            out = model(input_ids=batch["input_ids"][:, begin : begin + window], mems=mems, use_mems=True,
                        token_type_ids=batch["token_type_ids"][:, begin : begin + window])
        mems = out.mems
        yield out


POOLINGS = {
    "cls": lambda states: states[0],
    "last_token": lambda states: states[-1],
    "mean": lambda states: states.mean(0),
    "max": lambda states: states.max(0).values,
    "mean_sqrt_len": lambda states: states.sum(0) / len(states) ** 0.5,
    "weighted_mean": lambda states: torch.arange(1, len(states) + 1).to(states) @ states / (len(states) * (len(states) + 1) / 2),
}


def recurrence(folder, window, memory, pooling="mean"):
    """`memory` 0: as the checkpoint says, else as long as the window."""
    model, tokenizer = load(AutoModel, folder)
    size = memory or AutoConfig.from_pretrained(folder).mem_len or window
    texts = [LONG.strip(), "hello world"]
    vectors = []
    for text in texts:
        states = torch.cat([out.last_hidden_state[0] for out in segments(model, tokenizer, [text], window, size)])
        vectors.append(POOLINGS[pooling](states).tolist())
    return [call("embed", [[text] for text in texts], vectors, normalize=False, pooling=pooling,
                 recurrence=True, window_tokens=window, memory_tokens=memory)]


def embed_summary(folder):
    """What XLNet's classifier reads: POOLING_POOLER."""
    model, tokenizer = load(AutoModelForSequenceClassification, folder)
    vectors = []
    for text in TEXTS:
        with torch.no_grad():
            states = model.transformer(**tokenizer(text.strip(), return_tensors="pt")).last_hidden_state
            vectors.append(model.sequence_summary(states)[0].tolist())
    return [call("embed", [[text] for text in TEXTS], vectors, pooling="pooler", normalize=False)]


# ---- Classes


def classify(folder, activation=None):
    classifier = pipe("text-classification", folder)
    inputs = [[text] for text in TEXTS] + [list(pair) for pair in PAIRS]
    calls = []
    for function in [None, "none"] if activation is None else [None, activation]:
        expected = []
        for given in inputs:
            item = {"text": given[0], "text_pair": given[1]} if len(given) > 1 else given[0]
            # An empty second text is none, as with tokenizer(a, "").
            extra = {} if function is None else {"function_to_apply": function}
            labels = classifier(item, top_k=None, truncation=True, **extra)
            expected.append([[label["label"], label["score"]] for label in labels])
        options = {} if function is None else {"activation": function}
        calls.append(call("classify", inputs, expected, **options))
    return calls


def classify_windows(folder, window=24, overlap=5):
    model, tokenizer = load(AutoModelForSequenceClassification, folder)
    total, count = 0, 0
    for inputs in windows(tokenizer, LONG, window, overlap):
        size = inputs["input_ids"].shape[1]
        with torch.no_grad():
            total = total + model(**inputs).logits[0].softmax(-1) * size
        count += size
    scores = (total / count).tolist()
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    expected = [[[model.config.id2label[i], scores[i]] for i in order]]
    return [call("classify", [[LONG]], expected, window_tokens=window, overlap_tokens=overlap)]


def classify_recurrence(folder, window, memory):
    """`memory` 0: as the checkpoint says, else as long as the window."""
    model, tokenizer = load(AutoModelForSequenceClassification, folder)
    inputs = [[LONG], list(PAIRS[2]), ["hello world"]]
    expected = []
    for given in inputs:
        size = memory or AutoConfig.from_pretrained(folder).mem_len or window
        *_, last = segments(model, tokenizer, given, window, size)
        scores = last.logits[0].softmax(-1).tolist()
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        expected.append([[model.config.id2label[i], scores[i]] for i in order])
    return [call("classify", inputs, expected, recurrence=True, window_tokens=window, memory_tokens=memory)]


def zero_shot(folder):
    classifier = pipe("zero-shot-classification", folder)
    labels = ["politics", "sport", "the lazy dog"]
    calls = []
    for options in ({}, {"multi_label": True}, {"hypothesis_template": "It's {}, don't you think so?"}):
        expected = []
        for text in (TEXTS[0], TEXTS[1], LONG):
            result = classifier(text, labels, **options)
            expected.append([[l, s] for l, s in zip(result["labels"], result["scores"])])
        calls.append(call("zero_shot", [[TEXTS[0]], [TEXTS[1]], [LONG]], expected, labels=labels, **options))
    one = classifier(TEXTS[1], ["food"])
    calls.append(call("zero_shot", [[TEXTS[1]]], [[[one["labels"][0], one["scores"][0]]]], labels=["food"]))
    return calls


def rerank(folder, **options):
    encoder = CrossEncoder(folder, device="cpu", **options, model_kwargs={"dtype": DTYPE})
    calls = []
    documents = [TEXTS[0], "", TEXTS[1], "another one", LONG]
    for query in ("where is the fox", TEXTS[2]):
        ranks = encoder.rank(query, documents, batch_size=1)
        calls.append(call("rerank", [[query, document] for document in documents],
                          [[rank["corpus_id"], float(rank["score"])] for rank in ranks]))
    return calls


# ---- Tokens


def classify_tokens(folder):
    calls = []
    for aggregation in ("none", "simple", "first", "average", "max"):
        tagger = pipe("token-classification", folder, aggregation_strategy=aggregation)
        for options in ({}, {"ignore_labels": ["B-PER", "I-LOC", "LOC"]}):
            if options and aggregation not in ("none", "average"):
                continue
            expected = []
            for text in TEXTS:
                found = tagger(text, **options)
                label = "entity" if aggregation == "none" else "entity_group"
                expected.append([[e[label], float(e["score"]), e["start"], e["end"], e["word"]] for e in found])
            calls.append(call("classify_tokens", [[t] for t in TEXTS], expected, aggregation=aggregation, **options))
    for aggregation, stride in (("simple", 7), ("first", 0)):
        tagger = pipe("token-classification", folder, aggregation_strategy=aggregation, stride=stride)
        found = tagger(LONG)
        expected = [[[e["entity_group"], float(e["score"]), e["start"], e["end"], e["word"]] for e in found]]
        calls.append(call("classify_tokens", [[LONG]], expected, aggregation=aggregation, stride=stride))
    return calls


ANSWER_OPTIONS = [
    {},
    {"top_k": 5},
    {"top_k": 3, "align_to_words": False},
    {"top_k": 4, "handle_impossible_answer": True},
    {"top_k": 3, "max_seq_len": 30, "doc_stride": 7, "max_answer_len": 4},
]


def answer(folder):
    reader = pipe("question-answering", folder)
    inputs = [["Where are the maps?", CONTEXT], ["Who visits Paris?", TEXTS[1]], ["что?", TEXTS[2]]]
    calls = []
    for options in ANSWER_OPTIONS:
        expected = []
        for question, context in inputs:
            found = reader(question=question, context=context, **options)
            found = found if isinstance(found, list) else [found]
            expected.append([[a["answer"], float(a["score"]), a["start"], a["end"]] for a in found])
        calls.append(call("answer", inputs, expected, **options))
    return calls


def fill_mask(folder):
    filler = pipe("fill-mask", folder)
    mask = filler.tokenizer.mask_token
    texts = [f"hello {mask} is in one", f"The {mask} brown fox, Zürich's {mask}.", f"東京{mask} мир q😀"]
    calls = []
    for options in ({}, {"top_k": 2}, {"targets": ["fox", "dog", "world", "fox"]}):
        expected = []
        for text in texts:
            found = filler(text, tokenizer_kwargs={"truncation": True}, **options)
            masks = found if isinstance(found[0], list) else [found]
            expected.append([[[c["token_str"], c["score"], c["token"], c["sequence"]] for c in m] for m in masks])
        calls.append(call("fill_mask", [[t] for t in texts], expected, **options))
    return calls


def embed_sparse(folder):
    """SPLADE: the maximum over all tokens of log1p(relu(logits))."""
    model, tokenizer = load(AutoModelForMaskedLM, folder)
    expected = []
    for text in (TEXTS[0], TEXTS[2]):
        inputs = tokenizer(text.strip(), truncation=True, return_tensors="pt")
        with torch.no_grad():
            weights = torch.log1p(torch.relu(model(**inputs).logits[0])).max(0).values
        indices = weights.nonzero()[:, 0]
        expected.append([indices.tolist(), weights[indices].tolist()])
    return [call("embed_sparse", [[TEXTS[0]], [TEXTS[2]]], expected)]


def replaced_tokens(folder, kind):
    model, tokenizer = load(kind, folder)
    by_token, by_word = [], []
    for text in TEXTS:
        batch = tokenizer(text, truncation=True, return_tensors="pt", return_offsets_mapping=True,
                          return_special_tokens_mask=True)
        offsets, special = batch.pop("offset_mapping")[0].tolist(), batch.pop("special_tokens_mask")[0].tolist()
        with torch.no_grad():
            logits = model(**batch).logits[0]
        words = batch.word_ids()
        tokens, grouped = [], {}
        for i, (start, end) in enumerate(offsets):
            if special[i]:
                continue
            score = torch.sigmoid(logits[i]).item()
            tokens.append([text[start:end], score, bool(logits[i] > 0), start, end])
            word = grouped.setdefault(words[i], [start, end, score, logits[i]])
            word[1], word[2], word[3] = end, max(word[2], score), max(word[3], logits[i])
        by_token.append(tokens)
        by_word.append([[text[s:e], score, bool(logit > 0), s, e] for s, e, score, logit in grouped.values()])
    inputs = [[text] for text in TEXTS]
    return [call("replaced_tokens", inputs, by_token), call("replaced_tokens", inputs, by_word, by_word=True)]


def sentence_pair(folder, kind, logits="logits"):
    model, tokenizer = load(kind, folder)
    expected = []
    for first, second in (PAIRS[0], PAIRS[2]):
        inputs = tokenizer(first, second, truncation=True, return_tensors="pt")
        with torch.no_grad():
            expected.append(getattr(model(**inputs), logits)[0].softmax(-1).tolist())
    return [call("sentence_pair", [list(PAIRS[0]), list(PAIRS[2])], expected)]
