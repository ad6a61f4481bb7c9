"""Kernels on the device: their tests, the same under compute-sanitizer, and their benchmark."""

import glob
import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from phase import call

TOOLS = {
    "memcheck": ["--leak-check", "no", "--report-api-errors", "no"],
    "racecheck": [],
    "synccheck": [],
}
# Under a tool that slows everything down a hundred times.
TOO_LARGE = ["*ManySequences*", "*EventsOrderStreams*", "*ManyAllocations*", "*ShapesOfALayer*"]
SANITIZER_ERROR = 99
NO_DEVICE = 77


def programs(context):
    """The device's tests are one program; the emulator's one a kernel, of which quick takes three."""
    if not context.emulated:
        return [context.bundle / "gpu_kernel_test"]
    found = sorted(context.bundle.glob("*_kernel_test"))
    return [path for path in found if not context.quick or path.name.startswith(("copy", "embedding", "layer"))]


def list_tests(context, program):
    """File of tests -> filter that takes its tests; the file by its name without _test.cc. Hopper's last: where they
    are wrong they may hang, and take the time of what comes after them."""
    listing = context.work / "tests.json"
    listing.unlink(missing_ok=True)
    status, output = call([program, "--gtest_list_tests", f"--gtest_output=json:{listing}"], 30)
    if status != 0:
        raise RuntimeError(f"{program.name} does not list its tests: {output}")
    filters = {}
    for suite in json.loads(listing.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            name = Path(test["file"]).name.removesuffix("_test.cc")
            filters.setdefault(name, set()).add(suite["name"] + ".*")
    order = sorted(filters, key=lambda name: (name.startswith("hopper_"), name))
    return {name: ":".join(sorted(filters[name])) for name in order}


def read_results(path, status):
    """What a run of tests came to, from GoogleTest's file."""
    result = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}
    if path.is_file():
        for suite in json.loads(path.read_text())["testsuites"]:
            for test in suite["testsuite"]:
                name = f"{suite['name']}.{test['name']}"
                if test.get("result") == "SKIPPED" or test.get("status") == "NOTRUN":
                    result["skipped"] += 1
                elif test.get("failures"):
                    result["failed"] += 1
                    text = test["failures"][0].get("failure", "").strip()
                    result["failures"].append(f"{name}: {text[:600]}")
                else:
                    result["passed"] += 1
    if status not in (0, 1) or (status == 1 and not result["failed"]):
        result["failed"] += 1
        result["failures"].append(f"the program ended with {status}")
    return result


def kernel_tests(context):
    """Each file of tests in a process of its own: an error that loses the device ends one of them."""
    results = {}
    context.save(results)
    for program in programs(context):
        for name, tests in list_tests(context, program).items():
            output = context.work / f"{name}.json"
            output.unlink(missing_ok=True)
            status, _ = call([program, f"--gtest_filter={tests}", "--gtest_brief=1",
                              f"--gtest_output=json:{output}"], min(60, context.left_s()))
            if status == NO_DEVICE:
                raise RuntimeError("no CUDA device")
            results[name] = read_results(output, status)
            context.save(results)
    return results


def find_sanitizer():
    """compute-sanitizer: on the path, in a toolkit, in a Python package, or None."""
    toolkits = [os.environ.get("CUDA_HOME"), *sorted(glob.glob("/usr/local/cuda*"), reverse=True)]
    folders = [f"{toolkit}/{part}" for toolkit in toolkits if toolkit for part in ("bin", "compute-sanitizer")]
    folders += [folder for entry in sys.path for folder in glob.glob(f"{entry}/nvidia/*/bin")]
    for path in (shutil.which("compute-sanitizer"), *(f"{folder}/compute-sanitizer" for folder in folders)):
        if path and Path(path).is_file() and os.access(path, os.X_OK):
            return path
    return None


# What the tool says of a kernel, or of itself, at the beginning of a line.
FOUND = re.compile(r"=========\s+((?:Invalid|Misaligned|Error|Race|Potential|Barrier|Divergent|Uninitialized"
                   r"|Program hit|Internal|Warning: Race).*)")
# racecheck's hazards may be remarks alone; its errors and warnings are none.
SUMMARY = re.compile(r"ERROR SUMMARY: (\d+)() error|RACECHECK SUMMARY: .*\((\d+) errors?, (\d+) warning")
# GoogleTest's last lines: a program that ended before has not been checked.
RAN = re.compile(r"^\[==========\] (\d+) tests? from .* ran", re.MULTILINE)


def parse_sanitizer(status, output):
    """passed, failed (with what was found) or not run, of one run of a tool."""
    found = [match.group(1) for line in output.splitlines() if (match := FOUND.match(line))]
    ran = RAN.search(output)
    summary = SUMMARY.findall(output)
    if status == "timeout":
        return {"state": "not run", "why": "out of time"}
    # What it could not work on at all: the device, or a program that it did not find.
    refused = re.search(r"Device not supported|No attachable process|not supported on|Unable to", output)
    if refused and not ran:
        return {"state": "not run", "why": "; ".join(found[:3])[:400] or refused.group(0)}
    if status == SANITIZER_ERROR or any(int(count or 0) for counts in summary for count in counts):
        return {"state": "failed", "why": "; ".join(found[:5])[:800] or output.strip()[-400:]}
    if not summary or not ran or not int(ran.group(1)):
        return {"state": "not run", "why": output.strip()[-400:]}
    return {"state": "passed", "tests": int(ran.group(1))}


def sanitizer(context):
    """Every tool over every file of tests, the tools beside each other."""
    results = {}
    context.save(results)
    if context.emulated:
        return results  # the emulator checks every access itself
    program, tool_path = context.bundle / "gpu_kernel_test", find_sanitizer()
    if tool_path is None:
        raise RuntimeError("compute-sanitizer is not here")
    filters, lock = list_tests(context, program), Lock()

    def check(tool):
        for name, tests in filters.items():
            if context.left_s() < 5:
                outcome = {"state": "not run", "why": "out of time"}
            else:
                outcome = parse_sanitizer(*call(
                    [tool_path, "--tool", tool, "--error-exitcode", SANITIZER_ERROR, "--print-limit", "20",
                     *TOOLS[tool], program, "--exact_allocations",
                     f"--gtest_filter={tests}:-{':'.join(TOO_LARGE)}", "--gtest_brief=1"],
                    min(60, context.left_s())))
            with lock:
                results.setdefault(name, {})[tool] = outcome
                context.save(results)

    with ThreadPoolExecutor(len(TOOLS)) as pool:
        list(pool.map(check, TOOLS))
    return results


def kernel_benchmark(context):
    """gpu_kernel_benchmark's own figures, as it writes them: after every case, so one that hangs costs the later
    ones alone."""
    program = context.bundle / ("emulated_kernel_benchmark" if context.emulated else "gpu_kernel_benchmark")
    if not program.is_file():
        raise RuntimeError(f"the bundle has no {program.name}")
    output = context.work / "kernel_benchmark.json"
    output.unlink(missing_ok=True)
    command = [program, "--device", context.device, "--json", output]
    status, text = call(command + (["--sizes", "tiny", "--rounds", "1"] if context.quick else []), context.left_s() - 3)
    if not output.is_file():
        raise RuntimeError(f"{program.name} ended with {status} and wrote no figures: {text.strip()[-400:]}")
    return {"status": status, **json.loads(output.read_text())}
