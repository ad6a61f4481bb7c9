#include "server/scheduler.h"

#include <algorithm>

namespace bertrand {
namespace {

// A batch while it is being put together.
class BatchBuilder {
 public:
  BatchBuilder(std::span<const WaitingRequest> waiting, const BatchLimits& limits)
      : waiting_(waiting), limits_(limits), taken_(waiting.size()) {}

  // Takes sequences of a request, in their order, while they fit and `quantum` is not used up.
  void Take(size_t request, int64_t quantum) {
    BatchPlan::Slice& slice = taken_[request];
    const auto lengths = waiting_[request].lengths;
    int64_t used = 0;
    while (slice.count < lengths.size()) {
      const int64_t length = lengths[slice.count];
      if ((used > 0 && used + length > quantum) || !Fits(length)) break;
      used += length;
      slice.tokens += length;
      ++slice.count;
      num_tokens_ += length;
      cost_ += limits_.cost.Of(length);
      ++num_sequences_;
    }
  }

  bool full() const {
    return num_tokens_ >= limits_.max_tokens || num_sequences_ >= limits_.max_sequences ||
           cost_ >= limits_.max_cost;
  }

  // Something of the model did not fit: waiting for more would bring nothing.
  bool left_over(int model) const {
    for (size_t i = 0; i < taken_.size(); ++i) {
      if (waiting_[i].model == model && taken_[i].count < waiting_[i].lengths.size()) return true;
    }
    return false;
  }

  BatchPlan Plan(int model) const {
    BatchPlan plan{.model = model, .num_tokens = num_tokens_, .num_sequences = num_sequences_};
    for (size_t i = 0; i < taken_.size(); ++i) {
      if (taken_[i].count == 0) continue;
      plan.slices.push_back(taken_[i]);
      plan.slices.back().request = i;
    }
    return plan;
  }

 private:
  // The first input always fits: lengths are at most max_tokens, and a cost limit must not block.
  bool Fits(int64_t length) const {
    if (num_sequences_ == 0) return true;
    return num_tokens_ + length <= limits_.max_tokens && num_sequences_ < limits_.max_sequences &&
           cost_ + limits_.cost.Of(length) <= limits_.max_cost;
  }

  const std::span<const WaitingRequest> waiting_;
  const BatchLimits& limits_;
  std::vector<BatchPlan::Slice> taken_;
  int64_t num_tokens_ = 0, num_sequences_ = 0;
  double cost_ = 0;
};

}  // namespace

BatchPlan NextBatch(std::span<const WaitingRequest> waiting, TimePoint now,
                    const BatchLimits& limits) {
  if (waiting.empty()) return {};
  const int model = waiting.front().model;
  BatchBuilder builder(waiting, limits);
  TimePoint oldest = TimePoint::max();
  // A quantum for each, then what is left in the order of the queue. A later request may fill a gap
  // that is too small for an earlier one's next input: the earlier one is first in the next batch.
  for (const int64_t quantum : {limits.quantum_tokens, std::numeric_limits<int64_t>::max()}) {
    for (size_t i = 0; i < waiting.size() && !builder.full(); ++i) {
      if (waiting[i].model != model) continue;
      oldest = std::min(oldest, waiting[i].arrival);
      builder.Take(i, quantum);
    }
  }
  BatchPlan plan = builder.Plan(model);
  const bool may_wait =
      limits.max_delay.count() > 0 && !builder.full() && !builder.left_over(model);
  if (may_wait && now < oldest + limits.max_delay) {
    BatchPlan wait;
    wait.model = model;
    wait.wake_at = oldest + limits.max_delay;
    return wait;
  }
  return plan;
}

}  // namespace bertrand
