#pragma once

// EmbeddingParams' formula (kernels/backend.h) by plain loops; sums and statistics in float64.
// Host memory, float32. Requires what Backend::Embedding checks.

#include "kernels/backend.h"

namespace bertrand {

void EmbeddingReference(const EmbeddingParams& params);

}  // namespace bertrand
