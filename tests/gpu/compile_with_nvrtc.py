#!/usr/bin/env python3
"""Compiles every kernel of a built CUDA half again, with the device compiler of another CUDA release: NVRTC, which
is nvcc's front end and back end without its driver. So a release whose nvcc is not at hand can be tried (Python's
packages have NVRTC of every one, and the headers). Host code is not compiled: launchers are plain C++.

    compile_with_nvrtc.py --library libbertrand_cuda.so --nvrtc libnvrtc.so.12 --include FOLDER ...
                          [--architectures 80,90a,...] [--filter TEXT]

Fails on errors, on warnings, and where a kernel uses local memory (its spills are there).
"""

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path

import cubin

ROOT = Path(__file__).resolve().parents[2]
# NVRTC has no standard library of the host's; its own headers suffice for what the kernels need.
SHIMS = {
    "cstdint": "#pragma once\n#include <cuda/std/cstdint>\n#include <stdint.h>\n",
    "cstddef": "#pragma once\n#include <cuda/std/cstddef>\nnamespace std { using cuda::std::size_t; }\n",
    "type_traits": "#pragma once\n#include <cuda/std/type_traits>\nnamespace std { using namespace cuda::std; }\n",
    "stdint.h": "#pragma once\n#include <cuda/std/cstdint>\nusing cuda::std::int8_t; using cuda::std::uint8_t;\n"
                "using cuda::std::int16_t; using cuda::std::uint16_t; using cuda::std::int32_t;\n"
                "using cuda::std::uint32_t; using cuda::std::int64_t; using cuda::std::uint64_t;\n"
                "using cuda::std::uintptr_t; using cuda::std::intptr_t;\n",
    "stdlib.h": "#pragma once\n",
    # What kernels say of tile maps is declared over absl's types; they call none of it.
    "absl/status/statusor.h": "#pragma once\nnamespace absl { template <typename T> class StatusOr; class Status; }\n",
}
# libcudacxx's substitute is none in a constant expression.
BEGIN = """#include <type_traits>
#undef __builtin_huge_valf
#define __builtin_huge_valf() __builtin_bit_cast(float, 0x7f800000)
"""
# As kernels/simt/runtime.h has them.
ENTRY = """
namespace bertrand::simt::device {
template <typename Kernel> constexpr int LeastBlocks() {
  if constexpr (requires { Kernel::kMinBlocks; }) { return Kernel::kMinBlocks; } else { return 1; }
}
template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, LeastBlocks<Kernel>())
    Entry(const __grid_constant__ typename Kernel::Params params) {
  LetNextKernelBegin();
  if constexpr (!requires { requires Kernel::kWaitsItself; }) WaitForEarlierKernels();
  Kernel::Run(params);
}
}  // namespace bertrand::simt::device
"""


class Nvrtc:
    def __init__(self, path):
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def _call(self, name, *arguments):
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self._library.nvrtcGetErrorString(status).decode()}")

    def _text(self, program, what):
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def compile(self, source, names, options):
        """(the compiler's log, the machine code or None)"""
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        for name in names:
            self._call("nvrtcAddNameExpression", program, name.encode())
        words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        failed = self._library.nvrtcCompileProgram(program, len(options), words) != 0
        log = self._text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
        code = None if failed else self._text(program, "CUBIN")
        self._call("nvrtcDestroyProgram", ctypes.byref(program))
        return log, code


def bodies():
    """Every kernel's body, by the name to include."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels").rglob("*.cuh"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True, type=Path)
    parser.add_argument("--nvrtc", required=True)
    parser.add_argument("--include", action="append", default=[], help="CUDA's headers, and libcudacxx's")
    parser.add_argument("--architectures", default="80,86,89,90a,100,120")
    parser.add_argument("--filter", default="", help="kernels with this in their type's name alone")
    arguments = parser.parse_args()
    nvrtc = Nvrtc(arguments.nvrtc)
    built = {kernel.symbol for kernel in cubin.kernels_of_file(arguments.library)}
    types = sorted({kind for kind in cubin.kernel_types(built).values() if kind and arguments.filter in kind})
    source = BEGIN + "".join(f'#include "{name}"\n' for name in bodies()) + ENTRY
    names = [f"bertrand::simt::device::Entry<{kind}>" for kind in types]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text in SHIMS.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for architecture in arguments.architectures.split(","):
            options = ["--std=c++20", f"--gpu-architecture=sm_{architecture}", "--device-int128", "--device-as-default-execution-space",
                       *(f"-I{path}" for path in (folder, ROOT, *arguments.include))]
            log, code = nvrtc.compile(source, names, options)
            kernels = cubin.kernels_of_cubin(code) if code else []
            spilling = [kernel for kernel in kernels if kernel.frame_bytes]
            print(f"NVRTC {nvrtc.version}, sm_{architecture}: {len(kernels)} of {len(names)} kernels, at most "
                  f"{max((kernel.registers for kernel in kernels), default=0)} registers, "
                  f"{len(spilling)} with local memory", flush=True)
            for kernel in spilling:
                print(f"{kernel.frame_bytes} bytes: {cubin.kernel_types({kernel.symbol})[kernel.symbol] or kernel.symbol}")
            if log:
                print(log[:8000])
            bad += bool(log) or len(kernels) < len(names) or bool(spilling)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
