#pragma once

// The formulas of GatherParams, SoftmaxParams, TopKParams and SparsePoolParams (kernels/backend.h)
// by plain loops; sums in float64. Host memory, float32. Requires what the Backend's checks
// require.

#include "kernels/backend.h"

namespace bertrand {

void GatherReference(const GatherParams& params);
void SoftmaxReference(const SoftmaxParams& params);
void TopKReference(const TopKParams& params);
void SparsePoolReference(const SparsePoolParams& params);

}  // namespace bertrand
