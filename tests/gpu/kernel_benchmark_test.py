#!/usr/bin/env python3
"""The kernel benchmark over the emulator: every case runs, and what it writes is complete. The
program for a GPU, where it is built, says clearly that there is none.

    kernel_benchmark_test.py EMULATED [GPU]
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KERNELS = {"attention", "bias_activation", "embedding", "gemm", "gpu", "layer_norm", "pooling",
           "relative_attention", "scores", "span"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def check_all_cases(program, folder):
    path = Path(folder) / "cases.json"
    result = run(program, "--device", "emulated", "--json", path)
    assert result.returncode == 0, result.stderr
    record = json.loads(path.read_text())
    assert record["ceilings"].keys() == {"copy_gb_s", "tensor_tflop_s", "tensor_by", "float_tflop_s"}
    assert all(value for value in record["ceilings"].values()), record["ceilings"]
    cases = record["cases"]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names)
    assert {case["kernel"] for case in cases} == KERNELS, {case["kernel"] for case in cases}
    for case in cases:
        assert "error" not in case, case
        assert 0 < case["us_min"] <= case["us"] <= case["us_max"], case
        limit_us = case["share"] * case["us"]
        assert abs(limit_us - case["limit_us"]) <= 0.002 + 0.01 * limit_us, case
        assert case["bytes"] > 0 and case["limit"] in ("memory", "products"), case
        assert f"| {case['name']} | {case['shape']} | " in result.stdout, case
    assert result.stdout.rstrip().endswith(f"{len(cases)} cases, 0 failed")
    hopper = [name.startswith("hopper_") for name in names]
    assert any(hopper) and hopper == sorted(hopper), names  # they come last
    return names


def check_what_is_killed(program, names, folder):
    """It leaves what it had."""
    path = Path(folder) / "some.json"
    process = subprocess.Popen([program, "--json", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not path.is_file() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    kept = [case["name"] for case in json.loads(path.read_text())["cases"]]
    assert 0 < len(kept) < len(names) and kept == names[:len(kept)], kept


def check_filter(program, names):
    result = run(program, "--filter", "gather/", "--rounds", "3")
    wanted = sum("gather/" in name for name in names)
    assert 0 < wanted < len(names)
    assert result.returncode == 0 and f"{wanted} cases, 0 failed" in result.stdout, result


def check_errors(program):
    for arguments, text in ((("--filter", "nothing"), 'no case has "nothing" in its name'),
                            (("--device", "cuda"), "--device cuda"),
                            (("--rounds", "0"), "--rounds 0"),
                            (("--json",), "what is --json?"),
                            (("--json", "/nowhere/file", "--filter", "gather/"), "cannot be written"),
                            (("--sizes", "huge"), "unknown argument --sizes huge"),
                            (("--colour", "red"), "unknown argument --colour")):
        result = run(program, *arguments)
        assert result.returncode == 2 and text in result.stderr, (arguments, result)


def check_no_gpu(program):
    result = run(program, "--filter", "gather/")
    if result.returncode == 0:
        print("a GPU is here, and measured:\n" + result.stdout)
        return
    assert result.returncode == 2 and "no GPU to measure" in result.stderr, result
    result = run(program, "--device", "cuda:x")
    assert result.returncode == 2 and "--device cuda:x" in result.stderr, result


def main():
    emulated, *gpu = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        names = check_all_cases(emulated, folder)
        check_what_is_killed(emulated, names, folder)
    check_filter(emulated, names)
    check_errors(emulated)
    # It is no part of builds of single targets.
    if gpu and Path(gpu[0]).exists():
        check_no_gpu(gpu[0])
    print(f"{len(names)} cases")


if __name__ == "__main__":
    main()
