#include "server/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace bertrand {
namespace {

using std::chrono::milliseconds;

const TimePoint kStart = TimePoint(std::chrono::seconds(1000));

std::vector<size_t> Counts(const BatchPlan& plan, size_t num_requests) {
  std::vector<size_t> counts(num_requests);
  for (const auto& slice : plan.slices) counts[slice.request] = slice.count;
  return counts;
}

TEST(NextBatch, NothingWaits) {
  const BatchPlan plan = NextBatch({}, kStart, {});
  EXPECT_TRUE(plan.slices.empty());
  EXPECT_EQ(plan.wake_at, TimePoint::max());
}

TEST(NextBatch, LeavesAtOnce) {
  const std::vector<int32_t> lengths = {5};
  const WaitingRequest request{.arrival = kStart, .lengths = lengths};
  const BatchPlan plan = NextBatch({&request, 1}, kStart, {});
  EXPECT_EQ(Counts(plan, 1), (std::vector<size_t>{1}));
  EXPECT_EQ(plan.num_tokens, 5);
}

TEST(NextBatch, GivesEveryoneAQuantumFirst) {
  const std::vector<int32_t> big(100, 10), small = {10};
  const std::vector<WaitingRequest> waiting = {{.arrival = kStart, .lengths = big},
                                               {.arrival = kStart, .lengths = small},
                                               {.arrival = kStart, .lengths = small}};
  const BatchPlan plan = NextBatch(waiting, kStart, {.max_tokens = 100, .quantum_tokens = 30});
  EXPECT_EQ(Counts(plan, 3), (std::vector<size_t>{8, 1, 1}));
  EXPECT_EQ(plan.num_tokens, 100);
}

TEST(NextBatch, OneModelABatch) {
  const std::vector<int32_t> lengths = {10};
  const std::vector<WaitingRequest> waiting = {{.model = 1, .arrival = kStart, .lengths = lengths},
                                               {.model = 0, .arrival = kStart, .lengths = lengths},
                                               {.model = 1, .arrival = kStart, .lengths = lengths}};
  const BatchPlan plan = NextBatch(waiting, kStart, {});
  EXPECT_EQ(plan.model, 1);
  EXPECT_EQ(Counts(plan, 3), (std::vector<size_t>{1, 0, 1}));
}

TEST(NextBatch, AGapIsFilledByALaterRequest) {
  const std::vector<int32_t> first = {60, 60}, second = {40};
  const std::vector<WaitingRequest> waiting = {{.arrival = kStart, .lengths = first},
                                               {.arrival = kStart, .lengths = second}};
  const BatchPlan plan = NextBatch(waiting, kStart, {.max_tokens = 100, .quantum_tokens = 100});
  EXPECT_EQ(Counts(plan, 2), (std::vector<size_t>{1, 1}));
}

TEST(NextBatch, CutsByCost) {
  const std::vector<int32_t> lengths(10, 10);
  const WaitingRequest request{.arrival = kStart, .lengths = lengths};
  // Each costs 10 + 100.
  BatchLimits limits{.max_cost = 330};
  limits.cost.per_squared_token = 1;
  EXPECT_EQ(NextBatch({&request, 1}, kStart, limits).num_sequences, 3);
  limits.max_cost = 1;  // the first always leaves
  EXPECT_EQ(NextBatch({&request, 1}, kStart, limits).num_sequences, 1);
}

TEST(NextBatch, WaitsForAFullBatchWhenAsked) {
  const std::vector<int32_t> lengths = {10};
  const WaitingRequest request{.arrival = kStart, .lengths = lengths};
  const BatchLimits limits{.max_tokens = 100, .max_delay = milliseconds(5)};
  const BatchPlan early = NextBatch({&request, 1}, kStart + milliseconds(4), limits);
  EXPECT_TRUE(early.slices.empty());
  EXPECT_EQ(early.wake_at, kStart + milliseconds(5));
  EXPECT_EQ(NextBatch({&request, 1}, kStart + milliseconds(5), limits).num_sequences, 1);
  // Full enough: the next input would not fit.
  const std::vector<int32_t> many(3, 40);
  const WaitingRequest full{.arrival = kStart, .lengths = many};
  EXPECT_EQ(NextBatch({&full, 1}, kStart, limits).num_sequences, 2);
}

// Requests that come at random, served by one lane whose time is its tokens; the queue's tags as
// RequestQueue keeps them. Checks the limits of every batch, that each input is served once, and
// that small requests are not kept by big ones.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {}

  void Run() {
    for (int step = 0; step < 400; ++step) {
      if (random_() % 3 == 0) Arrive();
      Step();
    }
    while (!waiting_.empty()) Step();
    EXPECT_EQ(num_served_, num_arrived_);
    EXPECT_LE(longest_small_wait_, 20) << "batches that a request of one input waited for";
  }

 private:
  struct Request {
    std::vector<int32_t> lengths;
    size_t next = 0;
    int64_t arrival_batch = 0;
    double tag = 0;
    int model = 0;
  };

  void Arrive() {
    Request request;
    const size_t num_inputs = random_() % 5 == 0 ? random_() % 200 + 1 : 1;
    for (size_t i = 0; i < num_inputs; ++i) {
      request.lengths.push_back(static_cast<int32_t>(random_() % 128 + 1));
    }
    num_arrived_ += num_inputs;
    request.arrival_batch = num_batches_;
    request.tag = virtual_time_;
    request.model = static_cast<int>(random_() % 2);
    waiting_.push_back(std::move(request));
  }

  void Step() {
    std::stable_sort(waiting_.begin(), waiting_.end(),
                     [](const Request& a, const Request& b) { return a.tag < b.tag; });
    std::vector<WaitingRequest> view;
    for (const Request& request : waiting_) {
      view.push_back({request.model, kStart, std::span(request.lengths).subspan(request.next)});
    }
    const BatchLimits limits{.max_tokens = 512, .max_sequences = 16, .quantum_tokens = 128};
    const BatchPlan plan = NextBatch(view, kStart, limits);
    if (waiting_.empty()) return;
    ASSERT_FALSE(plan.slices.empty());
    ++num_batches_;
    virtual_time_ = std::max(virtual_time_, waiting_[0].tag);
    int64_t num_tokens = 0, num_sequences = 0;
    for (const auto& slice : plan.slices) {
      Request& request = waiting_[slice.request];
      EXPECT_EQ(request.model, plan.model);
      EXPECT_EQ(request.model, waiting_[0].model);
      int64_t tokens = 0;
      for (size_t i = 0; i < slice.count; ++i) tokens += request.lengths.at(request.next + i);
      EXPECT_EQ(tokens, slice.tokens);
      request.next += slice.count;
      request.tag += static_cast<double>(tokens);
      num_tokens += tokens;
      num_sequences += static_cast<int64_t>(slice.count);
      if (request.lengths.size() == 1) {
        longest_small_wait_ = std::max(longest_small_wait_, num_batches_ - request.arrival_batch);
      }
    }
    EXPECT_EQ(num_tokens, plan.num_tokens);
    EXPECT_EQ(num_sequences, plan.num_sequences);
    EXPECT_LE(num_tokens, limits.max_tokens);
    EXPECT_LE(num_sequences, limits.max_sequences);
    num_served_ += static_cast<size_t>(num_sequences);
    std::erase_if(waiting_, [](const Request& r) { return r.next == r.lengths.size(); });
  }

  std::mt19937 random_;
  std::vector<Request> waiting_;
  double virtual_time_ = 0;
  size_t num_arrived_ = 0, num_served_ = 0;
  int64_t num_batches_ = 0, longest_small_wait_ = 0;
};

TEST(Scheduler, Simulation) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    Simulation(seed).Run();
  }
}

}  // namespace
}  // namespace bertrand
