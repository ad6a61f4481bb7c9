#pragma once

// AttentionParams' formula (kernels/backend.h) by plain loops: a whole row of scores in float64,
// its maximum subtracted, then the weighted sum. Host memory, float32. Requires what
// Backend::Attention checks.

#include "kernels/backend.h"

namespace bertrand {

void AttentionReference(const AttentionParams& params);

}  // namespace bertrand
