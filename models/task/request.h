#pragma once

// A request of one task on its way through the server, which knows nothing of what the task is:
//
//   Prepare(0) ... Prepare(num_inputs - 1)     CPU work, on any threads: text -> sequences
//   while (NextStage())                        usually once; XLNet's recurrence: once per segment
//     ModelRunner::Forward over sequences(),   in any order, cut into any batches
//   the task's own results, by its concrete class
//
// Each task derives from it: EmbedRequest, ClassifyRequest, AnswerRequest ... in models/task, each
// made from a Model, inputs and options, with a Finish that gives the results. What an input needs
// (windows of a long document, hypotheses of a zero-shot text) is the task's affair: one input may
// become many sequences.
//
// A TaskRequest owns the ids, the outputs' memory and whatever state goes from stage to stage.
// Views that it was made with (texts, ids, strings of the options) and the model must outlive it.
// Prepare is thread-safe for different inputs; everything else by one thread at a time.
//
// Create fails with InvalidArgument that begins with the field's name in the protocol
// ("long_input.window_tokens: ..."), and with FailedPrecondition when the model lacks the task.
// Finish is called once, after the last stage; Internal names the input whose output is not finite.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "models/model.h"

namespace bertrand {

class TaskRequest {
 public:
  virtual ~TaskRequest() = default;

  virtual size_t num_inputs() const = 0;
  // Bytes of text or ids in an input, so that work can be shared out.
  virtual size_t input_bytes(size_t index) const = 0;
  // Tokenises input `index`. Errors are about the client's input and begin with its field:
  // "inputs[3].text: ...".
  virtual absl::Status Prepare(size_t index) = 0;

  // After the last Prepare and before the first NextStage: what NextStage will allocate at most in
  // all stages, so that it can be reserved first; and what the answer will have in bytes on the
  // wire, at most (vectors as float32).
  virtual int64_t work_bytes() const = 0;
  virtual int64_t answer_bytes() const = 0;

  // Lays out the next stage's sequences and outputs; false when there is none (any more). Requires
  // that every sequence of the stage before has been through Forward.
  virtual absl::StatusOr<bool> NextStage() = 0;
  // Of the current stage. None is empty; the spans stay until the next NextStage.
  virtual std::span<const SequenceWork> sequences() const = 0;

  // Of input `index`, for InputStats: known from Prepare on.
  virtual int64_t num_tokens(size_t index) const = 0;
  virtual int64_t num_truncated_tokens(size_t index) const = 0;
};

// An input as the client gave it: bertrand.v1.Input.
struct TaskInput {
  enum class Kind : uint8_t { kText, kPair, kIds };
  Kind kind = Kind::kText;
  std::string_view first, second;           // kText: the first alone
  std::span<const uint32_t> ids, type_ids;  // kIds; type_ids empty: all 0
};

// bertrand.v1.LongInput.
struct LongInputOptions {
  enum class Mode : uint8_t { kTruncate, kWindows, kRecurrence };
  Mode mode = Mode::kTruncate;
  int64_t window_tokens = 0;   // 0: the model's limit
  int64_t overlap_tokens = 0;  // windows
  int64_t memory_tokens = 0;   // recurrence; 0: the checkpoint's, else window_tokens
};

}  // namespace bertrand
