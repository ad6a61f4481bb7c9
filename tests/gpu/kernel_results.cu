// How results are written down.

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "kernels/status.h"
#include "tests/gpu/kernel_benchmark.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));

std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += Format("\\u%04x", c);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

double GbPerSecond(const KernelCase& test, double us) { return 1e-3 * test.bytes / us; }
double TflopPerSecond(const KernelCase& test, double us) { return 1e-6 * test.flops / us; }

// Microseconds by each ceiling.
double BytesUs(const KernelCase& test, const Ceilings& ceilings) {
  return 1e-3 * test.bytes / ceilings.copy_gb_s;
}
double FlopsUs(const KernelCase& test, const Ceilings& ceilings) {
  return 1e-6 * test.flops / (test.tensor_cores ? ceilings.tensor_tflop_s : ceilings.float_tflop_s);
}

std::string CaseJson(const KernelCase& test, const CaseResult& result, const Ceilings& ceilings) {
  std::string text = "    {\"name\": " + Quoted(test.name) +
                     ", \"kernel\": " + Quoted(test.kernel) + ", \"shape\": " + Quoted(test.shape) +
                     ", \"dtype\": " + Quoted(Name(test.dtype)) +
                     Format(", \"bytes\": %.0f, \"flops\": %.0f", test.bytes, test.flops);
  if (!result.status.ok()) {
    return text + (NotAvailable(test, result) ? ", \"not_available\": " : ", \"error\": ") +
           Quoted(Message(result.status)) + "}";
  }
  return text + Format(
                    ", \"us\": %.6g, \"us_min\": %.6g, \"us_max\": %.6g, \"copies\": %d, "
                    "\"working_set_mb\": %.4g, \"gb_s\": %.4g, \"tflop_s\": %.4g, "
                    "\"limit\": \"%s\", \"limit_us\": %.4g, \"share\": %.4g}",
                    result.us, result.us_min, result.us_max, result.copies,
                    1e-6 * static_cast<double>(result.working_set_bytes),
                    GbPerSecond(test, result.us), TflopPerSecond(test, result.us),
                    BytesUs(test, ceilings) >= FlopsUs(test, ceilings) ? "memory" : "products",
                    FloorUs(test, ceilings), FloorUs(test, ceilings) / result.us);
}

}  // namespace

double FloorUs(const KernelCase& test, const Ceilings& ceilings) {
  return std::max(BytesUs(test, ceilings), FlopsUs(test, ceilings));
}

std::string ResultTable(const std::vector<KernelCase>& cases,
                        const std::vector<CaseResult>& results, const Ceilings& ceilings) {
  std::string table =
      Format("Copy %.0f GB/s; float16 products %.1f TFLOP/s (%s); float %.2f TFLOP/s.\n\n",
             ceilings.copy_gb_s, ceilings.tensor_tflop_s, ceilings.tensor_by.c_str(),
             ceilings.float_tflop_s) +
      "| case | shape | us | spread | rate | of the limit |\n|---|---|---|---|---|---|\n";
  for (size_t i = 0; i < results.size(); ++i) {
    const KernelCase& test = cases[i];
    const CaseResult& result = results[i];
    table += "| " + test.name + " | " + test.shape + " | ";
    if (!result.status.ok()) {
      table += (NotAvailable(test, result) ? "not available: " : "failed: ") +
               Message(result.status) + " | | | |\n";
      continue;
    }
    const bool products = FlopsUs(test, ceilings) > BytesUs(test, ceilings);
    table +=
        Format("%.2f | %.0f %% | ", result.us, 100 * (result.us_max - result.us_min) / result.us);
    table += products ? Format("%.1f TFLOP/s", TflopPerSecond(test, result.us))
                      : Format("%.0f GB/s", GbPerSecond(test, result.us));
    table += Format(" | %.0f %% |\n", 100 * FloorUs(test, ceilings) / result.us);
  }
  return table;
}

std::string ResultJson(const std::vector<KernelCase>& cases, const std::vector<CaseResult>& results,
                       const Ceilings& ceilings, const simt::DeviceInfo& device) {
  std::string json = "{\n  \"device\": " + Quoted(device.name) +
                     Format(",\n  \"compute_capability\": \"%d.%d\",\n  \"multiprocessors\": %d",
                            device.major, device.minor, device.multiprocessors) +
                     Format(
                         ",\n  \"ceilings\": {\"copy_gb_s\": %.4g, \"tensor_tflop_s\": %.4g, "
                         "\"tensor_by\": \"%s\", \"float_tflop_s\": %.4g}",
                         ceilings.copy_gb_s, ceilings.tensor_tflop_s, ceilings.tensor_by.c_str(),
                         ceilings.float_tflop_s) +
                     ",\n  \"cases\": [\n";
  for (size_t i = 0; i < results.size(); ++i) {
    json += CaseJson(cases[i], results[i], ceilings) + (i + 1 < results.size() ? ",\n" : "\n");
  }
  return json + "  ]\n}\n";
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
