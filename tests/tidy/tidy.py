#!/usr/bin/env python3
"""Checks what a compiler does not: who includes whom, header contracts, sizes, and what must not be
in the tree. Prints one line a finding and exits 1 when there is any.

    tests/tidy/tidy.py [ROOT]
"""

import re
import sys
from pathlib import Path

SOURCE = {".h", ".cc", ".cu", ".cuh"}
FOLDERS = ("proto", "kernels", "models", "server", "client", "tests")

# Folder -> headers of other folders it may include. The server makes the backends and the pool, so
# it sees their abstract headers; nobody but kernels/ sees an implementation.
PUBLIC_KERNELS = {f"kernels/{name}.h" for name in ("backend", "mutex", "status", "tensor", "thread_pool")}
MAY_INCLUDE = {
    "proto": (),
    "kernels": (),
    "models": PUBLIC_KERNELS,
    "server": ("models/", *PUBLIC_KERNELS),
    "client": (),
}
# Third-party headers and the only places for them.
CONFINED = {
    r"^(grpcpp?|google/protobuf)/|\.pb\.h$": ("server/grpc/", "server/main", "client/", "tests/"),
    r"^(cuda|cublas|cudnn|mma|nvtx)": ("kernels/simt/device/", "kernels/gpu/", "kernels/gemm/", "tests/kernels/"),
    r"^kernels/simt/(device|host)/": ("kernels/simt/", "tests/kernels/", "tests/benchmarks/"),
    r"^(dnnl|oneapi/|cblas)": ("kernels/", "tests/kernels/", "tests/benchmarks/"),
    r"^hwy/": ("kernels/", "models/tokenizer/", "tests/kernels/", "tests/models/tokenizer/"),
    r"^boost/": ("server/http/", "tests/"),
    r"^prometheus/": ("server/", "tests/"),
    r"^spdlog/": ("server/", "tests/server/"),
    r"^simdjson": ("server/http/",),
    r"^curl/": ("server/hub_client",),
    r"^CLI/": ("server/", "client/"),
    r"^absl/(synchronization|log)/": (),
}
# Names of families belong to models/config alone.
FAMILY = re.compile(r"(?<![A-Za-z])(Roberta|Albert|DistilBert|Electra|XLNet|Bert(?!rand))(?=[A-Z_]|\b)")
FAMILY_OK = ("models/config/", "models/tokenizer/", "models/model.h")
# Put together here so that this file does not find itself.
FORBIDDEN = [
    (re.compile("/" + r"work/(main|steering|wt-)|/" + r"tmp/bash_jobs|/" + "root/"), "a path of one machine"),
    (re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"), "unfinished work"),
]
# What only the vocabulary may contain: kernels are written over kernels/simt/simt.h.
CUDA_ONLY = re.compile(
    r"<<<|\basm\b|__(shared|device|global|host|syncthreads|syncwarp|shfl\w*|ldg|launch_bounds)__"
    r"|__(syncthreads|syncwarp|shfl_\w+|ldg|ballot_sync)\b|\b(threadIdx|blockIdx|blockDim|gridDim)\b"
)
MAX_LINE, MAX_FILE, MAX_FUNCTION = 100, 600, 80


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        self.findings = []

    def say(self, path, line, text):
        self.findings.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def files(self, suffixes):
        for folder in FOLDERS:
            for path in sorted((self.root / folder).rglob("*")):
                parts = path.relative_to(self.root).parts
                made = any(p in ("build", "__pycache__", "_proto") or p.endswith(".egg-info") for p in parts)
                if path.is_file() and path.suffix in suffixes and not made:
                    yield path

    def check(self):
        for path in self.files(SOURCE):
            lines = path.read_text(encoding="utf-8").split("\n")
            generated = any("generated" in line.lower() for line in lines[:5])
            self.includes(path, lines)
            self.families(path, lines)
            if path.suffix in (".h", ".cuh"):
                self.header(path, lines)
            if path.suffix in (".cu", ".cuh"):
                self.vocabulary(path, lines)
            if not generated:
                self.sizes(path, lines)
        for path in self.files(SOURCE | {".py", ".md", ".txt", ".proto", ".json", ".sh"}):
            self.forbidden(path)
        for path in [*self.root.glob("*.md"), *self.root.glob("docs/*.md"), self.root / "run"]:
            if path.is_file():
                self.forbidden(path)
        self.cycles()
        self.kernels()
        return self.findings

    def includes(self, path, lines):
        relative = path.relative_to(self.root).as_posix()
        folder = relative.split("/")[0]
        for number, line in enumerate(lines, 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            header = match.group(1)
            target = header.split("/")[0]
            if '"' in line and target in MAY_INCLUDE and target != folder and folder in MAY_INCLUDE:
                if not header.endswith(".pb.h") and not header.startswith(tuple(MAY_INCLUDE[folder]) or ("\0",)):
                    self.say(path, number, f"{folder}/ may not include {header}")
            for pattern, places in CONFINED.items():
                if re.search(pattern, header) and not relative.startswith(places or ("\0",)):
                    self.say(path, number, f"{header} belongs in {', '.join(places) or 'no file'} only")

    def families(self, path, lines):
        relative = path.relative_to(self.root).as_posix()
        if not relative.startswith("models/") or relative.startswith(FAMILY_OK):
            return
        for number, line in enumerate(lines, 1):
            code = line.split("//")[0]
            if FAMILY.search(code):
                self.say(path, number, "names a family; only models/config does")

    def header(self, path, lines):
        # Highway's -inl.h are included once for each instruction set: their guard toggles.
        if lines[0] != "#pragma once" and not path.name.endswith("-inl.h"):
            self.say(path, 1, "does not begin with #pragma once")
        first = next((line for line in lines[1:] if line.strip()), "")
        if not first.startswith("//"):
            self.say(path, 2, "has no first paragraph that says what it is")

    def vocabulary(self, path, lines):
        """Bodies and launchers reach the device through kernels/simt alone; bodies see nothing else."""
        relative = path.relative_to(self.root).as_posix()
        if relative.startswith(("kernels/simt/", "tests/kernels/simt/")):
            return
        for number, line in enumerate(lines, 1):
            if CUDA_ONLY.search(line.split("//")[0]):
                self.say(path, number, "CUDA's own words belong in kernels/simt")
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if match and path.suffix == ".cuh":
                header = match.group(1)
                vocabulary = ("kernels/simt/simt.h", "kernels/simt/hopper.h")
                if header not in vocabulary and not re.match(r"kernels/.*\.cuh$", header):
                    self.say(path, number, f"a kernel body sees kernels/simt/simt.h and other bodies, not {header}")

    def sizes(self, path, lines):
        if len(lines) > MAX_FILE:
            self.say(path, MAX_FILE, f"{len(lines)} lines; a file fits a sitting ({MAX_FILE})")
        start = None
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_LINE and "http" not in line and 'R"' not in line:
                self.say(path, number, f"{len(line)} columns; {MAX_LINE} are the most")
            # Formatted code: a function opens with `{` at the end of an unindented or member line
            # and closes with `}` at the same indentation.
            if re.match(r"^( {2})?[A-Za-z~].*\)[^;]*\{$", line) and not re.match(
                r"^\s*(namespace|class|struct|enum|union|TEST|if|for|while|switch|else)\b", line
            ):
                start = (number, len(line) - len(line.lstrip()))
            elif start and line.startswith(" " * start[1] + "}"):
                if number - start[0] > MAX_FUNCTION:
                    self.say(path, start[0], f"a function of {number - start[0]} lines; it fits a screen ({MAX_FUNCTION})")
                start = None

    def forbidden(self, path):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            for pattern, what in FORBIDDEN:
                if pattern.search(line):
                    self.say(path, number, what)

    def cycles(self):
        graph = {}
        for path in self.files({".h", ".cuh"}):
            relative = path.relative_to(self.root).as_posix()
            found = re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(encoding="utf-8"), re.M)
            graph[relative] = found
        done, stack = set(), []

        def visit(node):
            if node in stack:
                self.say(self.root / node, 1, "includes itself through " + " -> ".join(stack[stack.index(node):]))
                return
            if node in done or node not in graph:
                return
            stack.append(node)
            for target in graph[node]:
                visit(target)
            stack.pop()
            done.add(node)

        for node in graph:
            visit(node)

    def kernels(self):
        """Each kernel has a contract, a body, a launcher, a reference and a test in the emulator."""
        tests = {p.name for p in self.files({".cc"}) if "tests/kernels" in p.as_posix()}
        for reference in sorted((self.root / "kernels").rglob("*_reference.cc")):
            name = reference.name.removesuffix("_reference.cc")
            if f"{name}_test.cc" not in tests:
                self.say(reference, 1, f"no tests/kernels/{name}_test.cc")
        for launcher in sorted((self.root / "kernels").rglob("*.cu")):
            if {"simt", "gpu", "gemm"} & set(launcher.parts):
                continue
            # A folder's bodies may share one launcher, and launchers the folder's reference; each
            # is named after the contract.
            name = launcher.stem
            for part in (launcher.with_suffix(".h"), launcher.with_suffix(".cuh")):
                if not part.exists():
                    self.say(launcher, 1, f"{part.name} is missing beside it")
            references = [launcher.with_name(f"{stem}_reference.cc")
                          for stem in (name, launcher.parent.name)]
            if not any(reference.exists() for reference in references):
                self.say(launcher, 1, f"{references[0].name} is missing beside it")
            if f"{name}_kernel_test.cc" not in tests:
                self.say(launcher, 1, f"no tests/kernels/{name}_kernel_test.cc")
        for body in sorted((self.root / "kernels").rglob("*.cuh")):
            if "simt" not in body.parts and not list(body.parent.glob("*.cu")):
                self.say(body, 1, "no launcher beside it")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    findings = Tree(root).check()
    print("\n".join(findings) or "tidy: nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
