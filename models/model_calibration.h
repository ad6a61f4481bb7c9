#pragma once

// Calibration (models/model.h) of a loaded model.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/encoder/float8_inputs.h"
#include "models/model.h"
#include "models/task/embed.h"

namespace bertrand {

class ModelCalibration final : public Calibration {
 public:
  // All must outlive it. Errors as Model::NewCalibration's.
  static absl::StatusOr<std::unique_ptr<Calibration>> Create(const Encoder& encoder,
                                                             const EmbedHead& head,
                                                             const Backend& backend,
                                                             CheckpointMark mark,
                                                             int64_t max_tokens);

  absl::Status Run(std::span<const PreparedInput> inputs) override;
  absl::StatusOr<std::string> Finish() const override;

 private:
  ModelCalibration(CheckpointMark mark, size_t num_blocks, size_t vector_size)
      : mark_(std::move(mark)), inputs_(num_blocks), vector_(vector_size) {}

  const CheckpointMark mark_;
  std::vector<BlockInputs> inputs_;  // the largest so far
  std::vector<float> vector_;        // what comes out is of no use
  std::unique_ptr<ModelRunner> runner_;
  int64_t num_texts_ = 0, num_tokens_ = 0;
};

}  // namespace bertrand
