#include "server/queue.h"

#include <gtest/gtest.h>

#include "kernels/status.h"

namespace bertrand {
namespace {

using std::chrono::milliseconds;

class RequestQueueTest : public testing::Test {
 protected:
  std::shared_ptr<Job> NewJob(std::vector<int32_t> lengths, TimePoint deadline = TimePoint::max()) {
    auto job = std::make_shared<Job>();
    job->model = &model_;
    job->lengths = std::move(lengths);
    job->timing.prepared = now_;
    job->deadline = deadline;
    return job;
  }

  const TimePoint now_ = TimePoint(std::chrono::seconds(50));
  ServedModel model_;
  RequestQueue queue_{BatchLimits{.max_tokens = 10, .quantum_tokens = 10}};
};

TEST_F(RequestQueueTest, GivesBatchesUntilItIsEmpty) {
  const auto job = NewJob({4, 4, 4});
  queue_.Push(job);
  EXPECT_EQ(queue_.state(now_).num_tokens, 12);
  EXPECT_EQ(queue_.state(now_ + milliseconds(3)).oldest_age_us, 3000);
  const auto first = queue_.Take(now_), second = queue_.Take(now_), third = queue_.Take(now_);
  EXPECT_EQ(first.batch.num_sequences, 2);
  ASSERT_EQ(second.batch.slices.size(), 1U);
  EXPECT_EQ(second.batch.slices[0].first, 2U);
  EXPECT_TRUE(third.batch.slices.empty());
  EXPECT_EQ(queue_.state(now_).num_tokens, 0);
  EXPECT_EQ(queue_.state(now_).oldest_age_us, 0);
  // The batches end in the other order: the job is complete after the second of them.
  EXPECT_TRUE(queue_.Finish(second.batch, absl::OkStatus(), 10).empty());
  const auto ended = queue_.Finish(first.batch, absl::OkStatus(), 20);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_TRUE(ended[0].status.ok());
  EXPECT_EQ(job->timing.inference_us, 30);
}

TEST_F(RequestQueueTest, AFailureEndsTheJobWhenItsLastBatchEnds) {
  queue_.Push(NewJob({8, 8, 8}));
  const auto first = queue_.Take(now_), second = queue_.Take(now_);
  EXPECT_TRUE(queue_.Finish(first.batch, Internal("broken"), 1).empty());
  EXPECT_EQ(queue_.state(now_).num_tokens, 0);  // the third input will not be computed
  const auto ended = queue_.Finish(second.batch, absl::OkStatus(), 1);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].status.code(), absl::StatusCode::kInternal);
}

TEST_F(RequestQueueTest, DropsTheExpiredOnly) {
  queue_.Push(NewJob({1}, now_ + milliseconds(1)));
  queue_.Push(NewJob({2}, now_ + milliseconds(9)));
  const auto taken = queue_.Take(now_ + milliseconds(1));
  ASSERT_EQ(taken.dropped.size(), 1U);
  EXPECT_EQ(taken.dropped[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(taken.batch.num_tokens, 2);
}

TEST_F(RequestQueueTest, RemovesWhatWaits) {
  const auto waiting = NewJob({1}), running = NewJob({8, 8});
  queue_.Push(running);
  const auto taken = queue_.Take(now_);
  queue_.Push(waiting);
  EXPECT_TRUE(queue_.Remove(*waiting, Cancelled("")));
  EXPECT_FALSE(queue_.Remove(*waiting, Cancelled("")));
  EXPECT_FALSE(queue_.Remove(*running, Cancelled("")));
  EXPECT_EQ(queue_.state(now_).num_jobs, 0);
  const auto ended = queue_.Finish(taken.batch, absl::OkStatus(), 1);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].status.code(), absl::StatusCode::kCancelled);
}

// A job of many stages has no more of the device than one that is queued as a whole.
TEST_F(RequestQueueTest, StagesKeepTheirPlaceInTheOrder) {
  const auto staged = NewJob({10}), whole = NewJob({10, 10, 10});
  queue_.Push(staged);
  queue_.Push(whole);
  std::vector<const Job*> order;
  for (int i = 0; i < 6; ++i) {
    const auto taken = queue_.Take(now_);
    ASSERT_EQ(taken.batch.slices.size(), 1U);
    order.push_back(taken.batch.slices[0].job.get());
    const bool stage_over = !queue_.Finish(taken.batch, absl::OkStatus(), 1).empty();
    if (stage_over && order.back() == staged.get()) queue_.Push(staged);
  }
  const Job *s = staged.get(), *w = whole.get();
  EXPECT_EQ(order, (std::vector<const Job*>{s, w, w, s, w, s}));
}

}  // namespace
}  // namespace bertrand
