"""Every rule of tidy.py finds its violation in a small tree, and nothing in a clean one."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TIDY = Path(__file__).with_name("tidy.py")
HEADER = "#pragma once\n\n// What it is. Thread-safe.\n"


def run(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        result = subprocess.run([sys.executable, TIDY, root], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout


class TidyTest(unittest.TestCase):
    def finds(self, what, files):
        code, output = run(files)
        self.assertEqual(code, 1, output)
        self.assertIn(what, output)

    def test_clean(self):
        code, output = run({
            "kernels/a.h": HEADER,
            "models/b.h": HEADER + '#include "kernels/backend.h"\n',
            "server/grpc/c.cc": '#include <grpcpp/grpcpp.h>\n#include "models/b.h"\n',
        })
        self.assertEqual(code, 0, output)

    def test_layers(self):
        self.finds("kernels/ may not include models/b.h", {"kernels/a.cc": '#include "models/b.h"\n'})
        self.finds("models/ may not include kernels/cpu/x.h", {"models/a.cc": '#include "kernels/cpu/x.h"\n'})
        self.finds("client/ may not include server/x.h", {"client/a.cc": '#include "server/x.h"\n'})

    def test_confined_libraries(self):
        self.finds("grpcpp/grpcpp.h belongs in", {"server/engine.cc": "#include <grpcpp/grpcpp.h>\n"})
        self.finds("cuda_runtime.h belongs in", {"models/a.cc": "#include <cuda_runtime.h>\n"})
        self.finds("belongs in no file only", {"server/a.cc": "#include <absl/synchronization/mutex.h>\n"})

    def test_families(self):
        self.finds("names a family", {"models/encoder/a.cc": "struct BertLayer {};\n"})
        self.assertEqual(run({"models/config/a.cc": "struct BertLayer {};\n"})[0], 0)
        self.assertEqual(run({"models/encoder/a.cc": "struct BertrandLayer {};\n"})[0], 0)

    def test_headers(self):
        self.finds("#pragma once", {"models/a.h": "// What it is.\n"})
        self.finds("no first paragraph", {"models/a.h": "#pragma once\n\n#include <string>\n"})

    def test_cycles(self):
        self.finds("includes itself", {
            "models/a.h": HEADER + '#include "models/b.h"\n',
            "models/b.h": HEADER + '#include "models/a.h"\n',
        })

    def test_sizes(self):
        self.finds("columns", {"models/a.cc": "//" + " x" * 60 + "\n"})
        self.finds("lines; a file", {"models/a.cc": "int x;\n" * 700})
        self.finds("a function of", {"models/a.cc": "void F() {\n" + "  G();\n" * 100 + "}\n"})

    def test_forbidden(self):
        self.finds("a path of one machine", {"models/a.cc": "// /work" + "/main/x\n"})
        self.finds("unfinished work", {"models/a.cc": "// TO" + "DO: more\n"})

    KERNEL = {
        "kernels/norm/norm.h": HEADER,
        "kernels/norm/norm.cuh": HEADER + '#include "kernels/simt/simt.h"\n#include "kernels/norm/tile.cuh"\n',
        "kernels/norm/tile.cuh": HEADER,
        "kernels/norm/norm.cu": '#include "kernels/norm/norm.h"\n',
        "kernels/norm/norm_reference.cc": "\n",
        "tests/kernels/norm_test.cc": "\n",
        "tests/kernels/norm_kernel_test.cc": "\n",
    }

    def test_kernels(self):
        self.assertEqual(run(self.KERNEL)[0], 0, run(self.KERNEL)[1])
        for missing, what in {
            "kernels/norm/norm.h": "norm.h is missing",
            "kernels/norm/norm.cuh": "norm.cuh is missing",
            "kernels/norm/norm.cu": "no launcher beside it",
            "kernels/norm/norm_reference.cc": "norm_reference.cc is missing",
            "tests/kernels/norm_test.cc": "no tests/kernels/norm_test.cc",
            "tests/kernels/norm_kernel_test.cc": "no tests/kernels/norm_kernel_test.cc",
        }.items():
            self.finds(what, {name: text for name, text in self.KERNEL.items() if name != missing})

    def test_vocabulary(self):
        for line in ("kernel<<<1, 1>>>();", "asm volatile(\"\");", "__shared__ float x;", "int i = threadIdx.x;",
                     "__syncthreads();", "y = __shfl_xor_sync(~0u, x, 1);"):
            self.finds("CUDA's own words", {**self.KERNEL, "kernels/norm/norm.cu": line + "\n"})
            self.assertEqual(run({"kernels/simt/device/a.cu": line + "\n"})[0], 0)
        self.assertEqual(run({**self.KERNEL, "kernels/norm/norm.cu": "// no __shared__, no asm\n"})[0], 0)
        self.finds("a kernel body sees", {**self.KERNEL, "kernels/norm/tile.cuh": HEADER + "#include <cmath>\n"})
        self.finds("kernels/simt/host/arena.h belongs in",
                   {"kernels/gpu/a.cc": '#include "kernels/simt/host/arena.h"\n'})


if __name__ == "__main__":
    unittest.main()
