"""Makes tests/parity/float8.json: checkpoints of the six families at sizes that float8 takes, the largest
magnitudes of what their layers read, and how far a plain emulation of the scheme (docs/fp8.md) with
transformers is from its float32 (float8_test.cc).

Run with the oracle's interpreter from the source tree's root:
    oracle tests/parity/make_float8.py

The emulation is tests/gpu/float8_scheme.py. As in make_suite.py no weights are kept; float32's hidden states
are not either, as the CPU's are equal to 1e-5 (encoder_parity_test.cc). "error": the root of the mean square
over all values of all sequences' last hidden states; "memory_error": of XLNet's second segment, which attends
to the first.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from make_suite import FAMILIES, make_recipe, stored_tensors, write_weights
from transformers import AutoConfig, AutoModel, logging

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "gpu"))
from float8_scheme import PLACES, Emulation  # noqa: E402

LENGTHS = (1, 9, 24, 46)
SEGMENTS = (24, 22)  # of the last sequence, XLNet

# hidden, heads, layers, intermediate: heads of 16, 32, 64, 128, 32, 64; and what else differs.
SPECS = {
    "bert": (64, 4, 3, 160, {}),
    "roberta": (96, 3, 2, 192, {}),
    "distilbert": (64, 1, 3, 128, {"activation": "relu"}),
    "albert": (128, 1, 4, 208, {"embedding_size": 32, "num_hidden_groups": 2}),
    "electra": (64, 2, 2, 256, {"embedding_size": 48}),
    "xlnet": (128, 2, 2, 144, {}),
}


def inputs_of(family, ids):
    inputs = {"input_ids": torch.tensor([ids])}
    types = [i % 2 if family in ("bert", "albert", "electra", "xlnet") else 0 for i in range(len(ids))]
    if family != "distilbert":
        inputs["token_type_ids"] = torch.tensor([types])
    return inputs, types


def states(model, family, sequences):
    with torch.no_grad():
        return [model(**inputs_of(family, ids)[0]).last_hidden_state[0] for ids in sequences]


def second_segment(model, family, ids):
    inputs, _ = inputs_of(family, ids)
    first = {name: value[:, :SEGMENTS[0]] for name, value in inputs.items()}
    second = {name: value[:, SEGMENTS[0]:] for name, value in inputs.items()}
    with torch.no_grad():
        mems = model(**first, use_mems=True).mems
        return [model(**second, mems=mems, use_mems=True).last_hidden_state[0]]


def root_mean_square(parts):
    return torch.cat([part.double().flatten() for part in parts]).square().mean().sqrt().item()


def distance(actual, expected):
    return float(f"{root_mean_square([a - e for a, e in zip(actual, expected, strict=True)]):.3g}")


def make(family, work):
    hidden, heads, layers, intermediate, more = SPECS[family]
    folder = work / family
    tokenizer, positions = FAMILIES[family]
    vocabulary = 400
    common = dict(vocab_size=vocabulary, pad_token_id=0 if family != "roberta" else 1)
    names = {"distilbert": ("dim", "n_heads", "n_layers", "hidden_dim"),
             "xlnet": ("d_model", "n_head", "n_layer", "d_inner")}.get(
        family, ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size"))
    common |= dict(zip(names, (hidden, heads, layers, intermediate), strict=True))
    if positions:
        common["max_position_embeddings"] = positions
    if family == "roberta":
        common["type_vocab_size"] = 1
    if family == "xlnet":
        common["mem_len"] = max(SEGMENTS)
    model = AutoModel.from_config(AutoConfig.for_model(family, **(common | more)))
    model.save_pretrained(folder)
    recipe = make_recipe(f"float8_{family}", stored_tensors(folder), {}, hidden)
    write_weights(folder, recipe)
    model = AutoModel.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(len(family))
    sequences = [torch.randint(5, vocabulary, (n,), generator=generator).tolist() for n in LENGTHS]
    emulation = Emulation(model)
    has_memory = family == "xlnet"
    exact_memory = second_segment(model, family, sequences[-1]) if has_memory else []
    emulation.inputs.clear()  # ours are of whole sequences alone
    exact = states(model, family, sequences)
    emulation.round()
    error = distance(states(model, family, sequences), exact)
    memory_error = distance(second_segment(model, family, sequences[-1]), exact_memory) if has_memory else None
    emulation.close()
    blocks = 1 + max(block for block, _ in emulation.inputs)
    result = {
        "tokenizer": tokenizer, "files": {"config.json": (folder / "config.json").read_text()}, "weights": recipe,
        "sequences": [[ids, inputs_of(family, ids)[1]] for ids in sequences],
        "inputs": [[float(f"{emulation.inputs[block, place]:.6g}") for place in PLACES] for block in range(blocks)],
        "size": float(f"{root_mean_square(exact):.3g}"), "error": error}
    if has_memory:
        result |= {"segments": SEGMENTS, "memory_error": memory_error}
    print(family, result["inputs"], result["size"], result["error"], result.get("memory_error"))
    return result


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as work:
        result = {family: make(family, Path(work)) for family in SPECS}
    text = ",\n".join(f" {json.dumps(family)}: {json.dumps(entry, separators=(',', ':'))}"
                      for family, entry in result.items())
    (HERE / "float8.json").write_text("{\n" + text + "\n}\n")


main()
