#pragma once

// The Backend of GPUs (kernels/backend.h), over the device runtime: on CUDA and, compiled a second
// time, in the emulator. Activations, weights and tables are float32, float16 or bfloat16 in device
// memory; float accumulation everywhere. Where they are 16-bit and the device has products of
// float8 (sm_89 and later), so may weights be, and what such layers read (docs/fp8.md).
//
// Thread-safe, a Stream one thread's at a time. Operations allocate nothing: what they need beyond
// their operands (staging for conversions, partial sums) a stream has from its start.

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gpu/attention_choice.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct GpuBackendOptions {
  std::string name;  // Backend::name()
  DType dtype = DType::kFloat32;
  GemmOptions gemm;
  AttentionChoice::Measure measure_attention_us = nullptr;  // tests give their own
  bool graphs = true;  // false: every operation is started by itself, for tests
};

// InvalidArgument for another type than those above.
absl::StatusOr<std::unique_ptr<Backend>> CreateGpuBackend(std::unique_ptr<simt::Device> device,
                                                          GpuBackendOptions options);

}  // namespace bertrand::gpu::inline SIMT_TARGET
