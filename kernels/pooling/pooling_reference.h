#pragma once

// PoolParams' and NormalizeParams' formulas (kernels/backend.h) by plain loops; sums in float64.
// Host memory, float32. Requires what Backend::Pool and Backend::Normalize check.

#include "kernels/backend.h"

namespace bertrand {

void PoolReference(const PoolParams& params);
void NormalizeReference(const NormalizeParams& params);

}  // namespace bertrand
