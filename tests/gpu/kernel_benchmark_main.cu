// gpu_kernel_benchmark [--device cuda|cuda:N|emulated] [--sizes real|tiny] [--filter TEXT]
//                      [--rounds N] [--json FILE]
//
// Times every kernel case (kernel_cases.h) and prints a table in Markdown; --json writes the same
// for programs, anew after each case. Hopper's kernels come last: one that is wrong may hang, or
// lose the device. Built by nvcc it knows the device cuda (its default); built for the emulator,
// emulated, with tiny sizes as the default: its times mean nothing, it shows that all of this
// works. Exit status: 0; 1 when a case failed (the others are measured still); 2 for what cannot
// begin.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>

#include "kernels/status.h"
#include "tests/gpu/kernel_benchmark.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

#ifdef __CUDACC__
constexpr bool kEmulated = false;
#else
constexpr bool kEmulated = true;
#endif

struct Arguments {
  std::string device = kEmulated ? "emulated" : "cuda";
  CaseSizes sizes = kEmulated ? CaseSizes::kTiny : CaseSizes::kReal;
  std::string filter, json;
  int rounds = 0;
};

absl::StatusOr<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) return InvalidArgument("what is " + name + "?");
    const std::string value = argv[i + 1];
    if (name == "--device") {
      arguments.device = value;
    } else if (name == "--sizes" && (value == "real" || value == "tiny")) {
      arguments.sizes = value == "tiny" ? CaseSizes::kTiny : CaseSizes::kReal;
    } else if (name == "--filter") {
      arguments.filter = value;
    } else if (name == "--json") {
      arguments.json = value;
    } else if (name == "--rounds") {
      arguments.rounds = std::atoi(value.c_str());
      if (arguments.rounds < 1) return InvalidArgument("--rounds " + value);
    } else {
      return InvalidArgument("unknown argument " + name + " " + value);
    }
  }
  return arguments;
}

absl::StatusOr<std::unique_ptr<simt::Device>> OpenDevice(const std::string& name) {
  if (kEmulated) {
    if (name != "emulated") return InvalidArgument("--device " + name + ": this is the emulator");
    return simt::Device::Open(0);
  }
  int index = 0;
  char rest = 0;
  if (name != "cuda" && (std::sscanf(name.c_str(), "cuda:%d%c", &index, &rest) != 1 || index < 0)) {
    return InvalidArgument("--device " + name + ": cuda or cuda:N");
  }
  absl::StatusOr<std::unique_ptr<simt::Device>> device = simt::Device::Open(index);
  if (!device.ok()) return Internal("no GPU to measure: " + Message(device.status()));
  return device;
}

BenchmarkOptions Options(const Arguments& arguments) {
  BenchmarkOptions options;
  // What a machine without a GPU does at once.
  if (kEmulated) options = {2, 0, 1, size_t{1} << 16, 64};
  if (arguments.rounds > 0) options.rounds = arguments.rounds;
  return options;
}

// Whole or not at all.
absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string partial = path + ".partial";
  std::ofstream file(partial);
  file << text;
  if (!file.flush() || std::rename(partial.c_str(), path.c_str()) != 0) {
    return Unavailable(path + " cannot be written");
  }
  return absl::OkStatus();
}

// Those that are asked for and can run here, in their order.
std::vector<KernelCase> Chosen(const Arguments& arguments, const simt::DeviceInfo& device) {
  std::vector<KernelCase> cases = KernelCases(arguments.sizes);
  std::erase_if(cases, [&](const KernelCase& test) {
    return test.name.find(arguments.filter) == std::string::npos || !RunsOn(test, device);
  });
  std::stable_partition(cases.begin(), cases.end(),
                        [](const KernelCase& test) { return !test.hopper; });
  return cases;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  BERTRAND_ASSIGN_OR_RETURN(const auto device, OpenDevice(arguments.device));
  BERTRAND_ASSIGN_OR_RETURN(const auto stream, device->CreateStream());
  const BenchmarkOptions options = Options(arguments);
  BERTRAND_ASSIGN_OR_RETURN(const Ceilings ceilings, MeasureCeilings(options, *stream));
  std::vector<KernelCase> cases;
  std::vector<CaseResult> results;
  int failures = 0;
  for (const KernelCase& test : Chosen(arguments, device->info())) {
    cases.push_back(test);
    results.push_back(MeasureCase(test, options, *stream));
    if (!arguments.json.empty()) {
      BERTRAND_RETURN_IF_ERROR(
          WriteFile(arguments.json, ResultJson(cases, results, ceilings, device->info())));
    }
    if (results.back().status.ok()) continue;
    failures += !NotAvailable(test, results.back());
    std::cerr << test.name << ": " << Message(results.back().status) << std::endl;
  }
  std::cout << device->info().name << ". " << ResultTable(cases, results, ceilings);
  if (cases.empty()) return NotFound("no case has \"" + arguments.filter + "\" in its name");
  std::cout << "\n" << cases.size() << " cases, " << failures << " failed" << std::endl;
  return failures == 0 ? 0 : 1;
}

}  // namespace

int Main(int argc, char** argv) {
  const absl::StatusOr<Arguments> arguments = Parse(argc, argv);
  const absl::StatusOr<int> status =
      arguments.ok() ? Run(*arguments) : absl::StatusOr<int>(arguments.status());
  if (status.ok()) return *status;
  std::cerr << "gpu_kernel_benchmark: " << Message(status.status()) << std::endl;
  return 2;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

int main(int argc, char** argv) { return bertrand::gpu::Main(argc, argv); }
