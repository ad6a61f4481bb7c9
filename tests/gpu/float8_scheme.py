"""docs/fp8.md's scheme with transformers: a model in float32, of which inputs and weights of each block's four
products are rounded to e4m3 and back. What ours is compared with; the products' roundings are all that the
two have in common.
"""

import torch

LARGEST = 448  # of e4m3
PLACES = ("qkv", "out", "up", "down")
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
    """Looks at the inputs of all products while the model runs; after round() it rounds them, with these
    scales, and the weights. Until close() it stands in torch.einsum's place, for XLNet."""

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
