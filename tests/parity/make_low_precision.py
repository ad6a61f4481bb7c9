"""Makes tests/parity/low_precision.json: how far transformers' own float16 and bfloat16 are from its
float32, on checkpoints of the parity tests. Half the bar for ours (low_precision_test.cc).

Run with the oracle's interpreter from the source tree's root, after make_suite.py and the other two:
    oracle tests/parity/make_low_precision.py

"suite": of checkpoints of the suite, for every task the largest distance of a number in an answer; no
entry where the lower precision decides something otherwise. Distances are absolute up to 1 and relative
beyond. "encoders": of checkpoints with hidden states, for every kind of output the root of the mean
square of the errors of all values. (The largest error of a value is a matter of luck: it is where a
near tie of attention was tipped. Multiplying the weights by 1 + 2^-9 u, u random, moves it by factors of
three.)
"""

import json
import shutil
import tempfile
from pathlib import Path

import make_suite
import suite_calls
import torch
from safetensors.torch import load_file
from transformers import AutoModel, PreTrainedModel, logging

HERE = Path(__file__).resolve().parent
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# Every family and every head, and heads of 8, 16, 32, 64 and 128.
SUITE = ["bert_answers", "bert_masks", "bert_cross_encoder", "roberta_classes", "roberta_masks", "xlm-roberta_tokens",
         "albert_pretraining", "albert_tokens", "distilbert_answers", "electra_pretraining", "electra_classes",
         "xlnet_beam", "xlnet_classes_memory", "xlnet_tokens", "xlnet_clamped"]
ENCODERS = ["checkpoints/plain", "checkpoints/head65", "checkpoints/one_type", "checkpoints/long", "families/roberta",
            "families/camembert", "families/distilbert", "families/albert_groups", "families/electra",
            "families/electra_equal", "families/xlnet", "families/xlnet_clamped"]


def load_whole_models():
    """XLNet makes some of its parameters float32, whatever type is asked for, and then cannot run."""
    plain = PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls, *values, dtype=None, **named):
        return plain(cls, *values, dtype=dtype, **named).to(dtype)

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)


def distance(actual, expected):
    """None where they differ in anything but numbers."""
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return None
        each = [distance(a, e) for a, e in zip(actual, expected)]
        return None if None in each else max(each, default=0.0)
    if isinstance(expected, float) or isinstance(actual, float):
        return abs(actual - expected) / max(1.0, abs(expected))
    return 0.0 if actual == expected else None


def suite_errors(name, spec, work):
    stored = json.loads((HERE / "suite" / f"{name}.json").read_text(encoding="utf-8"))
    folder = work / name
    shutil.copytree(HERE / "suite" / "tokenizers" / stored["tokenizer"], folder)
    for file, content in stored["files"].items():
        (folder / file).write_text(content, encoding="utf-8")
    make_suite.write_weights(folder, stored["weights"])
    errors = {}
    for dtype, suite_calls.DTYPE in DTYPES.items():
        answers = [answer for make in spec["calls"] for answer in make(str(folder))]
        found = {}
        for answer, call in zip(answers, stored["calls"], strict=True):
            assert answer["options"] == call["options"]
            found.setdefault(call["task"], []).append(distance(answer["expected"], call["expected"]))
        errors[dtype] = {task: [None if d is None else float(f"{max(e for e in each if e is not None):.3g}") for d in each]
                         for task, each in found.items() if any(d is not None for d in each)}
    return errors


def encoder_errors(folder):
    expected = load_file(folder / "expected.safetensors")
    errors = {}
    for dtype, torch_dtype in DTYPES.items():
        model = AutoModel.from_pretrained(folder, dtype=torch_dtype).eval()
        differences = {"last": [], "mean": []}
        for index in range(sum(key.endswith(".ids") for key in expected)):
            case = lambda name: expected.get(f"{index}.{name}")
            inputs = {"input_ids": case("ids").long()[None]}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if model.config.model_type != "distilbert":
                inputs["token_type_ids"] = case("type_ids").long()[None]
            with torch.no_grad():
                states = model(**inputs).last_hidden_state[0].float()
            last = case(f"layer{model.config.num_hidden_layers}")
            for name, actual, right in (("last", states, last), ("mean", states.mean(0), case("mean"))):
                if right is not None:
                    differences[name].append((actual - right).double().flatten())
        errors[dtype] = {name: float(f"{torch.cat(parts).square().mean().sqrt().item():.3g}")
                         for name, parts in differences.items() if parts}
    return errors


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    load_whole_models()
    specs = make_suite.all_specs()
    with tempfile.TemporaryDirectory() as work:
        result = {"suite": {name: suite_errors(name, specs[name], Path(work)) for name in SUITE},
                  "encoders": {name: encoder_errors(HERE / name) for name in ENCODERS}}
    (HERE / "low_precision.json").write_text(json.dumps(result, indent=1) + "\n")


main()
