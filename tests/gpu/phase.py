"""What the phases of tests/gpu/run share: where things lie, the server, and how a result is kept.

A phase is a function of a Context, in a process of its own with a budget of time. It keeps what it has
so far with save(), so that a phase which is cut off or breaks loses only what was not done.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 60


@dataclasses.dataclass
class Context:
    bundle: Path  # its folder
    work: Path  # for what may be thrown away
    result_file: Path
    device: str  # the server's --device: cuda, emulated
    quick: bool  # tiny sizes
    budget_s: float
    began: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def emulated(self):
        return not self.device.startswith("cuda")

    def left_s(self):
        return self.budget_s - (time.monotonic() - self.began)

    def result_of(self, phase):
        """What another phase of this run has kept; {} if it has not run."""
        path = self.work / f"{phase}.result"
        return json.loads(path.read_text()) if path.is_file() else {}

    def save(self, result):
        """The phase's result so far."""
        partial = self.result_file.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.replace(self.result_file)


# What the CUDA half loads, and what cuDNN loads to compile its kernels.
LIBRARIES = ("libcublasLt.so.*", "libcudnn*.so.*", "libnvrtc.so.*")


def find_cuda_libraries():
    """Folders with cuBLASLt and cuDNN, of PyTorch's wheels (of CUDA 13 in one folder, of CUDA 12 in one each) and
    of toolkits, newest first."""
    folders = []
    for entry in sys.path:
        folders += sorted(Path(entry).glob("nvidia/*/lib"), reverse=True)
    for toolkit in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if toolkit:
            folders += [Path(toolkit) / part for part in ("lib64", "lib", "targets/x86_64-linux/lib")]
    return [folder for folder in folders if any(any(folder.glob(name)) for name in LIBRARIES)]


def library_files():
    """The files themselves, by name: which versions there are."""
    return sorted({path.name for folder in find_cuda_libraries() for name in ("libcublasLt.so.*", "libcudnn.so.*")
                   for path in folder.glob(name)})


def library_environment():
    """The environment with those folders where the loader looks; the bundle's own libraries lie beside
    its programs and need nothing."""
    folders = [str(folder) for folder in find_cuda_libraries()]
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return dict(os.environ, LD_LIBRARY_PATH=":".join(folders + ([inherited] if inherited else [])))


# What call() has started and not yet ended, each the leader of a group.
RUNNING = set()


def end_all(*_):
    """When the phase is ended, so is all that it has started."""
    for pid in list(RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(1)


def call(command, timeout_s, **options):
    """Runs a command; (its exit status, its output), the status "timeout" when it took too long. The output is
    logged."""
    options.setdefault("env", library_environment())
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, **options)
    RUNNING.add(process.pid)
    try:
        output, _ = process.communicate(timeout=max(timeout_s, 1))
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = "timeout"
    RUNNING.discard(process.pid)
    print(f"$ {' '.join(map(str, command))}\n{output}[{status}]", flush=True)
    return status, output


class Server:
    """bertrand-server with these arguments, on free ports; RuntimeError with its log when it does not
    start."""

    def __init__(self, context, *arguments):
        self._log_path = context.work / f"server-{time.monotonic_ns()}.log"
        self._log = open(self._log_path, "wb")  # noqa: SIM115
        command = [context.bundle / "bertrand-server", *arguments, "--grpc-address=127.0.0.1:0",
                   "--http-address=127.0.0.1:0", "--device", context.device]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self._log, env=library_environment())
        began = time.monotonic()
        timer = threading.Timer(START_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline().decode()
        timer.cancel()
        match = re.match(r"ready grpc=(\S+) http=(\S+)", line)
        if not match:
            self.stop()
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        self.address, self.http = match.groups()
        self.started_s = time.monotonic() - began

    def log(self):
        self._log.flush()
        return self._log_path.read_text(errors="replace")

    def stop(self, timeout_s=20):
        """Asks it to end; its exit status."""
        self.process.terminate()
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        print(f"--- the server's log, exit status {status}\n{self.log()}---", flush=True)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def has_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def client_paths(bundle):
    """Where the bundle's Python client lies, and gRPC and protobuf where this Python lacks them."""
    folders = [bundle / "python"]
    if not (has_module("grpc") and has_module("google.protobuf")):
        folders += [bundle / f"python/cp{sys.version_info.major}{sys.version_info.minor}", bundle / "python/common"]
    return [str(folder) for folder in folders if folder.is_dir()]


def import_client(context):
    """The Python client: the bundle's, or an installed one."""
    paths = client_paths(context.bundle)
    sys.path[:0] = paths[:1]
    sys.path += paths[1:]
    try:
        import bertrand
    except ImportError as error:
        raise RuntimeError(f"the Python client cannot be imported ({error}): a bundle has it in python/, with gRPC for "
                           f"Python 3.10 to 3.14; else {sys.executable} -m pip install client/python") from error
    return bertrand


def flags_of(context):
    """What bertrand-server knows, by its --help."""
    return call([context.bundle / "bertrand-server", "--help"], 20)[1]
