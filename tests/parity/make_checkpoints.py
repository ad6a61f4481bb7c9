"""Makes tests/parity/checkpoints: tiny random checkpoints of odd sizes, and what transformers and
sentence-transformers compute with them.

Run with the oracle's interpreter from the source tree's root:  oracle tests/parity/make_checkpoints.py

Weights are large (standard deviation 0.2 to 0.5) so that a swapped operand or a wrong activation
shows. Everything is seeded; a second run gives the same files.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, LayerNorm, Pooling
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertTokenizerFast,
)

ROOT = Path(__file__).resolve().parent / "checkpoints"
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

# hidden, heads, layers, intermediate, token types, activation, eps, std of weights; then how it is
# stored. "legacy": gamma and beta; "shards": so many files and an index.
BASES = {
    "plain": dict(size=(40, 5, 2, 52, 2, "gelu", 1e-12, 0.3), lengths=(1, 2, 7, 19)),
    "cased": dict(size=(24, 2, 1, 33, 2, "gelu", 1e-12, 0.4), lengths=(5,), cased=True),
    "head65": dict(size=(130, 2, 1, 70, 2, "gelu_new", 1e-5, 0.2), lengths=(1, 9),
                   head=BertForSequenceClassification, dtype=torch.float16),
    "one_type": dict(size=(64, 2, 3, 100, 1, "relu", 1e-7, 0.25), lengths=(3, 16),
                     head=BertForTokenClassification, dtype=torch.bfloat16),
    "legacy": dict(size=(24, 3, 4, 96, 3, "silu", 3e-3, 0.5), lengths=(1, 8), legacy=True),
    "sharded": dict(size=(96, 4, 2, 60, 2, "gelu_pytorch_tanh", 1e-12, 0.2), lengths=(2, 11),
                    dtype=torch.float16, shards=3),
    "masked_lm": dict(size=(32, 4, 1, 200, 2, "gelu_fast", 1e-12, 0.3), lengths=(6,),
                      head=BertForMaskedLM, position_ids=True),
    "one_head": dict(size=(48, 1, 1, 31, 2, "tanh", 1e-12, 0.3), lengths=(1, 13)),
    # Lengths around the tiles of attention kernels: pooled vectors alone are kept.
    "long": dict(size=(16, 2, 2, 20, 2, "gelu", 1e-12, 0.3), positions=300,
                 lengths=(31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300)),
}

TEXTS = [
    "hello world",
    "",
    "  \t the cat sat on the mat \u00a0\u2003",
    "Ein Satz, mit Punkt. And another one!",
    "\u0391\u03a3\u03a4\u0397\u03a1 \u039f\u0394\u039f\u03a3 \u03a3 \u0391\u03a3.",
    "\u0130stanbul I\u0131 DOT",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 2,
    "query: hello",
]


def vocabulary():
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?:'-"
    greek = "\u03b1\u03b2\u03b4\u03b5\u03b7\u03b9\u03ba\u03bb\u03bc\u03bd\u03bf\u03c0\u03c1\u03c3\u03c2\u03c4\u03c5\u0131\u0307"
    words = "hello world the cat sat on mat and another one query doc title in is".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *greek, *words]
    tokens += ["##" + c for c in letters[:36] + greek] + ["##ing", "##ed", "##s:"]
    tokens += ["A", "B", "D", "E", "I", "T", "##A", "##T", "\u0391", "##\u03a3", "\u03a3"]
    return tokens + [f"[unused{i}]" for i in range(211 - len(tokens))]


def make_tokenizer(folder, cased):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=not cased,
                                  strip_accents=False if cased else None)
    tokenizer.save_pretrained(folder)
    (folder / "special_tokens_map.json").unlink()
    return tokenizer


def rename_legacy(tensors):
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }


def store_shards(folder, tensors, count):
    names = sorted(tensors)
    weight_map = {}
    for shard in range(count):
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::count]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def make_base(name, spec):
    folder = ROOT / name
    make_tokenizer(folder, spec.get("cased", False))
    hidden, heads, layers, intermediate, types, act, eps, std = spec["size"]
    config = BertConfig(
        vocab_size=211, hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=intermediate, type_vocab_size=types, hidden_act=act, layer_norm_eps=eps,
        max_position_embeddings=spec.get("positions", 40), num_labels=3)
    head = spec.get("head")
    model = (head or BertModel)(config)
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    for key, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator) * std
        parameter.data = values + 1 if "LayerNorm.weight" in key else values
    model.to(spec.get("dtype", torch.float32)).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(folder / "model.safetensors")
    if spec.get("legacy"):
        tensors = rename_legacy(tensors)
    if spec.get("position_ids"):
        tensors["bert.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    if spec.get("shards"):
        (folder / "model.safetensors").unlink()
        store_shards(folder, tensors, spec["shards"])
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def expect_base(name, spec):
    """Hidden states of every layer, the pooler's output and all poolings of random ids."""
    folder = ROOT / name
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(7)
    expected = {}
    for index, length in enumerate(spec["lengths"]):
        ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
        types = torch.randint(model.config.type_vocab_size, (1, length), generator=generator)
        with torch.no_grad():
            out = model(input_ids=ids, token_type_ids=types, output_hidden_states=True)
        case = {"ids": ids[0].float(), "type_ids": types[0].float()}
        for mode in MODES:
            features = {"token_embeddings": out.last_hidden_state.clone(),
                        "attention_mask": torch.ones_like(ids)}
            case[mode] = Pooling(model.config.hidden_size, mode)(features)["sentence_embedding"][0]
        # AutoModel makes up a pooler where the checkpoint has none.
        if spec.get("head") not in (BertForTokenClassification, BertForMaskedLM):
            case["pooler"] = out.pooler_output[0]
        if name != "long":
            for layer, states in enumerate(out.hidden_states):
                case[f"layer{layer}"] = states[0]
        expected.update({f"{index}.{key}": value.contiguous() for key, value in case.items()})
    save_file(expected, folder / "expected.safetensors")


def flags(*modes, **more):
    keys = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens",
            "weightedmean": "weightedmean_tokens"}
    config = {f"pooling_mode_{keys.get(mode, mode)}": mode in modes for mode in MODES}
    # Old files know the first four alone.
    return {"word_embedding_dimension": 40, **config, **more}


def random_module(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(module.named_parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return module


PROMPTS = {"query": "query: ", "doc": "title in doc: ", "upper": "  The CAT \u03a3\u03a3 "}

# Folders of modules.json after the transformer, in order; (class, folder, configuration or module).
VARIANTS = {
    "normalize": dict(modules=[
        ("Pooling", "1_Pooling", {"word_embedding_dimension": 40, "pooling_mode_cls_token": False,
                                  "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                                  "pooling_mode_mean_sqrt_len_tokens": False}),
        ("Normalize", "2_Normalize", None)]),
    "mode_name": dict(modules=[
        ("Pooling", "1_Pooling", {"word_embedding_dimension": 40, "pooling_mode": "cls"})],
        limit=12),
    # pooling_mode_mean_tokens is true where it is absent.
    "cls_and_mean": dict(modules=[
        ("Pooling", "1_Pooling", {"word_embedding_dimension": 40, "pooling_mode_cls_token": True})]),
    "all_six": dict(modules=[
        ("Pooling", "1_Pooling", flags(*MODES)), ("Dropout", "2_Dropout", {"dropout": 0.5}),
        ("Normalize", "3_Normalize", None)]),
    "dense": dict(pickled=True, modules=[
        ("Pooling", "1_Pooling", flags("mean")),
        ("Dense", "2_Dense", random_module(Dense(40, 24), 1)), ("Normalize", "3_Normalize", None)]),
    "dense_twice": dict(modules=[
        ("Pooling", "1_Pooling", flags("max", "cls")), ("Normalize", "2_Normalize", None),
        ("Dense", "3_Dense", random_module(Dense(80, 90, bias=False, activation_function=torch.nn.GELU()), 2)),
        ("LayerNorm", "4_LayerNorm", random_module(LayerNorm(90), 3)),
        ("Dense", "5_Dense", random_module(Dense(90, 7, activation_function=torch.nn.Identity()), 4))]),
    "prompts": dict(modules=[
        ("Pooling", "1_Pooling", flags("max", "mean", "weightedmean", "lasttoken", include_prompt=False))],
        prompts=PROMPTS, default_prompt="doc", limit=14),
    "prompts_cls": dict(modules=[
        ("Pooling", "1_Pooling", flags("cls", "mean", include_prompt=False))], prompts=PROMPTS),
    "prompts_included": dict(modules=[("Pooling", "1_Pooling", flags("mean"))], prompts=PROMPTS),
    "lower": dict(base="cased", lower=True, prompts=PROMPTS, modules=[
        ("Pooling", "1_Pooling", flags("mean", include_prompt=False))]),
    "subfolder": dict(folder="0_Transformer", limit=9, modules=[
        ("Pooling", "1_Pooling", flags("mean"))]),
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_variant(folder, spec):
    """The files that are put over a copy of the base's folder."""
    inner = spec.get("folder", "")
    modules = [{"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.Transformer"}]
    for index, (kind, path, content) in enumerate(spec["modules"], 1):
        modules.append({"idx": index, "name": str(index), "path": path,
                        "type": f"sentence_transformers.models.{kind}"})
        if isinstance(content, dict):
            write_json(folder / path / "config.json", content)
        elif content is not None:
            (folder / path).mkdir(parents=True)
            content.save(str(folder / path), safe_serialization=not spec.get("pickled"))
    write_json(folder / "modules.json", modules)
    limit = spec.get("limit")
    settings = {"max_seq_length": limit, "do_lower_case": spec.get("lower", False)}
    write_json(folder / inner / "sentence_bert_config.json", settings)
    if "prompts" in spec:
        write_json(folder / "config_sentence_transformers.json",
                   {"prompts": spec["prompts"], "default_prompt_name": spec.get("default_prompt")})


def expect_variant(name, spec, work):
    base = spec.get("base", "plain")
    whole = work / name
    shutil.copytree(ROOT / base, whole / spec.get("folder", ""))
    if name != "bare":
        folder = ROOT / "sentence" / name
        write_variant(folder, spec)
        shutil.copytree(folder, whole, dirs_exist_ok=True)
    model = SentenceTransformer(str(whole), device="cpu")
    # One at a time: padding would change the last digits.
    expected = {"none": model.encode(TEXTS, batch_size=1)}
    for prompt in spec.get("prompts", {}):
        expected[f"name:{prompt}"] = model.encode(TEXTS, prompt_name=prompt, batch_size=1)
    if "prompts" in spec:
        expected["text:  a Doc "] = model.encode(TEXTS, prompt="  a Doc ", batch_size=1)
    expected = {key: torch.tensor(value) for key, value in expected.items()}
    target = ROOT / "sentence" / name / "expected.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(expected, target)
    return {"name": name, "base": base, "folder": spec.get("folder", "")}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, spec in BASES.items():
        make_base(name, spec)
        expect_base(name, spec)
    work = ROOT / "work"
    variants = {"bare": {}, **VARIANTS}
    cases = [expect_variant(name, spec, work) for name, spec in variants.items()]
    shutil.rmtree(work)
    write_json(ROOT / "cases.json", {"bases": list(BASES), "texts": TEXTS, "sentence": cases})


main()
