"""Forwards of base-size encoders beside PyTorch's, by turns in one run: XLNet, and BERT, which has the
same matrix products and plain attention.

    oracle tests/benchmarks/forward_benchmark.py build/tests/benchmarks/forward_benchmark [THREADS]

Times are medians in ms, by the clock and of all threads' CPU; a memory is transformers' `mems` of as
many tokens.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, logging

SHAPES = [(1, 16, 0), (1, 128, 0), (1, 512, 0), (8, 128, 0), (1, 512, 512)]
CONFIGS = {
    "bert": AutoConfig.for_model("bert", vocab_size=1000, attn_implementation="sdpa"),
    "xlnet": AutoConfig.for_model("xlnet", vocab_size=1000, d_model=768, n_layer=12, n_head=12, d_inner=3072),
}


def time_torch(model, sequences, length, memory):
    ids = torch.arange(length).repeat(sequences, 1) % 100
    more = {"token_type_ids": torch.zeros_like(ids)}
    if memory:
        more |= {"mems": [torch.randn(memory, sequences, 768) for _ in range(12)], "use_mems": True}
    times, cpu_times, start = [], [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 2:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            model(input_ids=ids, **more)
        times.append((time.perf_counter() - begin) * 1e3)
        cpu_times.append((time.process_time() - cpu_begin) * 1e3)
    return statistics.median(times[2:]), statistics.median(cpu_times[2:])


def main():
    logging.set_verbosity_error()
    binary, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, config in CONFIGS.items():
            model = AutoModel.from_config(config).eval()
            model.save_pretrained(Path(folder) / name)
            for shape in SHAPES:
                if shape[2] and name == "bert":
                    continue
                ours = subprocess.run([binary, str(Path(folder) / name), str(threads), ",".join(map(str, shape))],
                                      check=True, capture_output=True, text=True).stdout.split()
                clock, cpu = map(float, ours[1:])
                torch_clock, torch_cpu = time_torch(model, *shape)
                print(f"{name} {shape}: {clock:.2f} (CPU {cpu:.2f}), PyTorch {torch_clock:.2f} ({torch_cpu:.2f}): "
                      f"{torch_clock / clock:.2f}x ({torch_cpu / cpu:.2f}x)", flush=True)


main()
