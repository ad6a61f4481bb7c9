#pragma once

// The backend that is right: plain loops, float64 accumulation, one thread. What other backends are
// tested against; far too slow to serve.

#include "kernels/backend.h"

namespace bertrand {

absl::StatusOr<std::unique_ptr<Backend>> CreateReferenceBackend();

}  // namespace bertrand
