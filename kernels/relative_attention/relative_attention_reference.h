#pragma once

// RelativeAttentionParams' formula (kernels/backend.h) by plain loops: a whole row of scores in
// float64 with all its three parts, its maximum subtracted, then the weighted sum. Host memory,
// float32. Requires what Backend::RelativeAttention checks.

#include "kernels/backend.h"

namespace bertrand {

void RelativeAttentionReference(const RelativeAttentionParams& params);

}  // namespace bertrand
