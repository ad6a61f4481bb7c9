#pragma once

// The pooling of a document that runs as segments: each segment's pooled rows are put together as
// if all tokens had been pooled at once (sentence-transformers' models/Pooling.py). Sums are kept
// in double.
//
// Owned by whoever runs the document; one thread at a time. Merge allocates nothing.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace bertrand {

class PooledDocument {
 public:
  // Vectors of at most `num_modes` poolings side by side, each of `width` values.
  PooledDocument(size_t num_modes, int64_t width);
  static int64_t SizeBytes(size_t num_modes, int64_t width);

  // Tokens of the segments so far.
  int64_t num_tokens() const { return num_tokens_; }

  // `pooled` is a segment of `num_tokens` tokens, of which the first `skipped` were left out,
  // pooled by each of `modes` (weights of kWeightedMean counted from the document's first token).
  // It becomes that of the document so far. The same modes every time.
  void Merge(std::span<const PoolingMode> modes, int64_t num_tokens, int64_t skipped,
             std::span<float> pooled);

  // Room for one segment's vectors.
  std::span<float> row(size_t num_modes) { return std::span(row_).first(num_modes * width_); }

 private:
  void MergeOne(PoolingMode mode, double count, double weights, std::span<float> pooled,
                std::span<double> kept);

  const size_t width_;
  int64_t num_tokens_ = 0;
  double count_ = 0, weights_ = 0;  // of the tokens that were pooled, and of their places
  std::vector<double> kept_;        // sums, or what stands for a mode that has none
  std::vector<float> row_;
};

}  // namespace bertrand
