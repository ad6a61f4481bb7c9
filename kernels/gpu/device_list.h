#pragma once

// The CUDA devices of this machine, through the CUDA half (libbertrand_cuda.so), which is loaded
// when a GPU is asked for: the server itself needs no CUDA to be installed.
//
// Thread-safe; the library stays loaded.

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace bertrand {

struct CudaDevice {
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // compute capability
  uint64_t memory_bytes = 0;
};

// By CUDA's device index. FailedPrecondition says why there are none: this build has no CUDA half
// beside the executable, or the driver's own message.
absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices();

// The backend of "cuda" (device 0) or "cuda:N". InvalidArgument for another name;
// FailedPrecondition when the CUDA half cannot be loaded; else what the driver says.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const std::string& name, DType dtype,
                                                           const std::string& cache_folder);

}  // namespace bertrand
