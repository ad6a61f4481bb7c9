#!/usr/bin/env python3
"""kernel_report.py: the model on numbers worked out by hand, and the whole over tiny sizes.

    kernel_report_test.py KERNEL_COUNTS
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cubin
import kernel_report as report

H100 = next(gpu for gpu in report.GPUS if gpu.name == "H100")


def launch(**changes):
    counters = dict(grid_blocks=1320, blocks=1320, load_sectors=0, store_sectors=0, block_sectors=0,
                    mma=0, wgmma=0, special=0, barriers=0, shared_wavefronts=0, shuffles=0,
                    async_copies=0)
    counters.update((name, value) for name, value in changes.items() if name in counters)
    return {"kernel": "k", "type": "K", "threads": changes.get("threads", 128),
            "shared_bytes": changes.get("shared_bytes", 0), "counters": counters}


def compiled(registers):
    return cubin.Kernel("k", 90, registers=registers)


def near(a, b):
    assert abs(a - b) <= 1e-6 * abs(b), (a, b)


def check_occupancy():
    of = report.occupancy
    assert of(H100, launch(), None) == 16  # threads
    assert of(H100, launch(threads=32), None) == 32  # blocks
    assert of(H100, launch(), compiled(128)) == 4  # 4 warps of 128 registers in each of 4 parts
    assert of(H100, launch(threads=256), compiled(128)) == 2
    assert of(H100, launch(), compiled(129)) == 3  # a warp takes 136 registers a thread
    assert of(H100, launch(shared_bytes=75 << 10), compiled(64)) == 3  # 76 KiB each of 228
    assert of(H100, launch(shared_bytes=76 << 10), compiled(64)) == 2
    assert of(H100, launch(shared_bytes=227 << 10), compiled(255)) == 1


def check_model():
    # 10 blocks a multiprocessor; a clock is 1 / 1830 us.
    busy = report.predict_launch(H100, launch(mma=1320 * 100, special=1320 * 1600,
                                              shared_wavefronts=1320 * 83,
                                              shuffles=1320 * 100, load_sectors=1320 * 366,
                                              block_sectors=1320 * 4, store_sectors=0), None, 3.352e6, 0)
    near(busy["memory"], 1 / 0.9)
    near(busy["cache"], 1320 * 4 * 32 / 6e6)
    near(busy["tensor cores"], 1320 * 100 * 4096 / (989e6 * 0.62))
    near(busy["special functions"], 10 * 100 / 1830)
    near(busy["shared memory"], 1.0)
    near(busy["first-level cache"], 0.5)
    assert busy["float"] == 0
    # Half of the products by Wgmma, which is faster.
    half = report.predict_launch(H100, launch(mma=1320 * 100, wgmma=1320 * 50), None, 0, 0)
    near(half["tensor cores"], 1320 * 50 * 4096 / 989e6 * (1 / 0.62 + 1 / 0.8))
    # One block more than a multiple takes a round more.
    more = report.predict_launch(H100, launch(grid_blocks=1321, blocks=1321,
                                              shared_wavefronts=1321 * 183), None, 0, 0)
    near(more["shared memory"], 1.1)
    # A sample stands for the grid.
    part = report.predict_launch(H100, launch(blocks=13, shared_wavefronts=13 * 183), None, 0, 0)
    near(part["shared memory"], 1.0)


def check_waves():
    # 128 threads ask for 16 KiB at once; a block's 64 KiB come in four turns if one block runs.
    one = launch(grid_blocks=132)
    near(report.load_waves(H100, one, 65536, 16), 4)
    near(report.load_waves(H100, one, 100, 16), 1)
    near(report.load_waves(H100, launch(), 65536, 5), 8)  # ten blocks, five at once
    near(report.load_waves(H100, launch(grid_blocks=132, shared_bytes=49152, async_copies=1), 65536, 4), 2)


def check_case():
    case = {"bytes": 3.352e7, "flops": 0, "tensor_cores": False, "launches":
            [launch(block_sectors=3_000_000), launch(block_sectors=1_000_000)]}
    p = report.predict(H100, case, {})
    near(p["floor_us"], 10)
    # Two launches share the bytes as they share sectors; the cache takes longer than memory.
    near(p["launches"][0]["busy_us"]["memory"], 7.5 / 0.9)
    near(p["us"], 2 * 1.8 + 4e6 * 32 / 6e6)
    assert p["bound"] == "cache"
    near(p["share"], 10 / p["us"])


def check_record():
    record = {"device": {"name": "NVIDIA H100 80GB HBM3"},
              "kernel_benchmark": {"device": "NVIDIA H100 80GB HBM3",
                                   "cases": [{"name": "a", "us": 7.0}, {"name": "b", "error": "x"}]}}
    measured = report.measurements(record)
    assert report.measured_us(measured, H100, "a") == 7.0
    assert report.measured_us(measured, H100, "b") is None
    assert report.measured_us(measured, report.GPUS[0], "a") is None


def check_whole(counts):
    with tempfile.TemporaryDirectory() as folder:
        record, output = Path(folder) / "record.json", Path(folder) / "report.json"
        program = Path(report.__file__)
        command = [sys.executable, program, "--counts", counts, "--sizes", "tiny", "--filter",
                   "/single", "--json", output, "--record", record]
        empty = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "No GPU's measurement is on record" in empty and "measured 12.5" not in empty
        record.write_text(json.dumps({"kernel_benchmark": {"device": "NVIDIA H100", "cases": [
            {"name": "layer_norm_residual/bert-base/single/float16", "us": 12.5}]}}))
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert text.count("measured 12.5") == 1 and "No GPU's" not in text
        cases = {case["name"]: case for case in json.loads(output.read_text())["cases"]}
    norm = cases["layer_norm_residual/bert-base/single/float16"]
    # 9 rows of 768 halves, a warp each: x, residual, gamma and beta in, y out.
    c = report.totals(norm)
    assert c["load_sectors"] == 9 * 4 * 48 and c["store_sectors"] == 9 * 48, c
    assert c["block_sectors"] == (9 * 2 + 3 * 2) * 48, c  # gamma and beta once a block of 4 rows
    attention = cases["attention/bert-base/single/float16"]
    assert report.totals(attention)["mma"] > 0 and attention["tensor_cores"]
    assert attention["launches"][0]["type"].startswith("bertrand::gpu::host::TensorAttentionKernel<")
    for case in cases.values():
        # An A100 has no part in what is Hopper's alone.
        hopper = case["name"].startswith("hopper_")
        assert set(case["gpus"]) == {gpu.name for gpu in report.GPUS if gpu.architecture == 90
                                     or not hopper}, case
        for gpu in report.GPUS:
            if gpu.name not in case["gpus"]:
                continue
            p = case["gpus"][gpu.name]
            assert p["us"] >= gpu.launch_us + gpu.latency_us and 0 < p["share"] < 1, (case, gpu)
        assert case["name"] in text


def main():
    check_occupancy()
    check_model()
    check_waves()
    check_case()
    check_record()
    check_whole(sys.argv[1])
    assert cubin.plain_type("a::device::K<b::T, 4>") == cubin.plain_type("a::host::K<b::T, 4>")


if __name__ == "__main__":
    main()
