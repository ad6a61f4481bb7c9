"""Random checkpoints of the six families, made on the spot: full-size, without a network, the same for
the same seed. Tokenizers are the small ones of tests/parity; texts play no part, inputs are token ids.
"""

import json
import math
import shutil

import torch
from phase import ROOT
from transformers import AutoConfig, AutoModelForSequenceClassification

TOKENIZERS = ROOT / "tests/parity/suite/tokenizers"
# model_type -> its tokenizer, the size of its vocabulary, where it has position rows below the first.
FAMILIES = {
    "bert": ("wordpiece", 30522, 0), "roberta": ("byte_level", 50265, 2), "albert": ("unigram_albert", 30000, 0),
    "distilbert": ("wordpiece_distilbert", 30522, 0), "electra": ("wordpiece_electra", 30522, 0),
    "xlnet": ("unigram_xlnet", 32000, 0),
}
SIZES = {  # hidden, heads, layers, intermediate
    "base": (768, 12, 12, 3072), "large": (1024, 16, 24, 4096), "minilm": (384, 12, 6, 1536),
    "tiny": (64, 2, 2, 128),
}
NUM_LABELS = 5


def make_config(family, size):
    hidden, heads, layers, intermediate = SIZES[size]
    _, vocabulary, offset = FAMILIES[family]
    common = dict(vocab_size=vocabulary if size != "tiny" else 1000, num_labels=NUM_LABELS)
    if family == "distilbert":
        common |= dict(dim=hidden, n_heads=heads, n_layers=layers, hidden_dim=intermediate)
    elif family == "xlnet":
        common |= dict(d_model=hidden, n_head=heads, n_layer=layers, d_inner=intermediate)
    else:
        common |= dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers,
                       intermediate_size=intermediate)
    if family in ("albert", "electra"):
        common["embedding_size"] = min(hidden, 128)
    if offset:
        common |= dict(max_position_embeddings=512 + offset, type_vocab_size=1)
    return AutoConfig.for_model(family, **common)


def randomize(model, seed):
    """Weights under which a mistake shows: products keep the size of their inputs, attention is neither
    flat nor on one token, and biases, gains and shifts are of the size of what they change."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            lower = name.lower()
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            if "norm" in lower and lower.endswith("weight"):
                value = 1 + 0.2 * noise
            elif "embedding" in lower and parameter.dim() == 2 and "mapping" not in lower:
                value = 0.5 * noise
            elif parameter.dim() >= 2:
                # XLNet stores projections as [hidden, heads, size]; all sum over their first or last
                # dimension, which is the hidden size in both.
                fan_in = parameter.shape[0] if parameter.dim() == 3 else parameter.shape[-1]
                value = noise / math.sqrt(fan_in)
            else:
                value = 0.1 * noise
            parameter.copy_(value.to(parameter.dtype))


def make_checkpoint(family, size, folder, seed=1):
    """Writes a sequence classifier's checkpoint in f32; the model."""
    config = make_config(family, size)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32,
                                                           attn_implementation="eager").eval()
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for file in (TOKENIZERS / FAMILIES[family][0]).iterdir():
        shutil.copy(file, folder)
    # It is made for the tiny checkpoints of tests/parity.
    limits = json.loads((folder / "tokenizer_config.json").read_text())
    limits["model_max_length"] = 512
    (folder / "tokenizer_config.json").write_text(json.dumps(limits))
    return model


def random_ids(config, lengths, seed=2):
    """Sequences of ids without any that mean padding, and their token types."""
    generator = torch.Generator().manual_seed(seed)
    types = getattr(config, "type_vocab_size", 2 if config.model_type == "xlnet" else 1)
    sequences = []
    for length in lengths:
        ids = torch.randint(10, config.vocab_size, (length,), generator=generator)
        type_ids = (torch.arange(length) >= (length + 1) // 2).long() if types > 1 else torch.zeros_like(ids)
        sequences.append((ids, type_ids))
    return sequences
