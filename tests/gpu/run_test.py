"""The logic of tests/gpu without a GPU: hashes, the record and its tables, the sanitizer's output, how phases
end, and the bundle's limits. Standard library only."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import kernel_phases
import kernel_sources
import make_bundle
import phase
import record
import run

HASHES = {"attention": "a1", "copy": "c1"}
TESTS = {"attention": ["attention_kernel"], "copy": ["copy_kernel"]}
MANIFEST = {"commit": "0123456789abcdef", "kernels": HASHES, "tests": TESTS}
DEVICE = {"name": "NVIDIA X100", "driver": "999.1", "cuda": "13.0"}
PASSED = {"passed": 4, "failed": 0, "skipped": 0, "failures": []}
ERROR = {"rms": 1e-4, "max": 1e-3, "over": 0.5}
RESULTS = {
    "kernel_tests": {"attention_kernel": PASSED,
                     "copy_kernel": PASSED | {"failed": 1, "failures": ["T.X: expected | got\nmore"]}},
    "sanitizer": {"attention_kernel": {"memcheck": {"state": "passed"},
                                       "racecheck": {"state": "not run", "why": "out of time"}}},
    "parity": [{"family": "bert", "dtype": "float16", "passed": True,
                "hidden": {"error": ERROR, "transformers": ERROR}, "logits": {"error": ERROR, "transformers": ERROR}},
               {"family": "xlnet", "dtype": "float32", "passed": False, "error": "no server"}],
    "server": {"drain": {"passed": True}},
    "kernel_benchmark": {"status": 0, "ceilings": {"copy_gb_s": 3000}, "cases": [
        {"name": "copy", "shape": "8", "us": 2.0, "gb_s": 1500, "tflop_s": 0, "limit": "memory", "share": 0.5},
        {"name": "attention/bert-base/squad/float16", "shape": "7", "us": 20.0, "gb_s": 1, "tflop_s": 300,
         "limit": "products", "share": 0.4},
        {"name": "cudnn_graph", "shape": "6", "not_available": "no libcudnn.so.9"},
        {"name": "attention", "shape": "9", "error": "failed"}]},
    "attention_peers": {"cudnn": 92000, "cases": [
        {"name": "attention/bert-base/squad/float16",
         "peers": {"flash": {"us": 30.0, "graph": True}, "cudnn": {"us": 25.0, "graph": False}}},
        {"name": "attention/bert-base/mixed/float16",
         "peers": {"flash_nested": {"us": 40.0}, "cudnn_nested": {"not available": "No | kernel"},
                   "flash_padded": {"not available": "No mask"}, "cudnn_padded": {"error": "its error is 1"}}}]},
    "models": [{"model": "base", "batch": "1 x 128", "dtype": "float16", "tokens": 128, "sequences": 1, "times": {
        "ours": {"ms": 1.0}, "torch_sdpa": {"ms": 3.0}, "torch_compile": {"ms": 2.0}, "ours_grpc": {"error": "x"}}}],
}
PHASES = {name: {"state": "passed", "seconds": 1.0} for name in RESULTS}


def make(emulated=False, results=None):
    return record.make_record(MANIFEST, PHASES, RESULTS if results is None else results, DEVICE, emulated,
                              "2026-01-02T03:04:05+00:00")


class KernelSourcesTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        self.write("kernels/simt/simt.h", '#ifdef X\n#include "kernels/simt/host/emulator.h"\n#endif\n')
        self.write("kernels/simt/host/emulator.h", "")
        self.write("kernels/scale/scale.cuh", '#include "kernels/simt/simt.h"\n')
        self.write("kernels/scale/scale.h", "")
        self.write("kernels/scale/scale.cu", '#include "kernels/scale/scale.cuh"\n'
                                             '#include "kernels/scale/scale.h"\nLaunch<Scale>(stream);\n')
        self.write("kernels/gpu/backend.cu", '#include "kernels/scale/scale.h"\n')
        self.write("tests/kernels/fixture.h", '#include "kernels/scale/scale.h"\n')
        self.write("tests/kernels/scale_kernel_test.cc", '#include "tests/kernels/fixture.h"\n')
        self.write("tests/kernels/other_test.cc", "")
        for name, value in (("ROOT", self.root), ("RECORD", self.root / "record.json")):
            patch = mock.patch.object(kernel_sources, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_kernels_are_what_launches(self):
        self.assertEqual(kernel_sources.kernel_files(), {"scale": "kernels/scale/scale.cu"})
        self.assertEqual(kernel_sources.tests_of_kernels(), {"scale": ["scale_kernel"]})

    def test_hashes_follow_every_header_but_the_emulators(self):
        before = kernel_sources.current_hashes()
        self.write("kernels/simt/host/emulator.h", "changed")
        self.write("kernels/gpu/backend.cu", "changed")
        self.assertEqual(kernel_sources.current_hashes(), before)
        for name in ("kernels/simt/simt.h", "kernels/scale/scale.h", "kernels/scale/scale.cuh"):
            self.write(name, (self.root / name).read_text() + "// changed\n")
            after = kernel_sources.current_hashes()
            self.assertNotEqual(after, before, name)
            before = after

    def test_header_names_what_is_not_verified(self):
        hashes = kernel_sources.current_hashes()
        states = kernel_sources.unverified(None)
        self.assertEqual(states, {"scale": "no GPU has run it"})
        self.assertIn('std::string_view, 1> kUnverifiedKernels = {"scale"};', kernel_sources.as_header(states))
        entry = {"sha256": hashes["scale"], "passed": 3, "failed": 0, "sanitizer_failed": 0}
        known = {"emulated": False, "date": "2026-01-02T", "device": DEVICE, "kernels": {"scale": entry}}
        self.assertEqual(kernel_sources.unverified(known), {})
        self.assertIn("std::string_view, 0> kUnverifiedKernels = {};", kernel_sources.as_header({}))
        for change, reason in (({"failed": 1}, "fails on NVIDIA X100"), ({"sanitizer_failed": 1}, "fails on"),
                               ({"passed": 0}, "no test"), ({"sha256": "0"}, "changed since 2026-01-02")):
            known["kernels"]["scale"] = entry | change
            self.assertIn(reason, kernel_sources.unverified(known)["scale"])
        known["kernels"]["scale"] = entry
        self.assertEqual(kernel_sources.unverified(known | {"emulated": True}), {"scale": "no GPU has run it"})


class RecordTest(unittest.TestCase):
    def test_tests_are_counted_for_their_kernels(self):
        kernels = make()["kernels"]
        self.assertEqual((kernels["attention"]["passed"], kernels["attention"]["failed"]), (4, 0))
        self.assertEqual(kernels["attention"]["sanitizer_passed"], 1)
        self.assertEqual(kernels["attention"]["sanitizer_not_run"], 1)
        self.assertEqual(kernels["copy"]["failures"], ["T.X: expected | got\nmore"])
        self.assertEqual(kernel_sources.unverified(make(), HASHES), {"copy": "fails on NVIDIA X100"})

    def test_markdown(self):
        text = record.markdown(make())
        self.assertIn("NVIDIA X100, driver 999.1, CUDA 13.0, 2026-01-02, commit 0123456789ab", text)
        self.assertIn("| attention | 4 | 0 | 1 passed, 1 not run |", text)
        self.assertIn("- copy: T.X: expected \\| got more", text)
        self.assertIn("| xlnet | float32 | failed: no server |", text)
        self.assertIn("| base | 1 x 128 | float16 | 1 | failed | 3 | 2 | 2.00 x |", text)
        self.assertIn("| copy | 8 | 2 | 1.5e+03 GB/s | 50 % |", text)
        self.assertIn("| cudnn_graph | 6 | not available: no libcudnn.so.9 |", text)
        self.assertIn("cuDNN 92000", text)
        self.assertIn("| attention/bert-base/squad/float16 | 20 | 30 | 25 (no graph) |  |  | 1.25 x |", text)
        self.assertIn("| attention/bert-base/mixed/float16 |  | 40 | not available | not available | error |  |", text)
        self.assertIn("\n- cudnn_nested: No \\| kernel\n", text)
        for line in text.splitlines():
            if line.startswith("|"):
                self.assertGreater(line.count("|"), 3, line)
        # Nothing at all was found: still a record.
        self.assertIn("| attention | 0 | 0 |", record.markdown(make(results={})))

    def test_readme(self):
        self.assertIn("No GPU has run any of this yet", record.readme_section(None, HASHES))
        self.assertIn("No GPU has run any of this yet", record.readme_section(make(emulated=True), HASHES))
        section = record.readme_section(make(), HASHES | {"attention": "a2"})
        self.assertIn("| attention | 4 | 0 | 1 passed, 1 not run | changed since 2026-01-02 |", section)
        text = f"before\n{record.BEGIN}old\n{record.END}after\n"
        self.assertEqual(record.with_section(text, "new\n"), f"before\n{record.BEGIN}\nnew\n\n{record.END}after\n")
        self.assertIsNone(record.with_section("nothing", "new"))


class SanitizerTest(unittest.TestCase):
    def test_what_it_says(self):
        parse = kernel_phases.parse_sanitizer
        clean = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"
        self.assertEqual(parse(0, clean), {"state": "passed"})
        # A test that fails has another status; it is not the sanitizer's.
        self.assertEqual(parse(1, clean), {"state": "passed"})
        broken = ("========= Invalid __global__ read of size 4 bytes\n=========     at Kernel::Run+0x10\n"
                  "========= ERROR SUMMARY: 3 errors\n")
        self.assertEqual(parse(99, broken), {"state": "failed", "why": "Invalid __global__ read of size 4 bytes"})
        races = "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n"
        self.assertEqual(parse(99, races)["state"], "failed")
        self.assertEqual(parse(0, "========= RACECHECK SUMMARY: 3 hazards displayed (0 errors, 0 warnings)\n"),
                         {"state": "passed"})
        self.assertEqual(parse("timeout", "")["state"], "not run")
        self.assertEqual(parse(255, "Device not supported")["state"], "not run")

    def test_a_program_that_dies_is_a_failure(self):
        self.assertEqual(kernel_phases.read_results(Path("/nowhere"), -11)["failures"], ["the program ended with -11"])
        self.assertEqual(kernel_phases.read_results(Path("/nowhere"), "timeout")["failed"], 1)


class BundleTest(unittest.TestCase):
    def test_which_libraries_travel(self):
        for name in ("librtmp.so.1", "libcrypto.so.3", "libcares.so.2", "libgrpc.so.29", "libcurl.so.4"):
            self.assertIsNone(make_bundle.NOT_OURS.match(name), name)
        for name in ("librt.so.1", "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libcuda.so.1",
                     "libcublasLt.so.13", "libcudnn.so.9", "ld-linux-x86-64.so.2"):
            self.assertIsNotNone(make_bundle.NOT_OURS.match(name), name)


class RunTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def run_with(self, module_text, phases):
        """run.py over a bundle without programs, its phases those of a module made here."""
        (self.folder / "made_phases.py").write_text(module_text)
        (self.folder / "made_run.py").write_text(
            f"import sys\nsys.path[:0] = [{str(Path(__file__).parent)!r}, {str(self.folder)!r}]\nimport run\n"
            f"run.PHASES = {phases!r}\nrun.__file__ = __file__\nsys.exit(run.main())\n")
        (self.folder / "bundle").mkdir(exist_ok=True)
        out = self.folder / "out"
        done = subprocess.run([sys.executable, self.folder / "made_run.py", "--bundle", self.folder / "bundle", "--out",
                               out, "--device", "emulated"], capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads((out / "record.json").read_text()), (out / "logs.txt").read_text()

    def test_phases_fail_alone(self):
        module = """
import os, time
def parity(context):
    context.save([{"family": "bert", "dtype": "float32", "passed": False, "error": "so far"}])
    time.sleep(60)
def server(context):
    print("about to die")
    os.abort()
def models(context):
    return []
def kernel_tests(context):
    return {"copy_kernel": {"passed": 2, "failed": 0, "failures": []}}
"""
        phases = {name: ("made_phases", name, 1) for name in ("parity", "server", "models", "kernel_tests")}
        status, made, logs = self.run_with(module, phases)
        self.assertEqual(status, 1)
        self.assertEqual({name: entry["state"] for name, entry in made["phases"].items()},
                         {"parity": "out of time", "server": "failed", "models": "failed", "kernel_tests": "passed"})
        self.assertEqual(made["parity"][0]["error"], "so far")
        self.assertEqual(made["kernels"]["copy"]["passed"], 2)
        self.assertTrue(made["emulated"])
        self.assertIn("about to die", logs)

    def test_budgets_fit_a_call(self):
        # Ten minutes, less 20 s to begin and 7 s for each phase that must be killed.
        self.assertLessEqual(sum(seconds for _, _, seconds in run.PHASES.values()), 580)
        for module, function, _ in run.PHASES.values():
            if module not in ("parity", "models_benchmark", "attention_peers"):  # which need PyTorch
                self.assertTrue(hasattr(__import__(module), function))

    def test_call_ends_what_takes_too_long(self):
        with contextlib.redirect_stdout(io.StringIO()):
            status, output = phase.call(["sh", "-c", "echo begun; sleep 60"], 1, env=dict(os.environ))
        self.assertEqual((status, output), ("timeout", "begun\n"))


if __name__ == "__main__":
    unittest.main()
