#include "kernels/cpu/cpu_backend.h"

#include "kernels/reference/reference_backend.h"

namespace bertrand {

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(ThreadPool&) {
  return CreateReferenceBackend("cpu");
}

}  // namespace bertrand
