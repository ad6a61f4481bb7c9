#include "kernels/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace bertrand {
namespace {

using std::chrono::milliseconds;

// Waits, without a limit of its own (ctest has one), until `condition` holds.
template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(ThreadPoolTest, ParallelForRunsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    EXPECT_EQ(pool.num_slots(), threads + 1);
    for (const int64_t count : {0, 1, 2, 3, 100, 10000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      pool.ParallelFor(count, [&](int64_t index, int slot) {
        ASSERT_GE(slot, 0);
        ASSERT_LT(slot, pool.num_slots());
        seen[static_cast<size_t>(index)].fetch_add(1);
      });
      for (const auto& times : seen) EXPECT_EQ(times.load(), 1);
    }
  }
}

TEST(ThreadPoolTest, ResultsAreVisibleToTheCallerWithoutMoreSynchronisation) {
  ThreadPool pool(3);
  std::vector<int64_t> squares(257);
  for (int round = 0; round < 500; ++round) {
    pool.ParallelFor(257, [&](int64_t i, int) { squares[static_cast<size_t>(i)] = i * i + round; });
    for (int64_t i = 0; i < 257; ++i) ASSERT_EQ(squares[static_cast<size_t>(i)], i * i + round);
  }
}

// A slot is in one body at a time, whoever calls.
TEST(ThreadPoolTest, SlotsAreExclusive) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> inside(static_cast<size_t>(pool.num_slots()));
  std::vector<int64_t> scratch(inside.size());  // written without atomics: TSan looks on
  const auto loop = [&] {
    for (int round = 0; round < 200; ++round) {
      pool.ParallelFor(16, [&](int64_t index, int slot) {
        ASSERT_EQ(inside[static_cast<size_t>(slot)].fetch_add(1), 0);
        scratch[static_cast<size_t>(slot)] = index;
        ASSERT_EQ(scratch[static_cast<size_t>(slot)], index);
        inside[static_cast<size_t>(slot)].fetch_sub(1);
      });
    }
  };
  std::atomic<int> finished{0};
  for (int i = 0; i < 3; ++i) {
    pool.Submit(TaskPriority::kBatch, [&] {
      loop();
      finished.fetch_add(1);
    });
  }
  std::vector<std::thread> outside;
  for (int i = 0; i < 3; ++i) outside.emplace_back(loop);
  for (std::thread& thread : outside) thread.join();
  Await([&] { return finished.load() == 3; });
}

// The caller's tile ends only when another thread has run the other one.
TEST(ThreadPoolTest, FreeThreadsHelpABatch) {
  ThreadPool pool(2);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> started{0};
    std::atomic<bool> done{false};
    pool.Submit(TaskPriority::kBatch, [&] {
      pool.ParallelFor(2, [&](int64_t, int) {
        started.fetch_add(1);
        Await([&] { return started.load() == 2; });
      });
      done = true;
    });
    Await([&] { return done.load(); });
    // Some rounds find the threads spinning, some asleep.
    if (round % 10 == 0) std::this_thread::sleep_for(milliseconds(2));
  }
}

TEST(ThreadPoolTest, AllThreadsOfAWidePoolAreWoken) {
  ThreadPool pool(9);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(milliseconds(2));  // all asleep
    std::atomic<int> started{0};
    pool.ParallelFor(10, [&](int64_t, int) {
      started.fetch_add(1);
      Await([&] { return started.load() == 10; });
    });
  }
}

TEST(ThreadPoolTest, BatchesRunSideBySide) {
  ThreadPool pool(2);
  std::atomic<int> inside{0}, done{0};
  for (int i = 0; i < 2; ++i) {
    pool.Submit(TaskPriority::kBatch, [&] {
      inside.fetch_add(1);
      Await([&] { return inside.load() == 2; });
      done.fetch_add(1);
    });
  }
  Await([&] { return done.load() == 2; });
}

// The pool's only thread is inside a long loop; the urgent task runs before the loop's end.
TEST(ThreadPoolTest, UrgentTasksRunBetweenTiles) {
  ThreadPool pool(1);
  std::atomic<bool> in_loop{false}, urgent_ran{false}, done{false};
  std::atomic<int64_t> tiles_after{0};
  pool.Submit(TaskPriority::kBatch, [&] {
    pool.ParallelFor(1 << 20, [&](int64_t, int) {
      in_loop = true;
      if (urgent_ran.load()) {
        tiles_after.fetch_add(1);
      } else {
        std::this_thread::yield();
      }
    });
    done = true;
  });
  Await([&] { return in_loop.load(); });
  pool.Submit(TaskPriority::kUrgent, [&] { urgent_ran = true; });
  Await([&] { return done.load(); });
  EXPECT_TRUE(urgent_ran.load());
  EXPECT_GT(tiles_after.load(), 0);
}

// A helper, too, leaves the tiles for an urgent task, and the loop does not wait for that task.
TEST(ThreadPoolTest, ALoopDoesNotWaitForAnUrgentTaskOfItsHelper) {
  ThreadPool pool(1);
  std::atomic<bool> release{false}, urgent_started{false}, urgent_done{false};
  std::atomic<bool> helper_came{false};
  const std::thread::id self = std::this_thread::get_id();
  pool.ParallelFor(1000, [&](int64_t, int) {
    if (std::this_thread::get_id() != self) {
      helper_came = true;
    } else if (helper_came.load() && !urgent_started.load()) {
      pool.Submit(TaskPriority::kUrgent, [&] {
        urgent_started = true;
        Await([&] { return release.load(); });
        urgent_done = true;
      });
      Await([&] { return urgent_started.load(); });
    } else if (!helper_came.load()) {
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  // We are here although the urgent task has not ended (unless the helper never came).
  EXPECT_FALSE(urgent_done.load());
  release = true;
}

TEST(ThreadPoolTest, UrgentTasksComeBeforeBatches) {
  ThreadPool pool(1);
  std::atomic<bool> go{false}, started{false};
  std::vector<std::string> order;  // by the pool's one thread
  std::atomic<int> ran{0};
  pool.Submit(TaskPriority::kBatch, [&] {
    started = true;
    Await([&] { return go.load(); });
  });
  Await([&] { return started.load(); });
  for (const char* name : {"batch 1", "batch 2"}) {
    pool.Submit(TaskPriority::kBatch, [&, name] {
      order.push_back(name);
      ran.fetch_add(1);
    });
  }
  for (const char* name : {"urgent 1", "urgent 2"}) {
    pool.Submit(TaskPriority::kUrgent, [&, name] {
      order.push_back(name);
      ran.fetch_add(1);
    });
  }
  go = true;
  Await([&] { return ran.load() == 4; });
  EXPECT_THAT(order, testing::ElementsAre("urgent 1", "urgent 2", "batch 1", "batch 2"));
}

TEST(ThreadPoolTest, NestedLoopsFromInsideAndOutside) {
  ThreadPool pool(3);
  const auto nested_sum = [&] {
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(8, [&](int64_t i, int) {
      pool.ParallelFor(8, [&](int64_t j, int) { sum.fetch_add(8 * i + j); });
    });
    return sum.load();
  };
  EXPECT_EQ(nested_sum(), 64 * 63 / 2);
  std::atomic<int64_t> inside{-1};
  pool.Submit(TaskPriority::kBatch, [&] { inside = nested_sum(); });
  Await([&] { return inside.load() >= 0; });
  EXPECT_EQ(inside.load(), 64 * 63 / 2);
}

TEST(ThreadPoolTest, ThePoolsOfTwoOwnersCanCallEachOther) {
  ThreadPool first(2), second(2);
  std::atomic<int> count{0};
  first.ParallelFor(4, [&](int64_t, int) {
    second.ParallelFor(4, [&](int64_t, int slot) {
      ASSERT_LT(slot, second.num_slots());
      count.fetch_add(1);
    });
  });
  EXPECT_EQ(count.load(), 16);
}

TEST(ThreadPoolTest, TheDestructorRunsWhatWasSubmitted) {
  std::atomic<int> ran{0};
  {
    ThreadPool pool(2);
    for (int i = 0; i < 100; ++i) {
      pool.Submit(i % 2 == 0 ? TaskPriority::kBatch : TaskPriority::kUrgent,
                  [&] { ran.fetch_add(1); });
    }
    // Submitted while the pool ends, perhaps.
    pool.Submit(TaskPriority::kBatch,
                [&] { pool.Submit(TaskPriority::kBatch, [&] { ran.fetch_add(1); }); });
  }
  EXPECT_EQ(ran.load(), 101);
}

TEST(ThreadPoolTest, TasksReleaseWhatTheyHold) {
  ThreadPool pool(1);
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  pool.Submit(TaskPriority::kBatch, [held = std::move(held)] {});
  Await([&] { return watch.expired(); });
}

TEST(ThreadPoolTest, ThreadsAreNamed) {
  ThreadPool pool(2, "worker");
  std::mutex mutex;
  std::set<std::string> names;
  std::atomic<int> inside{0}, done{0};
  for (int i = 0; i < 2; ++i) {
    pool.Submit(TaskPriority::kBatch, [&] {
      inside.fetch_add(1);
      Await([&] { return inside.load() == 2; });
      std::array<char, 32> name{};
      pthread_getname_np(pthread_self(), name.data(), name.size());
      {
        std::lock_guard<std::mutex> lock(mutex);
        names.insert(name.data());
      }
      done.fetch_add(1);
    });
  }
  Await([&] { return done.load() == 2; });
  EXPECT_THAT(names, testing::ElementsAre("worker-0", "worker-1"));
}

// Everything at once: batches with loops, outside callers, urgent tasks.
TEST(ThreadPoolTest, Stress) {
  std::atomic<int64_t> tiles{0};
  std::atomic<int> batches{0}, urgent{0};
  {
    ThreadPool pool(3);
    const auto forward = [&] {
      for (int loop = 0; loop < 20; ++loop) {
        pool.ParallelFor(1 + loop, [&](int64_t, int) { tiles.fetch_add(1); });
      }
    };
    std::vector<std::thread> callers;
    for (int i = 0; i < 2; ++i) {
      callers.emplace_back([&] {
        for (int round = 0; round < 50; ++round) {
          pool.Submit(TaskPriority::kBatch, [&] {
            forward();
            batches.fetch_add(1);
          });
          pool.Submit(TaskPriority::kUrgent, [&] { urgent.fetch_add(1); });
          forward();
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  EXPECT_EQ(batches.load(), 100);
  EXPECT_EQ(urgent.load(), 100);
  EXPECT_EQ(tiles.load(), 200 * 210);
}

}  // namespace
}  // namespace bertrand
