#include "tests/server/fake_model.h"

#include <algorithm>
#include <numeric>

#include "kernels/status.h"

namespace bertrand {
namespace {

class FakeTokenizer final : public Tokenizer {
 public:
  absl::Status Encode(std::string_view first, const std::string_view* second, const EncodeOptions&,
                      Encoding* encoding) const override {
    encoding->ids.assign(first.begin(), first.end());
    if (second != nullptr)
      encoding->ids.insert(encoding->ids.end(), second->begin(), second->end());
    encoding->type_ids.assign(encoding->ids.size(), 0);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Decode(std::span<const uint32_t> ids, bool) const override {
    return std::string(ids.begin(), ids.end());
  }
  int64_t vocab_size() const override { return 256; }
  std::string_view TokenText(int64_t) const override { return "t"; }
  std::optional<int32_t> TokenId(std::string_view) const override { return std::nullopt; }
  bool IsSpecial(int64_t) const override { return false; }
  int64_t num_special_tokens(bool) const override { return 0; }
  std::optional<int32_t> NamedTokenId(NamedToken) const override { return std::nullopt; }
  std::string JoinTokens(std::span<const std::string_view>) const override { return ""; }
  bool has_subword_prefix() const override { return false; }
  TruncationSide truncation_side() const override { return TruncationSide::kRight; }
  std::optional<int64_t> model_max_length() const override { return std::nullopt; }
};

class FakeRunner final : public ModelRunner {
 public:
  explicit FakeRunner(FakeModel::Script* script) : script_(script) {}

  absl::Status Forward(std::span<const SequenceWork> batch) override {
    script_->gate.Pass();
    ++script_->num_batches;
    script_->num_sequences += static_cast<int>(batch.size());
    int64_t tokens = 0;
    for (const SequenceWork& work : batch) {
      tokens += static_cast<int64_t>(work.ids.size());
      const auto sum = std::accumulate(work.ids.begin(), work.ids.end(), 0.0f);
      if (work.embed == nullptr) continue;  // the warm-up's
      work.embed->vector[0] = sum;
      work.embed->vector[1] = static_cast<float>(work.ids.size());
    }
    int64_t most = script_->most_tokens;
    while (tokens > most && !script_->most_tokens.compare_exchange_weak(most, tokens)) {
    }
    if (script_->lose) return absl::DataLossError("the device is lost");
    return script_->fail ? Internal("the device is gone") : absl::OkStatus();
  }

 private:
  FakeModel::Script* const script_;
};

}  // namespace

void Gate::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

void Gate::Open() {
  MutexLock lock(mutex_);
  closed_ = false;
  changed_.NotifyAll();
}

void Gate::Pass() {
  MutexLock lock(mutex_);
  ++num_blocked_;
  changed_.NotifyAll();
  while (closed_) changed_.Wait(mutex_);
  --num_blocked_;
}

void Gate::WaitForBlocked(int count) {
  MutexLock lock(mutex_);
  while (num_blocked_ < count) changed_.Wait(mutex_);
}

FakeModel::FakeModel(int64_t max_tokens) : tokenizer_(std::make_unique<FakeTokenizer>()) {
  description_.tasks = {Task::kEmbed};
  description_.max_tokens = description_.max_ids = max_tokens;
  description_.embedding_dimensions = kDimensions;
}

absl::Status FakeModel::Prepare(const TextInput& text, const PrepareOptions& options,
                                PreparedInput* input) const {
  return tokenizer_->Encode(text.first, text.second, options.encode, &input->encoding);
}

absl::Status FakeModel::PrepareIds(std::span<const uint32_t> ids, std::span<const uint32_t>,
                                   PreparedInput* input) const {
  input->encoding.ids.assign(ids.begin(), ids.end());
  input->encoding.type_ids.assign(ids.size(), 0);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FakeModel::EmbedDimensions(std::optional<PoolingChoice>) const {
  return kDimensions;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> FakeModel::NewRunner(int64_t, int64_t) const {
  return std::make_unique<FakeRunner>(script_.get());
}

}  // namespace bertrand
