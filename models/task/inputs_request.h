#pragma once

// What the tasks over bertrand.v1.Input share: every input is a text, a pair or ids, prepared by
// itself, and cut into windows or segments where its task wants that. See models/task/request.h for
// the rules.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "models/task/request.h"
#include "models/task/windows.h"

namespace bertrand {

// How a task's inputs are tokenised.
struct InputRules {
  PrepareOptions prepare;
  // False: a pair whose second text is empty is a single text, as transformers' `tokenizer(a, "")`
  // has it. True: it is a pair, as sentence-transformers has it.
  bool empty_second_is_pair = false;
  // The tokenizer alone: the text behind `prompt` as it is, no limit, no check against the model.
  bool tokenizer_alone = false;
  // No sequence goes to the model, which therefore does not limit it.
  bool any_length = false;
};

class InputsRequest : public TaskRequest {
 public:
  size_t num_inputs() const override { return inputs_.size(); }
  size_t input_bytes(size_t index) const override;
  absl::Status Prepare(size_t index) override;
  int64_t work_bytes() const override;
  absl::StatusOr<bool> NextStage() override;
  std::span<const SequenceWork> sequences() const override { return sequences_; }
  int64_t num_tokens(size_t index) const override { return prepared_[index].num_tokens; }
  int64_t num_truncated_tokens(size_t index) const override {
    return prepared_[index].input.encoding.num_truncated;
  }

  const Model& model() const { return model_; }
  const Encoding& encoding(size_t index) const { return prepared_[index].input.encoding; }

 protected:
  // An input's sequences: one, or the windows of a long text.
  struct Prepared {
    PreparedInput input;
    WindowPlan plan;            // of more than one window, else empty
    int64_t num_tokens = 0;     // over all windows
    size_t first_sequence = 0;  // in sequences(), from NextStage on
    size_t num_sequences() const { return plan.empty() ? 1 : plan.size(); }
  };

  InputsRequest(const Model& model, std::vector<TaskInput> inputs, const InputRules& rules);

  // Long texts become windows instead of being cut: of `window_tokens` (0: the model's limit),
  // special tokens included. InvalidArgument names the field. Before Prepare.
  struct WindowFields {
    std::string_view window = "long_input.window_tokens";
    std::string_view overlap = "long_input.overlap_tokens";
  };
  absl::Status UseWindows(int64_t window_tokens, int64_t overlap_tokens,
                          const WindowFields& fields);
  // Long texts become segments that carry a memory: stage by stage, every input's next one. LayOut
  // is called once, with a sequence for each input, whose outputs all its segments have in turn.
  absl::Status UseRecurrence(int64_t segment_tokens, int64_t memory_tokens);
  // Windows or recurrence if they are asked for; a mode that cannot apply is refused with the
  // reason.
  absl::Status UseLongInput(const LongInputOptions& options);
  bool uses_windows() const { return window_tokens_ > 0; }
  bool uses_recurrence() const { return segment_tokens_ > 0; }

  // The input's place in the request, for messages: "inputs[3]".
  virtual std::string InputName(size_t index) const;
  // Bytes of one sequence's outputs, to be allocated in LayOut.
  virtual int64_t OutputBytes(int64_t num_tokens) const = 0;
  // Fills in the output of every element of sequences(), whose ids are there. Once.
  virtual absl::Status LayOut(std::span<SequenceWork> sequences) = 0;
  // A task's own look at an input that has been tokenised (mask tokens there at all?).
  virtual absl::Status Check(size_t) const { return absl::OkStatus(); }

  const TaskInput& input(size_t index) const { return inputs_[index]; }
  const Prepared& prepared(size_t index) const { return prepared_[index]; }
  std::span<const Prepared> all_prepared() const { return prepared_; }
  // The index in encoding(input) of a sequence's token.
  size_t SourceToken(size_t input, size_t window, size_t token) const;
  const InputRules& rules() const { return rules_; }

 private:
  absl::Status PrepareOne(const TaskInput& input, Prepared* prepared) const;
  absl::Status CheckLength(const TaskInput& input, const Prepared& prepared) const;
  // Segments of an input, and the memory that they carry; 0 where there is but one.
  size_t NumSegments(size_t index) const;
  int64_t MemoryTokens(size_t index) const;
  absl::StatusOr<bool> NextSegments();

  const Model& model_;
  const std::vector<TaskInput> inputs_;
  InputRules rules_;
  int64_t window_tokens_ = 0, overlap_tokens_ = 0;  // 0: no windows
  int64_t segment_tokens_ = 0, memory_tokens_ = 0;  // 0: no recurrence
  std::vector<Prepared> prepared_;
  std::vector<WindowSequences> windows_;  // of each input that has any
  std::vector<SequenceWork> sequences_;
  bool laid_out_ = false;
  // Recurrence: each input's sequence with its outputs, and its memory while it has segments left.
  std::vector<SequenceWork> documents_;
  std::vector<std::unique_ptr<SequenceMemory>> memories_;
  size_t segment_ = 0;  // of the next stage
};

// At most one of the two may be set.
absl::Status CheckPrompt(std::string_view prompt_name, std::string_view prompt);

// Internal, naming the input, when a value is NaN or infinite: a broken checkpoint or kernel.
absl::Status CheckFinite(std::span<const float> values, const std::string& input_name);

// The most tokens that one input may have: options.encode.max_tokens, and the model's limit where
// it has one.
int64_t TokenLimit(const Model& model, const EncodeOptions& encode);

}  // namespace bertrand
