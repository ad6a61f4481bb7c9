"""Makes tests/parity/suite: checkpoints of every family and head at odd sizes, and what transformers
and sentence-transformers answer with them.

Run with the oracle's interpreter from the source tree's root:
    oracle tests/parity/make_suite.py [NAME ...]         all, or those whose names begin so

No weights are kept: NAME.json says of each tensor its name and shape, and how its values follow from
its name and the checkpoint's, so that suite_parity_test.cc makes the same files again (values() here, and
suite_weights.cc there). Weights are large, so that a swapped operand or a wrong activation shows.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy
import suite_calls as calls
import suite_xlnet_answers as xlnet_answers
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from suite_tokenizers import MAX_TOKENS, make_tokenizers
from transformers import (
    AlbertForPreTraining,
    AutoConfig,
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
    XLNetLMHeadModel,
    logging,
)

ROOT = Path(__file__).resolve().parent / "suite"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# ---- Weights


def fnv(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def values(name, shape, kind, recipe):
    """splitmix64 of a counter; its leading bits, centred, times a power of two or so. Sixteen-bit
    types take few bits, so that their values are exact."""
    count = int(numpy.prod(shape))
    if kind == "positions":
        return torch.arange(count).reshape(shape)
    state = numpy.uint64(fnv(name) ^ fnv(recipe["name"]))
    z = state + (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    z ^= z >> numpy.uint64(31)
    bits = 24 if recipe["dtype"] == "F32" else 8
    centred = (z >> numpy.uint64(64 - bits)).astype(numpy.int64) - 2 ** (bits - 1)
    if kind == "norm":  # around 1; 4 bits behind the point are exact in bfloat16
        result = 1 + (centred >> (bits - 5)).astype(numpy.float32) / numpy.float32(32)
    else:
        result = centred.astype(numpy.float32) * numpy.float32(recipe["scale"] / 2 ** (bits - 1))
    return torch.from_numpy(result.reshape(shape)).to(DTYPES[recipe["dtype"]])


def kind_of(name):
    lower = name.lower()
    is_norm = "layernorm" in lower or "layer_norm" in lower
    return "norm" if is_norm and lower.endswith((".weight", ".gamma")) else "plain"


# ---- Checkpoints

FAMILIES = {  # model_type -> tokenizer, and the rows of its position table
    "bert": ("wordpiece", MAX_TOKENS), "distilbert": ("wordpiece_distilbert", MAX_TOKENS),
    "electra": ("wordpiece_electra", MAX_TOKENS), "albert": ("unigram_albert", MAX_TOKENS),
    "roberta": ("byte_level", MAX_TOKENS + 2), "xlm-roberta": ("unigram_xlmr", MAX_TOKENS + 2),
    "camembert": ("unigram_camembert", MAX_TOKENS + 2), "xlnet": ("unigram_xlnet", 0),
}
# hidden, heads, layers, intermediate: heads of 16, 32, 64, 128, 8 and 7.
SIZES = {"s16": (48, 3, 2, 70), "s32": (64, 2, 3, 100), "s64": (128, 2, 1, 90), "s128": (128, 1, 2, 52),
         "s8": (40, 5, 4, 52)}
ODD_SIZES = {"s7": (35, 5, 2, 31)}
NLI = ["contradiction", "neutral", "entailment"]
ENTITIES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def make_config(family, size, tokenizer, positions, **more):
    hidden, heads, layers, intermediate = (SIZES | ODD_SIZES)[size]
    labels = more.pop("labels", None)
    common = dict(vocab_size=len(tokenizer) + 3, pad_token_id=tokenizer.pad_token_id)
    if labels:
        common |= dict(id2label=dict(enumerate(labels)), label2id={l: i for i, l in enumerate(labels)})
    if family == "distilbert":
        common |= dict(dim=hidden, n_heads=heads, n_layers=layers, hidden_dim=intermediate)
    elif family == "xlnet":
        common |= dict(d_model=hidden, n_head=heads, n_layer=layers, d_inner=intermediate)
    else:
        common |= dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers,
                       intermediate_size=intermediate)
    if positions:
        common["max_position_embeddings"] = positions
    if family in ("roberta", "xlm-roberta", "camembert"):
        common["type_vocab_size"] = 1
    return AutoConfig.for_model(family, **(common | more))


def stored_tensors(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}


def make_recipe(name, shapes, spec, hidden):
    recipe = {"name": name, "dtype": spec.get("dtype", "F32"), "format": spec.get("format", "safetensors"),
              "shards": spec.get("shards", 1)}
    # The standard deviation is about 2 / sqrt(hidden): sums keep their size from layer to layer.
    recipe["scale"] = spec.get("scale") or (0.5 if hidden < 64 else 0.25)
    tensors = []
    for tensor, shape in sorted(shapes.items()):
        if spec.get("legacy_names"):
            tensor = tensor.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors.append([tensor, shape, kind_of(tensor)])
    if spec.get("buffers"):
        tensors.append([spec["buffers"], [1, MAX_TOKENS], "positions"])
    return recipe | {"tensors": tensors}


def write_weights(folder, recipe):
    tensors = {name: values(name, shape, kind, recipe) for name, shape, kind in recipe["tensors"]}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make_checkpoint(name, spec, tokenizers, work):
    family = spec["family"]
    kind, positions = FAMILIES[family]
    kind = spec.get("tokenizer", kind)
    folder = work / name
    shutil.copytree(work / "tokenizers" / kind, folder)
    config = make_config(family, spec["size"], tokenizers[kind], positions, **spec.get("config", {}))
    torch.manual_seed(0)
    model = spec["head"](config) if spec["head"] is not AutoModel and not hasattr(
        spec["head"], "_model_mapping") else spec["head"].from_config(config)
    model.save_pretrained(folder)
    recipe = make_recipe(name, stored_tensors(folder), spec, (SIZES | ODD_SIZES)[spec["size"]][0])
    write_weights(folder, recipe)
    (folder / "generation_config.json").unlink(missing_ok=True)
    files = {"config.json": (folder / "config.json").read_text(encoding="utf-8")}
    for file, content in spec.get("files", {}).items():
        files[file] = json.dumps(content)
        (folder / file).write_text(files[file], encoding="utf-8")
    answers = [answer for make in spec["calls"] for answer in make(str(folder))]
    result = {"tokenizer": kind, "files": files, "weights": recipe, "calls": answers}
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    (ROOT / f"{name}.json").write_text(text + "\n", encoding="utf-8")


# ---- What is made


def heads_of(family, index):
    """The heads that every family has, each at another size."""
    sizes = list(SIZES)
    size = lambda i: sizes[(index + i) % len(sizes)]
    has_pooler = family not in ("distilbert", "electra", "xlnet")
    base = [lambda f: calls.embed(f, has_pooler)]
    base.append(calls.embed_windows if family != "xlnet" else lambda f: calls.recurrence(f, 16, 16))
    if family == "xlnet":
        base.append(lambda f: calls.recurrence(f, 20, 7))
    heads = {
        "base": dict(size=size(0), head=AutoModel, calls=base),
        "classes": dict(size=size(1), head=AutoModelForSequenceClassification, config=dict(labels=NLI),
                        calls=[calls.classify, calls.zero_shot]),
        "tokens": dict(size=size(2), head=AutoModelForTokenClassification, config=dict(labels=ENTITIES),
                       calls=[calls.classify_tokens]),
        "answers": dict(size=size(3), head=AutoModelForQuestionAnswering, calls=[calls.answer]),
        "masks": dict(size=size(4), head=AutoModelForMaskedLM, calls=[calls.fill_mask, calls.embed_sparse]),
    }
    if family == "xlnet":  # no masked-LM head; the pipeline crashes on or misreads its answers
        heads["classes"]["calls"].append(calls.embed_summary)
        del heads["masks"], heads["answers"]
    else:
        heads["classes"]["calls"].append(calls.classify_windows)
    return {f"{family}_{head}": spec | {"family": family} for head, spec in heads.items()}


def special():
    bert = dict(family="bert", size="s16")
    one = AutoModelForSequenceClassification
    return {
        "bert_next": bert | dict(head=BertForNextSentencePrediction, calls=[
            lambda f: calls.sentence_pair(f, BertForNextSentencePrediction)]),
        "bert_pretraining": bert | dict(head=BertForPreTraining, buffers="bert.embeddings.position_ids", calls=[
            lambda f: calls.sentence_pair(f, BertForPreTraining, "seq_relationship_logits"),
            calls.fill_mask]),
        "albert_pretraining": dict(family="albert", size="s32", head=AlbertForPreTraining, calls=[
            lambda f: calls.sentence_pair(f, AlbertForPreTraining, "sop_logits")]),
        "electra_pretraining": dict(family="electra", size="s64", head=ElectraForPreTraining,
                                    config=dict(embedding_size=24), calls=[
            lambda f: calls.replaced_tokens(f, ElectraForPreTraining)]),
        "albert_groups": dict(family="albert", size="s8", head=one, calls=[calls.classify], config=dict(
            labels=NLI, num_hidden_groups=2, embedding_size=20, hidden_act="gelu_new")),
        "bert_multi_label": bert | dict(head=one, calls=[calls.classify], config=dict(
            labels=["a", "b", "c", "d"], problem_type="multi_label_classification", hidden_act="relu")),
        "bert_regression": bert | dict(head=one, calls=[calls.classify], config=dict(
            labels=["a", "b"], problem_type="regression", layer_norm_eps=3e-3)),
        "roberta_one_label": dict(family="roberta", size="s32", head=one, calls=[calls.classify, calls.rerank],
                                  config=dict(labels=["LABEL_0"])),
        "bert_cross_encoder": bert | dict(head=one, calls=[calls.rerank], config=dict(
            labels=["LABEL_0"], sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})),
        "bert_cased_tokens": bert | dict(tokenizer="wordpiece_cased", head=AutoModelForTokenClassification,
                                         config=dict(labels=ENTITIES, hidden_act="gelu_pytorch_tanh"),
                                         calls=[calls.classify_tokens]),
        # How checkpoints are stored.
        "bert_vocabulary": bert | dict(tokenizer="vocabulary", head=one, config=dict(labels=NLI), dtype="F16",
                                       calls=[calls.classify], shards=2, files={
            "tokenizer_config.json": {"model_max_length": MAX_TOKENS, "tokenizer_class": "BertTokenizer"}}),
        "bert_legacy": bert | dict(head=AutoModelForMaskedLM, legacy_names=True, format="legacy", dtype="F16",
                                   calls=[calls.fill_mask]),
        "bert_zip": bert | dict(head=one, format="zip", dtype="BF16", config=dict(labels=NLI),
                                calls=[calls.classify]),
        "bert_zip_shards": bert | dict(head=AutoModel, format="zip", shards=3,
                                       calls=[lambda f: calls.embed(f, True)]),
        # Embeddings of a checkpoint with a head: names with the family's prefix, and no pooler.
        "roberta_zip": dict(family="roberta", size="s8", head=AutoModelForTokenClassification, format="zip",
                            config=dict(labels=ENTITIES), dtype="BF16",
                            calls=[calls.classify_tokens, lambda f: calls.embed(f, False)]),
        # Each window's first token keeps its space in its span.
        "roberta_spaced_tokens": dict(family="roberta", size="s8", tokenizer="byte_level_spaced",
                                      head=AutoModelForTokenClassification, config=dict(labels=ENTITIES),
                                      calls=[calls.classify_tokens]),
        "roberta_spaced_answers": dict(family="roberta", size="s16", tokenizer="byte_level_spaced",
                                       head=AutoModelForQuestionAnswering, calls=[calls.answer]),
        # No model_max_length: the position table less its offset.
        "roberta_unlimited": dict(family="roberta", size="s16", head=AutoModel, files={
            "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer", "model_max_length": 10**30}},
            calls=[lambda f: calls.embed(f, True, max_length=MAX_TOKENS)]),
        # Positions count from pad_token_id on, and tokens of that id do not count.
        "roberta_pad_id": dict(family="roberta", size="s7", head=AutoModel, calls=[calls.embed_poolings],
                               config=dict(pad_token_id=0, type_vocab_size=3, hidden_act="sigmoid")),
        "bert_untied": bert | dict(head=AutoModelForMaskedLM, calls=[calls.embed_sparse],
                                   config=dict(tie_word_embeddings=False, type_vocab_size=3, layer_norm_eps=0)),
        "xlnet_answers": dict(family="xlnet", size="s8", head=XLNetForQuestionAnsweringSimple,
                              calls=[xlnet_answers.answer_simple]),
        "xlnet_beam": dict(family="xlnet", size="s16", head=XLNetForQuestionAnswering,
                           config=dict(start_n_top=4, end_n_top=3), calls=[xlnet_answers.answer_beam]),
        # How the configuration says it matters neither to the tensors nor to the answers.
        "xlnet_tied": dict(family="xlnet", size="s16", head=one, format="zip", dtype="BF16",
                           config=dict(labels=NLI, untie_r=False, same_length=True, mem_len=None),
                           calls=[calls.classify, lambda f: calls.classify_recurrence(f, 18, 0)]),
        "xlnet_classes_memory": dict(family="xlnet", size="s8", head=one, dtype="F16",
                                     config=dict(labels=NLI, mem_len=11, summary_activation=None),
                                     calls=[calls.classify, calls.embed_summary,
                                            lambda f: calls.classify_recurrence(f, 15, 0),
                                            lambda f: calls.classify_recurrence(f, 9, 30)]),
        "xlnet_one_label": dict(family="xlnet", size="s32", head=one, config=dict(labels=["LABEL_0"]),
                                # Without a length it takes XLNet's max_position_embeddings, -1.
                                calls=[calls.classify, lambda f: calls.rerank(f, max_length=4096)]),
        "xlnet_lm": dict(family="xlnet", size="s64", head=XLNetLMHeadModel, format="legacy", dtype="F16",
                         calls=[lambda f: calls.embed(f, False),
                                lambda f: calls.recurrence(f, 30, 17, pooling="weighted_mean"),
                                lambda f: calls.recurrence(f, 30, 17, pooling="max"),
                                lambda f: calls.recurrence(f, 13, 40, pooling="mean_sqrt_len")]),
        "xlnet_clamped": dict(family="xlnet", size="s32", head=AutoModel, config=dict(clamp_len=9, ff_activation="relu"),
                              calls=[lambda f: calls.embed(f, False), lambda f: calls.recurrence(f, 16, 5)]),
    }


def all_specs():
    specs = {}
    for index, family in enumerate(FAMILIES):
        specs |= heads_of(family, index)
    return specs | special()


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    specs = all_specs()
    wanted = {name: spec for name, spec in specs.items()
              if len(sys.argv) == 1 or name.startswith(tuple(sys.argv[1:]))}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tokenizers = make_tokenizers(work / "tokenizers")
        if len(sys.argv) == 1:
            shutil.rmtree(ROOT, ignore_errors=True)
        shutil.copytree(work / "tokenizers", ROOT / "tokenizers", dirs_exist_ok=True)
        for name, spec in wanted.items():
            make_checkpoint(name, spec, tokenizers, work)
            print(name, (ROOT / f"{name}.json").stat().st_size)


if __name__ == "__main__":
    main()
