"""Reads the machine code of kernels out of files that nvcc made (objects, libraries, cubins), without
NVIDIA's tools, which are not beside every nvcc.

A cubin is an ELF file of machine 190; nvcc embeds them as they are, PTX compressed. An instruction
is 16 bytes since Volta, its opcode the lowest 12 bits.
"""

import re
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

EM_CUDA = 190
# Attributes of the section .nv.info: (symbol, value).
EIATTR_REGCOUNT, EIATTR_FRAME_SIZE = 0x2F, 0x11
# HGMMA (wgmma): A in shared memory, A in registers.
OPCODES = {0x23C: "HMMA", 0x9F0: "HGMMA", 0xDF0: "HGMMA", 0x23F: "DMMA", 0x237: "IMMA", 0x27A: "QMMA", 0x308: "MUFU",
           0x387: "STL", 0x983: "LDL", 0x981: "LDG", 0x986: "STG", 0x984: "LDS", 0x388: "STS",
           0x83B: "LDSM", 0xFAE: "LDGSTS", 0x223: "FFMA", 0xB1D: "BAR"}


@dataclass
class Kernel:
    symbol: str
    architecture: int  # 80, 90, ...
    registers: int = 0
    frame_bytes: int = 0  # local memory of a thread: arrays with indices, spills
    static_shared_bytes: int = 0
    instructions: int = 0
    opcodes: Counter = field(default_factory=Counter)

    @property
    def local_accesses(self):
        return self.opcodes["LDL"] + self.opcodes["STL"]


def _sections(data, base):
    offset, = struct.unpack_from("<Q", data, base + 0x28)
    size, count, names = struct.unpack_from("<HHH", data, base + 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, base + offset + i * size)
               for i in range(count)]
    strings = headers[names][4]

    def text(at):
        begin = base + strings + at
        return data[begin: data.index(b"\0", begin)].decode()
    return [(text(h[0]), h) for h in headers]


def _body(data, base, header):
    return data[base + header[4]: base + header[4] + header[5]]


def _symbols(data, base, sections):
    by_index = [header for _, header in sections]
    for name, header in sections:
        if name != ".symtab":
            continue
        strings = _body(data, base, by_index[header[6]])
        table = _body(data, base, header)
        for at in range(0, len(table), 24):
            begin, = struct.unpack_from("<I", table, at)
            yield strings[begin: strings.index(b"\0", begin)].decode()


def _attributes(info):
    """(attribute, symbol's index, value) of those that are a symbol and a number."""
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != 4:  # the value is in the head
            continue
        if size == 8:
            yield (attribute, *struct.unpack_from("<II", info, at))
        at += size


def _architecture(flags):
    # CUDA 13's ABI moved it.
    return flags >> 8 & 0xFF if flags & 0xFF in (0, 2, 4, 6) else flags & 0xFF


def kernels_of_cubin(data, base=0):
    flags, = struct.unpack_from("<I", data, base + 0x30)
    sections = _sections(data, base)
    symbols = list(_symbols(data, base, sections))
    found = {}
    for name, header in sections:
        if name.startswith(".text."):
            kernel = Kernel(name.removeprefix(".text."), _architecture(flags))
            code = _body(data, base, header)
            words = struct.unpack_from(f"<{len(code) // 8}Q", code)[::2]
            kernel.instructions = len(words)
            counts = Counter(word & 0xFFF for word in words)
            for code, n in counts.items():
                if code in OPCODES:
                    kernel.opcodes[OPCODES[code]] += n
            found[kernel.symbol] = kernel
    for name, header in sections:
        if name.startswith(".nv.shared."):
            kernel = found.get(name.removeprefix(".nv.shared."))
            if kernel:
                kernel.static_shared_bytes = header[5]
        if name != ".nv.info":
            continue
        for attribute, symbol, value in _attributes(_body(data, base, header)):
            kernel = found.get(symbols[symbol]) if symbol < len(symbols) else None
            if kernel and attribute == EIATTR_REGCOUNT:
                kernel.registers = value
            elif kernel and attribute == EIATTR_FRAME_SIZE:
                kernel.frame_bytes = value
    return list(found.values())


def kernels_of_file(path):
    """Every kernel of every architecture in a file; the same symbol twice only in different ones."""
    data = Path(path).read_bytes()
    found = {}
    for match in re.finditer(b"\x7fELF\x02\x01", data):
        machine, = struct.unpack_from("<H", data, match.start() + 0x12)
        if machine == EM_CUDA:
            for kernel in kernels_of_cubin(data, match.start()):
                found[kernel.symbol, kernel.architecture] = kernel
    return list(found.values())


def demangled(symbols):
    """Symbol -> what it is called in the source, for all at once."""
    symbols = list(symbols)
    names = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True,
                           check=True).stdout.split("\n")
    return dict(zip(symbols, names))


def kernel_types(symbols):
    """Symbol -> the type whose Run it is, "bertrand::gpu::LayerNormKernel<...>", or None for what
    simt::Launch did not start. The namespaces of the two halves are left out."""
    types = {}
    for symbol, name in demangled(symbols).items():
        match = re.search(r"\bEntry<(.*)>\((?:[^()]|\([^()]*\))*\)$", name)
        types[symbol] = plain_type(match.group(1).strip()) if match else None
    return types


def plain_type(name):
    return name.replace("::device::", "::").replace("::host::", "::")
