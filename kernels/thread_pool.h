#pragma once

// The process's compute threads: batches, their tiles, and tokenizing, on one fixed set of threads.
//
// A batch is a task; inside it ParallelFor publishes a loop whose tiles are claimed by an atomic
// index. Every thread that has nothing better to do helps with published loops. So one batch alone
// is spread over all threads, and as many batches as there are threads run side by side, one thread
// each, without anyone deciding which. Nothing spins for long: an idle thread sleeps.
//
// Urgent tasks (tokenizing, milliseconds at most) are run before anything else: a thread that works
// on tiles looks for them between two tiles. So a text never waits for the end of a long batch.
//
// Why not OpenMP or a library's own threads: their teams spin at barriers, and a server always has
// other threads to run; with one core taken, a two-thread team falls from 64 to under 2 GFLOP/s.
//
// All methods are thread-safe. The destructor runs what was submitted, then joins.

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace bertrand {

enum class TaskPriority : uint8_t {
  kUrgent,  // before all else, also between the tiles of a running loop; at most milliseconds long
  kBatch,   // in order of submission, by threads that neither help nor have urgent tasks
};

class ThreadPool {
 public:
  // `num_threads` >= 1 threads, named `name`-0 ..., each pinned by the kernel's scheduler alone.
  explicit ThreadPool(int num_threads, const char* name = "compute");
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Runs `task` on a thread of the pool. Tasks must not throw. An urgent task must not call
  // ParallelFor and must not block.
  void Submit(TaskPriority priority, std::function<void()> task);

  // Calls body(context, i) for every i in [0, count), on the caller and on every thread of the pool
  // that is free, and returns when all are done. Allocates nothing. The caller may be any thread,
  // in the pool or not. `slot` below num_slots() tells apart the threads that run bodies at the
  // same time (for scratch memory). Bodies may call ParallelFor; the inner loop's bodies then run
  // on this thread under the same slot.
  using Body = void (*)(void* context, int64_t index, int slot);
  void ParallelFor(int64_t count, Body body, void* context);

  // The same for a callable `void(int64_t index, int slot)`, which is not copied.
  template <typename F>
  void ParallelFor(int64_t count, F&& body) {
    using Callable = std::remove_reference_t<F>;
    ParallelFor(
        count,
        [](void* context, int64_t index, int slot) {
          (*static_cast<Callable*>(context))(index, slot);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // One more than the pool's threads for each caller from outside that may be inside ParallelFor
  // at the same time; such callers wait for one another, so num_threads() + 1.
  int num_slots() const { return num_threads() + 1; }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand
