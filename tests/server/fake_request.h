#pragma once

// A request whose stages a test decides, for tests of the engine: a token a byte of text, one
// sequence an input, and in every stage after the first those inputs again that are to be seen
// more often.

#include <span>
#include <string>
#include <vector>

#include "models/task/request.h"

namespace bertrand {

class FakeRequest final : public TaskRequest {
 public:
  struct Options {
    // How many sequences each input becomes; they are equal.
    size_t sequences_per_input = 1;
    // Stages; 0: nothing is computed.
    int num_stages = 1;
    // Laid out without sequences, before the others.
    int num_empty_stages = 0;
    int64_t work_bytes = 0, answer_bytes = 0;
    // Of every sequence; 0: none.
    int64_t memory_tokens = 0;
    // NextStage of this number (from 1) fails.
    int failing_stage = 0;
  };

  FakeRequest(std::vector<std::string> texts, const Options& options);

  size_t num_inputs() const override { return texts_.size(); }
  size_t input_bytes(size_t index) const override { return texts_[index].size(); }
  // A text with '!' in it cannot be tokenised.
  absl::Status Prepare(size_t index) override;
  int64_t work_bytes() const override { return options_.work_bytes; }
  int64_t answer_bytes() const override { return options_.answer_bytes; }
  absl::StatusOr<bool> NextStage() override;
  std::span<const SequenceWork> sequences() const override { return works_; }
  int64_t num_tokens(size_t index) const override;
  int64_t num_truncated_tokens(size_t) const override { return 0; }

  // What the fake model made of the sequences, summed over the stages: [sequence][sum, length].
  const std::vector<float>& values() const { return values_; }
  int stages_run() const { return stage_; }

 private:
  class Memory final : public SequenceMemory {
   public:
    explicit Memory(int64_t max_tokens) : max_tokens_(max_tokens) {}
    int64_t max_tokens() const override { return max_tokens_; }
    int64_t num_tokens() const override { return 0; }

   private:
    const int64_t max_tokens_;
  };

  void Collect();

  const std::vector<std::string> texts_;
  const Options options_;
  std::vector<std::vector<int32_t>> ids_;  // by input
  Memory memory_;
  std::vector<EmbedOutput> outputs_;
  std::vector<SequenceWork> works_;
  std::vector<float> stage_values_, values_;
  int stage_ = 0, empty_stage_ = 0;
};

}  // namespace bertrand
