"""Six families at full size: our server beside transformers on the same GPU, both fed token ids.

Hidden states through EmbedTokens, logits through Classify. In f32 every value is within 1e-4 of
transformers' (absolute and relative). In lower precision the error against transformers' f32 (root of
the mean square, over all tokens) is at most twice that of transformers in the same precision; in float8, of
float8_scheme.py, which rounds to e4m3 at the same places.
"""

import copy
import gc
import random
import shutil

import torch
from checkpoints import FAMILIES, make_checkpoint, random_ids
from float8_scheme import Emulation
from phase import Server, call, flags_of, import_client

LENGTHS = [1, 2, 17, 64, 65, 128, 200, 384, 512]
QUICK_LENGTHS = [1, 5, 17]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FLOAT_BAR = 1e-4
CALIBRATION_TEXTS, CALIBRATION_WORDS = 16, 40
# What the server says of GPUs before Ada.
NO_FLOAT8 = "has no products in float8"


def torch_device(context):
    return "cpu" if context.emulated else "cuda"


def reference(model, sequences, dtype, device):
    """transformers' last hidden states and logits, one sequence at a time: no padding."""
    model = model.to(device=device, dtype=dtype)
    hidden, logits = [], []
    with torch.inference_mode():
        for ids, types in sequences:
            inputs = {"input_ids": ids[None].to(device)}
            if model.config.model_type != "distilbert":
                inputs["token_type_ids"] = types[None].to(device)
            output = model(**inputs, output_hidden_states=True)
            # XLNet's are [tokens, batch, hidden] while it runs; it returns them as all others do.
            hidden.append(output.hidden_states[-1][0].double().cpu())
            logits.append(output.logits[0].double().cpu())
    return hidden, logits


def float8_reference(model, sequences, device):
    """The same of the scheme's emulation, calibrated with these very sequences."""
    model = copy.deepcopy(model)
    emulation = Emulation(model)
    try:
        reference(model, sequences, torch.float32, device)
        emulation.round()
        return reference(model, sequences, torch.float32, device)
    finally:
        emulation.close()


def calibrate(context, folder):
    """Scales from random texts. (Inputs are random ids, whose magnitudes are those of any others.)"""
    generator = random.Random(3)
    word = lambda: "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(1, 8)))
    texts = context.work / "calibration.txt"
    texts.write_text("".join(" ".join(word() for _ in range(CALIBRATION_WORDS)) + "\n"
                             for _ in range(CALIBRATION_TEXTS)))
    status, output = call([context.bundle / "bertrand-server", "--model", f"m={folder}", "--calibrate", texts],
                          context.left_s())
    if status != 0:
        raise RuntimeError(f"not calibrated, {status}: {output[-800:]}")


def ours(context, bertrand, folder, sequences, dtype):
    """The same through the server, which has the model alone."""
    inputs = [bertrand.TokenIds(ids.tolist(), types.tolist()) for ids, types in sequences]
    with Server(context, "--model", f"m={folder}", "--dtype", dtype, "--tuning-time=0") as server:
        with bertrand.Client(server.address, timeout=60) as client:
            tokens = client.embed_tokens(inputs, model="m")
            hidden = [torch.from_numpy(result.embeddings.copy()).double() for result in tokens]
            logits = []
            for labels in client.classify(inputs, model="m", activation="none"):
                scores = {label.label_id: label.score for label in labels}
                logits.append(torch.tensor([scores[i] for i in sorted(scores)], dtype=torch.float64))
        return hidden, logits, server.started_s


def errors(actual, expected):
    """Root mean square and largest error over all sequences, and the largest over 1e-4's allowance."""
    differences = [(a - e).abs() for a, e in zip(actual, expected, strict=True)]
    for a, e in zip(actual, expected, strict=True):
        if a.shape != e.shape:
            raise RuntimeError(f"the shape is {tuple(a.shape)}, expected {tuple(e.shape)}")
    flat = torch.cat([d.flatten() for d in differences])
    allowed = torch.cat([(FLOAT_BAR * (1 + e.abs())).flatten() for e in expected])
    return {"rms": flat.square().mean().sqrt().item(), "max": flat.max().item(),
            "over": (flat / allowed).max().item()}


def judge(dtype, error, peer):
    """Whether an error holds its bar; not a number never does."""
    if dtype == "float32":
        return bool(error["over"] <= 1)
    return bool(error["rms"] <= 2 * peer["rms"])


def compare(family, dtype, actual, exact, peer):
    entry = {"family": family, "dtype": dtype, "passed": True}
    for i, what in enumerate(("hidden", "logits")):
        error = errors(actual[i], exact[i])
        entry[what] = {"error": error}
        if peer is not None:
            entry[what]["transformers"] = errors(peer[i], exact[i])
        entry["passed"] &= judge(dtype, error, entry[what].get("transformers"))
    return entry


def check_family(context, bertrand, family, dtypes, results):
    device = torch_device(context)
    folder = context.work / f"parity-{family}"
    model = make_checkpoint(family, "tiny" if context.quick else "base", folder)
    sequences = random_ids(model.config, QUICK_LENGTHS if context.quick else LENGTHS)
    exact = reference(model, sequences, torch.float32, device)
    # Before lower precision rounds the model's own weights.
    peers = {"float8": float8_reference(model, sequences, device)} if "float8" in dtypes else {}
    peers |= {name: reference(model, sequences, torch_type, device)
              for name, torch_type in DTYPES.items() if name != "float32"}
    del model
    gc.collect()
    for dtype in dtypes:
        try:
            if dtype == "float8":
                calibrate(context, folder)
            hidden, logits, started_s = ours(context, bertrand, folder, sequences, dtype)
            entry = compare(family, dtype, (hidden, logits), exact, peers.get(dtype))
            entry["started_s"] = round(started_s, 2)
        except Exception as error:  # one combination's end is not the others'
            if NO_FLOAT8 in str(error):
                continue
            entry = {"family": family, "dtype": dtype, "passed": False, "error": str(error)[-800:]}
        results.append(entry)
        print(entry, flush=True)
        context.save(results)
    shutil.rmtree(folder)


def parity(context):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    bertrand = import_client(context)
    known = flags_of(context).partition("--dtype")[2].partition("--threads")[0]
    dtypes = [name for name in (*DTYPES, "float8") if name in known]
    results = []
    context.save(results)
    for family in FAMILIES:
        if context.left_s() < 5:
            raise RuntimeError(f"out of time before {family}")
        try:
            check_family(context, bertrand, family, dtypes, results)
        except Exception as error:
            results.append({"family": family, "dtype": "all", "passed": False, "error": str(error)[-800:]})
            context.save(results)
    return results
