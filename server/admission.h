#pragma once

// The server's one gate: how many requests, bytes and queued tokens it holds at a time.
//
// A request reserves its place and its message when it arrives (Admit), what it will surely need
// before it is parsed (Grow: arena, ids, and the answer where its size is known by then), the rest
// when it is tokenised (AddBytes), and its tokens once they are counted (AddTokens). Tokens go back
// as batches take them, the rest when the Reservation is destroyed: when the answer has left. What
// does not fit is refused: with Overloaded when waiting would help, and otherwise with a
// ResourceExhausted that names the flag. Who would rather wait (a stream) passes `when_freed`:
// called once, on any thread, when something was given back; then it asks again.
//
// Thread-safe. A Reservation is used by one thread at a time and must not outlive its Admission.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/mutex.h"

namespace bertrand {

struct AdmissionLimits {
  int64_t requests_max = 4096;
  int64_t bytes_max = int64_t{256} << 20;
  int64_t tokens_max = int64_t{1} << 20;
};

class Admission {
 public:
  using Waiter = std::function<void()>;

  class Reservation {
   public:
    Reservation() = default;
    ~Reservation() { Release(); }
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept;

    // Bytes that come on top of those of Admit. To be called once: the first to grow is let through
    // whatever others hold without having grown, so that waiting streams cannot block one another.
    absl::Status Grow(int64_t bytes, Waiter when_freed = nullptr);
    // More bytes, later, once. Among those that would wait the first is let through as with Grow,
    // whatever others hold that have not come here.
    absl::Status AddBytes(int64_t bytes, Waiter when_freed = nullptr);
    absl::Status AddTokens(int64_t tokens, Waiter when_freed = nullptr);
    // Tokens of a later stage of work that is half done: counted, never refused, since to refuse
    // would waste what was computed and waiting would hold its memory.
    void ForceTokens(int64_t tokens);
    // Tokens that have left the queue. Thread-safe: several batches may take inputs of a request.
    void ReleaseTokens(int64_t tokens);
    // Everything. Done by the destructor as well.
    void Release();

   private:
    friend class Admission;
    Admission* admission_ = nullptr;  // null: holds nothing
    int64_t bytes_ = 0, tokens_ = 0;
    bool grown_ = false, added_ = false;
  };

  struct Usage {
    int64_t requests = 0, bytes = 0, tokens = 0;
  };

  explicit Admission(const AdmissionLimits& limits) : limits_(limits) {}

  // A place and the bytes of a message that is here already.
  absl::StatusOr<Reservation> Admit(int64_t bytes, Waiter when_freed = nullptr);
  Usage usage() const;
  // What Overloaded will tell clients; kept up to date by the engine.
  void set_retry_after_ms(int64_t value) { retry_after_ms_.store(value); }
  int64_t retry_after_ms() const { return retry_after_ms_.load(); }

 private:
  absl::Status Full(std::string_view what, std::string_view flag, int64_t limit);
  struct Share {
    int64_t requests = 0, bytes = 0, tokens = 0;
    bool grown = false, added = false;
  };
  void GiveBack(const Share& share);

  const AdmissionLimits limits_;
  std::atomic<int64_t> retry_after_ms_{100};
  mutable Mutex mutex_;
  Usage usage_ ABSL_GUARDED_BY(mutex_);
  // Reservations that have passed Grow, and AddBytes.
  int64_t num_grown_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_added_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bertrand
