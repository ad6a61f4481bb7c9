#pragma once

// The CPU as a device: float32, packed weights, Highway kernels for the best instruction set the
// machine has, tiles shared out by the process's ThreadPool. docs/cpu.md has decisions and figures.

#include "kernels/backend.h"

namespace bertrand {

// `pool` must outlive the backend. Kernels are chosen here, once.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(ThreadPool& pool);

}  // namespace bertrand
