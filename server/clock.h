#pragma once

// Time as the server sees it: monotonic, and injected, so that tests decide what the time is.

#include <chrono>
#include <cstdint>

namespace bertrand {

using TimePoint = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  // Thread-safe.
  virtual TimePoint Now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
};

inline int64_t MicrosecondsBetween(TimePoint begin, TimePoint end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin).count();
}

}  // namespace bertrand
