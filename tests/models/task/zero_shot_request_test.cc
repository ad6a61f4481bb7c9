#include "models/task/zero_shot_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/status.h"
#include "kernels/thread_pool.h"

namespace bertrand {
namespace {

// transformers gives the tokenizer a list of pairs, where an empty second text stays one of a pair.
TEST(ZeroShotRequest, AnEmptyHypothesisIsOneOfAPair) {
  ThreadPool pool(1, "test");
  const auto backend = CreateBackend("reference", pool);
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto model = Model::Load("tests/e2e/tasks/nli", **backend, {});
  ASSERT_TRUE(model.ok()) << model.status();
  ZeroShotOptions options;
  options.hypothesis_template = "{}";
  auto request = ZeroShotRequest::Create(**model, {"ada sang"}, {"", "rain"}, options);
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_TRUE((*request)->Prepare(0).ok());
  ASSERT_TRUE((*request)->NextStage().ok());
  const auto sequences = (*request)->sequences();
  ASSERT_EQ(sequences.size(), 2U);
  const auto& ids = sequences[0].ids;
  const auto& types = sequences[0].type_ids;
  // [CLS] ada sang [SEP] [SEP], the last of the second text.
  ASSERT_EQ(ids.size(), 5U);
  EXPECT_EQ(ids[3], ids[4]);
  EXPECT_EQ(types[3], 0);
  EXPECT_EQ(types[4], 1);
}

}  // namespace
}  // namespace bertrand
