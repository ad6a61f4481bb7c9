"""Packs what tests/gpu/run needs into BUILD/gpu-bundle.tar.xz: programs, the CUDA half, the shared
libraries they need, the Python client and what it needs, and a manifest of what they were built of.

Left out are glibc and GCC's runtime, which must be the machine's own (a newer one serves), the driver, and
cuBLASLt and cuDNN, which tests/gpu/run finds there. Called by ./run gpu-bundle.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from kernel_sources import ROOT, current_hashes, tests_of_kernels

PROGRAMS = ["bertrand-server", "bertrand", "libbertrand_cuda.so", "gpu_kernel_test", "forward_benchmark"]
OPTIONAL = ["gpu_kernel_benchmark"]
NOT_OURS = re.compile(r"^(ld-linux|linux-vdso|lib(c|m|pthread|dl|rt|resolv|util|stdc\+\+|gcc_s|cuda)\.|libcublas|libcudnn)")
# What the Python client needs beside numpy, and the versions of Python it may find.
GRPCIO, PROTOBUF, TYPING_EXTENSIONS = "grpcio==1.76.0", "protobuf==6.33.6", "typing_extensions==4.16.0"
CLIENT_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
BUNDLE_BYTES_MAX = 60 * 10**6
# What the call that carries it takes, the working tree included.
TRAVEL_BYTES_MAX = 64 * 2**20


def output_of(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def needed_libraries(programs):
    """The files of shared libraries that the programs load."""
    found = {}
    for program in programs:
        for line in output_of("ldd", program).splitlines():
            name, _, path = line.strip().partition(" => ")
            if "not found" in path:
                sys.exit(f"{program.name} needs {name}, which is not here")
            if path.startswith("/") and not NOT_OURS.match(name):
                found[name] = Path(path.split(" (")[0])
    return found


def add_programs(build, folder):
    programs = [build / name for name in PROGRAMS] + [build / name for name in OPTIONAL if (build / name).is_file()]
    if missing := [program.name for program in programs if not program.is_file()]:
        sys.exit(f"{build} has no {', '.join(missing)}")
    (folder / "lib").mkdir()
    for program in programs:
        output_of("strip", "--strip-unneeded", "-o", folder / program.name, program)
    for name, path in sorted(needed_libraries(programs).items()):
        output_of("strip", "--strip-unneeded", "-o", folder / "lib" / name, path.resolve())


def add_python_client(folder):
    """The package with its messages, as client/python/setup.py makes them: for any protobuf at run time."""
    package = folder / "python/bertrand"
    shutil.copytree(ROOT / "client/python/src/bertrand", package, ignore=shutil.ignore_patterns("__pycache__", "_proto"))
    descriptors = folder / "descriptors"
    output_of("protoc", f"-I{ROOT / 'proto'}", f"--descriptor_set_out={descriptors}", ROOT / "proto/bertrand.proto")
    (package / "_proto").mkdir()
    (package / "_proto/__init__.py").write_text("")
    (package / "_proto/bertrand_pb2.py").write_text(
        f"from bertrand._messages import load\n\nglobals().update(load({descriptors.read_bytes()!r}))\n")
    descriptors.unlink()


def download_wheels(folder):
    """What the client stands on, for every CLIENT_PYTHONS: GPU machines have PyTorch's packages, and no network. Kept
    from one bundle to the next. Whether all are there."""
    for number, version in enumerate(CLIENT_PYTHONS):
        if not list(folder.glob(f"grpcio-*-cp{version.replace('.', '')}-*.whl")):
            wanted = [GRPCIO] + ([PROTOBUF, TYPING_EXTENSIONS] if number == 0 else [])
            for python in (sys.executable, ROOT / ".cache/venv/bin/python"):
                done = subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
                                       "--python-version", version, "--platform", "manylinux2014_x86_64", "-d", folder,
                                       *wanted], capture_output=True, text=True) if Path(python).exists() else None
                if done and done.returncode == 0:
                    break
            else:
                print(f"no {' '.join(wanted)} for Python {version}: " + (done.stderr.strip()[-300:] if done else ""))
                return False
    return True


def add_client_libraries(folder, wheels):
    """Each wheel in python/cp3NN, those for any Python in python/common."""
    wheels.mkdir(parents=True, exist_ok=True)
    if not download_wheels(wheels):
        print("the bundle is made without them: the machine's own python3 must have grpcio and protobuf")
        return
    for wheel in sorted(wheels.glob("*.whl")):
        version = re.match(r"grpcio-.*-(cp3\d+)-", wheel.name)
        target = folder / "python" / (version.group(1) if version else "common")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    for library in (folder / "python").rglob("*.so"):
        output_of("strip", "--strip-unneeded", library)


def manifest():
    changed = output_of("git", "-C", ROOT, "status", "--porcelain").strip()
    commit = output_of("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    return {"commit": commit + ("+changes" if changed else ""), "kernels": current_hashes(),
            "tests": tests_of_kernels()}


def tree_bytes():
    """What travels beside the bundle: tracked files and those that git does not ignore."""
    listed = output_of("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sum((ROOT / name).stat().st_size for name in set(listed) if name and (ROOT / name).is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, help="the build folder")
    build = parser.parse_args().build.resolve()
    target = build / "gpu-bundle.tar.xz"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "gpu-bundle"
        folder.mkdir()
        add_programs(build, folder)
        add_python_client(folder)
        add_client_libraries(folder, ROOT / ".cache/client-wheels")
        (folder / "manifest.json").write_text(json.dumps(manifest(), indent=1) + "\n")
        with tarfile.open(target, "w:xz", preset=6) as archive:
            archive.add(folder, folder.name)
        unpacked = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    packed = target.stat().st_size
    print(f"{target}: {packed / 1e6:.1f} MB, {unpacked / 1e6:.1f} MB unpacked")
    if packed > BUNDLE_BYTES_MAX:
        sys.exit(f"a bundle may have {BUNDLE_BYTES_MAX / 1e6:.0f} MB")
    travel = packed + tree_bytes()
    print(f"with the working tree {travel / 2**20:.1f} MiB of {TRAVEL_BYTES_MAX / 2**20:.0f} travel")
    if travel > TRAVEL_BYTES_MAX:
        sys.exit("that is too much")


if __name__ == "__main__":
    main()
