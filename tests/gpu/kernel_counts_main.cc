// kernel_counts [--device h100|a100|l4] [--sizes real|tiny] [--filter TEXT] [--most-blocks N]
//
// What every kernel case asks of an emulated device, as JSON on standard output: for each of its
// launches the kernel's type, the grid, and the counters of the blocks that were run. Of a large
// grid only a sample of N blocks runs (default 8); `grid_blocks` over `blocks` is what to multiply
// by. tests/gpu/kernel_report.py makes sense of it.

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "kernels/status.h"
#include "tests/gpu/kernel_cases.h"

namespace bertrand::gpu {
namespace {

using simt::emulator::AccessKind;
using simt::emulator::Counters;
using simt::emulator::LaunchReport;
using simt::emulator::SiteCount;

struct Arguments {
  simt::DeviceInfo device = simt::ProfileH100();
  CaseSizes sizes = CaseSizes::kReal;
  std::string filter;
  int most_blocks = 8;
};

absl::StatusOr<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--device" && value == "h100") {
      arguments.device = simt::ProfileH100();
    } else if (name == "--device" && value == "a100") {
      arguments.device = simt::ProfileA100();
    } else if (name == "--device" && value == "l4") {
      arguments.device = simt::ProfileL4();
    } else if (name == "--sizes" && (value == "real" || value == "tiny")) {
      arguments.sizes = value == "real" ? CaseSizes::kReal : CaseSizes::kTiny;
    } else if (name == "--filter") {
      arguments.filter = value;
    } else if (name == "--most-blocks") {
      arguments.most_blocks = std::atoi(value.c_str());
    } else {
      return InvalidArgument("unknown argument " + name + " " + value);
    }
  }
  if (argc % 2 == 0) return InvalidArgument(std::string("what is ") + argv[argc - 1] + "?");
  return arguments;
}

std::string Demangled(const char* type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(type, nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : type;
}

std::string CountersJson(const Counters& c) {
  const std::pair<const char*, int64_t> fields[] = {
      {"launches", c.launches},
      {"blocks", c.blocks},
      {"grid_blocks", c.grid_blocks},
      {"block_sectors", c.block_sectors},
      {"load_requests", c.load_requests},
      {"load_sectors", c.load_sectors},
      {"load_bytes", c.load_bytes},
      {"store_requests", c.store_requests},
      {"store_sectors", c.store_sectors},
      {"store_bytes", c.store_bytes},
      {"shared_requests", c.shared_requests},
      {"shared_wavefronts", c.shared_wavefronts},
      {"shared_ideal", c.shared_ideal},
      {"mma", c.mma},
      {"wgmma", c.wgmma},
      {"ldmatrix", c.ldmatrix},
      {"special", c.special},
      {"barriers", c.barriers},
      {"warp_barriers", c.warp_barriers},
      {"shuffles", c.shuffles},
      {"atomics", c.atomics},
      {"async_copies", c.async_copies},
      {"async_bytes", c.async_bytes},
  };
  std::string json = "{";
  for (const auto& [name, value] : fields) {
    json += (json.size() > 1 ? ", \"" : "\"") + std::string(name) + "\": " + std::to_string(value);
  }
  return json + "}";
}

// The places in the source that take more passes than their bytes must.
std::string SitesJson(const std::vector<SiteCount>& sites) {
  static constexpr const char* kKinds[] = {"global load", "global store", "shared load",
                                           "shared store"};
  std::string json = "[";
  for (const SiteCount& site : sites) {
    if (site.passes <= site.ideal) continue;
    const std::string file = site.site.file;
    json += (json.size() > 1 ? ", {\"at\": \"" : "{\"at\": \"") + file.substr(file.rfind('/') + 1) +
            ":" + std::to_string(site.site.line) + "\", \"kind\": \"" +
            kKinds[static_cast<size_t>(site.kind)] +
            "\", \"requests\": " + std::to_string(site.requests) +
            ", \"passes\": " + std::to_string(site.passes) +
            ", \"ideal\": " + std::to_string(site.ideal) + "}";
  }
  return json + "]";
}

std::string LaunchJson(const std::string& kernel, const LaunchReport& report) {
  return "{\"kernel\": \"" + kernel + "\", \"type\": \"" + Demangled(report.type) +
         "\", \"threads\": " + std::to_string(report.threads) +
         ", \"shared_bytes\": " + std::to_string(report.shared_bytes) +
         ",\n       \"counters\": " + CountersJson(report.counters) +
         ",\n       \"sites\": " + SitesJson(report.sites) + "}";
}

absl::StatusOr<std::string> CaseJson(const KernelCase& test, simt::Device& device,
                                     simt::Stream& stream) {
  Operands operands(stream);
  const CaseLaunch launch = test.make(operands);
  BERTRAND_RETURN_IF_ERROR(operands.status());
  device.TakeReports();
  BERTRAND_RETURN_IF_ERROR(launch(stream));
  char numbers[128];
  std::snprintf(numbers, sizeof(numbers), "\"bytes\": %.0f, \"flops\": %.0f, \"tensor_cores\": %s",
                test.bytes, test.flops, test.tensor_cores ? "true" : "false");
  std::string json = "    {\"name\": \"" + test.name + "\", \"kernel\": \"" + test.kernel +
                     "\", \"shape\": \"" + test.shape + "\", \"dtype\": \"" + Name(test.dtype) +
                     "\", " + numbers + ",\n     \"launches\": [\n      ";
  bool first = true;
  for (const auto& [kernel, report] : device.TakeReports()) {
    json += (first ? "" : ",\n      ") + LaunchJson(kernel, report);
    first = false;
  }
  return json + "]}";
}

absl::Status Run(const Arguments& arguments) {
  const std::unique_ptr<simt::Device> device = simt::Device::Emulated(arguments.device);
  device->set_emulation({.count_requests = true, .most_blocks = arguments.most_blocks});
  BERTRAND_ASSIGN_OR_RETURN(const auto stream, device->CreateStream());
  std::cout << "{\n  \"device\": \"" << arguments.device.name << "\",\n  \"cases\": [\n";
  bool first = true;
  for (const KernelCase& test : KernelCases(arguments.sizes)) {
    if (test.name.find(arguments.filter) == std::string::npos || test.peer ||
        !RunsOn(test, arguments.device)) {
      continue;
    }
    absl::StatusOr<std::string> json = CaseJson(test, *device, *stream);
    if (!json.ok()) return Annotate(json.status(), test.name);
    std::cout << (first ? "" : ",\n") << *json << std::flush;
    first = false;
  }
  std::cout << "\n  ]\n}\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace bertrand::gpu

int main(int argc, char** argv) {
  const auto arguments = bertrand::gpu::Parse(argc, argv);
  const absl::Status status = arguments.ok() ? bertrand::gpu::Run(*arguments) : arguments.status();
  if (status.ok()) return 0;
  std::cerr << "kernel_counts: " << bertrand::Message(status) << std::endl;
  return 2;
}
