#!/usr/bin/env python3
"""The vocabulary costs nothing: the kernels of identity_wrapped.cu and identity_raw.cu compile to the
same machine code, byte by byte, for two architectures.

    identity_test.py NVCC SOURCE_FOLDER
"""

import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KERNELS = {"Axpy", "RowSums", "Stream", "Products", "Activate", "Histogram"}
ARCHITECTURES = ("sm_80", "sm_90a")


def text_sections(cubin):
    """ELF64 section name -> bytes, of the sections that hold code."""
    data = cubin.read_bytes()
    assert data[:5] == b"\x7fELF\x02", cubin
    offset, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    strings = headers[names][4]
    sections = {}
    for name, _, _, _, start, length in headers:
        text = data[strings + name: data.index(b"\0", strings + name)].decode()
        if text.startswith(".text."):
            sections[text.removeprefix(".text.")] = data[start: start + length]
    return sections


def compile_to_cubin(nvcc, root, version, architecture, folder):
    cubin = Path(folder) / f"{version}.{architecture}.cubin"
    source = Path(__file__).with_name(f"identity_{version}.cu")
    subprocess.run([nvcc, "-std=c++20", "-O3", f"-arch={architecture}", "-cubin", f"-I{root}",
                    "-o", cubin, source], check=True)
    return text_sections(cubin)


def main():
    nvcc, root = sys.argv[1:]
    jobs = [(version, architecture) for architecture in ARCHITECTURES for version in ("wrapped", "raw")]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        codes = dict(zip(jobs, pool.map(
            lambda job: compile_to_cubin(nvcc, root, *job, folder), jobs)))
    failures = 0
    for architecture in ARCHITECTURES:
        wrapped, raw = codes["wrapped", architecture], codes["raw", architecture]
        assert set(wrapped) == set(raw) == KERNELS, (set(wrapped), set(raw))
        for kernel in sorted(KERNELS):
            same = wrapped[kernel] == raw[kernel]
            failures += not same
            print(f"{architecture} {kernel}: {len(wrapped[kernel])} and {len(raw[kernel])} bytes,",
                  "the same" if same else "DIFFERENT")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
