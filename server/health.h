#pragma once

// Whether the server takes requests, in one place for gRPC, HTTP and metrics. Thread-safe.

#include <atomic>

namespace bertrand {

class Health {
 public:
  enum class State { kStarting, kServing, kDraining };

  State state() const { return state_.load(); }
  bool serving() const { return state() == State::kServing; }
  void set_state(State state) { state_.store(state); }

 private:
  std::atomic<State> state_{State::kStarting};
};

}  // namespace bertrand
