"""Whole models beside PyTorch on the same device: our forward in process and through gRPC, transformers
with SDPA eagerly and under torch.compile, by turns, in rounds. Times in ms, medians over the rounds.

A forward is the encoder and mean pooling over token ids that are on the host, its result on the host.
PyTorch's batches of mixed lengths are padded, ours are packed.
"""

import gc
import random
import shutil
import statistics
import subprocess
import time

import torch
from checkpoints import make_checkpoint
from phase import Server, import_client, library_environment
from transformers import AutoModel

# 32 sequences as texts come: many short ones, some at the limit.
MIXED = [random.Random(7).choice((12, 20, 33, 48, 64, 97, 128, 180, 256, 384)) for _ in range(32)]
BATCHES = {"1 x 128": [128], "32 x 384": [384] * 32, "32 mixed": MIXED}
QUICK_BATCHES = {"1 x 8": [8], "3 mixed": [3, 9, 5]}
MODELS = ("minilm", "large", "base")
ROUNDS = 7
ROUND_S = 0.25
TUNING_S = 12


def torch_forward(model, lengths, device):
    """A call that does one forward, from ids on the host to vectors on the host."""
    longest = max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.arange(length) % 100
        mask[i, :length] = 1
    if device != "cpu":
        ids, mask = ids.pin_memory(), mask.pin_memory()

    def forward():
        with torch.inference_mode():
            ids_there, mask_there = ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)
            hidden = model(input_ids=ids_there, attention_mask=mask_there).last_hidden_state
            weights = mask_there[..., None].to(hidden.dtype)
            return ((hidden * weights).sum(1) / weights.sum(1)).float().cpu()

    return forward


def median_ms(forward, seconds, least=5):
    times = []
    for _ in range(2):
        forward()
    start = time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        forward()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def tuning(context, flag, value):
    """How our side finds its kernels: once, for both of its programs. Kernels that no GPU had verified when they were
    built are among them if they have passed their tests in this run."""
    if context.emulated:
        return []
    tests = {name: result for name, result in context.result_of("kernel_tests").items() if name.startswith("hopper_")}
    passed = bool(tests) and all(result["passed"] and not result["failed"] for result in tests.values())
    return ["--tuning-cache", str(context.work / "tuning"), flag, str(value),
            *(["--unverified-kernels"] if passed else [])]


class InProcess:
    """forward_benchmark, which holds the model and measures a shape whenever it is asked to."""

    def __init__(self, context, folder, dtype, seconds):
        command = [context.bundle / "forward_benchmark", "--device", context.device, "--dtype", dtype,
                   "--seconds", str(seconds), *tuning(context, "--tuning-seconds", TUNING_S), folder, "2"]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=library_environment())

    def __call__(self, lengths):
        self.process.stdin.write("+".join(map(str, lengths)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().split()
        if len(line) != 3:
            raise RuntimeError(f"forward_benchmark ended with {self.process.wait()}")
        return float(line[1])

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


def contenders(context, lengths, model, compiled, in_process, client, bertrand, seconds):
    """Name -> a call that measures for a while and gives ms."""
    device = "cpu" if context.emulated else "cuda"
    inputs = [bertrand.TokenIds([j % 100 for j in range(length)]) for length in lengths]
    calls = {
        "ours": lambda: in_process(lengths),
        "ours_grpc": lambda: median_ms(lambda: client.embed(inputs, pooling="mean"), seconds),
        "torch_sdpa": lambda: median_ms(torch_forward(model, lengths, device), seconds),
    }
    if compiled is not None:
        calls["torch_compile"] = lambda: median_ms(torch_forward(compiled, lengths, device), seconds)
    return calls


def measure(context, name, calls, rounds):
    """All by turns; what fails is out, the others go on. torch.compile compiles, or fails, before the others
    begin."""
    times, failed = {call: [] for call in calls}, {}
    if "torch_compile" in calls and context.left_s() > 3:
        try:
            calls["torch_compile"]()
        except Exception as error:
            failed["torch_compile"] = str(error)[-400:]
            print(f"{name}, torch_compile: {error}", flush=True)
    for _ in range(rounds):
        for call, run in calls.items():
            if call in failed or context.left_s() < 3:
                continue
            try:
                times[call].append(run())
            except Exception as error:
                failed[call] = str(error)[-400:]
                print(f"{name}, {call}: {error}", flush=True)
    result = {call: {"ms": statistics.median(values), "ms_min": min(values), "ms_max": max(values),
                     "rounds": len(values)} for call, values in times.items() if values}
    return result | {call: {"error": text} for call, text in failed.items()}


def keep(results, entry):
    """Adds the entry, or puts it in the place of an earlier one, of which it takes what it has not itself."""
    for i, other in enumerate(results):
        if "times" in other and (other["model"], other["batch"]) == (entry["model"], entry["batch"]):
            results[i] = entry | {"times": other["times"] | entry["times"]}
            return
    results.append(entry)


def check_model(context, bertrand, size, batches, with_compile, results):
    folder = context.work / f"speed-{size}"
    make_checkpoint("bert", size, folder)
    gc.collect()
    dtype, device = ("float32", "cpu") if context.emulated else ("float16", "cuda")
    seconds, rounds = (0.01, 2) if context.quick else (ROUND_S, ROUNDS)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa",
                                      add_pooling_layer=False).to(device).eval()
    compiled = torch.compile(model, mode="reduce-overhead", dynamic=False) if with_compile else None
    in_process = InProcess(context, folder, dtype, seconds)
    try:
        in_process(min(batches.values(), key=sum))  # it has tuned
        flags = ["--max-batch-tokens", "16384", *tuning(context, "--tuning-time", f"{TUNING_S}s")]
        with Server(context, "--model", f"m={folder}", "--dtype", dtype, *flags) as server, \
                bertrand.Client(server.address, timeout=60) as client:
            # All without torch.compile first: compiling takes half a minute a shape, or all there is.
            for peer in (None, compiled) if compiled is not None else (None,):
                for name, lengths in batches.items():
                    calls = contenders(context, lengths, model, peer, in_process, client, bertrand, seconds)
                    entry = {"model": size, "batch": name, "tokens": sum(lengths), "sequences": len(lengths),
                             "dtype": dtype, "times": measure(context, f"{size} {name}", calls, rounds)}
                    print(entry, flush=True)
                    keep(results, entry)
                    context.save(results)
    finally:
        in_process.close()
        shutil.rmtree(folder, ignore_errors=True)


def models(context):
    bertrand = import_client(context)
    torch.set_float32_matmul_precision("highest")
    results = []
    context.save(results)
    for size in ("tiny",) if context.quick else MODELS:
        if context.left_s() < 15:
            results.append({"model": size, "error": "out of time"})
            context.save(results)
            continue
        try:
            check_model(context, bertrand, size, QUICK_BATCHES if context.quick else BATCHES,
                        size == "base", results)
        except Exception as error:
            results.append({"model": size, "error": str(error)[-800:]})
            context.save(results)
    return results
