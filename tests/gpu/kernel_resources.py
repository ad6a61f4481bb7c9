#!/usr/bin/env python3
"""Registers, shared memory and spills of every kernel for every architecture in files that nvcc
made. Exit status 1 when a kernel uses local memory, when one that --hmma names has no tensor-core
instruction (HMMA) on some architecture, or one that --hgmma names no HGMMA on Hopper, sm_90.

    kernel_resources.py [--quiet] [--hmma NAME ...] [--hgmma NAME ...] [--architectures N,N,...]
                        FILE...

Static shared memory is none where kernels carve dynamic memory, as all here do: what a launch takes
is in ./run kernel-report.
"""

import argparse
import sys
from collections import defaultdict

import cubin


def short(kernel_type):
    return kernel_type.replace("bertrand::gpu::", "").replace("bertrand::simt::", "") \
        .replace("bertrand::", "").replace("(anonymous namespace)::", "")


def table(kernels, types):
    architectures = sorted({kernel.architecture for kernel in kernels})
    rows = defaultdict(dict)
    for kernel in kernels:
        rows[short(types[kernel.symbol] or kernel.symbol)][kernel.architecture] = kernel
    print("Registers of a thread; +N: bytes of local memory; HMMA: tensor-core instructions, HGMMA's "
          "on Hopper.\n")
    print("| kernel | " + " | ".join(f"sm_{a}" for a in architectures) + " | HMMA |")
    print("|---|" + "---|" * (len(architectures) + 1))
    for name, row in sorted(rows.items()):
        cells = []
        for architecture in architectures:
            kernel = row.get(architecture)
            local = kernel and (kernel.frame_bytes or (4 if kernel.local_accesses else 0))
            cells.append((f"{kernel.registers}" + (f" +{local}" if local else "")) if kernel else "")
        hmma = max(kernel.opcodes["HMMA"] + kernel.opcodes["HGMMA"] for kernel in row.values())
        print(f"| {name} | " + " | ".join(cells) + f" | {hmma or ''} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--hmma", action="append", default=[])
    parser.add_argument("--hgmma", action="append", default=[])
    parser.add_argument("--architectures", default="")
    arguments = parser.parse_args()
    kernels = [kernel for path in arguments.files for kernel in cubin.kernels_of_file(path)]
    if not kernels:
        sys.exit("no machine code in " + ", ".join(arguments.files))
    types = cubin.kernel_types({kernel.symbol for kernel in kernels})
    if not arguments.quiet:
        table(kernels, types)
        print()
    failures = []
    for kernel in kernels:
        if kernel.frame_bytes or kernel.local_accesses:
            failures.append(f"sm_{kernel.architecture}: {short(types[kernel.symbol] or kernel.symbol)}"
                            f" uses {kernel.frame_bytes} bytes of local memory, "
                            f"{kernel.local_accesses} accesses")
    found = {kernel.architecture for kernel in kernels}
    for number in filter(None, arguments.architectures.split(",")):
        if int(number) not in found:
            failures.append(f"nothing is compiled for sm_{number}")
    # Hopper's kernels trap elsewhere.
    wanted = [(name, "HMMA", found) for name in arguments.hmma]
    wanted += [(name, "HGMMA", found & {90}) for name in arguments.hgmma]
    for name, opcode, architectures in wanted:
        for architecture in sorted(architectures):
            named = [kernel for kernel in kernels if kernel.architecture == architecture
                     and name in (types[kernel.symbol] or "")]
            without = [short(types[kernel.symbol]) for kernel in named
                       if not kernel.opcodes[opcode]]
            if not named:
                failures.append(f"sm_{architecture}: no kernel {name}")
            failures += [f"sm_{architecture}: {other} has no {opcode}" for other in without]
    print("\n".join(failures) or f"{len(kernels)} kernels of "
          + ", ".join(f"sm_{a}" for a in sorted(found)) + ": no local memory")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
