#pragma once

// A backend whose memory is not the host's, for suites that give their operands in host memory: it
// copies them to the device before every operation and the results back after it. Slow, one thread
// at a time.

#include <memory>

#include "kernels/backend.h"

namespace bertrand {

// Requires: activation_dtype() of `device` is float32.
std::unique_ptr<Backend> MirrorBackend(std::unique_ptr<Backend> device);

}  // namespace bertrand
