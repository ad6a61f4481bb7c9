#pragma once

// LinearParams' formula (kernels/backend.h) by plain loops; everything in float64 before one
// rounding. Host memory, float32. Requires what Backend::Linear checks.

#include <span>

#include "kernels/backend.h"

namespace bertrand {

// weight [out, in] as it is in a checkpoint; bias [out] or empty.
void LinearReference(const LinearParams& params, std::span<const float> weight,
                     std::span<const float> bias);

}  // namespace bertrand
