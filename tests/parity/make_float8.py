"""Makes tests/parity/float8.json: checkpoints of the six families at sizes that float8 takes, the largest
magnitudes of what their layers read, and how far a plain emulation of the scheme (docs/fp8.md) with
transformers is from its float32. Half the bar for ours (float8_test.cc).

Run with the oracle's interpreter from the source tree's root:
    oracle tests/parity/make_float8.py

The emulation is float32 with inputs and weights of a block's four products rounded to e4m3 and back. As in
make_suite.py no weights are kept; float32's hidden states are not either, as the CPU's are equal to 1e-5
(encoder_parity_test.cc). "error": the root of the mean square over all values of all sequences' last hidden
states; "memory": that of XLNet's second segment, which attends to the first.
"""

import json
import tempfile
from pathlib import Path

import torch
from make_suite import FAMILIES, make_recipe, stored_tensors, write_weights
from transformers import AutoConfig, AutoModel, logging

HERE = Path(__file__).resolve().parent
LARGEST = 448  # of e4m3
PLACES = ("qkv", "out", "up", "down")
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
# The modules of a block by their place; XLNet's first two are products without modules.
MODULES = {
    "self.query": "qkv", "self.key": "qkv", "self.value": "qkv", "attention.output.dense": "out",
    "intermediate.dense": "up", "output.dense": "down",
    "attention.query": "qkv", "attention.key": "qkv", "attention.value": "qkv", "attention.dense": "out",
    "ffn": "up", "ffn_output": "down",
    "q_lin": "qkv", "k_lin": "qkv", "v_lin": "qkv", "out_lin": "out", "lin1": "up", "lin2": "down",
    "ff.layer_1": "up", "ff.layer_2": "down",
}


def place_of(name):
    fitting = [end for end in MODULES if name.endswith("." + end)]
    return MODULES[max(fitting, key=len)] if fitting else None


def block_of(name):
    """encoder.layer.3.attention.self.query: 3. ALBERT's: the group."""
    return next(int(part) for part in name.split(".") if part.isdigit())


def rounded(x, amax):
    scale = amax / LARGEST
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float() * scale


class Emulation:
    """Looks at the inputs of all products, and then rounds them."""

    def __init__(self, model):
        self.inputs, self.weights, self.is_rounding = {}, {}, False
        layers = [(name, module) for name, module in model.named_modules()
                  if place_of(name) and isinstance(module, torch.nn.Linear)]
        for name, module in layers:
            self.watch(module, (block_of(name), place_of(name)), module.weight)
        self.products = {}  # of XLNet, by the parameter
        for name, parameter in model.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if ".rel_attn." in name and last in "qkvo":
                key = (block_of(name), "out" if last == "o" else "qkv")
                self.products[id(parameter)] = key
                self.weights.setdefault(key, []).append(parameter)
        self.einsum = torch.einsum
        torch.einsum = self.product

    def watch(self, module, key, weight):
        self.weights.setdefault(key, []).append(weight)
        module.register_forward_pre_hook(lambda _, inputs: (self.seen(key, inputs[0]),))

    def seen(self, key, x):
        if self.is_rounding:
            return rounded(x, self.inputs[key])
        self.inputs[key] = max(self.inputs.get(key, 0.0), x.abs().max().item())
        return x

    def product(self, equation, x, *others):
        key = self.products.get(id(others[0])) if others else None
        return self.einsum(equation, x if key is None else self.seen(key, x), *others)

    def round(self):
        self.is_rounding = True
        for weights in self.weights.values():
            amax = max(weight.abs().max().item() for weight in weights)
            for weight in weights:
                weight.data = rounded(weight.data, amax)

    def close(self):
        torch.einsum = self.einsum


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
