"""tests/gpu/record.json, from what the phases found: made, put together, and shown as Markdown.

    record.py                  prints the tables of tests/gpu/record.json
    record.py --readme         writes the short one into README.md, between its markers
    record.py --check-readme   exits 1 when README.md has another one
"""

import argparse
import sys

import kernel_sources
from kernel_sources import RECORD, ROOT, current_hashes, read_record, tests_of_kernels, unverified

README = ROOT / "README.md"
BEGIN, END = "<!-- tests/gpu/record.py: begin -->\n", "<!-- tests/gpu/record.py: end -->\n"


def kernels_of(hashes, tests, kernel_tests, sanitizer):
    """Of each kernel: its sources' hash, and what its tests came to."""
    kernels = {}
    for name, sha256 in sorted(hashes.items()):
        entry = {"sha256": sha256, "passed": 0, "failed": 0, "failures": [],
                 "sanitizer_passed": 0, "sanitizer_failed": 0, "sanitizer_not_run": 0}
        for test in tests.get(name, []):
            result = kernel_tests.get(test, {})
            entry["passed"] += result.get("passed", 0)
            entry["failed"] += result.get("failed", 0)
            entry["failures"] += result.get("failures", [])
            for tool, outcome in sanitizer.get(test, {}).items():
                entry["sanitizer_" + outcome["state"].replace(" ", "_")] += 1
                if outcome["state"] == "failed":
                    entry["failures"].append(f"{tool} over {test}: {outcome['why']}")
        kernels[name] = entry
    return kernels


def make_record(manifest, phases, results, device, emulated, date):
    """manifest: the bundle's; phases: name -> how it ended; results: name -> what it found."""
    return {
        "emulated": emulated, "device": device, "date": date, "commit": manifest["commit"],
        "phases": phases,
        "kernels": kernels_of(manifest["kernels"], manifest["tests"], results.get("kernel_tests") or {},
                              results.get("sanitizer") or {}),
        "parity": results.get("parity") or [],
        "server": results.get("server") or {},
        "kernel_benchmark": results.get("kernel_benchmark") or {},
        "attention_peers": results.get("attention_peers") or {},
        "models": results.get("models") or [],
    }


def escape(text):
    return str(text).replace("\n", " ").replace("|", "\\|")


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(escape, row)) + " |" for row in rows]) + "\n"


def number(value):
    return f"{value:.3g}"


def where(record):
    device = record["device"]
    if record["emulated"]:
        return f"In the emulator, {record['date'][:10]}: no GPU has run anything of this.\n"
    return (f"{device['name']}, driver {device.get('driver', '?')}, CUDA {device.get('cuda', '?')}, "
            f"{record['date'][:10]}, commit {record['commit'][:12]}.\n")


def kernel_table(record, states=None):
    rows = []
    for name, entry in record["kernels"].items():
        checks = f"{entry['sanitizer_passed']} passed"
        for state in ("failed", "not_run"):
            if entry[f"sanitizer_{state}"]:
                checks += f", {entry[f'sanitizer_{state}']} {state.replace('_', ' ')}"
        row = [name, entry["passed"], entry["failed"], checks]
        rows.append(row + [states.get(name, "yes")] if states is not None else row)
    header = ["kernel", "tests passed", "failed", "compute-sanitizer"]
    return table(header + (["verified as it is now"] if states is not None else []), rows)


def parity_table(record):
    rows = []
    for entry in record["parity"]:
        if "error" in entry:
            rows.append([entry["family"], entry["dtype"], "failed: " + entry["error"][-200:], "", "", ""])
            continue
        for what in ("hidden", "logits"):
            error, peer = entry[what]["error"], entry[what].get("transformers", {})
            rows.append([entry["family"], entry["dtype"], "passed" if entry["passed"] else "FAILED", what,
                         f"{number(error['rms'])} ({number(error['max'])})",
                         f"{number(peer['rms'])} ({number(peer['max'])})" if peer else "exact"])
    return table(["family", "type", "result", "of", "our error: rms (largest)", "transformers' in the type"], rows)


def models_table(record):
    def cell(times, name):
        entry = times.get(name)
        return "" if entry is None else number(entry["ms"]) if "ms" in entry else "failed"

    rows, reasons = [], {}
    for entry in record["models"]:
        if "error" in entry:
            rows.append([entry["model"], "failed: " + entry["error"][-200:], "", "", "", "", "", ""])
            continue
        times = entry["times"]
        for name, time in times.items():
            if "error" in time:
                reasons.setdefault(f"{name}: {time['error'].strip()[-200:]}")
        peers = [times[p]["ms"] for p in ("torch_sdpa", "torch_compile") if "ms" in times.get(p, {})]
        own = times.get("ours", {}).get("ms")
        rows.append([entry["model"], entry["batch"], entry["dtype"], cell(times, "ours"), cell(times, "ours_grpc"),
                     cell(times, "torch_sdpa"), cell(times, "torch_compile"),
                     f"{min(peers) / own:.2f} x" if peers and own else ""])
    text = table(["BERT", "batch", "type", "ours, ms", "through gRPC", "PyTorch SDPA", "torch.compile",
                  "best peer / ours"], rows)
    return text + "".join(f"\n- failed, {escape(reason)}" for reason in reasons) + ("\n" if reasons else "")


def attention_table(record):
    """Our attention (its benchmark's figure) beside PyTorch's two, by case."""
    own = {case["name"]: case["us"] for case in record["kernel_benchmark"].get("cases", []) if "us" in case}
    rows, peers, refused = [], record["attention_peers"], {}
    for case in peers["cases"]:
        def cell(name, found=case["peers"]):
            entry = found.get(name, {})
            if "us" in entry:
                return number(entry["us"]) + ("" if entry.get("graph", True) else " (no graph)")
            for kind in ("not available", "error"):
                if kind in entry:
                    refused.setdefault(f"{name}: {entry[kind]}")
                    return kind
            return ""

        best = min((entry["us"] for entry in case["peers"].values() if "us" in entry), default=None)
        us = own.get(case["name"])
        uneven = "flash_nested" in case["peers"]
        names = ("flash_nested", "cudnn_nested", "flash_padded", "cudnn_padded") if uneven else ("flash", "cudnn")
        rows.append([case["name"], number(us) if us else "", *map(cell, names), *[""] * (4 - len(names)),
                     f"{best / us:.2f} x" if best and us else ""])
    text = table(["case, us", "ours", "Flash", "cuDNN", "Flash, padded", "cuDNN, padded", "best peer / ours"], rows)
    version = f"PyTorch's attention, cuDNN {peers.get('cudnn', '?')}; mixed lengths are nested tensors or padded.\n\n"
    return version + text + "".join(f"\n- {escape(line)}" for line in refused) + ("\n" if refused else "")


def benchmark_table(record):
    benchmark = record["kernel_benchmark"]
    ceilings = benchmark.get("ceilings", {})
    rows = []
    for case in benchmark.get("cases", []):
        for key, word in (("error", "failed"), ("not_available", "not available")):
            if key in case:
                rows.append([case["name"], case["shape"], f"{word}: {case[key][:200]}", "", ""])
        if "us" not in case:
            continue
        rate = f"{number(case['gb_s'])} GB/s" if case["limit"] == "memory" else f"{number(case['tflop_s'])} TFLOP/s"
        rows.append([case["name"], case["shape"], number(case["us"]), rate, f"{100 * case['share']:.0f} %"])
    text = ", ".join(f"{name} {value}" for name, value in ceilings.items())
    return f"Measured limits: {text}.\n\n" + table(["case", "shape", "us", "rate", "of the limit"], rows)


def markdown(record):
    """All of it, for the reader of a run."""
    parts = [where(record), table(["part", "result", "seconds"],
                                  [[name, phase["state"] + (f": {phase['why']}" if "why" in phase else ""), phase["seconds"]]
                                   for name, phase in record["phases"].items()])]
    parts.append(kernel_table(record))
    failures = [f"- {name}: {escape(failure)}" for name, entry in record["kernels"].items()
                for failure in entry["failures"][:5]]
    if failures:
        parts.append("Failures:\n\n" + "\n".join(failures) + "\n")
    if record["parity"]:
        parts.append(parity_table(record))
    if record["server"]:
        parts.append(table(["server", "passed", "said"], [[name, entry.get("passed"), entry]
                                                          for name, entry in record["server"].items()]))
    if record["models"]:
        parts.append(models_table(record))
    if record.get("attention_peers", {}).get("cases"):
        parts.append(attention_table(record))
    if record["kernel_benchmark"]:
        parts.append(benchmark_table(record))
    return "\n".join(parts)


def readme_section(record, hashes):
    """What README.md says: which kernels a GPU has verified, and whole models' figures."""
    if record is None or record["emulated"]:
        return ("No GPU has run any of this yet: there is no record, so there are no figures, and no kernel is "
                "verified on a GPU.\n")
    parts = [where(record), kernel_table(record, unverified(record, hashes))]
    if record["models"]:
        parts.append(models_table(record))
    return "\n".join(parts)


def with_section(text, section):
    """README's text with the section between its markers; None without markers."""
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        return None
    return text[: begin + len(BEGIN)] + "\n" + section + "\n" + text[end:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--readme", action="store_true", help="write README.md's section")
    group.add_argument("--check-readme", action="store_true", help="compare it")
    arguments = parser.parse_args()
    record = read_record()
    if not arguments.readme and not arguments.check_readme:
        print(markdown(record) if record else f"{RECORD.relative_to(ROOT)} is not there: no GPU has run anything yet")
        return
    text = README.read_text(encoding="utf-8")
    wanted = with_section(text, readme_section(record, current_hashes()))
    if wanted is None:
        sys.exit("README.md has no markers of tests/gpu/record.py")
    if arguments.readme:
        README.write_text(wanted, encoding="utf-8")
    elif text != wanted:
        sys.exit("README.md's GPU table is not what the record and the sources say now: "
                 "python3 tests/gpu/record.py --readme")


if __name__ == "__main__":
    main()
