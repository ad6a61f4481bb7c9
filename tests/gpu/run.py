"""Runs the phases on a machine with a GPU; docs/gpu-testing.md says how to get there.

Each phase is a process of its own with a budget: what it breaks, or does not finish, is its own. After
each one record.json, table.md and logs.txt in --out are written anew, so that a run which is cut off
leaves what it had. Exit status: 0 when every phase passed, 1 when something failed, 2 for what cannot begin.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path

import kernel_phases
import kernel_sources
import record
from phase import Context, call, end_all, find_cuda_libraries, library_files

# Phase -> (module, function, seconds). Their sum and the start are below ten minutes.
PHASES = {
    "device": ("run", "device_phase", 25),
    "kernel_tests": ("kernel_phases", "kernel_tests", 75),
    "server": ("server_phase", "server", 50),
    "parity": ("parity", "parity", 145),
    "kernel_benchmark": ("kernel_phases", "kernel_benchmark", 60),
    "attention_peers": ("attention_peers", "attention_peers", 25),
    "models": ("models_benchmark", "models", 115),
    "sanitizer": ("kernel_phases", "sanitizer", 85),
}
LOG_BYTES_MAX = 1 << 20  # of each phase


class CannotBegin(Exception):
    """What the command line says cannot be done; the message says why."""


def first_line(command, timeout_s=20):
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s).stdout
        return output.strip().splitlines()[-1] if output.strip() else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def device_phase(context):
    """What this runs on."""
    result = {"name": "emulated H100" if context.emulated else "", "python": platform.python_version(),
              "processors": os.cpu_count(), "libraries": [str(folder) for folder in find_cuda_libraries()],
              "library_files": library_files(), "sanitizer": kernel_phases.find_sanitizer() or "none",
              "compiler": shutil.which("cc") or shutil.which("gcc") or "none"}
    context.save(result)
    if not context.emulated:
        query = first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm",
                            "--format=csv,noheader"])
        fields = [field.strip() for field in query.split(",")] + [""] * 4
        result |= dict(zip(("name", "driver", "memory", "clock"), fields, strict=False))
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        result["nvcc"] = first_line([nvcc, "--version"])
        context.save(result)
    try:
        import torch
        import transformers
        result |= {"torch": torch.__version__, "transformers": transformers.__version__,
                   "cuda": torch.version.cuda or ""}
        if not context.emulated:
            properties = torch.cuda.get_device_properties(0)
            result |= {"name": properties.name, "capability": f"{properties.major}.{properties.minor}",
                       "multiprocessors": properties.multi_processor_count}
    except Exception as error:
        result["torch_error"] = str(error)[-400:]
    context.save(result)
    call([context.bundle / "bertrand-server", "--version"], 20)
    if not context.emulated:
        # The driver must know our CUDA: this says what is missing, and nothing else would.
        status, output = call([context.bundle / "gpu_kernel_test", "--gtest_filter=none"], 30)
        if status != 0:
            raise RuntimeError(f"our programs find no GPU ({status}): {output.strip()[-400:]}")
    if not result["name"]:
        raise RuntimeError("no GPU")
    return result


def run_one(arguments):
    """In the phase's own process."""
    module, function, _ = PHASES[arguments.one]
    context = Context(**json.loads(os.environ["GPU_RUN_CONTEXT"]))
    for name in ("bundle", "work", "result_file"):
        setattr(context, name, Path(getattr(context, name)))
    signal.signal(signal.SIGTERM, end_all)
    try:
        entry = globals()[function] if module == "run" else getattr(importlib.import_module(module), function)
        context.save(entry(context))
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError):
            why += f" (of {sys.executable}; this part needs PyTorch and transformers; PYTHON names another python3)"
        error_file(context.result_file).write_text(why[:600])
        return 1
    return 0


def error_file(result_file):
    """Where a phase that broke says why."""
    return result_file.with_suffix(".error")


def succeeded(name, result):
    """Whether what a phase found is all right."""
    if name == "kernel_tests":
        return bool(result) and all(not entry["failed"] for entry in result.values())
    if name == "sanitizer":
        return all(outcome["state"] == "passed" for tools in result.values() for outcome in tools.values())
    if name == "parity":
        return bool(result) and all(entry["passed"] for entry in result)
    if name == "server":
        return bool(result) and all(entry["passed"] for entry in result.values())
    if name == "kernel_benchmark":
        return result.get("status") == 0
    if name == "attention_peers":
        return bool(result["cases"]) and not any("error" in peer for case in result["cases"]
                                                 for peer in case["peers"].values())
    if name == "models":
        # PyTorch's own failures are shown; they are none of ours.
        return bool(result) and not any("error" in entry or any("error" in entry["times"].get(name, {"error": ""})
                                                                for name in ("ours", "ours_grpc"))
                                        for entry in result)
    return True


def start_phase(name, context, log_path, budget_s):
    """Runs it in a process; (how it ended, what it found)."""
    values = {"bundle": str(context["bundle"]), "work": str(context["work"]),
              "result_file": str(context["work"] / f"{name}.result"), "device": context["device"],
              "quick": context["quick"], "budget_s": budget_s}
    began = time.monotonic()
    with open(log_path, "wb") as log:
        process = subprocess.Popen([sys.executable, "-u", Path(__file__).resolve(), "--one", name],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   env=dict(os.environ, GPU_RUN_CONTEXT=json.dumps(values)), start_new_session=True)
        try:
            status = process.wait(budget_s + 5)
            state = "passed" if status == 0 else "failed"
        except subprocess.TimeoutExpired:
            state = "out of time"
        finally:
            # Also when this run is interrupted; also what the phase left running, a server say.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, number)
                    process.wait(2)
    result_file = Path(values["result_file"])
    result = json.loads(result_file.read_text()) if result_file.is_file() else None
    phase = {"state": state, "seconds": round(time.monotonic() - began, 1)}
    if error_file(result_file).is_file():
        phase["why"] = error_file(result_file).read_text()
    try:
        if state == "passed" and (result is None or not succeeded(name, result)):
            phase["state"] = "failed"
    except Exception as error:
        return {**phase, "state": "failed", "why": f"its result is none: {type(error).__name__}: {error}"}, None
    return phase, result


def keep_results(results, wanted, work):
    """What phases of an earlier call found, for those of this one (Context.result_of)."""
    for name, result in results.items():
        if name not in wanted and result is not None:
            (work / f"{name}.result").write_text(json.dumps(result))


def unpack(bundle, work):
    """The bundle's folder: itself, or what the archive holds."""
    folders = [bundle]
    if not bundle.is_dir():
        with tarfile.open(bundle) as archive:
            # (Early versions of Python 3.11 have no filters.)
            archive.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        folders = [path for path in work.iterdir() if path.is_dir()]
    for folder in folders:
        if (folder / "bertrand-server").is_file():
            return folder
    raise CannotBegin(f"{bundle} has no bertrand-server: it is neither what ./run gpu-bundle makes nor a build folder")


def manifest_of(bundle):
    """What the binaries were built of. A build folder has none: then it is the tree as it is."""
    path = bundle / "manifest.json"
    if path.is_file():
        return json.loads(path.read_text())
    commit = first_line(["git", "-C", kernel_sources.ROOT, "rev-parse", "HEAD"])
    return {"commit": commit or "unknown", "kernels": kernel_sources.current_hashes(),
            "tests": kernel_sources.tests_of_kernels()}


def markdown(made):
    try:
        return record.markdown(made)
    except Exception as error:  # the record has all that the table lacks
        return f"The table cannot be made: {type(error).__name__}: {error}\n"


def write_outputs(out, made, work, names):
    for name, text in (("record.json", json.dumps(made, indent=1) + "\n"), ("table.md", markdown(made))):
        # Whole or not at all: a full disk leaves the one before.
        (out / f"{name}.partial").write_text(text)
        (out / f"{name}.partial").replace(out / name)
    with open(out / "logs.txt", "wb") as logs:
        for name in names:
            log = work / f"{name}.log"
            if log.is_file():
                logs.write(f"\n######## {name}\n".encode() + log.read_bytes()[-LOG_BYTES_MAX:])


def choose_gpu(device, environment):
    """Makes device N of `cuda:N` the only one there is, for us and for PyTorch; returns the name to use."""
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if not device.startswith("cuda:"):
        return device
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    number = device.removeprefix("cuda:")
    index = int(number) if number.isdecimal() else -1
    if index < 0 or (visible and index >= len(visible)):
        raise CannotBegin(f"--device {device}: expected cuda, cuda:N or emulated, N below "
                          + (f"the {len(visible)} of CUDA_VISIBLE_DEVICES" if visible else "the number of GPUs"))
    environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
    return "cuda"


def run_all(arguments):
    began = time.monotonic()
    out = arguments.out
    arguments.device = choose_gpu(arguments.device, os.environ)
    wanted = arguments.phases.split(",") if arguments.phases else list(PHASES)
    if unknown := set(wanted) - set(PHASES):
        raise CannotBegin(f"no such phase: {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "logs.txt").write_bytes(b"")  # whether it can be written shows now
    base = json.loads(arguments.base.read_text()) if arguments.base else {}
    results = {name: base.get(name) for name in PHASES if name not in ("kernel_tests", "sanitizer")}
    results |= base.get("tests", {})
    phases = dict(base.get("phases", {}))
    with tempfile.TemporaryDirectory(prefix="bertrand-gpu-") as temporary:
        work = Path(temporary)
        context = {"bundle": unpack(arguments.bundle.resolve(), work), "work": work, "device": arguments.device,
                   "quick": arguments.quick}
        manifest = manifest_of(context["bundle"])
        if base.get("commit") == manifest["commit"]:
            keep_results(results, wanted, work)
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        for name in wanted:
            # Less what ending a phase by force may take.
            left_s = arguments.limit_s - (time.monotonic() - began) - 10
            budget_s = min(PHASES[name][2] * arguments.budget_scale, left_s)
            if budget_s < min(5, PHASES[name][2]):
                phases[name], results[name] = {"state": "not begun: out of time", "seconds": 0}, None
            else:
                phases[name], results[name] = start_phase(name, context, work / f"{name}.log", budget_s)
            made = record.make_record(manifest, phases, results, results.get("device") or {"name": "unknown"},
                                      not arguments.device.startswith("cuda"), date)
            # So that another call, of other phases, can go on from here.
            made["tests"] = {key: results.get(key) or {} for key in ("kernel_tests", "sanitizer")}
            try:
                write_outputs(out, made, work, wanted)
            except OSError as error:  # a full disk, say: what is found next may still find room
                print(f"{out} is not up to date: {error}", flush=True)
            print(f"{name}: {phases[name]['state']} in {phases[name]['seconds']} s"
                  + (f": {phases[name]['why']}" if "why" in phases[name] else ""), flush=True)
    print(markdown(made))
    return 0 if all(phases[name]["state"] == "passed" for name in wanted) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="phases: " + ", ".join(PHASES))
    parser.add_argument("--bundle", type=Path, help="gpu-bundle.tar.xz, its folder, or a build folder")
    parser.add_argument("--out", type=Path, help="where record.json, table.md and logs.txt go")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or emulated")
    parser.add_argument("--phases", help="these alone, separated by commas, in this order")
    parser.add_argument("--base", type=Path, help="a record whose other phases are kept")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--budget-scale", type=float, default=1, help="multiplies every phase's seconds")
    parser.add_argument("--limit-s", type=float, default=595, help="of the whole run; what is left decides")
    parser.add_argument("--one", choices=PHASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run_one(arguments)
    if arguments.bundle is None or arguments.out is None:
        parser.error("--bundle and --out are needed")
    if not arguments.bundle.exists():
        parser.error(f"{arguments.bundle} is not there; ./run gpu-bundle makes it")
    # Ends the phase that runs, and leaves what the others have found.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))
    try:
        return run_all(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except (CannotBegin, OSError, tarfile.TarError, json.JSONDecodeError) as error:
        print(f"tests/gpu/run: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
