"""Fresh random folders of the kinds that random_suite.py has none of, compared with transformers and
sentence-transformers: modules of bi-encoders, prompts, SPLADE, cross-encoders, files of every kind
and configurations that say odd things. The folders are written by those libraries themselves.

    cmake --build build --target suite_parity_test
    oracle tests/parity/random_folders.py [--seed SEED] [--folders 24] [--only KIND]

As there: a line with the seed that makes it again, and differences below it.
"""

import argparse
import collections
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import make_suite
import random_suite
import suite_calls as calls
import suite_tokenizers
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder, models
from sentence_transformers.sparse_encoder.models import MLMTransformer, SpladePooling
from suite_tokenizers import LINES, make_tokenizers
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    logging,
)

MASKED = [family for family in make_suite.FAMILIES if family != "xlnet"]
ROBERTAS = ("roberta", "xlm-roberta", "camembert")


class Bench:
    """What every kind needs: randomness, texts, and a base checkpoint in a folder."""

    def __init__(self, seed, tokenizers, work):
        self.rng = random.Random(seed)
        self.texts = random_suite.Texts(self.rng)
        self.tokenizers, self.work = tokenizers, work
        self.folder = work / "folder"
        torch.manual_seed(seed)

    def base(self, family, kind, folder=None, tokenizer=None, keep_tokenizer=False, **more):
        """A checkpoint as save_pretrained writes it, its weights random and large."""
        rng = self.rng
        folder = folder or self.folder
        name = tokenizer or make_suite.FAMILIES[family][0]
        shutil.copytree(self.work / "tokenizers" / name, folder, dirs_exist_ok=True)
        if not keep_tokenizer:
            self.limit = rng.choice([26, 33, 48])
        random_suite.random_size(rng, family)
        config = make_suite.make_config(family, "random", self.tokenizers[name], 0,
                                        **(random_suite.random_config(rng, family, self.limit) | more))
        if family != "xlnet" and not keep_tokenizer:
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"model_max_length": self.limit}),
                            encoding="utf-8")
        model = kind.from_config(config).eval() if hasattr(kind, "_model_mapping") else kind(config).eval()
        randomise(model, config.hidden_size, rng.choice([0.05, 0.15]))
        self.save(model, folder)
        return model

    def save(self, model, folder):
        dtype = self.rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
        model.to(dtype).save_pretrained(folder, safe_serialization=self.rng.random() < 0.7,
                                        max_shard_size=self.rng.choice(["5GB", "20KB"]))
        (folder / "generation_config.json").unlink(missing_ok=True)

    def some_texts(self):
        # An empty text is refused by Bertrand where the tokenizer adds nothing to it.
        return [self.texts.one() for _ in range(3)] + [self.texts.long()]


def randomise(model, hidden, scale):
    for name, parameter in model.named_parameters():
        deviation = scale if parameter.dim() < 2 else scale * (2 if hidden < 64 else 1)
        parameter.data.normal_(0, deviation)
        if make_suite.kind_of(name) == "norm":
            parameter.data += 1


def edit(path, **more):
    """Members of a JSON file; None takes one away."""
    content = json.loads(path.read_text("utf-8")) if path.exists() else {}
    content = {key: value for key, value in (content | more).items() if value is not None}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


# ---- Bi-encoders

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
FLAGS = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "lasttoken": "lasttoken",
         "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens"}
FUNCTIONS = [torch.nn.Tanh, torch.nn.Identity, torch.nn.ReLU, torch.nn.GELU, torch.nn.SiLU, torch.nn.Sigmoid]


def pooling_modules(bench, hidden):
    rng = bench.rng
    chosen = rng.sample(MODES, rng.choice([1, 1, 1, 2, 3, 6]))
    include = rng.random() < 0.6
    if not include and "cls" in chosen and "max" in chosen:
        include = True  # max overwrites the prompt's states, of which cls is a view
    pooling = models.Pooling(hidden, include_prompt=include, pooling_mode_mean_tokens="mean" in chosen,
                             **{f"pooling_mode_{FLAGS[m]}": True for m in chosen if m != "mean"})
    made, width = [pooling], pooling.get_sentence_embedding_dimension()
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        kind = rng.choice(["dense", "dense", "norm", "normalize", "dropout"])
        if kind == "dense":
            out = rng.choice([1, 7, 16, 33, width])
            made.append(models.Dense(width, out, bias=rng.random() < 0.6, activation_function=rng.choice(FUNCTIONS)()))
            width = out
        elif kind == "norm":
            made.append(models.LayerNorm(width))
        else:
            made.append(models.Normalize() if kind == "normalize" else models.Dropout(0.3))
        randomise(made[-1], 64, 0.4)
    if rng.random() < 0.5:
        made.append(models.Normalize())
    return made, chosen


def random_prompts(bench):
    return {name: bench.rng.choice(["query: ", "passage:", "", "  ", bench.texts.one(3), "Represent this: \n"])
            for name in bench.rng.sample(["query", "document", "passage", "a b", "日本"], bench.rng.randint(0, 3))}


def sentence_calls(bench, model, prompts):
    result = []
    for _ in range(4):
        options = {}
        if prompts and bench.rng.random() < 0.5:
            options["prompt_name"] = bench.rng.choice(list(prompts))
        elif bench.rng.random() < 0.3:
            options["prompt"] = bench.rng.choice([bench.texts.one(4), "query: ", " x"]) or "x"
        if bench.rng.random() < 0.4:
            options["normalize"] = True
        inputs = bench.some_texts()
        given = {"normalize_embeddings" if key == "normalize" else key: value for key, value in options.items()}
        vectors = [model.encode(text, show_progress_bar=False, **given) for text in inputs]
        result.append(calls.call("embed", [[text] for text in inputs], [v.tolist() for v in vectors], **options))
        if "prompt" not in options and "prompt_name" not in options and model.default_prompt_name is None:
            pairs = [[bench.texts.one() + " a", bench.rng.choice(["", bench.texts.one()])] for _ in range(2)]
            vectors = [model.encode([tuple(pair)], show_progress_bar=False, **given)[0] for pair in pairs]
            result.append(calls.call("embed", pairs, [v.tolist() for v in vectors], **options))
        options.pop("normalize", None)
        given.pop("normalize_embeddings", None)
        states = [model.encode(text, output_value="token_embeddings", **given) for text in inputs[:2]]
        result.append(calls.call("embed_tokens", [[text] for text in inputs[:2]],
                                 [s.flatten().tolist() for s in states], **options))
    return result


def sentence(bench):
    rng, family = bench.rng, bench.rng.choice(list(make_suite.FAMILIES))
    inner = bench.work / "inner"
    hidden = bench.base(family, AutoModel, inner).config.hidden_size
    transformer = models.Transformer(str(inner), model_args={"dtype": calls.DTYPE})
    if rng.random() < 0.5:
        transformer.max_seq_length = rng.randint(5, bench.limit)
    elif family in ROBERTAS:
        transformer.max_seq_length = bench.limit
    transformer.do_lower_case = rng.random() < 0.3
    made, chosen = pooling_modules(bench, hidden)
    spoils = "max" in chosen and not made[0].include_prompt  # max overwrites the states of the prompt
    prompts = random_prompts(bench)
    default = rng.choice(list(prompts)) if prompts and rng.random() < 0.5 else None
    model = SentenceTransformer(modules=[transformer, *made], prompts=prompts, default_prompt_name=default, device="cpu")
    model.save(str(bench.folder), safe_serialization=rng.random() < 0.5)
    shutil.rmtree(inner)
    for folder in bench.folder.glob("*_Normalize"):
        if rng.random() < 0.5:
            folder.rmdir()
    if len(chosen) == 1 and rng.random() < 0.5:  # as newer versions may write it
        config = next(bench.folder.glob("1_Pooling")) / "config.json"
        edit(config, **{f"pooling_mode_{flag}": None for flag in FLAGS.values()}, pooling_mode=rng.choice([str.upper, str])(chosen[0]))
    if rng.random() < 0.3:  # as older versions wrote it
        move_transformer(bench.folder)
    model = SentenceTransformer(str(bench.folder), device="cpu", model_kwargs={"dtype": calls.DTYPE})
    return [call for call in sentence_calls(bench, model, prompts) if call["task"] != "embed_tokens" or not spoils]


def move_transformer(folder):
    inner = folder / "0_Transformer"
    inner.mkdir()
    kept = {"modules.json", "config_sentence_transformers.json", "README.md"}
    for file in [file for file in folder.iterdir() if file.is_file() and file.name not in kept]:
        file.rename(inner / file.name)
    entries = json.loads((folder / "modules.json").read_text("utf-8"))
    entries[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(entries))


# ---- SPLADE and cross-encoders


def splade(bench):
    rng, family = bench.rng, bench.rng.choice(MASKED)
    inner = bench.work / "inner"
    bench.base(family, AutoModelForMaskedLM, inner)
    limit = bench.limit if family in ROBERTAS or rng.random() < 0.5 else None
    transformer = MLMTransformer(str(inner), max_seq_length=limit, do_lower_case=rng.random() < 0.3,
                                 model_args={"dtype": calls.DTYPE})
    pooling = SpladePooling(rng.choice(["max", "sum"]), rng.choice(["relu", "log1p_relu"]))
    prompts = random_prompts(bench)
    default = rng.choice(list(prompts)) if prompts and rng.random() < 0.5 else None
    SparseEncoder(modules=[transformer, pooling], prompts=prompts, default_prompt_name=default,
                  device="cpu").save(str(bench.folder), safe_serialization=rng.random() < 0.5)
    shutil.rmtree(inner)
    model = SparseEncoder(str(bench.folder), device="cpu", model_kwargs={"dtype": calls.DTYPE})
    result = []
    for _ in range(3):
        options = {}
        if prompts and rng.random() < 0.5:
            options["prompt_name"] = rng.choice(list(prompts))
        inputs, expected = bench.some_texts(), []
        for text in inputs:
            vector = model.encode(text, convert_to_sparse_tensor=False, **options)
            indices = vector.nonzero()[:, 0]
            expected.append([indices.tolist(), vector[indices].tolist()])
        result.append(calls.call("embed_sparse", [[text] for text in inputs], expected, **options))
    return result


def cross(bench):
    rng, family = bench.rng, bench.rng.choice(list(make_suite.FAMILIES))
    labels = rng.choice([["LABEL_0"], ["LABEL_0"], ["a", "b", "c"]])
    function = rng.choice([None, "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid", "my.code.Own"])
    more = {}
    if function:
        old = rng.random() < 0.3
        more = ({"sbert_ce_default_activation_function": function} if old
                else {"sentence_transformers": {"activation_fn": function, "version": "5.1.2"}})
    bench.base(family, AutoModelForSequenceClassification, labels=labels, **more)
    if len(labels) == 1:
        random_suite.calls.TEXTS = bench.some_texts()
        limit = {"max_length": 4096} if family == "xlnet" else {"max_length": bench.limit}
        encoder = CrossEncoder(str(bench.folder), device="cpu", **limit, model_kwargs={"dtype": calls.DTYPE})
        result = []
        for _ in range(3):
            query, documents = bench.texts.one(4), [bench.texts.one() for _ in range(4)] + ["", bench.texts.long()]
            options, given = rng.choice([({}, {}), ({"activation": "none"}, {"activation_fn": torch.nn.Identity()}),
                                         ({"activation": "sigmoid"}, {"activation_fn": torch.nn.Sigmoid()})])
            encoder.set_activation_fn(None, set_default=False)  # that of the call before stays
            ranks = encoder.rank(query, documents, batch_size=1, **given)
            result.append(calls.call("rerank", [[query, document] for document in documents],
                                     [[rank["corpus_id"], float(rank["score"])] for rank in ranks], **options))
        return result
    return []


# ---- Files and configurations


def stored_oddly(rng, tensor):
    """The same values, as somebody's script may have kept them."""
    kind = rng.random()
    if not tensor.is_floating_point() or kind < 0.5:
        return tensor
    if kind < 0.6:
        return torch.nn.Parameter(tensor, requires_grad=rng.random() < 0.5)
    if kind < 0.7 and tensor.dim() == 2:
        return tensor.t().contiguous().t()
    if kind < 0.8:
        return torch.cat([torch.zeros_like(tensor), tensor, torch.ones_like(tensor)])[len(tensor) : 2 * len(tensor)]
    if kind < 0.9:
        return tensor.double()
    return torch.stack([tensor, tensor + 1], -1)[..., 0]


def files(bench):
    """Any head, its files renamed, in legacy formats, with others beside them."""
    rng, family = bench.rng, bench.rng.choice(list(make_suite.FAMILIES))
    random_suite.random_size(rng, family)
    calls.TEXTS = bench.some_texts()
    calls.LONG = bench.texts.long()
    calls.PAIRS = [(bench.texts.one(), bench.texts.one() or "x") for _ in range(2)] + [(bench.texts.one(), bench.texts.long())]
    kind, head, made, more = random_suite.head_of(rng, family, bench.texts)
    if kind in ("beam", "answers") and family == "xlnet":
        return []
    model = bench.base(family, head, **more)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for file in [*bench.folder.glob("*.safetensors*"), *bench.folder.glob("*.bin*")]:
        file.unlink()
    prefix = model.base_model_prefix + "."
    if kind == "base" and rng.random() < 0.5:
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    if rng.random() < 0.4 and family != "xlnet":
        tensors = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
                   for name, tensor in tensors.items()}
    tensors = {name: stored_oddly(rng, tensor) for name, tensor in tensors.items()}
    if rng.random() < 0.3:
        tensors = collections.OrderedDict(tensors)
        tensors._metadata = collections.OrderedDict({"": {"version": 1}})
    torch.save(tensors, bench.folder / "pytorch_model.bin", _use_new_zipfile_serialization=rng.random() < 0.5)
    for name in rng.sample(["tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.onnx", "training_args.bin",
                            "optimizer.pt", "README.md", ".gitattributes"], 4):
        (bench.folder / name).write_bytes(b"\x00not read")
    edit(bench.folder / "config.json", dtype=rng.choice([None, "float16", "bfloat16", "float32"]),
         torch_dtype=rng.choice([None, "float16", "float32"]))
    result = [call for make in made for call in random_suite.attempt(make)(str(bench.folder))]
    if rng.random() < 0.3:  # older than model_type, which transformers would ask for
        edit(bench.folder / "config.json", model_type=None)
    return result


# ---- Tokenizers as they were before tokenizer.json

SOURCES = {"bert": "words", "distilbert": "words", "electra": "words", "roberta": "bytes", "xlm-roberta": "unigram",
           "camembert": "unigram", "albert": "albert", "xlnet": "xlnet"}


def make_sources(work):
    """vocab.txt, vocab.json with merges.txt, and spiece.model of each kind."""
    unigram = dict(unk_id=0, bos_id=1, eos_id=2)
    for name in set(SOURCES.values()):
        (work / name).mkdir(parents=True)
    (work / "words" / "vocab.txt").write_text("\n".join(suite_tokenizers.word_pieces(LINES, True)) + "\n", "utf-8")
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(LINES, vocab_size=520, min_frequency=2, show_progress=False,
                                special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trainer.save_model(str(work / "bytes"))
    suite_tokenizers.unigram(work / "unigram" / "spiece.model", **unigram)
    suite_tokenizers.unigram(work / "albert" / "spiece.model", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                             control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    suite_tokenizers.unigram(work / "xlnet" / "spiece.model", user_defined_symbols=["<eop>"], **unigram,
                             control_symbols=["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"])


def tiny_words(rng):
    letters = rng.sample("abcdefghijklmnopqrstuvwxyzдю東", rng.randint(3, 10))
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters[::2])]


def random_token(rng, content):
    if rng.random() < 0.5:
        return content
    return {"content": content, "single_word": rng.random() < 0.3, "lstrip": rng.random() < 0.3,
            "rstrip": rng.random() < 0.3, "normalized": rng.random() < 0.5}


def write_legacy(bench, family, folder):
    """The files of a folder of 2020, and the tokenizer that transformers makes of them."""
    rng, source = bench.rng, SOURCES[family]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bench.work / "sources" / source, folder)
    if family == "xlm-roberta" or family == "camembert":
        (folder / "spiece.model").rename(folder / "sentencepiece.bpe.model")
    if source == "words" and rng.random() < 0.5:
        words = tiny_words(rng)
        (folder / "vocab.txt").write_text("\n".join(words) + rng.choice(["", "\n"]), "utf-8")
    settings = {"model_max_length": bench.limit} if family != "xlnet" else {}
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "keep_accents", "remove_space",
                "add_prefix_space", "trim_offsets"):
        if rng.random() < 0.3:
            settings[key] = rng.random() < 0.5
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    size = len(AutoTokenizer.from_pretrained(folder))
    if rng.random() < 0.4:
        names = rng.sample(["<x>", "lazy dog", "東京", "Ünï"], rng.randint(1, 3))
        (folder / "added_tokens.json").write_text(json.dumps({name: size + i for i, name in enumerate(names)}), "utf-8")
    if rng.random() < 0.5:
        mask = "[MASK]" if source in ("words", "albert") else "<mask>"
        tokens = {"mask_token": random_token(rng, mask)}
        if rng.random() < 0.5:
            tokens["additional_special_tokens"] = [rng.choice(["fox", "the", "こ"])]
        (folder / "special_tokens_map.json").write_text(json.dumps(tokens), "utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bench.tokenizers[f"legacy_{family}"] = tokenizer
    return tokenizer


def legacy(bench):
    rng, family = bench.rng, bench.rng.choice(list(make_suite.FAMILIES))
    bench.limit = rng.choice([26, 33, 48])
    sources = bench.work / "tokenizers" / f"legacy_{family}"
    write_legacy(bench, family, sources)
    kind, calls_of = rng.choice([
        (AutoModelForTokenClassification, [random_suite.entities(rng, bench.texts)]),
        (AutoModelForTokenClassification, [random_suite.entities(rng, bench.texts)]),
        (AutoModel, [lambda f: calls.embed(f, False)]),
        (AutoModelForQuestionAnswering, [random_suite.answer(rng, bench.texts)]),
        (AutoModelForMaskedLM, [random_suite.fill_mask(rng, bench.texts)]),
    ])
    if family == "xlnet" and kind in (AutoModelForQuestionAnswering, AutoModelForMaskedLM):
        kind, calls_of = AutoModel, [lambda f: calls.embed(f, False)]
    calls.TEXTS = bench.some_texts()
    more = {"labels": ["O", "B-PER", "I-PER"]} if kind is AutoModelForTokenClassification else {}
    bench.base(family, kind, tokenizer=f"legacy_{family}", keep_tokenizer=True, **more)
    return [call for make in calls_of for call in random_suite.attempt(make)(str(bench.folder))]


KINDS = {"sentence": sentence, "splade": splade, "cross": cross, "files": files, "legacy": legacy}


def make_one(seed, tokenizers, work, only):
    bench = Bench(seed, tokenizers, work)
    kind = bench.rng.choice(list(KINDS))
    shutil.rmtree(bench.folder, ignore_errors=True)
    if only and kind != only:
        return None
    file = make_suite.ROOT / f"{kind}_{seed}.json"
    made = {"folder": str(bench.folder), "calls": random_suite.attempt(KINDS[kind])(bench)}
    file.write_text(json.dumps(made, ensure_ascii=False), "utf-8")
    return file


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/suite_parity_test")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--folders", type=int, default=24)
    parser.add_argument("--only", default="")
    parser.add_argument("--float64", action="store_true", help="compare with transformers in float64")
    parser.add_argument("--keep", action="store_true", help="the last folder stays, its path is printed")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    calls.DTYPE = torch.float64 if arguments.float64 else torch.float32
    program = Path(arguments.program).resolve()
    temporary = Path(tempfile.mkdtemp())
    work, run = temporary / "work", temporary / "run"
    make_suite.ROOT = run / "tests/parity/suite"
    make_suite.ROOT.mkdir(parents=True)
    tokenizers = make_tokenizers(work / "tokenizers")
    make_sources(work / "sources")
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.folders):
        make = lambda seed=seed: make_one(seed, tokenizers, work, arguments.only)  # noqa: E731
        file = make()
        if file is None:
            continue
        count = random_suite.drop_ambiguous(file)
        if count and not random_suite.is_equal(program, run, file.stem, count):
            failed += 1
            random_suite.say_own_error(file, make)
        file.unlink()
    print(f"{failed} of {arguments.folders} folders differ; the first seed was {arguments.seed}")
    if arguments.keep:
        print(work / "folder")
    else:
        shutil.rmtree(temporary)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
