"""Attention of the same shapes as our kernel's cases (matrix_cases.cu), by PyTorch: FlashAttention and cuDNN's
fused attention, each as scaled_dot_product_attention runs it. Sequences of mixed lengths come packed (nested
tensors) and padded with a mask. What a backend refuses is "not available", with its reason.

Times are as gpu_kernel_benchmark takes them: a CUDA graph over several copies of the operands in turn, so that the
second-level cache holds none; without a graph where recording fails, and then it says so.
"""

import statistics
import time
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

HEADS = {"bert-base": (12, 64), "bert-large": (16, 64), "minilm-l6": (12, 32)}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
WORKING_SET_BYTES = 192 << 20
COPIES_MOST = 64
ROUNDS, GRAPH_S = 9, 4e-3
TOLERANCE = 0.02  # of values of about 1, in float16


def mixed_lengths(tokens=16384):
    """MixedLoad of kernel_cases.cu."""
    choices, lengths = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512), []
    while sum(lengths) < tokens:
        lengths.append(min(tokens - sum(lengths), choices[len(lengths) * 5 % len(choices)]))
    return lengths


def loads(quick):
    if quick:
        return {"single": [9], "squad": [17, 17], "mixed": [1, 40, 70]}
    return {"single": [128], "squad": [384] * 32, "mixed": mixed_lengths()}


def equal_lengths(count, length, heads, size, dtype, device):
    """Queries, keys and values [count, heads, length, size] as views of one fused projection."""
    qkv = torch.randn(count, length, 3, heads, size, dtype=dtype, device=device)
    return [qkv[:, :, i].transpose(1, 2) for i in range(3)]


def nested(lengths, heads, size, dtype, device):
    """The same of sequences end to end."""
    offsets = torch.tensor([0, *lengths], device=device).cumsum(0)
    qkv = torch.randn(sum(lengths), 3, heads, size, dtype=dtype, device=device)
    return [torch.nested.nested_tensor_from_jagged(qkv[:, i].contiguous(), offsets, min_seqlen=min(lengths),
                                                   max_seqlen=max(lengths)).transpose(1, 2) for i in range(3)]


def variants(lengths, heads, size, dtype, device):
    """Name's end -> (a call that makes operands, the mask)."""
    longest = max(lengths)
    if min(lengths) == longest:
        return {"": (lambda: equal_lengths(len(lengths), longest, heads, size, dtype, device), None)}
    there = torch.tensor(lengths, device=device)
    mask = torch.arange(longest, device=device)[None, None, None, :] < there[:, None, None, None]
    return {"_nested": (lambda: nested(lengths, heads, size, dtype, device), None),
            "_padded": (lambda: equal_lengths(len(lengths), longest, heads, size, dtype, device), mask)}


def attend(operands, mask):
    return scaled_dot_product_attention(*operands, attn_mask=mask)


def check(operands, mask, backend):
    """RuntimeError when it refuses, ValueError when it is wrong: compared with plain attention in float32."""
    with sdpa_kernel(backend):
        result = attend(operands, mask)
    parts = result.unbind() if result.is_nested else [result]
    exact = [[part.float() for part in (x.unbind() if x.is_nested else [x])] for x in operands]
    for i, part in enumerate(parts):
        with sdpa_kernel(SDPBackend.MATH):
            wanted = attend([x[i] for x in exact], mask)
        error = (part.float() - wanted).abs().max().item()
        if not error <= TOLERANCE:
            raise ValueError(f"its error is {error}, expected at most {TOLERANCE}")


def time_cpu(run, copies):
    start = time.perf_counter()
    for operands in copies:
        run(operands)
    return 1e6 * (time.perf_counter() - start) / len(copies), False


def time_cuda(run, copies):
    """Microseconds of one run, and whether it was in a graph."""
    for operands in copies:
        run(operands)
    torch.cuda.synchronize()

    def once():
        for operands in copies:
            run(operands)

    in_graph = True
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            once()
        once = graph.replay
    except RuntimeError as error:
        print(f"not in a graph: {error}", flush=True)
        torch.cuda.synchronize()
        in_graph = False
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def us(repeats):
        begin.record()
        for _ in range(repeats):
            once()
        end.record()
        end.synchronize()
        return 1e3 * begin.elapsed_time(end) / repeats / len(copies)

    repeats = max(1, int(GRAPH_S / (1e-6 * us(1) * len(copies))))
    return statistics.median(us(repeats) for _ in range(ROUNDS)), in_graph


def measure(make, mask, backend, device):
    operands = make()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            check(operands, mask, backend)
        except RuntimeError as error:
            text = str(error).strip().splitlines()[0]
            if "CUDA error" in text and device != "cpu":
                return {"error": text[:200]}
            # PyTorch warns of its reasons, one after the other, and then raises something general.
            reasons = [str(one.message).split("(Triggered")[0].strip() for one in said]
            return {"not available": "; ".join([text[:120], *reasons])[:500]}
        except ValueError as error:
            return {"error": str(error)}
    values = sum((x.values() if x.is_nested else x).numel() for x in operands)
    size_bytes = (values * 4 // 3) * operands[0].element_size()
    copies = [operands] + [make() for _ in range(min(COPIES_MOST, WORKING_SET_BYTES // size_bytes) if device != "cpu"
                                                 else 0)]

    def run(those):
        with sdpa_kernel(backend):
            return attend(those, mask)

    us, in_graph = (time_cpu if device == "cpu" else time_cuda)(run, copies)
    return {"us": us, "graph": in_graph, "copies": len(copies)}


def attention_peers(context):
    device = "cpu" if context.emulated else "cuda"
    dtype = torch.float32 if context.emulated else torch.float16
    results = {"dtype": str(dtype).removeprefix("torch."), "cases": []}
    if not context.emulated:
        results["cudnn"] = torch.backends.cudnn.version()
    for load, lengths in loads(context.quick).items():
        for model, (heads, size) in HEADS.items():
            entry = {"name": f"attention/{model}/{load}/float16", "peers": {}}
            results["cases"].append(entry)
            for end, (make, mask) in variants(lengths, heads, size, dtype, device).items():
                for name, backend in BACKENDS.items():
                    if context.left_s() < 2:
                        entry["peers"][name + end] = {"not available": "out of time"}
                        continue
                    entry["peers"][name + end] = measure(make, mask, backend, device)
                    context.save(results)
            print(entry, flush=True)
    return results
