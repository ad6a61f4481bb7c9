#pragma once

// Every kernel at the shapes that models ask for, once: the device benchmark times these cases and
// ./run kernel-report counts and predicts them. Made for either half of the code (the emulator, or
// nvcc). Plain data; a case may be made any number of times.

#include <absl/status/status.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"
#include "tests/gpu/operands.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Starts the kernel on its operands; asynchronous.
using CaseLaunch = std::function<absl::Status(simt::Stream& stream)>;

struct KernelCase {
  std::string kernel;  // its folder below kernels/
  std::string name;    // unique: "attention/bert-base/squad/float16"
  std::string shape;   // for people
  DType dtype = DType::kFloat16;
  double bytes = 0;           // that must move: each input read once, each output written once
  double flops = 0;           // of products that must be computed; 0: bound by memory
  bool tensor_cores = false;  // where the products are computed
  bool hopper = false;        // for devices with the words of kernels/simt/hopper.h alone
  bool peer = false;          // another library's: it may be absent, and is not counted
  std::function<CaseLaunch(Operands&)> make;
};

enum class CaseSizes {
  kReal,
  kTiny,  // the same kernels at sizes that the emulator does in no time
};

std::vector<KernelCase> KernelCases(CaseSizes sizes);

inline bool RunsOn(const KernelCase& test, const simt::DeviceInfo& device) {
  return !test.hopper || device.runs_hopper();
}

// Lengths of the sequences of a batch.
struct CaseLoad {
  std::string name;
  std::vector<int32_t> lengths;
  int64_t tokens() const;
  int64_t sequences() const { return static_cast<int64_t>(lengths.size()); }
  std::vector<int32_t> cu_seqlens() const;
  std::string ToString() const;
};

// The parts of KernelCases.
void AddRowCases(CaseSizes sizes, std::vector<KernelCase>& cases);
void AddMatrixCases(CaseSizes sizes, std::vector<KernelCase>& cases);

// One text of 128 tokens; 32 of 384 (SQuAD); 16384 tokens in sequences of 8 to 512.
CaseLoad SingleLoad(CaseSizes sizes);
CaseLoad SquadLoad(CaseSizes sizes);
CaseLoad MixedLoad(CaseSizes sizes);

}  // namespace bertrand::gpu::inline SIMT_TARGET
