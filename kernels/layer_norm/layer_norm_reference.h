#pragma once

// LayerNormParams' formula (kernels/backend.h) by plain loops; statistics in float64.
// Host memory, float32. Requires what Backend::LayerNorm checks.

#include <span>

#include "kernels/backend.h"

namespace bertrand {

void LayerNormReference(const LayerNormParams& params);

// y = (row - mean) / sqrt(variance + eps) * gamma + beta; all row.size() long.
void NormalizeRowReference(std::span<const double> row, const float* gamma, const float* beta,
                           float eps, float* y);

}  // namespace bertrand
