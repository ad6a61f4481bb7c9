// Checkpoints that lack tensors, and such that have more than is used: which are refused, with the
// tensor's name and shape, which merely lack a task, and what is said.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "kernels/thread_pool.h"
#include "models/checkpoint/weight_files.h"
#include "models/checkpoint/weight_loader.h"
#include "models/model.h"
#include "tests/models/stored_tensors.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class MissingTensors : public testing::Test {
 protected:
  // The checkpoint in tests/ with tensors renamed to "gone...", or texts of config.json replaced.
  absl::StatusOr<std::unique_ptr<Model>> LoadWithout(
      const std::string& from, const std::vector<std::string>& tensors,
      const std::vector<std::pair<std::string, std::string>>& config = {}) {
    const TestFolder folder;
    folder.CopyFrom("tests/" + from);
    if (!std::filesystem::exists(folder.path() + "/tokenizer.json")) {
      std::filesystem::copy("tests/e2e/tasks/nli/tokenizer.json", folder.path());
    }
    std::string weights = Read(folder, "model.safetensors");
    for (const std::string& name : tensors) {
      Replace("\"" + name + "\"", "\"gone" + name.substr(4) + "\"", &weights);
    }
    folder.Write("model.safetensors", weights);
    std::string text = Read(folder, "config.json");
    for (const auto& [before, after] : config) Replace(before, after, &text);
    folder.Write("config.json", text);
    return Model::Load(folder.path(), *backend_, {});
  }

  std::string ErrorWithout(const std::string& from, const std::vector<std::string>& tensors,
                           const std::vector<std::pair<std::string, std::string>>& config = {}) {
    const auto model = LoadWithout(from, tensors, config);
    return model.ok() ? "loaded" : Message(model.status());
  }

  ThreadPool pool_{1, "test"};
  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", pool_);

 private:
  static std::string Read(const TestFolder& folder, const std::string& name) {
    std::ifstream file(folder.path() + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static void Replace(const std::string& before, const std::string& after, std::string* text) {
    const size_t at = text->find(before);
    ASSERT_NE(at, std::string::npos) << before;
    text->replace(at, before.size(), after);
  }
};

TEST_F(MissingTensors, OfTheHeadInConfig) {
  const std::tuple<const char*, std::vector<std::string>, const char*, const char*> cases[] = {
      {"e2e/tasks/nli", {"classifier.bias"}, "\"classifier.bias\" is missing", "[3]"},
      {"e2e/tasks/nli", {"classifier.weight"}, "\"classifier.weight\" is missing", "[3,24]"},
      {"e2e/tasks/nli",
       {"bert.pooler.dense.weight", "bert.pooler.dense.bias"},
       "\"bert.pooler.dense.weight\" is missing",
       "expected ["},
      {"e2e/tasks/nli",
       {"bert.pooler.dense.bias"},
       "\"bert.pooler.dense.bias\" is missing",
       "expected ["},
      {"e2e/tasks/answers", {"qa_outputs.bias"}, "\"qa_outputs.bias\" is missing", "[2]"},
      {"e2e/tasks/answers", {"qa_outputs.weight"}, "\"qa_outputs.weight\" is missing", "[2,24]"},
      {"e2e/tasks/masks",
       {"cls.predictions.transform.LayerNorm.weight"},
       "\"cls.predictions.transform.LayerNorm.weight\" is missing",
       "expected ["},
      {"e2e/tasks/replaced",
       {"discriminator_predictions.dense_prediction.weight"},
       "\"discriminator_predictions.dense_prediction.weight\" is missing",
       "expected [1,24]"},
      {"parity/families/xlm_roberta",
       {"classifier.out_proj.weight"},
       "\"classifier.out_proj.weight\" is missing",
       "expected ["},
      {"parity/families/xlnet_clamped",
       {"logits_proj.weight"},
       "\"logits_proj.weight\" is missing",
       "expected ["},
  };
  for (const auto& [folder, tensors, message, shape] : cases) {
    EXPECT_THAT(ErrorWithout(folder, tensors), AllOf(HasSubstr(message), HasSubstr(shape)));
  }
}

TEST_F(MissingTensors, OfTheEncoder) {
  EXPECT_THAT(ErrorWithout("e2e/tasks/nli", {"bert.embeddings.LayerNorm.bias"}),
              HasSubstr("\"bert.embeddings.LayerNorm.bias\" is missing, expected ["));
  EXPECT_THAT(ErrorWithout("e2e/tasks/nli", {"bert.encoder.layer.0.output.dense.weight"}),
              HasSubstr("\"bert.encoder.layer.0.output.dense.weight\" is missing, expected ["));
}

TEST_F(MissingTensors, ShapesThatConfigContradicts) {
  // Three labels in the file, four or none in config.json.
  const auto fewer = LoadWithout("e2e/tasks/nli", {}, {{"\"id2label\"", "\"unknown\""}});
  EXPECT_THAT(Message(fewer.status()),
              AllOf(HasSubstr("\"classifier.weight\" is "), HasSubstr("expected [2,24]")));
  const auto vocabulary =
      LoadWithout("e2e/tasks/nli", {}, {{"\"vocab_size\": ", "\"vocab_size\": 9"}});
  EXPECT_THAT(
      Message(vocabulary.status()),
      AllOf(HasSubstr("\"bert.embeddings.word_embeddings.weight\" is "), HasSubstr("expected [9")));
}

// Without any tensor of its head a checkpoint lacks the task, no more: calls say so. Rests of
// another head than config.json names are such as many checkpoints have.
TEST_F(MissingTensors, OfNoHeadThatMatters) {
  const auto none = LoadWithout("e2e/tasks/nli", {"classifier.weight", "classifier.bias"});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_THAT((*none)->description().load_notes,
              Contains(AllOf(HasSubstr("2 tensors are not used"), HasSubstr("gonesifier.bias"))));
  const std::pair<std::string, std::string> other = {"BertForSequenceClassification",
                                                     "BertForQuestionAnswering"};
  const auto rest = LoadWithout("e2e/tasks/nli", {"classifier.bias"}, {other});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT((*rest)->description().load_notes, Contains(HasSubstr("classifier.weight")));
}

TEST_F(MissingTensors, UnusedOnesAreListedUpToTwoHundred) {
  std::vector<TestTensor> tensors = {{"word.weight", {4, 2}}, {"position_ids", {1}}};
  for (int i = 0; i < 250; ++i) tensors.push_back({"extra." + std::to_string(1000 + i), {1}});
  const TestFolder folder;
  folder.Write("model.safetensors", SafetensorsBytes(tensors));
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  WeightLoader loader(*files, *backend_, "", "word");
  ASSERT_TRUE(loader.Table("word", 4, 2).ok());
  const std::string note = loader.UnusedNote(std::vector<std::string>{"position_ids"});
  EXPECT_THAT(note, AllOf(HasSubstr("250 tensors are not used: extra.1000, extra.1001"),
                          HasSubstr("extra.1199, ..."), Not(HasSubstr("extra.1200")),
                          Not(HasSubstr("word")), Not(HasSubstr("position_ids"))));
}

}  // namespace
}  // namespace bertrand
