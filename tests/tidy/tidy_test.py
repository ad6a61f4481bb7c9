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

    def test_kernels(self):
        self.finds("no tests/kernels/norm_test.cc", {"kernels/norm/norm_reference.cc": "\n"})
        self.finds("norm.h is missing", {"kernels/norm/norm.cuh": HEADER})


if __name__ == "__main__":
    unittest.main()
