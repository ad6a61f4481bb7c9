#include "tests/server/fake_request.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "kernels/status.h"
#include "tests/server/fake_model.h"

namespace bertrand {

FakeRequest::FakeRequest(std::vector<std::string> texts, const Options& options)
    : texts_(std::move(texts)),
      options_(options),
      ids_(texts_.size()),
      memory_(options.memory_tokens) {}

absl::Status FakeRequest::Prepare(size_t index) {
  const std::string& text = texts_[index];
  if (text.find('!') != std::string::npos) {
    return InvalidArgument(absl::StrCat("inputs[", index, "].text: has a '!'"));
  }
  ids_[index].assign(text.begin(), text.end());
  return absl::OkStatus();
}

void FakeRequest::Collect() {
  values_.resize(stage_values_.size());
  for (size_t i = 0; i < values_.size(); ++i) values_[i] += stage_values_[i];
}

absl::StatusOr<bool> FakeRequest::NextStage() {
  Collect();
  works_.clear();
  if (stage_ == 0 && empty_stage_ < options_.num_empty_stages) {
    ++empty_stage_;
    return true;
  }
  if (stage_ == options_.num_stages) return false;
  ++stage_;
  if (stage_ == options_.failing_stage) return Internal("this stage cannot be laid out");
  const size_t count = texts_.size() * options_.sequences_per_input;
  stage_values_.assign(count * FakeModel::kDimensions, 0);
  outputs_.assign(count, {});
  for (size_t i = 0; i < count; ++i) {
    outputs_[i].vector =
        std::span(stage_values_).subspan(i * FakeModel::kDimensions, FakeModel::kDimensions);
    const std::vector<int32_t>& ids = ids_[i / options_.sequences_per_input];
    works_.push_back({.ids = ids,
                      .type_ids = ids,
                      .embed = &outputs_[i],
                      .memory = options_.memory_tokens > 0 ? &memory_ : nullptr});
  }
  return true;
}

int64_t FakeRequest::num_tokens(size_t index) const {
  return static_cast<int64_t>(ids_[index].size() * options_.sequences_per_input);
}

}  // namespace bertrand
