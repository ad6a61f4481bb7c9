#include "kernels/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/mutex.h"
#include "kernels/status.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bertrand {
namespace {

// How long a thread without work looks for some before it sleeps. A forward's loops follow one
// another within a few microseconds and a futex wake-up takes 5 to 50, so a helper that slept
// between two loops of one forward would come too late for most of them. After kPauseTime it yields
// between two looks, so that any thread with work takes the core from it.
constexpr std::chrono::microseconds kPauseTime{5};
constexpr std::chrono::microseconds kSpinTime{50};

void CpuPause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks at `ready` until it is true or kSpinTime has passed; the last look's result.
template <typename Ready>
bool SpinUntil(Ready ready) {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      CpuPause();
    }
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited > kSpinTime) return ready();
    if (waited > kPauseTime) std::this_thread::yield();
  }
}

}  // namespace

class ThreadPool::Impl {
 public:
  Impl(int num_threads, const char* name);
  ~Impl();

  int num_threads() const { return num_threads_; }
  void Submit(TaskPriority priority, std::function<void()> task);
  void ParallelFor(int64_t count, Body body, void* context);

 private:
  // One ParallelFor, on its caller's stack. In the list loops_ while tiles may be left; the caller
  // returns only when no helper is inside any more.
  struct Loop {
    int64_t count;
    Body body;
    void* context;
    // The hot word has a cache line of its own: every claim of a tile writes it.
    alignas(64) std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int> num_helpers{0};  // changed under mutex_
    bool caller_sleeps = false;                   // under mutex_
    Loop* following = nullptr;                    // under mutex_
  };

  // What this thread is to the pool it works for.
  struct Role {
    Impl* pool = nullptr;
    int slot = 0;
    bool is_pool_thread = false;
  };
  static thread_local Role role_;

  void Run(int index, const std::string& name);
  // Sleeps, after a short spin, until something was submitted or published, or the end. False at
  // the end.
  bool WaitForWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !urgent_.empty() || !batch_.empty() || OpenLoop() != nullptr;
  }
  // The oldest loop with unclaimed tiles.
  Loop* OpenLoop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeSleepers(int64_t wanted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Help(Loop& loop, int slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunTiles(Loop& loop);
  void RunUrgentTasks();
  void Publish(Loop& loop);
  void Retire(Loop& loop);

  // A woken thread wakes this many more, so that no one thread pays for all the system calls.
  static constexpr int64_t kWakeFanOut = 2;

  const int num_threads_;
  Mutex outside_mutex_;  // held by the one outside caller that may be in ParallelFor
  Mutex mutex_;
  CondVar work_;
  CondVar loop_left_;
  std::deque<std::function<void()>> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> batch_ ABSL_GUARDED_BY(mutex_);
  Loop* loops_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int num_sleeping_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Changes whenever there is something new to look at: what idle threads spin on.
  std::atomic<uint64_t> signal_{0};
  std::atomic<int64_t> num_urgent_{0};
  std::vector<std::thread> threads_;
};

thread_local ThreadPool::Impl::Role ThreadPool::Impl::role_;

ThreadPool::Impl::Impl(int num_threads, const char* name) : num_threads_(num_threads) {
  BERTRAND_CHECK(num_threads >= 1, "a thread pool needs a thread");
  threads_.reserve(static_cast<size_t>(num_threads));
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this, i, thread_name = std::string(name) + "-" + std::to_string(i)] {
      Run(i, thread_name);
    });
  }
}

ThreadPool::Impl::~Impl() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    signal_.fetch_add(1, std::memory_order_release);
    work_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Impl::Submit(TaskPriority priority, std::function<void()> task) {
  MutexLock lock(mutex_);
  if (priority == TaskPriority::kUrgent) {
    urgent_.push_back(std::move(task));
    num_urgent_.fetch_add(1, std::memory_order_relaxed);
  } else {
    batch_.push_back(std::move(task));
  }
  signal_.fetch_add(1, std::memory_order_release);
  WakeSleepers(1);
}

void ThreadPool::Impl::Run(int index, const std::string& name) {
  // The kernel keeps 15 characters.
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  role_ = {this, index, true};
  mutex_.Lock();
  for (;;) {
    if (!urgent_.empty()) {
      mutex_.Unlock();
      RunUrgentTasks();
      mutex_.Lock();
    } else if (!batch_.empty()) {
      std::function<void()> task = std::move(batch_.front());
      batch_.pop_front();
      mutex_.Unlock();
      task();
      task = nullptr;  // its captures may own much: freed before the thread looks on
      mutex_.Lock();
    } else if (Loop* loop = OpenLoop(); loop != nullptr) {
      Help(*loop, index);
    } else if (!WaitForWork()) {
      break;
    }
  }
  mutex_.Unlock();
}

bool ThreadPool::Impl::WaitForWork() {
  if (stopping_) return false;
  const uint64_t seen = signal_.load(std::memory_order_relaxed);
  mutex_.Unlock();
  const bool signalled = SpinUntil([&] { return signal_.load(std::memory_order_acquire) != seen; });
  mutex_.Lock();
  if (signalled) return true;
  while (!HasWork() && !stopping_) {
    ++num_sleeping_;
    work_.Wait(mutex_);
    --num_sleeping_;
  }
  return true;
}

ThreadPool::Impl::Loop* ThreadPool::Impl::OpenLoop() {
  Loop* loop = loops_;
  while (loop != nullptr && loop->next.load(std::memory_order_relaxed) >= loop->count) {
    loop = loop->following;
  }
  return loop;
}

void ThreadPool::Impl::WakeSleepers(int64_t wanted) {
  for (int64_t i = 0; i < wanted && i < num_sleeping_; ++i) work_.NotifyOne();
}

void ThreadPool::Impl::Help(Loop& loop, int slot) {
  loop.num_helpers.fetch_add(1, std::memory_order_relaxed);
  const int64_t left = loop.count - loop.next.load(std::memory_order_relaxed);
  WakeSleepers(std::min(left - 1, kWakeFanOut));
  mutex_.Unlock();
  // Leaves for an urgent task instead of running it inside, so that the loop's caller, who waits
  // for its helpers, does not wait for that too.
  while (num_urgent_.load(std::memory_order_relaxed) == 0) {
    const int64_t index = loop.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= loop.count) break;
    loop.body(loop.context, index, slot);
  }
  mutex_.Lock();
  // Under the mutex, also for the caller that spins: the loop's memory is gone once it sees zero,
  // so nothing may touch `loop` after the decrement.
  const bool caller_sleeps = loop.caller_sleeps;
  if (loop.num_helpers.fetch_sub(1, std::memory_order_release) == 1 && caller_sleeps) {
    loop_left_.NotifyAll();
  }
}

void ThreadPool::Impl::RunUrgentTasks() {
  mutex_.Lock();
  while (!urgent_.empty()) {
    std::function<void()> task = std::move(urgent_.front());
    urgent_.pop_front();
    num_urgent_.fetch_sub(1, std::memory_order_relaxed);
    mutex_.Unlock();
    task();
    task = nullptr;
    mutex_.Lock();
  }
  mutex_.Unlock();
}

void ThreadPool::Impl::RunTiles(Loop& loop) {
  for (;;) {
    if (role_.is_pool_thread && num_urgent_.load(std::memory_order_relaxed) != 0) RunUrgentTasks();
    const int64_t index = loop.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= loop.count) return;
    loop.body(loop.context, index, role_.slot);
  }
}

void ThreadPool::Impl::Publish(Loop& loop) {
  MutexLock lock(mutex_);
  Loop** end = &loops_;
  while (*end != nullptr) end = &(*end)->following;
  *end = &loop;
  signal_.fetch_add(1, std::memory_order_release);
  WakeSleepers(std::min(loop.count - 1, kWakeFanOut));
}

void ThreadPool::Impl::Retire(Loop& loop) {
  {
    MutexLock lock(mutex_);
    Loop** link = &loops_;
    while (*link != &loop) link = &(*link)->following;
    *link = loop.following;
  }
  // Nobody can enter any more; those inside are on their last tile.
  if (SpinUntil([&] { return loop.num_helpers.load(std::memory_order_acquire) == 0; })) return;
  MutexLock lock(mutex_);
  loop.caller_sleeps = true;
  while (loop.num_helpers.load(std::memory_order_acquire) != 0) loop_left_.Wait(mutex_);
}

void ThreadPool::Impl::ParallelFor(int64_t count, Body body, void* context) {
  if (count <= 0) return;
  const Role before = role_;
  const bool enters = before.pool != this;
  if (enters) {
    outside_mutex_.Lock();
    role_ = {this, num_threads(), false};
  }
  Loop loop{count, body, context};
  // One tile, or nobody to help: no other thread need know.
  const bool shared = count > 1 && (num_threads_ > 1 || !role_.is_pool_thread);
  if (shared) Publish(loop);
  RunTiles(loop);
  if (shared) Retire(loop);
  if (enters) {
    role_ = before;
    outside_mutex_.Unlock();
  }
}

ThreadPool::ThreadPool(int num_threads, const char* name)
    : impl_(std::make_unique<Impl>(num_threads, name)) {}
ThreadPool::~ThreadPool() = default;

int ThreadPool::num_threads() const { return impl_->num_threads(); }

void ThreadPool::Submit(TaskPriority priority, std::function<void()> task) {
  impl_->Submit(priority, std::move(task));
}

void ThreadPool::ParallelFor(int64_t count, Body body, void* context) {
  impl_->ParallelFor(count, body, context);
}

}  // namespace bertrand
