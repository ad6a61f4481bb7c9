#!/usr/bin/env python3
"""What each kernel case asks of a GPU, and how long it should take there, without a GPU: counts from
the emulator (build/kernel_counts), registers from the compiled library, a model of A100, H100 and
H200 from their data sheets. Beside it the measurement, where tests/gpu/record.json has one.
docs/kernel-report.md describes the model.

    kernel_report.py --counts PROGRAM [--library libbertrand_cuda.so] [--record FILE] [--filter TEXT]
                     [--most-blocks N] [--sizes real|tiny] [--json FILE]
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cubin

SECTOR_BYTES = 32
MMA_FLOPS = 2 * 16 * 8 * 16


@dataclass(frozen=True)
class Gpu:
    """From NVIDIA's data sheets and architecture white papers (SXM modules), except where said."""
    name: str
    profile: str          # the emulator's device with its limits
    architecture: int
    multiprocessors: int
    clock_ghz: float
    memory_gb_s: float
    tensor_tflop_s: float  # float16, dense, as the data sheet says
    mma_share: float       # of it that mma.sync reaches: published measurements
    wgmma_share: float     # the same for wgmma, where there is one
    float_tflop_s: float
    cache_gb_s: float      # second-level cache, read: published measurements
    shared_bytes: int      # of a multiprocessor

    special_per_clock = 16         # of a multiprocessor
    sectors_per_clock = 4          # from a multiprocessor's first-level cache
    shared_bytes_per_clock = 128   # of a multiprocessor: a wavefront a clock
    registers = 65536              # of a multiprocessor
    threads_most, blocks_most = 2048, 32
    memory_share = 0.9             # of the data sheet's bandwidth that copies reach
    launch_us = 1.0                # from a kernel to the next in a graph
    latency_us = 0.8               # first bytes from memory, and the last ones back
    barrier_clocks = 30


GPUS = (
    Gpu("A100", "a100", 80, 108, 1.41, 2039, 312, 0.9, 0.9, 19.5, 4500, 164 << 10),
    Gpu("H100", "h100", 90, 132, 1.83, 3352, 989, 0.62, 0.8, 66.9, 6000, 228 << 10),
    Gpu("H200", "h100", 90, 132, 1.83, 4800, 989, 0.62, 0.8, 66.9, 6000, 228 << 10),
)


def round_up(value, multiple):
    return -(-value // multiple) * multiple


def occupancy(gpu, launch, kernel):
    """Blocks that a multiprocessor holds. `kernel`: its cubin.Kernel, or None where not compiled."""
    warps = launch["threads"] // 32
    most = min(gpu.blocks_most, gpu.threads_most // launch["threads"])
    # A block's own kilobyte is the system's.
    shared = round_up(launch["shared_bytes"] + 1024, 128)
    most = min(most, gpu.shared_bytes // shared)
    if kernel:
        # Registers lie in four parts; warps are spread over them.
        of_warp = round_up(kernel.registers * 32, 256)
        most = min(most, gpu.registers // 4 // of_warp * 4 // warps)
    return max(1, most)


def load_waves(gpu, launch, block_bytes, resident):
    """How many times a multiprocessor waits for memory, if what it can ask for at once comes at
    once: asynchronous copies two thirds of the shared memory (a ring's other third is being read),
    threads eight 16-byte loads each."""
    if not block_bytes:
        return 1.0
    counters = launch["counters"]
    blocks = math.ceil(counters["grid_blocks"] / gpu.multiprocessors)
    at_once = (launch["shared_bytes"] * 2 / 3 if counters["async_copies"]
               else launch["threads"] * 128)
    return max(1.0, blocks * block_bytes / (min(resident, blocks) * min(at_once, block_bytes)))


def predict_launch(gpu, launch, kernel, memory_bytes, float_flops):
    """Microseconds that each resource is busy for one launch."""
    c = launch["counters"]
    grid, scale = c["grid_blocks"], c["grid_blocks"] / c["blocks"]
    resident = occupancy(gpu, launch, kernel)
    clocks_per_us = gpu.clock_ghz * 1e3
    # The multiprocessor with the most blocks decides; `busy`: its part of the whole.
    busy = math.ceil(grid / gpu.multiprocessors) / grid
    # What a block loads twice comes from the first-level cache.
    load_bytes = c["block_sectors"] * scale * SECTOR_BYTES
    cache_bytes = load_bytes + c["store_sectors"] * scale * SECTOR_BYTES
    waves = load_waves(gpu, launch, load_bytes / grid, resident)
    return {
        "memory": memory_bytes / (gpu.memory_gb_s * gpu.memory_share * 1e3),
        "cache": cache_bytes / (gpu.cache_gb_s * 1e3),
        "tensor cores": ((c["mma"] - c["wgmma"]) / gpu.mma_share + c["wgmma"] / gpu.wgmma_share)
                        * scale * MMA_FLOPS * busy * gpu.multiprocessors / (gpu.tensor_tflop_s * 1e6),
        "float": float_flops * busy * gpu.multiprocessors / (gpu.float_tflop_s * 0.8 * 1e6),
        "first-level cache": (c["load_sectors"] + c["store_sectors"]) * scale * busy
                             / gpu.sectors_per_clock / clocks_per_us,
        "special functions": c["special"] * scale * busy / gpu.special_per_clock / clocks_per_us,
        # Shuffles go the same way.
        "shared memory": (c["shared_wavefronts"] + c["shuffles"]) * scale * busy / clocks_per_us,
        "latency": gpu.latency_us * waves
                   + c["barriers"] / c["blocks"] * gpu.barrier_clocks / clocks_per_us
                   * math.ceil(grid / (gpu.multiprocessors * resident)),
    }


def predict(gpu, case, kernels):
    """Of a case on one GPU: time, what bounds it, occupancy of its longest launch."""
    sectors = [(launch["counters"]["block_sectors"] + launch["counters"]["store_sectors"])
               * launch["counters"]["grid_blocks"] / launch["counters"]["blocks"]
               for launch in case["launches"]]
    launches, total = [], 0.0
    for launch, mine in zip(case["launches"], sectors):
        part = mine / sum(sectors)
        kernel = kernel_of(gpu, launch, kernels)
        flops = 0 if case["tensor_cores"] else case["flops"] * part
        busy = predict_launch(gpu, launch, kernel, case["bytes"] * part, flops)
        bound = max(busy, key=busy.get)
        # Resources overlap, the first bytes' way does not.
        body = max(busy.values()) if bound == "latency" else busy[bound] + gpu.latency_us
        total += gpu.launch_us + body
        launches.append({"kernel": launch["kernel"], "us": gpu.launch_us + body, "bound": bound,
                         "busy_us": busy, "blocks_per_multiprocessor":
                         occupancy(gpu, launch, kernel),
                         "registers": kernel.registers if kernel else None,
                         "architecture": kernel.architecture if kernel else None})
    longest = max(launches, key=lambda launch: launch["us"])
    floor = max(case["bytes"] / (gpu.memory_gb_s * 1e3),
                case["flops"] / ((gpu.tensor_tflop_s if case["tensor_cores"]
                                  else gpu.float_tflop_s) * 1e6))
    resources = sum(max(us for name, us in launch["busy_us"].items() if name != "latency")
                    for launch in launches)
    return {"us": total, "bound": longest["bound"], "floor_us": floor, "share": floor / total,
            "share_of_body": floor / resources, "launches": launches}


def kernel_of(gpu, launch, kernels):
    """As compiled for this GPU's architecture, or for the nearest that is there."""
    built = kernels.get(cubin.plain_type(launch["type"]), [])
    return min(built, key=lambda kernel: (abs(kernel.architecture - gpu.architecture),
                                          kernel.architecture), default=None)


def compiled_kernels(library):
    """Type -> its machine code for each architecture."""
    kernels = cubin.kernels_of_file(library) if library else []
    types = cubin.kernel_types({kernel.symbol for kernel in kernels})
    by_type = {}
    for kernel in kernels:
        if types[kernel.symbol]:
            by_type.setdefault(types[kernel.symbol], []).append(kernel)
    return by_type


def measurements(record):
    """(device, case's name) -> microseconds, of benchmark results wherever they are in a record."""
    found = {}

    def search(node, device):
        if isinstance(node, dict):
            device = node["device"] if isinstance(node.get("device"), str) else device
            for case in node["cases"] if isinstance(node.get("cases"), list) else ():
                if isinstance(case, dict) and "us" in case:
                    found[device, case.get("name")] = case["us"]
            for value in node.values():
                search(value, device)
        elif isinstance(node, list):
            for value in node:
                search(value, device)
    search(record, "")
    return found


def measured_us(measured, gpu, name):
    for (device, case), us in measured.items():
        if case == name and gpu.name in (device or ""):
            return us
    return None


def totals(case):
    """Counters of all launches, scaled to their whole grids."""
    sums = {}
    for launch in case["launches"]:
        counters = launch["counters"]
        for name, value in counters.items():
            sums[name] = sums.get(name, 0) + value * counters["grid_blocks"] / counters["blocks"]
    return sums


def count(value):
    for unit in ("", "k", "M", "G"):
        if abs(value) < 1000:
            break
        value /= 1000
    return f"{value:.0f}{unit}" if value >= 100 or unit == "" else f"{value:.1f}{unit}"


def ratio(a, b):
    return f"{a / b:.1f}" if b else "–"


def counts_table(cases):
    print("## Counts\n\nFrom the emulator (H100). Sectors a request: 16 is a warp's 16-byte loads; "
          "bank conflicts: passes beyond the least.\n")
    print("| case | blocks x threads | registers | shared KiB | blocks an SM | sectors a load | "
          "a store | conflicts | barriers a block | mma | special |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        c = totals(case)
        launches = case["gpus"]["H100"]["launches"]
        grids = " + ".join(f"{launch['counters']['grid_blocks']} x {launch['threads']}"
                           for launch in case["launches"])
        registers = " + ".join(str(launch["registers"] or "?") for launch in launches)
        shared = " + ".join(f"{launch['shared_bytes'] / 1024:.1f}".removesuffix(".0")
                            for launch in case["launches"])
        resident = " + ".join(str(launch["blocks_per_multiprocessor"]) for launch in launches)
        conflicts = c["shared_wavefronts"] - c["shared_ideal"]
        share = f"{100 * conflicts / c['shared_ideal']:.0f} %" if c["shared_ideal"] else "–"
        barriers = ratio(c["barriers"], sum(launch["counters"]["grid_blocks"]
                                            for launch in case["launches"]))
        print(f"| {case['name']} | {grids} | {registers} | {shared} | {resident} | "
              f"{ratio(c['load_sectors'], c['load_requests'])} | "
              f"{ratio(c['store_sectors'], c['store_requests'])} | {share} | {barriers} | "
              f"{count(c['mma'])} | {count(c['special'])} |")


def predictions_table(cases, measured):
    print("\n## Predictions\n\nMicroseconds, bound, and share of the data sheet's limit; nothing "
          "here is measured but what stands after \"measured\".\n")
    print("| case | shape | " + " | ".join(gpu.name for gpu in GPUS) + " |")
    print("|---|---|" + "---|" * len(GPUS))
    for case in cases:
        cells = []
        for gpu in GPUS:
            if gpu.name not in case["gpus"]:
                cells.append("–")
                continue
            p = case["gpus"][gpu.name]
            cell = f"{p['us']:.1f}, {p['bound']}, {100 * p['share']:.0f} %"
            us = measured_us(measured, gpu, case["name"])
            cells.append(cell + (f"; measured {us:.1f}" if us else ""))
        print(f"| {case['name']} | {case['shape']} | " + " | ".join(cells) + " |")


def improvements(cases):
    print("\n## Below 40 % of the limit on an H100\n\nWhat the busiest resource takes, launch and "
          "latency left out, against the limit: these are worth a look.\n")
    found = False
    for case in cases:
        p = case["gpus"]["H100"]
        if p["share_of_body"] >= 0.4:
            continue
        found = True
        longest = max(p["launches"], key=lambda launch: launch["us"])
        resource = max((name for name in longest["busy_us"] if name != "latency"),
                       key=longest["busy_us"].get)
        print(f"- {case['name']}: {100 * p['share_of_body']:.0f} %, {resource}")
    if not found:
        print("None.")
    print("\n## Accesses in more passes than needed\n")
    worst = {}
    for case in cases:
        for launch in case["launches"]:
            for site in launch["sites"]:
                passes, ideal, _ = worst.get((site["at"], site["kind"]), (0, 0, ""))
                if site["passes"] / site["ideal"] > (passes / ideal if ideal else 1.0):
                    worst[site["at"], site["kind"]] = (site["passes"], site["ideal"], case["name"])
    for (at, kind), (passes, ideal, name) in sorted(worst.items(), key=lambda item: -item[1][0] / item[1][1]):
        print(f"- {at}, {kind}: {passes / ideal:.2f} times the least (in {name})")
    if not worst:
        print("None.")


def run_counts(arguments, profile):
    command = [arguments.counts, "--device", profile, "--sizes", arguments.sizes,
               "--filter", arguments.filter, "--most-blocks", str(arguments.most_blocks)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["cases"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", required=True)
    parser.add_argument("--library")
    parser.add_argument("--record", default=Path(__file__).with_name("record.json"), type=Path)
    parser.add_argument("--filter", default="")
    parser.add_argument("--most-blocks", default=8, type=int)
    parser.add_argument("--sizes", default="real")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    kernels = compiled_kernels(arguments.library)
    measured = measurements(json.loads(arguments.record.read_text())
                            if arguments.record.exists() else {})
    # An A100 has no part in what is Hopper's alone.
    counted = {profile: {case["name"]: case for case in run_counts(arguments, profile)}
               for profile in sorted({gpu.profile for gpu in GPUS})}
    cases = list(counted["h100"].values())
    if not cases:
        sys.exit(f"no case has \"{arguments.filter}\" in its name")
    for case in cases:
        case["gpus"] = {gpu.name: predict(gpu, counted[gpu.profile][case["name"]], kernels)
                        for gpu in GPUS if case["name"] in counted[gpu.profile]}
        case["measured_us"] = {gpu.name: us for gpu in GPUS
                               if (us := measured_us(measured, gpu, case["name"]))}
    counts_table(cases)
    predictions_table(cases, measured)
    improvements(cases)
    if not kernels:
        print("\nNo compiled kernels were given: registers do not limit occupancy here.")
    if not any(case["measured_us"] for case in cases):
        print("\nNo GPU's measurement is on record for these cases.")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"cases": cases}, indent=1))


if __name__ == "__main__":
    main()
