#pragma once

// SpanParams' formula in plain loops, for tests and the "reference" backend: probabilities in
// float64, rounded to float before they are multiplied, as the scores' ties are those of floats.
// float32 host memory.

#include "kernels/backend.h"

namespace bertrand {

void BestSpansReference(const SpanParams& params);

}  // namespace bertrand
