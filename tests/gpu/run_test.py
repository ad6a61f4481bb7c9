"""The logic of tests/gpu without a GPU: hashes, the record and its tables, the sanitizer's output, how phases
end, and the bundle's limits. Standard library only."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
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
        self.assertIn("\n- failed, ours_grpc: x\n", text)
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


# As the tool prints them (compute-sanitizer 2023 to 2025), between what the program prints.
RAN = "[==========] 7 tests from 2 test suites ran. (31 ms total)\n[  PASSED  ] 7 tests.\n"
CLEAN = f"========= COMPUTE-SANITIZER\n{RAN}========= ERROR SUMMARY: 0 errors\n"
INVALID = f"""========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at void Kernel<(int)64>(const float *)+0x130 in kernel.cu:8
=========     by thread (0,0,0) in block (0,0,0)
=========     Access at 0x7bd889c03041 is out of bounds
=========     and is 1 bytes after the nearest allocation at 0x7bd889c03000 of size 64 bytes
=========
{RAN}========= ERROR SUMMARY: 257 errors
========= ERROR SUMMARY: 157 errors were not printed. Use --print-limit option to adjust the number of printed errors
"""
RACES = f"""========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at Kernel(float *)+0xb0 in kernel.cu:28
=========     and Read access at Kernel(float *)+0xc0 in kernel.cu:30 [1024 hazards]
=========
{RAN}========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
RACE_WARNING = f"""========= COMPUTE-SANITIZER
========= Warning: Race reported between Read access at Kernel(int)+0x260
=========     and Write access at Kernel(int)+0x200 [294291 hazards]
{RAN}========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)
"""
BARRIER = f"""========= COMPUTE-SANITIZER
========= Barrier error detected. Divergent thread(s) in block.
=========     at Kernel(int *)+0xa0 in kernel.cu:61
=========     by thread (128,0,0) in block (0,0,0)
{RAN}========= ERROR SUMMARY: 1 error
"""
LOST = """========= COMPUTE-SANITIZER
========= Program hit cudaErrorLaunchFailure (error 719) due to "unspecified launch failure" on CUDA API call to cudaDeviceSynchronize.
========= Target application returned an error
========= ERROR SUMMARY: 2 errors
"""
REFUSED = """========= COMPUTE-SANITIZER
========= Error: Device not supported. Please refer to the "Supported Devices" section of the sanitizer documentation
========= Target application returned an error
========= ERROR SUMMARY: 0 errors
"""


class KernelTestsTest(unittest.TestCase):
    def test_hoppers_come_last(self):
        listing = {"testsuites": [{"name": f"Suite{file}", "testsuite": [{"file": f"tests/{file}_test.cc"}]}
                                  for file in ("span_kernel", "hopper_kernels", "copy_kernel", "hopper_gemm_kernel")]}
        with tempfile.TemporaryDirectory() as folder:
            context = mock.Mock(work=Path(folder))

            def lists(command, _):
                (context.work / "tests.json").write_text(json.dumps(listing))
                return 0, ""

            with mock.patch("kernel_phases.call", lists):
                filters = kernel_phases.list_tests(context, Path("program"))
        self.assertEqual(list(filters), ["copy_kernel", "span_kernel", "hopper_gemm_kernel", "hopper_kernels"])
        self.assertEqual(filters["span_kernel"], "Suitespan_kernel.*")


class SanitizerTest(unittest.TestCase):
    def test_what_it_says(self):
        parse = kernel_phases.parse_sanitizer
        passed = {"state": "passed", "tests": 7}
        self.assertEqual(parse(0, CLEAN), passed)
        # A test that fails has another status; it is not the sanitizer's.
        self.assertEqual(parse(1, CLEAN), passed)
        self.assertEqual(parse(0, RAN + "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"),
                         passed)
        self.assertEqual(parse(0, RAN + "========= RACECHECK SUMMARY: 3 hazards displayed (0 errors, 0 warnings)\n"),
                         passed)
        for output, why in ((INVALID, "Invalid __global__ read of size 4 bytes"),
                            (RACES, "Error: Race reported between Write access at Kernel(float *)+0xb0"),
                            (RACE_WARNING, "Warning: Race reported between Read access at Kernel(int)+0x260"),
                            (BARRIER, "Barrier error detected. Divergent thread(s) in block."),
                            (LOST, "Program hit cudaErrorLaunchFailure (error 719)")):
            for status in (99, 0):
                outcome = parse(status, output)
                self.assertEqual(outcome["state"], "failed", output)
                self.assertTrue(outcome["why"].startswith(why), outcome)

    def test_what_was_not_checked_has_not_passed(self):
        parse = kernel_phases.parse_sanitizer
        for status, output in (("timeout", ""), (255, "Device not supported"), (1, REFUSED), (0, REFUSED),
                               # The program died, or had no test, or no device.
                               (139, "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"),
                               (0, CLEAN.replace("7 tests", "0 tests")),
                               (77, "no CUDA device: unknown error\n========= ERROR SUMMARY: 0 errors\n"),
                               (0, "========= Error: No attachable process found. compute-sanitizer timed-out.\n"),
                               (0, RAN), (127, "sh: not found")):
            self.assertEqual(parse(status, output)["state"], "not run", output)

    def test_a_program_that_dies_is_a_failure(self):
        self.assertEqual(kernel_phases.read_results(Path("/nowhere"), -11)["failures"], ["the program ended with -11"])
        self.assertEqual(kernel_phases.read_results(Path("/nowhere"), "timeout")["failed"], 1)

    def phase_with(self, tool_text):
        """The phase over a program that lists two files of tests and a tool that prints this."""
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        tests = {"testsuites": [{"name": f"{name}Test", "testsuite": [{"file": f"/x/{name}_kernel_test.cc", "name": "A"}]}
                                for name in ("copy", "span")]}
        (folder / "tests").write_text(json.dumps(tests))
        scripts = {"gpu_kernel_test": f'cp {folder}/tests "${{2#--gtest_output=json:}}"\n'}
        if tool_text is not None:
            scripts["compute-sanitizer"] = tool_text
        for name, text in scripts.items():
            (folder / name).write_text("#!/bin/sh\n" + text)
            (folder / name).chmod(0o755)
        context = phase.Context(folder, folder, folder / "result", "cuda", False, 60)
        with mock.patch.dict(os.environ, {"PATH": f"{folder}:/usr/bin:/bin"}), \
                mock.patch.object(kernel_phases.glob, "glob", lambda _: []), \
                contextlib.redirect_stdout(io.StringIO()):
            return kernel_phases.sanitizer(context)

    def test_the_phase(self):
        results = self.phase_with(f"""
case "$*" in
  *racecheck*spanTest*) cat <<'E'
{RACES}E
    exit 99 ;;
  *racecheck*) echo '{RAN}========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)' ;;
  *) cat <<'E'
{CLEAN}E
  ;;
esac
""")
        passed = {"state": "passed", "tests": 7}
        self.assertEqual(results["copy_kernel"], {tool: passed for tool in ("memcheck", "racecheck", "synccheck")})
        self.assertEqual(results["span_kernel"]["racecheck"]["state"], "failed")
        self.assertFalse(run.succeeded("sanitizer", results))
        with self.assertRaisesRegex(RuntimeError, "not here"):
            self.phase_with(None)


class DeviceTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_a_driver_that_is_too_old_is_named(self):
        for name, text in (("gpu_kernel_test", "echo 'no CUDA device: CUDA driver version is insufficient for CUDA "
                                               "runtime version' >&2\nexit 77\n"), ("bertrand-server", "")):
            (self.folder / name).write_text("#!/bin/sh\n" + text)
            (self.folder / name).chmod(0o755)
        context = phase.Context(self.folder, self.folder, self.folder / "result", "cuda", False, 60)
        with contextlib.redirect_stdout(io.StringIO()), self.assertRaisesRegex(RuntimeError, "driver version is insuff"):
            run.device_phase(context)
        self.assertIn("sanitizer", json.loads((self.folder / "result").read_text()))

    def test_one_of_several_gpus(self):
        for device, visible, name, wanted in (("cuda", None, "cuda", None), ("cuda:1", None, "cuda", "1"),
                                              ("cuda:1", "4,6", "cuda", "6"), ("cuda:0", "MIG-12/3", "cuda", "MIG-12/3"),
                                              ("cuda", "3", "cuda", "3"), ("emulated", None, "emulated", None)):
            environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
            self.assertEqual(run.choose_gpu(device, environment), name)
            self.assertEqual(environment.get("CUDA_VISIBLE_DEVICES"), wanted)
            self.assertEqual(environment["CUDA_DEVICE_ORDER"], "PCI_BUS_ID")

    def test_where_libraries_are(self):
        for name in ("site/nvidia/cu13/lib/libcublasLt.so.13", "site/nvidia/cudnn/lib/libcudnn.so.9",
                     "site/nvidia/nccl/lib/libnccl.so.2", "site/nvidia/cublas/lib/libcublasLt.so.12",
                     "site/nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "toolkit/lib64/libcublasLt.so.13"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        with mock.patch.object(phase.sys, "path", [str(self.folder / "site")]), \
                mock.patch.dict(os.environ, {"CUDA_HOME": str(self.folder / "toolkit"), "LD_LIBRARY_PATH": "/old"}):
            folders = [folder.relative_to(self.folder).as_posix() for folder in phase.find_cuda_libraries()
                       if folder.is_relative_to(self.folder)]
            self.assertEqual(folders, ["site/nvidia/cudnn/lib", "site/nvidia/cuda_nvrtc/lib", "site/nvidia/cublas/lib",
                                       "site/nvidia/cu13/lib", "toolkit/lib64"])
            self.assertTrue({"libcublasLt.so.12", "libcublasLt.so.13", "libcudnn.so.9"} <= set(phase.library_files()))
            self.assertTrue(phase.library_environment()["LD_LIBRARY_PATH"].endswith(":/old"))


class SucceededTest(unittest.TestCase):
    def test_a_peers_failure_is_none_of_ours(self):
        ours = {"ours": {"ms": 1}, "ours_grpc": {"ms": 2}}
        self.assertTrue(run.succeeded("models", [{"times": ours | {"torch_compile": {"error": "no C compiler"}}}]))
        self.assertFalse(run.succeeded("models", [{"times": ours | {"ours": {"error": "x"}}}]))
        self.assertFalse(run.succeeded("models", [{"times": {"ours": {"ms": 1}}}]))
        self.assertFalse(run.succeeded("models", []))
        cases = {"cases": [{"peers": {"flash": {"us": 1}, "cudnn": {"not available": "x"}}}]}
        self.assertTrue(run.succeeded("attention_peers", cases))
        cases["cases"][0]["peers"]["cudnn"] = {"error": "wrong"}
        self.assertFalse(run.succeeded("attention_peers", cases))


class BundleTest(unittest.TestCase):
    def test_grpc_is_the_bundles_where_there_is_none(self):
        own = f"python/cp{sys.version_info.major}{sys.version_info.minor}"
        with tempfile.TemporaryDirectory() as name:
            bundle = Path(name)
            for folder in (own, "python/cp27", "python/common"):
                (bundle / folder).mkdir(parents=True)
            for lacking in ("grpc", "google.protobuf"):
                with mock.patch("phase.has_module", lambda module, lacking=lacking: module != lacking):
                    self.assertEqual(phase.client_paths(bundle),
                                     [str(bundle / folder) for folder in ("python", own, "python/common")])
            with mock.patch("phase.has_module", lambda module: True):
                self.assertEqual(phase.client_paths(bundle), [str(bundle / "python")])
        self.assertTrue(phase.has_module("json.decoder"))
        self.assertFalse(phase.has_module("no_such_package.module"))

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

    def run_with(self, module_text, phases, *arguments):
        """run.py over a bundle without programs, its phases those of a module made here."""
        (self.folder / "made_phases.py").write_text(module_text)
        (self.folder / "made_run.py").write_text(
            f"import sys\nsys.path[:0] = [{str(Path(__file__).parent)!r}, {str(self.folder)!r}]\nimport run\n"
            f"run.PHASES = {phases!r}\nrun.__file__ = __file__\nsys.exit(run.main())\n")
        (self.folder / "bundle").mkdir(exist_ok=True)
        (self.folder / "bundle/bertrand-server").touch()
        out = self.folder / "out"
        done = subprocess.run([sys.executable, self.folder / "made_run.py", "--bundle", self.folder / "bundle", "--out",
                               out, "--device", "emulated", *arguments], capture_output=True, text=True, timeout=60)
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
def attention_peers(context):
    raise ValueError("no | peers")
def kernel_tests(context):
    return {"copy_kernel": {"passed": 2, "failed": 0, "failures": []}}
"""
        phases = {name: ("made_phases", name, 1)
                  for name in ("parity", "server", "models", "attention_peers", "kernel_tests")}
        status, made, logs = self.run_with(module, phases)
        self.assertEqual(status, 1)
        self.assertEqual({name: entry["state"] for name, entry in made["phases"].items()},
                         {"parity": "out of time", "server": "failed", "models": "failed",
                          "attention_peers": "failed", "kernel_tests": "passed"})
        self.assertEqual(made["phases"]["attention_peers"]["why"], "ValueError: no | peers")
        self.assertIn("| attention_peers | failed: ValueError: no \\| peers |", record.markdown(made))
        self.assertIn("Traceback", logs)
        self.assertEqual(made["parity"][0]["error"], "so far")
        self.assertEqual(made["kernels"]["copy"]["passed"], 2)
        self.assertTrue(made["emulated"])
        self.assertIn("about to die", logs)

    def test_an_earlier_call_is_known(self):
        module = """
import os
def kernel_tests(context):
    return {"hopper_gemm_kernel": {"passed": 2, "failed": 0, "failures": []}}
def models(context):
    context.save([{"model": name, "times": {"ours": {"ms": 1}, "ours_grpc": {"ms": 1}}}
                  for name in context.result_of("kernel_tests")])
    os.abort()
"""
        phases = {name: ("made_phases", name, 9) for name in ("kernel_tests", "models")}
        _, made, _ = self.run_with(module, phases, "--phases", "kernel_tests")
        (self.folder / "base.json").write_text(json.dumps(made))
        again = ("--phases", "models", "--base", self.folder / "base.json")
        _, made, _ = self.run_with(module, phases, *again)
        self.assertEqual([entry["model"] for entry in made["models"]], ["hopper_gemm_kernel"])
        # What a phase itself has found before is not taken for what it finds now; other binaries' results are not.
        (self.folder / "base.json").write_text(json.dumps(made | {"commit": "another"}))
        _, made, _ = self.run_with(module, phases, *again)
        self.assertEqual(made["models"], [])

    def test_what_there_is_no_time_for_is_not_begun(self):
        module = "def parity(context):\n    import time\n    time.sleep(60)\ndef models(context):\n    return []\n"
        # 13 s, of which ten are for ending a phase by force.
        status, made, _ = self.run_with(module, {name: ("made_phases", name, 9) for name in ("parity", "models")},
                                        "--limit-s", "16")
        self.assertEqual(status, 1)
        self.assertEqual(made["phases"]["parity"]["state"], "out of time")
        self.assertEqual(made["phases"]["models"]["state"], "not begun: out of time")

    def test_what_cannot_begin_is_said(self):
        server = self.folder / "bundle/bertrand-server"
        server.parent.mkdir()
        server.touch()
        (self.folder / "file").write_text("no archive")
        run_py = Path(run.__file__)
        for arguments, text in ((["--bundle", self.folder / "file"], "file could not be opened"),
                                (["--bundle", self.folder], "has no bertrand-server"),
                                (["--bundle", self.folder / "none"], "is not there"),
                                (["--out", self.folder / "file"], "File exists"),
                                (["--phases", "device,dance"], "no such phase: dance; there are device, "),
                                (["--device", "cuda:x"], "expected cuda, cuda:N or emulated"),
                                (["--base", self.folder / "file"], "Expecting value")):
            done = subprocess.run([sys.executable, run_py, "--bundle", server.parent, "--out", self.folder / "out",
                                   *arguments], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(text, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_an_interrupted_run_ends_its_phase(self):
        module = """
import os, pathlib, time
def server(context):
    return {"drain": {"passed": True}}
def parity(context):
    pathlib.Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    time.sleep(60)
"""
        # (One phase, to make the files.)
        self.run_with(module, {"server": ("made_phases", "server", 30), "parity": ("made_phases", "parity", 30)},
                      "--phases", "server")
        pid_file = self.folder / "pid"
        for number in (signal.SIGINT, signal.SIGTERM):
            pid_file.unlink(missing_ok=True)
            process = subprocess.Popen([sys.executable, self.folder / "made_run.py", "--bundle", self.folder / "bundle",
                                        "--out", self.folder / "out"], env=dict(os.environ, PID_FILE=str(pid_file)),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            while not (pid_file.is_file() and pid_file.read_text()):
                time.sleep(0.02)
            process.send_signal(number)
            self.assertEqual(process.communicate(timeout=30)[1].strip(), "interrupted")
            self.assertEqual(process.returncode, 1)
            with self.assertRaises(ProcessLookupError):
                os.kill(int(pid_file.read_text()), 0)
            made = json.loads((self.folder / "out/record.json").read_text())
            self.assertTrue(made["server"]["drain"]["passed"])

    def test_an_output_that_cannot_be_written_stops_nothing(self):
        module = "def server(context):\n    return {'drain': {'passed': True}}\ndef models(context):\n    return 7\n"
        phases = {name: ("made_phases", name, 9) for name in ("server", "models")}
        (self.folder / "out/table.md.partial").mkdir(parents=True)  # is in the way
        status, made, _ = self.run_with(module, phases)
        self.assertEqual(status, 1)
        self.assertEqual(list(made["phases"]), ["server", "models"])

    def test_budgets_fit_a_call(self):
        # Ten minutes, less 20 s to begin. What phases that must be ended by force take more, the last one lacks.
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
