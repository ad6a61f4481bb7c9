#pragma once

// One request on its way through the engine: what the client asked for, in domain terms, its state,
// and its results. The protocol's side makes a Job, gives it to Engine::Start, and gets it back in
// `done`, called exactly once, on a compute thread (or on the thread that cancels).
//
// Who may touch it: the maker until Start; then the engine's tasks, one stage after the other; the
// maker again from `done` on. Only Cancel and abandoned() may be called by anyone at any time.

#include <absl/status/status.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "server/admission.h"
#include "server/clock.h"

namespace bertrand {

class Engine;

// A model under its name.
struct ServedModel {
  std::string name;
  std::string source;    // as given: a folder or a hub id
  std::string revision;  // of a hub id
  int index = 0;         // into Engine::models()
  std::unique_ptr<Model> model;
  // What one input may have, and what text is cut to: the model's limits, or the batch's where the
  // model has none.
  int64_t input_tokens_max = 0, text_tokens_max = 0;
};

// An input as the client gave it. Views into the request, which Job::owner keeps alive.
struct SourceInput {
  enum class Kind : uint8_t { kText, kPair, kIds };
  Kind kind = Kind::kText;
  std::string_view first, second;
  std::span<const uint32_t> ids, type_ids;
};

struct JobInput {
  SourceInput source;
  PreparedInput prepared;
  EmbedOutput embed;    // of Kind::kEmbed
  TokensOutput tokens;  // of Kind::kEmbedTokens
};

struct JobTiming {
  TimePoint received, prepared, started, finished;  // started: the first batch
  int64_t inference_us = 0;                         // sum over the batches
};

class Job : public std::enable_shared_from_this<Job> {
 public:
  enum class Kind : uint8_t { kPrepare, kEmbed, kEmbedTokens };

  // ---- set by the maker
  Kind kind = Kind::kPrepare;
  const ServedModel* model = nullptr;
  PrepareOptions prepare;
  // kPrepare: the text goes to the tokenizer as it is, after `prompt`, and no limit of the model
  // cuts it (prompt_name is not looked at).
  bool tokenizer_alone = false;
  std::vector<JobInput> inputs;
  std::optional<PoolingChoice> pooling;  // kEmbed
  std::optional<bool> normalize;         // kEmbed
  std::vector<int32_t> layers;           // kEmbedTokens
  int64_t dimensions = 0;                // values per vector
  TimePoint deadline = TimePoint::max();
  Admission::Reservation reservation;
  bool wait_when_full = false;  // a stream's: full is a reason to wait, not an error
  std::shared_ptr<void> owner;  // of what the views see
  // Called when the ids are known, before anything is reserved for them; an error ends the job.
  std::function<absl::Status(Job&)> on_prepared;
  std::function<void(Job&, const absl::Status&)> done;

  // ---- results
  std::vector<float> values;  // vectors of all inputs, end to end
  JobTiming timing;

  // Drops the job at the next occasion; at once if it waits in the queue. Harmless when it is done.
  void Cancel();
  // Cancelled by its client, or expired.
  absl::Status abandoned(TimePoint now) const;

  // Tokens per input, filled by the engine when the job is queued.
  std::vector<int32_t> lengths;

 private:
  friend class Engine;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> finished_{false};
  std::atomic<Engine*> engine_{nullptr};  // null until Start, which Cancel may precede
};

}  // namespace bertrand
