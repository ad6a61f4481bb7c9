#pragma once

// Times kernel cases on a device: each as launches of one CUDA graph over operands that rotate, so
// that they come from memory as far as a case's operands exceed the caches. The limits that times
// are compared with are measured first, on the same device.
//
// For one thread. Clock: the host's, around graphs of milliseconds (starting and awaiting them is
// well below 1 %).

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "tests/gpu/kernel_cases.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct BenchmarkOptions {
  int rounds = 9;
  double round_us = 4000;                        // at least
  size_t working_set_bytes = size_t{192} << 20;  // of all copies of a case's operands, about
  size_t ceiling_bytes = size_t{512} << 20;      // copied for the first ceiling
  int ceiling_size = 8192;                       // m, n and k of the second one's product
};

// What the device is measured to do.
struct Ceilings {
  double copy_gb_s = 0;       // bytes read and written
  double tensor_tflop_s = 0;  // float16 products
  std::string tensor_by;      // whose kernel
  double float_tflop_s = 0;   // multiply-adds in float
};

struct CaseResult {
  absl::Status status;
  double us = 0, us_min = 0, us_max = 0;  // one launch: median, best and worst round
  int copies = 0;                         // of the operands, in turn
  size_t working_set_bytes = 0;
};

absl::StatusOr<Ceilings> MeasureCeilings(const BenchmarkOptions& options, simt::Stream& stream);

// The outputs are checked too: all written, all finite.
CaseResult MeasureCase(const KernelCase& test, const BenchmarkOptions& options,
                       simt::Stream& stream);

// A peer that is absent, or does not take this: no failure of ours. (A lost device is one.)
inline bool NotAvailable(const KernelCase& test, const CaseResult& result) {
  return test.peer && !result.status.ok() && result.status.code() != absl::StatusCode::kInternal;
}

// The least time by the ceilings, in microseconds.
double FloorUs(const KernelCase& test, const Ceilings& ceilings);

// One row a case: time, spread, GB/s or TFLOP/s, share of the limit. Markdown.
std::string ResultTable(const std::vector<KernelCase>& cases,
                        const std::vector<CaseResult>& results, const Ceilings& ceilings);
// The same for programs: docs/kernel-report.md has the fields.
std::string ResultJson(const std::vector<KernelCase>& cases, const std::vector<CaseResult>& results,
                       const Ceilings& ceilings, const simt::DeviceInfo& device);

}  // namespace bertrand::gpu::inline SIMT_TARGET
