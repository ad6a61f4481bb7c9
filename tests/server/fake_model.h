#pragma once

// A model whose answers can be foretold, for tests of the engine: a token a byte of text, and a
// vector that holds the sum of the ids and their number. Its runners can be held at a gate, so that
// a test decides what waits while what runs.

#include <atomic>
#include <memory>
#include <vector>

#include "kernels/mutex.h"
#include "models/model.h"

namespace bertrand {

// Shared by a model's runners and the test.
class Gate {
 public:
  void Close();
  void Open();
  // Blocks while closed.
  void Pass();
  // Until `count` threads wait at it.
  void WaitForBlocked(int count);

 private:
  Mutex mutex_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int num_blocked_ ABSL_GUARDED_BY(mutex_) = 0;
};

class FakeModel final : public Model {
 public:
  static constexpr int64_t kDimensions = 2;

  explicit FakeModel(int64_t max_tokens = 64);

  const ModelDescription& description() const override { return description_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  absl::Status Prepare(const TextInput& text, const PrepareOptions& options,
                       PreparedInput* input) const override;
  absl::Status PrepareIds(std::span<const uint32_t> ids, std::span<const uint32_t> type_ids,
                          PreparedInput* input) const override;
  absl::StatusOr<int64_t> EmbedDimensions(std::optional<PoolingChoice> pooling) const override;
  absl::StatusOr<std::unique_ptr<ModelRunner>> NewRunner(int64_t max_tokens,
                                                         int64_t max_sequences) const override;

  // What the runners saw, and do.
  struct Script {
    Gate gate;
    std::atomic<int> num_batches{0};
    std::atomic<int> num_sequences{0};
    std::atomic<int64_t> most_tokens{0};
    std::atomic<bool> fail{false};  // Forward returns Internal
    std::atomic<bool> lose{false};  // Forward returns DataLoss: the device is lost
  };
  Script& script() const { return *script_; }

 private:
  ModelDescription description_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Script> script_ = std::make_unique<Script>();
};

}  // namespace bertrand
