#pragma once

// SpanParams' formula (kernels/backend.h) on the device: softmax, null score and the best spans of
// each sequence in one launch.
// Types: logits f16 | bf16 | f32; the others int32.
// Requires: what Backend's checks require; logits aligned to a row (two values).
// Aliasing: none. No sequences: nothing.
// Numerics: as SpanParams says; sums in float, in an order that depends on the sequence's length
//   alone, so a sequence's spans are the same bit by bit in any batch.
// Cost: latency-bound: a block per sequence, some 45 barriers to sort; logits are read three times.
//   The search looks at the spans of promising starts alone, twice for each 256 spans: those whose
//   probability times the largest of an end reaches the best that its thread has seen. Worst case
//   tokens * tokens_max products.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// What BestSpans of T tokens needs beyond its operands: their probabilities. Bytes.
inline size_t SpanWorkspaceBytes(int64_t tokens) {
  return static_cast<size_t>(tokens) * 2 * sizeof(float);
}

// `workspace`: SpanWorkspaceBytes(...) bytes in device memory, aligned to 4.
absl::Status BestSpans(const SpanParams& params, void* workspace, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
