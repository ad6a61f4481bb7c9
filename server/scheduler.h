#pragma once

// Which work leaves the queue next: a pure function of what waits, the time and the limits.
//
// Continuous batching: called when a lane is free; what waits leaves at once, unless max_delay asks
// to wait for more. Fairness is by start tags (start-time fair queueing, Goyal, Vin and Cheng,
// 1996) with requests as flows and tokens as cost: RequestQueue keeps requests in order of their
// tag, and each gets a quantum per batch before anyone gets a second one. So a request of a
// thousand sequences shares the device with the small ones that come after it, and neither starves.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "server/clock.h"

namespace bertrand {

// The time of a batch is about a + b * tokens + c * sum(length^2); here in units of one token, so
// that the default is the token count. `a` is the same for every batch and plays no part in a cut.
struct BatchCost {
  double per_token = 1;
  double per_squared_token = 0;

  double Of(int64_t length) const {
    const auto tokens = static_cast<double>(length);
    return per_token * tokens + per_squared_token * tokens * tokens;
  }
};

struct BatchLimits {
  int64_t max_tokens = 4096;
  int64_t max_sequences = 1024;
  double max_cost = std::numeric_limits<double>::infinity();
  BatchCost cost;
  // Tokens that a request may take before the others have had theirs; at least one sequence.
  int64_t quantum_tokens = 1024;
  // How long the oldest request may wait for a full batch. 0: never.
  std::chrono::microseconds max_delay{0};
};

struct WaitingRequest {
  int model = 0;
  TimePoint arrival;
  std::span<const int32_t> lengths;  // tokens of the sequences still to be scheduled
};

struct BatchPlan {
  struct Slice {
    size_t request = 0;  // index into `waiting`
    size_t count = 0;    // of its next sequences
    int64_t tokens = 0;
  };
  int model = 0;
  std::vector<Slice> slices;  // empty: nothing leaves now
  int64_t num_tokens = 0, num_sequences = 0;
  // When there is something but it shall wait: when to ask again.
  TimePoint wake_at = TimePoint::max();
};

// `waiting` is in the order in which requests shall be served; the first decides the model. Every
// length must be in [1, limits.max_tokens].
BatchPlan NextBatch(std::span<const WaitingRequest> waiting, TimePoint now,
                    const BatchLimits& limits);

}  // namespace bertrand
