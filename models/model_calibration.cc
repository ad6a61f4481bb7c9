#include "models/model_calibration.h"

#include <utility>

#include "kernels/status.h"
#include "models/runner.h"

namespace bertrand {

absl::StatusOr<std::unique_ptr<Calibration>> ModelCalibration::Create(const Encoder& encoder,
                                                                      const EmbedHead& head,
                                                                      const Backend& backend,
                                                                      CheckpointMark mark,
                                                                      int64_t max_tokens) {
  if (!backend.host_memory()) {
    return FailedPrecondition("device '" + backend.name() +
                              "' does not calibrate; 'cpu' does, and other devices use the result");
  }
  BERTRAND_RETURN_IF_ERROR(CheckFloat8Sizes(encoder.config()));
  const EmbedOutput output{.pooling = PoolingChoice::kMean};
  BERTRAND_ASSIGN_OR_RETURN(const int64_t size, head.Dimensions(output.pooling));
  std::unique_ptr<ModelCalibration> calibration(
      new ModelCalibration(std::move(mark), encoder.num_blocks(), static_cast<size_t>(size)));
  BERTRAND_ASSIGN_OR_RETURN(calibration->runner_,
                            PackedRunner::Create(encoder, head, backend, max_tokens, max_tokens,
                                                 /*heads=*/nullptr, calibration->inputs_));
  return std::unique_ptr<Calibration>(std::move(calibration));
}

absl::Status ModelCalibration::Run(std::span<const PreparedInput> inputs) {
  // Something must be asked for, or the layers don't run.
  const EmbedOutput output{
      .pooling = PoolingChoice::kMean, .normalize = false, .vector = std::span(vector_)};
  std::vector<SequenceWork> batch;
  batch.reserve(inputs.size());
  for (const PreparedInput& input : inputs) {
    batch.push_back(
        {.ids = input.encoding.ids, .type_ids = input.encoding.type_ids, .embed = &output});
    num_tokens_ += static_cast<int64_t>(input.encoding.ids.size());
  }
  num_texts_ += static_cast<int64_t>(inputs.size());
  return runner_->Forward(batch);
}

absl::StatusOr<std::string> ModelCalibration::Finish() const {
  if (num_texts_ == 0) return FailedPrecondition("there was no text to calibrate with");
  return FormatFloat8Inputs(mark_, inputs_, num_texts_, num_tokens_);
}

}  // namespace bertrand
