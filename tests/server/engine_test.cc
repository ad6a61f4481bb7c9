#include "server/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "kernels/status.h"
#include "server/overload.h"
#include "tests/server/fake_model.h"
#include "tests/server/fake_request.h"

namespace bertrand {
namespace {

using std::chrono::milliseconds;

constexpr const char* kMethodNames[] = {"Embed"};

// What a test knows of a job when it is over.
struct Outcome {
  absl::Status status;
  std::vector<float> values;
  int stages_run = 0;
  int rank = 0;  // among the jobs of the test, in the order of their ends
};

class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(std::chrono::nanoseconds(now_ns_.load())); }
  void Advance(milliseconds time) { now_ns_ += std::chrono::nanoseconds(time).count(); }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
};

class EngineTest : public testing::Test {
 protected:
  // `num_lanes` on each device.
  void Create(int num_lanes, AdmissionLimits limits = {}, int64_t max_batch_tokens = 64,
              int num_devices = 1) {
    admission_ = std::make_unique<Admission>(limits);
    auto served = std::make_unique<ServedModel>();
    served->name = "fake";
    auto model = std::make_unique<FakeModel>();
    script_ = &model->script();
    served->model = std::move(model);
    for (int device = 1; device < num_devices; ++device) {
      auto replica = std::make_unique<FakeModel>();
      replica_scripts_.push_back(&replica->script());
      served->replicas.push_back(std::move(replica));
    }
    std::vector<std::unique_ptr<ServedModel>> models;
    models.push_back(std::move(served));
    EngineOptions options{.num_lanes = num_lanes};
    options.batch.max_tokens = max_batch_tokens;
    options.batch.quantum_tokens = max_batch_tokens / 4;
    auto engine = Engine::Create(
        std::move(models), options,
        {.pool = pool_for_engine_,
         .admission = admission_.get(),
         .metrics = &metrics_,
         .clock = &clock_,
         .device_lost = [this](const absl::Status& reason) { lost_.push_back(reason); }});
    ASSERT_TRUE(engine.ok());
    engine_ = *std::move(engine);
  }

  std::shared_ptr<Job> NewJob(std::vector<std::string> texts,
                              const FakeRequest::Options& options = {}) {
    auto job = std::make_shared<Job>();
    job->model = engine_->models().front().get();
    job->request = std::make_unique<FakeRequest>(std::move(texts), options);
    return job;
  }

  std::future<Outcome> Run(const std::shared_ptr<Job>& job) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    job->done = [promise, this](Job& done, const absl::Status& status) {
      done.reservation.Release();
      const auto& request = static_cast<const FakeRequest&>(*done.request);
      promise->set_value({status, request.values(), request.stages_run(), num_ended_++});
    };
    auto admitted = admission_->Admit(1);
    if (!admitted.ok()) {
      job->done(*job, admitted.status());
    } else {
      job->reservation = *std::move(admitted);
      engine_->RunUrgent([this, job] { engine_->Start(job); });
    }
    return promise->get_future();
  }

  // Runs nothing but what is already here: the gate holds all lanes.
  std::future<Outcome> HoldLane() {
    script_->gate.Close();
    auto held = Run(NewJob({"held"}));
    script_->gate.WaitForBlocked(1);
    return held;
  }

  void WaitForQueued(int64_t num_jobs) {
    while (engine_->queue_state().num_jobs != num_jobs) std::this_thread::yield();
  }

  std::atomic<int> num_ended_ = 0;
  ManualClock clock_;
  Metrics metrics_{kMethodNames};
  ThreadPool pool_{2};
  ThreadPool* pool_for_engine_ = &pool_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<Engine> engine_;
  FakeModel::Script* script_ = nullptr;
  std::vector<FakeModel::Script*> replica_scripts_;  // of the further devices
  std::vector<absl::Status> lost_;
};

TEST_F(EngineTest, AnswersInInputOrder) {
  Create(2);
  const Outcome outcome = Run(NewJob({"a", "bb", "c"})).get();
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.values, (std::vector<float>{97, 1, 196, 2, 99, 1}));
}

TEST_F(EngineTest, SplitsARequestOverBatchesAndLanes) {
  Create(2);
  std::vector<std::string> texts;
  for (int i = 0; i < 500; ++i) texts.push_back(std::string(static_cast<size_t>(i % 60 + 1), 'a'));
  const Outcome outcome = Run(NewJob(texts)).get();
  ASSERT_TRUE(outcome.status.ok());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(outcome.values[2 * i + 1], static_cast<float>(texts[i].size())) << i;
  }
  EXPECT_GT(script_->num_batches, 100);
  EXPECT_EQ(script_->num_sequences, 500);
  EXPECT_LE(script_->most_tokens, 64);
  engine_->WaitIdle();
  EXPECT_EQ(admission_->usage().tokens, 0);
  EXPECT_EQ(admission_->usage().requests, 0);
}

TEST_F(EngineTest, NamesTheFirstBadInputOfABigRequest) {
  Create(2);
  // Enough text for several tasks, two of which meet a bad input.
  std::vector<std::string> texts(100, std::string(1000, 'a'));
  texts[60] = texts[41] = "no!";
  const Outcome outcome = Run(NewJob(texts)).get();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message = Message(outcome.status);
  EXPECT_TRUE(message == "inputs[41].text: has a '!'" || message == "inputs[60].text: has a '!'")
      << message;
}

TEST_F(EngineTest, RefusesLengthsThatNoBatchCanHold) {
  Create(1);
  EXPECT_EQ(Message(Run(NewJob({"a", std::string(65, 'a')})).get().status),
            "inputs[1]: 65 tokens; the model takes 1 to 64");
  EXPECT_EQ(Message(Run(NewJob({""})).get().status),
            "inputs[0]: 0 tokens; the model takes 1 to 64");
}

TEST_F(EngineTest, DropsACancelledJobBeforeItIsComputed) {
  Create(1);
  auto held = HoldLane();
  const auto job = NewJob({"waits"});
  auto waiting = Run(job);
  WaitForQueued(1);
  job->Cancel();
  EXPECT_EQ(waiting.get().status.code(), absl::StatusCode::kCancelled);
  script_->gate.Open();
  EXPECT_TRUE(held.get().status.ok());
  engine_->WaitIdle();
  EXPECT_EQ(script_->num_sequences, 1);
  EXPECT_EQ(admission_->usage().tokens, 0);
}

TEST_F(EngineTest, CancellingARunningJobWaitsForItsBatch) {
  Create(1);
  script_->gate.Close();
  const auto job = NewJob(std::vector<std::string>(10, std::string(60, 'a')));
  auto running = Run(job);
  script_->gate.WaitForBlocked(1);
  job->Cancel();
  EXPECT_EQ(running.wait_for(milliseconds(20)), std::future_status::timeout);
  script_->gate.Open();
  EXPECT_EQ(running.get().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(script_->num_sequences, 1);  // the nine others were never computed
}

TEST_F(EngineTest, DropsAnExpiredJobBeforeItIsComputed) {
  Create(1);
  auto held = HoldLane();
  const auto job = NewJob({"waits"});
  job->deadline = clock_.Now() + milliseconds(100);
  auto waiting = Run(job);
  WaitForQueued(1);
  clock_.Advance(milliseconds(101));
  script_->gate.Open();
  EXPECT_EQ(waiting.get().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(held.get().status.ok());
  EXPECT_EQ(script_->num_sequences, 1);
}

TEST_F(EngineTest, RefusesWithAHintWhenTheQueueIsFull) {
  Create(1, {.tokens_max = 10});
  auto held = HoldLane();
  auto waiting = Run(NewJob({"12345678"}));
  WaitForQueued(1);
  const Outcome refused = Run(NewJob({"123"})).get();
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(RetryAfterMs(refused.status).has_value());
  // What can never fit gets no hint.
  const Outcome never = Run(NewJob({"12345678901"})).get();
  EXPECT_EQ(never.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(RetryAfterMs(never.status).has_value());
  EXPECT_NE(Message(never.status).find("--max-queue-tokens"), std::string::npos);
  script_->gate.Open();
  EXPECT_TRUE(held.get().status.ok());
  EXPECT_TRUE(waiting.get().status.ok());
}

TEST_F(EngineTest, AStreamWaitsWhenTheQueueIsFull) {
  Create(1, {.tokens_max = 10});
  auto held = HoldLane();
  auto waiting = Run(NewJob({"12345678"}));
  WaitForQueued(1);
  const auto job = NewJob({"123"});
  job->wait_when_full = true;
  auto patient = Run(job);
  EXPECT_EQ(patient.wait_for(milliseconds(20)), std::future_status::timeout);
  script_->gate.Open();
  EXPECT_TRUE(patient.get().status.ok());
  EXPECT_TRUE(waiting.get().status.ok());
}

TEST_F(EngineTest, ASmallRequestPassesABigOne) {
  Create(1);
  auto held = HoldLane();
  auto big = Run(NewJob(std::vector<std::string>(200, std::string(32, 'a'))));
  WaitForQueued(1);
  auto small = Run(NewJob({"small"}));
  WaitForQueued(2);
  script_->gate.Open();
  const Outcome first = small.get(), last = big.get();
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(last.status.ok());
  EXPECT_LT(first.rank, last.rank);
}

TEST_F(EngineTest, AFailedBatchFailsItsJobsOnly) {
  Create(1);
  script_->fail = true;
  EXPECT_EQ(Run(NewJob({"a"})).get().status.code(), absl::StatusCode::kInternal);
  script_->fail = false;
  EXPECT_TRUE(Run(NewJob({"a"})).get().status.ok());
}

// Jobs may be tried elsewhere; who made the engine hears of it once.
TEST_F(EngineTest, ALostDeviceIsUnavailableAndSaidOnce) {
  Create(1);
  script_->lose = true;
  for (int i = 0; i < 3; ++i) {
    const absl::Status status = Run(NewJob({"a"})).get().status;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_EQ(Message(status), "the device is lost");
  }
  engine_->WaitIdle();
  ASSERT_EQ(lost_.size(), 1U);
  EXPECT_EQ(Message(lost_[0]), "the device is lost");
}

// Two devices with two lanes each: with one batch on each, the third goes where less is to do.
TEST_F(EngineTest, TheDeviceWithTheLeastWorkIsNext) {
  ThreadPool many(4);
  pool_for_engine_ = &many;
  Create(2, {}, 64, 2);
  FakeModel::Script* const other = replica_scripts_[0];
  script_->gate.Close();
  other->gate.Close();
  std::vector<std::future<Outcome>> outcomes;
  const auto run = [&](size_t length, FakeModel::Script* expected, int num_blocked) {
    outcomes.push_back(Run(NewJob({std::string(length, 'a')})));
    expected->gate.WaitForBlocked(num_blocked);
  };
  run(40, other, 1);  // the lane that was made last is taken first
  run(10, script_, 1);
  run(5, script_, 2);
  run(5, other, 2);  // more to do, and the only lane
  script_->gate.Open();
  other->gate.Open();
  for (auto& outcome : outcomes) EXPECT_TRUE(outcome.get().status.ok());
  engine_->WaitIdle();
}

// Memories are on the first device: the other one stays idle.
TEST_F(EngineTest, DocumentsRunOnTheFirstDevice) {
  Create(1, {}, 64, 2);
  script_->gate.Close();
  auto first = Run(NewJob({"a"}, {.memory_tokens = 4}));
  script_->gate.WaitForBlocked(1);
  auto second = Run(NewJob({"b"}, {.memory_tokens = 4}));
  script_->gate.Open();
  EXPECT_TRUE(first.get().status.ok());
  EXPECT_TRUE(second.get().status.ok());
  EXPECT_EQ(replica_scripts_[0]->num_batches, 0);
  EXPECT_TRUE(Run(NewJob({"c"})).get().status.ok());
  engine_->WaitIdle();
}

TEST_F(EngineTest, RunsStagesOneAfterTheOther) {
  Create(2);
  const Outcome outcome = Run(NewJob({"a", "bb"}, {.num_stages = 5})).get();
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.values, (std::vector<float>{5 * 97, 5 * 1, 5 * 196, 5 * 2}));
  EXPECT_EQ(script_->num_sequences, 10);
  engine_->WaitIdle();
  EXPECT_EQ(admission_->usage().tokens, 0);
}

TEST_F(EngineTest, EndsRequestsThatNeedNoModel) {
  Create(1);
  script_->gate.Close();
  EXPECT_TRUE(Run(NewJob({"a"}, {.num_stages = 0})).get().status.ok());
  EXPECT_TRUE(Run(NewJob({"a"}, {.num_stages = 0, .num_empty_stages = 2})).get().status.ok());
  EXPECT_EQ(script_->num_batches, 0);
  script_->gate.Open();
}

TEST_F(EngineTest, PassesOverStagesWithoutSequences) {
  Create(1);
  const Outcome outcome = Run(NewJob({"a"}, {.num_empty_stages = 3})).get();
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.values, (std::vector<float>{97, 1}));
}

TEST_F(EngineTest, AnInputMayBecomeManySequences) {
  Create(2);
  const Outcome outcome =
      Run(NewJob({std::string(50, 'a'), "b"}, {.sequences_per_input = 40})).get();
  ASSERT_TRUE(outcome.status.ok());
  ASSERT_EQ(outcome.values.size(), 160U);
  EXPECT_EQ(outcome.values[79], 50);
  EXPECT_EQ(outcome.values[159], 1);
  EXPECT_EQ(script_->num_sequences, 80);
  EXPECT_LE(script_->most_tokens, 64);
}

TEST_F(EngineTest, AStageThatFailsEndsTheJob) {
  Create(1);
  const Outcome outcome = Run(NewJob({"a"}, {.num_stages = 3, .failing_stage = 2})).get();
  EXPECT_EQ(Message(outcome.status), "this stage cannot be laid out");
  EXPECT_EQ(script_->num_batches, 1);
}

TEST_F(EngineTest, CancelsBetweenStages) {
  Create(1);
  script_->gate.Close();
  const auto job = NewJob({"a"}, {.num_stages = 1000});
  auto running = Run(job);
  script_->gate.WaitForBlocked(1);
  job->Cancel();
  script_->gate.Open();
  const Outcome outcome = running.get();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kCancelled);
  EXPECT_LE(outcome.stages_run, 2);
}

TEST_F(EngineTest, ExpiresBetweenStages) {
  Create(1);
  script_->gate.Close();
  const auto job = NewJob({"a"}, {.num_stages = 1000});
  job->deadline = clock_.Now() + milliseconds(100);
  auto running = Run(job);
  script_->gate.WaitForBlocked(1);
  clock_.Advance(milliseconds(101));
  script_->gate.Open();
  const Outcome outcome = running.get();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(outcome.stages_run, 2);
}

// Its second stage finds the queue full of others: it is counted, and neither refused nor kept
// waiting.
TEST_F(EngineTest, ALaterStageIsNotRefused) {
  Create(1, {.tokens_max = 10});
  script_->gate.Close();
  auto staged = Run(NewJob({"12345678"}, {.num_stages = 3}));
  script_->gate.WaitForBlocked(1);
  auto waiting = Run(NewJob({"12345678"}));
  WaitForQueued(1);
  script_->gate.Open();
  EXPECT_TRUE(staged.get().status.ok());
  EXPECT_TRUE(waiting.get().status.ok());
  engine_->WaitIdle();
  EXPECT_EQ(admission_->usage().tokens, 0);
}

TEST_F(EngineTest, ASmallRequestPassesOneOfManyStages) {
  Create(1);
  auto held = HoldLane();
  auto staged = Run(NewJob(std::vector<std::string>(4, std::string(60, 'a')), {.num_stages = 50}));
  WaitForQueued(1);
  auto small = Run(NewJob({"small"}));
  WaitForQueued(2);
  script_->gate.Open();
  const Outcome first = small.get(), last = staged.get();
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(last.status.ok());
  EXPECT_LT(first.rank, last.rank);
}

TEST_F(EngineTest, RefusesAnswersThatWouldBeTooLarge) {
  Create(1);
  const auto job = NewJob({"a"}, {.answer_bytes = 101});
  job->answer_bytes_max = 100;
  const Outcome outcome = Run(job).get();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(RetryAfterMs(outcome.status).has_value());
  EXPECT_NE(Message(outcome.status).find("--max-response-bytes (100)"), std::string::npos);
  EXPECT_EQ(script_->num_batches, 0);
}

TEST_F(EngineTest, ReservesTheWorkBeforeItIsLaidOut) {
  Create(1, {.bytes_max = 1000});
  // What can never fit.
  const Outcome never = Run(NewJob({"a"}, {.work_bytes = 900, .answer_bytes = 50})).get();
  EXPECT_EQ(never.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(RetryAfterMs(never.status).has_value());
  // What was reserved before counts.
  const auto reserved = NewJob({"a"}, {.work_bytes = 900, .answer_bytes = 50});
  reserved->reserved_bytes = 300;
  EXPECT_TRUE(Run(reserved).get().status.ok());
  // What does not fit now: refused with a hint, or in a stream waited for.
  script_->gate.Close();
  auto held = Run(NewJob({"held"}, {.work_bytes = 700}));
  script_->gate.WaitForBlocked(1);
  const Outcome refused = Run(NewJob({"a"}, {.work_bytes = 700})).get();
  EXPECT_TRUE(RetryAfterMs(refused.status).has_value()) << Message(refused.status);
  const auto patient_job = NewJob({"a"}, {.work_bytes = 700});
  patient_job->wait_when_full = true;
  auto patient = Run(patient_job);
  EXPECT_EQ(patient.wait_for(milliseconds(20)), std::future_status::timeout);
  script_->gate.Open();
  EXPECT_TRUE(held.get().status.ok());
  EXPECT_TRUE(patient.get().status.ok());
  engine_->WaitIdle();
  EXPECT_EQ(admission_->usage().bytes, 0);
}

TEST_F(EngineTest, RefusesMemoriesThatNoBatchCanHold) {
  Create(1);
  const std::string text(40, 'a');
  EXPECT_TRUE(Run(NewJob({text}, {.memory_tokens = 24})).get().status.ok());
  const Outcome outcome = Run(NewJob({text}, {.memory_tokens = 25})).get();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(outcome.status).find("--max-batch-tokens (64)"), std::string::npos);
  EXPECT_EQ(script_->num_sequences, 1);
}

TEST_F(EngineTest, WarmsUpEveryLane) {
  Create(3);
  ASSERT_TRUE(engine_->WarmUp().ok());
  EXPECT_EQ(script_->num_batches, 3);
  script_->fail = true;
  EXPECT_EQ(Message(engine_->WarmUp()), "model fake: warm-up: the device is gone");
}

TEST_F(EngineTest, ResolvesModels) {
  Create(1);
  EXPECT_TRUE(engine_->Resolve("", Task::kEmbed).ok());
  EXPECT_TRUE(engine_->Resolve("fake", std::nullopt).ok());
  EXPECT_EQ(engine_->Resolve("other", Task::kClassify).status().code(),
            absl::StatusCode::kNotFound);
  for (const char* name : {"", "fake"}) {
    const absl::Status status = engine_->Resolve(name, Task::kClassify).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(Message(status).find("it has: embed"), std::string::npos) << Message(status);
  }
}

TEST_F(EngineTest, ManyThreadsAtOnce) {
  Create(2, {.requests_max = 50, .tokens_max = 2000});
  std::atomic<int> num_ok = 0, num_refused = 0, num_cancelled = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      std::vector<std::future<Outcome>> running;
      for (int i = 0; i < 300; ++i) {
        const auto job =
            NewJob(std::vector<std::string>(static_cast<size_t>(i % 9 + 1),
                                            std::string(static_cast<size_t>(i % 50 + 1), 'x')),
                   {.num_stages = i % 4});
        running.push_back(Run(job));
        if (i % 7 == client) job->Cancel();
      }
      for (auto& outcome : running) {
        const absl::StatusCode code = outcome.get().status.code();
        num_ok += code == absl::StatusCode::kOk;
        num_refused += code == absl::StatusCode::kResourceExhausted;
        num_cancelled += code == absl::StatusCode::kCancelled;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  engine_->WaitIdle();
  EXPECT_EQ(num_ok + num_refused + num_cancelled, 1200);
  EXPECT_GT(num_ok, 0);
  EXPECT_EQ(admission_->usage().requests, 0);
  EXPECT_EQ(admission_->usage().bytes, 0);
  EXPECT_EQ(admission_->usage().tokens, 0);
}

}  // namespace
}  // namespace bertrand
