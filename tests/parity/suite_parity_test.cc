// Every family, every head, odd sizes, files of every kind (make_suite.py): a checkpoint is put
// together in a folder, loaded as the server loads it, and asked what transformers was asked.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "tests/parity/parity.h"
#include "tests/parity/suite_tasks.h"
#include "tests/parity/suite_weights.h"

namespace bertrand {
namespace {

const std::string kSuite = "tests/parity/suite";
// The product's promise.
constexpr double kTolerance = 1e-4;

void ExpectAnswersEqual(const std::string& name, const std::string& device) {
  const Json checkpoint = ReadJsonFile(kSuite + "/" + name + ".json");
  const TestFolder folder;
  folder.CopyFrom(kSuite + "/tokenizers/" + *checkpoint.Find("tokenizer")->as_string());
  for (const auto& [file, text] : checkpoint.Find("files")->members()) {
    folder.Write(file, *text.as_string());
  }
  WriteSuiteWeights(*checkpoint.Find("weights"), folder);
  TestBackend backend(device);
  const auto model = Model::Load(folder.path(), *backend, {});
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Json>& calls = checkpoint.Find("calls")->elements();
  ASSERT_FALSE(calls.empty());
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string& task = *calls[i].Find("task")->as_string();
    const auto answer = MakeSuiteCall(**model, calls[i]);
    if (!answer.ok()) {
      ADD_FAILURE() << "call " << i << ", " << task << ": " << answer.status();
      continue;
    }
    EXPECT_EQ(Difference(*answer, *calls[i].Find("expected"), kTolerance), "")
        << "call " << i << ", " << task;
  }
}

class SuiteParity : public testing::TestWithParam<std::string> {};

TEST_P(SuiteParity, AnswersEqual) { ExpectAnswersEqual(GetParam(), "cpu"); }

// Answers are found on the device, so there as well; in both layouts of question and context.
TEST(EmulatedSuite, SpansEqual) {
  for (const char* name : {"bert_answers", "xlnet_answers"}) {
    SCOPED_TRACE(name);
    ExpectAnswersEqual(name, "emulated");
  }
}

std::vector<std::string> Checkpoints() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kSuite)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Suite, SuiteParity, testing::ValuesIn(Checkpoints()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace bertrand
