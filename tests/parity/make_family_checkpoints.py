"""Makes tests/parity/families: tiny random checkpoints of odd sizes of every family, and the hidden
states that transformers computes with them.

Run with the oracle's interpreter from the source tree's root:
    oracle tests/parity/make_family_checkpoints.py

Weights are large, so that a swapped operand or a wrong activation shows. Everything is seeded; a
second run gives the same files. Ids are random: <pad> is among them.
"""

import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers.models import Pooling
from transformers import AutoModel

ROOT = Path(__file__).resolve().parent / "families"
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def common(hidden, heads, layers, intermediate, act, eps, **more):
    return dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers,
                intermediate_size=intermediate, hidden_act=act, layer_norm_eps=eps,
                max_position_embeddings=40, **more)


# The class that is stored, its configuration, and what is special. "pooler": the checkpoint has one;
# "std": of the weights.
CHECKPOINTS = {
    "roberta": dict(head="RobertaModel", pooler=True, dtype=torch.float16, config=common(
        48, 3, 2, 70, "gelu", 1e-5, type_vocab_size=1, vocab_size=61)),
    "roberta_pad4": dict(head="RobertaForMaskedLM", legacy=True, config=common(
        40, 8, 1, 33, "gelu_fast", 3e-3, type_vocab_size=2, vocab_size=23, pad_token_id=4)),
    "xlm_roberta": dict(head="XLMRobertaForSequenceClassification", dtype=torch.float16, config=common(
        64, 2, 2, 100, "gelu", 1e-5, type_vocab_size=1, vocab_size=31)),
    "camembert": dict(head="CamembertForTokenClassification", dtype=torch.bfloat16, std=0.2,
                      config=common(
        72, 1, 1, 50, "relu", 1e-12, type_vocab_size=3, vocab_size=31, pad_token_id=0)),
    "distilbert": dict(head="DistilBertModel", dtype=torch.float16, std=0.2, config=dict(
        dim=64, n_heads=1, n_layers=2, hidden_dim=90, activation="gelu", vocab_size=37,
        max_position_embeddings=40)),
    "distilbert_sinusoidal": dict(head="DistilBertForQuestionAnswering", dtype=torch.float16, config=dict(
        dim=36, n_heads=4, n_layers=2, hidden_dim=51, activation="relu", vocab_size=37,
        max_position_embeddings=40, sinusoidal_pos_embds=True)),
    "electra": dict(head="ElectraForPreTraining", dtype=torch.bfloat16, config=common(
        48, 3, 2, 70, "gelu", 1e-12, embedding_size=20, vocab_size=37, type_vocab_size=2)),
    "electra_wide": dict(head="ElectraModel", dtype=torch.float16, config=common(
        24, 2, 2, 30, "silu", 1e-12, embedding_size=90, vocab_size=37, type_vocab_size=2)),
    "electra_equal": dict(head="ElectraModel", dtype=torch.float16, config=common(
        128, 1, 1, 72, "gelu_pytorch_tanh", 1e-12, embedding_size=128, vocab_size=19, type_vocab_size=1)),
    "albert": dict(head="AlbertModel", pooler=True, std=0.2, config=common(
        48, 3, 4, 50, "gelu_new", 1e-12, embedding_size=20, vocab_size=37, type_vocab_size=2)),
    "albert_groups": dict(head="AlbertForSequenceClassification", pooler=True, dtype=torch.float16, config=common(
        32, 1, 5, 45, "gelu", 1e-12, embedding_size=32, vocab_size=37, type_vocab_size=2,
        num_hidden_groups=2, inner_group_num=2)),
    "xlnet": dict(head="XLNetModel", dtype=torch.float16, num_types=3, memory=[(5, 3), (4, 9), (7, 7), (3, 1)],
                  config=dict(d_model=48, n_head=3, n_layer=2, d_inner=70, vocab_size=37, layer_norm_eps=3e-3)),
    # Heads of 9. Distances beyond 4 count as 4; of a segment only the first two tokens are remembered.
    "xlnet_clamped": dict(head="XLNetForSequenceClassification", summary=True, dtype=torch.bfloat16, std=0.2,
                          num_types=3, memory=[(5, 3), (4, 9)], config=dict(
        d_model=36, n_head=4, n_layer=3, d_inner=51, vocab_size=37, ff_activation="relu", untie_r=False,
        clamp_len=4, reuse_len=2)),
    # Longer than the stored distances reach, ahead and behind.
    "xlnet_long": dict(head="XLNetLMHeadModel", num_types=2, lengths=(600, 1100), memory=[(300, 900)],
                       document=1400, config=dict(d_model=8, n_head=1, n_layer=1, d_inner=12, vocab_size=37)),
    # A clamp between the two.
    "xlnet_far": dict(head="XLNetModel", num_types=2, lengths=(700,), config=dict(
        d_model=8, n_head=1, n_layer=1, d_inner=12, vocab_size=37, clamp_len=600)),
    "albert_own": dict(head="AlbertForMaskedLM", config=common(
        30, 2, 3, 40, "tanh", 1e-12, embedding_size=7, vocab_size=37, type_vocab_size=2,
        num_hidden_groups=3)),
}
LENGTHS = (1, 2, 13)


def is_norm(key):
    return key.endswith("norm.weight") or "LayerNorm.weight" in key


def rename_legacy(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def make(name, spec):
    folder = ROOT / name
    model_class = getattr(transformers, spec["head"])
    model = model_class(model_class.config_class(**spec["config"]))
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    for key, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator) * spec.get("std", 0.3)
        parameter.data = values + 1 if is_norm(key) else values
    model.to(spec.get("dtype", torch.float32)).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if spec.get("legacy"):
        tensors = {rename_legacy(key): value for key, value in load_file(folder / "model.safetensors").items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def pooled(states):
    features = {"token_embeddings": states[None].clone(),
                "attention_mask": torch.ones((1, len(states)), dtype=torch.long)}
    return {mode: Pooling(states.shape[1], mode)(dict(features))["sentence_embedding"][0] for mode in MODES}


def expect(name, spec):
    """Hidden states of every layer, the pooler's output and all poolings of random ids."""
    model = AutoModel.from_pretrained(ROOT / name, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(7)
    if spec.get("summary"):
        head = getattr(transformers, spec["head"])
        summary = head.from_pretrained(ROOT / name, dtype=torch.float32).eval().sequence_summary
    num_types = spec.get("num_types") or getattr(model.config, "type_vocab_size", None)
    expected = {}
    for index, length in enumerate(spec.get("lengths", LENGTHS)):
        ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
        types = torch.randint(num_types or 2, (1, length), generator=generator)
        with torch.no_grad():
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True,
                        **({"token_type_ids": types} if num_types else {}))
        case = {"ids": ids[0].float(), "type_ids": types[0].float(), **pooled(out.last_hidden_state[0])}
        if spec.get("pooler"):
            case["pooler"] = out.pooler_output[0]
        if spec.get("summary"):
            with torch.no_grad():
                case["pooler"] = summary(out.last_hidden_state)[0]
        for layer, states in enumerate(out.hidden_states):
            case[f"layer{layer}"] = states[0]
        expected.update({f"{index}.{key}": value.contiguous() for key, value in case.items()})
    save_file(expected, ROOT / name / "expected.safetensors")


def expect_memory(name, spec):
    """Hidden states and poolings of a document that runs as segments: CASE.window and CASE.memory are its
    lengths. The types of what is remembered are 0, whatever they were."""
    model = AutoModel.from_pretrained(ROOT / name, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(8)
    length = spec.get("document", 23)
    ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
    types = torch.randint(spec["num_types"], (1, length), generator=generator)
    expected = {}
    for index, (window, memory) in enumerate(spec["memory"]):
        model.mem_len, mems, layers = memory, None, []
        for begin in range(0, length, window):
            with torch.no_grad():
                out = model(input_ids=ids[:, begin : begin + window], token_type_ids=types[:, begin : begin + window],
                            mems=mems, use_mems=True, output_hidden_states=True)
            mems = out.mems
            layers.append([states[0] for states in out.hidden_states])
        case = {"ids": ids[0].float(), "type_ids": types[0].float(), "window": torch.tensor([float(window)]),
                "memory": torch.tensor([float(memory)])}
        case |= {f"layer{i}": torch.cat(states) for i, states in enumerate(zip(*layers))}
        case |= pooled(case[f"layer{len(layers[0]) - 1}"])
        expected.update({f"{index}.{key}": value.contiguous() for key, value in case.items()})
    save_file(expected, ROOT / name / "memory.safetensors")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, spec in CHECKPOINTS.items():
        make(name, spec)
        expect(name, spec)
        if spec.get("memory"):
            expect_memory(name, spec)
    with_memory = [name for name, spec in CHECKPOINTS.items() if spec.get("memory")]
    (ROOT / "cases.json").write_text(json.dumps({"bases": list(CHECKPOINTS), "with_memory": with_memory}, indent=1) + "\n")


main()
