// What a model without a limit of its own, with a memory, says and refuses; and how its documents
// run in stages. (That the answers are transformers' is suite_parity_test's and
// memory_parity_test's.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/task/classify_request.h"
#include "models/task/embed_request.h"
#include "models/task/fill_mask_request.h"
#include "tests/parity/parity.h"
#include "tests/parity/suite_weights.h"

namespace bertrand {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Recurrence : public testing::Test {
 protected:
  // A checkpoint of the suite, with a configuration changed by `edit`.
  const Model& Load(const std::string& name, const std::string& from = "",
                    const std::string& to = "") {
    const Json checkpoint = ReadJsonFile("tests/parity/suite/" + name + ".json");
    folder_ = std::make_unique<TestFolder>();
    folder_->CopyFrom("tests/parity/suite/tokenizers/" +
                      *checkpoint.Find("tokenizer")->as_string());
    for (const auto& [file, text] : checkpoint.Find("files")->members()) {
      std::string content = *text.as_string();
      if (const size_t at = content.find(from); !from.empty() && at != std::string::npos) {
        content.replace(at, from.size(), to);
      }
      folder_->Write(file, content);
    }
    WriteSuiteWeights(*checkpoint.Find("weights"), *folder_);
    auto model = Model::Load(folder_->path(), *backend_, {});
    BERTRAND_CHECK(model.ok(), Message(model.status()));
    model_ = *std::move(model);
    return *model_;
  }

  static LongInputOptions Segments(int64_t window, int64_t memory = 0, int64_t overlap = 0) {
    return {LongInputOptions::Mode::kRecurrence, window, overlap, memory};
  }
  std::string EmbedError(const LongInputOptions& options) {
    const auto request = EmbedRequest::Create(*model_, {{.first = "a"}}, {.long_input = options});
    return request.ok() ? "made" : Message(request.status());
  }

  TestBackend backend_{"cpu"};
  std::unique_ptr<TestFolder> folder_;
  std::unique_ptr<Model> model_;
};

TEST_F(Recurrence, Describes) {
  const ModelDescription& about = Load("xlnet_base").description();
  EXPECT_EQ(about.family, Family::kXlnet);
  EXPECT_EQ(about.max_ids, 0);
  EXPECT_EQ(about.max_tokens, 0);
  EXPECT_TRUE(about.has_memory);
  EXPECT_THAT(about.tasks, ElementsAre(Task::kEmbed, Task::kEmbedTokens));
  EXPECT_THAT(about.load_notes, testing::Each(testing::Not(HasSubstr("not used"))));
}

// XLNetLMHeadModel predicts tokens by permutations: there is no masked-LM head to fill masks with.
TEST_F(Recurrence, ALanguageModelFillsNoMasks) {
  const Model& model = Load("xlnet_lm");
  const auto request = FillMaskRequest::Create(model, {{.first = "a <mask>"}}, {});
  EXPECT_EQ(request.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(request.status()), HasSubstr("it has: embed, embed_tokens"));
}

TEST_F(Recurrence, IdsHaveNoLimitAndFourTypes) {
  const Model& model = Load("xlnet_base");
  PreparedInput input;
  const std::vector<uint32_t> ids(5000, 1);
  std::vector<uint32_t> types(5000, 3);
  EXPECT_TRUE(model.PrepareIds(ids, types, &input).ok());
  types[7] = 4;
  EXPECT_THAT(Message(model.PrepareIds(ids, types, &input)),
              HasSubstr("type_ids[7] is 4, expected below 4"));
  EXPECT_THAT(Message(model.PrepareIds({}, {}, &input)), HasSubstr("expected 1 to any number"));
}

TEST_F(Recurrence, OptionsThatAreRefused) {
  Load("xlnet_base");
  EXPECT_EQ(EmbedError(Segments(0)), "made");
  EXPECT_EQ(EmbedError(Segments(1, 1)), "made");
  EXPECT_THAT(EmbedError(Segments(-1)), HasSubstr("long_input.window_tokens: is -1"));
  EXPECT_THAT(EmbedError(Segments(8, -1)), HasSubstr("long_input.memory_tokens: is -1"));
  EXPECT_THAT(EmbedError(Segments(8, 65537)),
              HasSubstr("long_input.memory_tokens: is 65537, expected 1 to 65536"));
  EXPECT_THAT(EmbedError(Segments(8, 8, 2)), HasSubstr("long_input.overlap_tokens: is 2"));
  Load("bert_base");
  EXPECT_THAT(EmbedError(Segments(8)), HasSubstr("long_input.mode: MODE_RECURRENCE needs a model"));
  EXPECT_EQ(model_->NewMemory(8).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(model_->MemoryBytes(8), 0);
}

TEST_F(Recurrence, AClassifierOfTheFirstTokenRemembersNothing) {
  Load("xlnet_classes", R"("summary_type": "last")", R"("summary_type": "first")");
  const auto request =
      ClassifyRequest::Create(*model_, {{.first = "a"}}, {.long_input = Segments(8)});
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(request.status()), HasSubstr("reads the first"));
  EXPECT_TRUE(ClassifyRequest::Create(*model_, {{.first = "a"}}, {}).ok());
}

// Three documents of other lengths, from ids: each stage has the next segment of those that have
// one, with a memory no larger than need be, and the work was said before.
TEST_F(Recurrence, Stages) {
  const Model& model = Load("xlnet_base");
  const std::vector<uint32_t> ids(25, 5);
  const auto input = [&](size_t size) {
    return TaskInput{.kind = TaskInput::Kind::kIds, .ids = std::span(ids).first(size)};
  };
  auto request = EmbedRequest::Create(model, {input(25), input(3), input(11)},
                                      {.long_input = Segments(10, 15)});
  ASSERT_TRUE(request.ok()) << request.status();
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE((*request)->Prepare(i).ok());
  const int64_t memory_bytes = model.MemoryBytes(15) + model.MemoryBytes(10);
  EXPECT_GE((*request)->work_bytes(), memory_bytes);
  EXPECT_LT((*request)->work_bytes(), memory_bytes + 4096);
  const auto runner = *model.NewRunner(64, 8);
  std::vector<std::vector<int64_t>> sizes, memories;
  while (*(*request)->NextStage()) {
    const auto works = (*request)->sequences();
    auto& stage = sizes.emplace_back();
    auto& memory = memories.emplace_back();
    for (const SequenceWork& work : works) {
      stage.push_back(static_cast<int64_t>(work.ids.size()));
      memory.push_back(work.memory == nullptr ? 0 : work.memory->max_tokens());
    }
    ASSERT_TRUE(runner->Forward(works).ok());
  }
  EXPECT_THAT(sizes, ElementsAre(ElementsAre(10, 3, 10), ElementsAre(10, 1), ElementsAre(5)));
  EXPECT_THAT(memories, ElementsAre(ElementsAre(15, 0, 10), ElementsAre(15, 10), ElementsAre(15)));
  EXPECT_TRUE((*request)->Finish().ok());
}

// A document that is one segment is the plain text; and a memory matters to those that are more.
TEST_F(Recurrence, OneSegmentIsTheTextItself) {
  const Model& model = Load("xlnet_base");
  const std::string text = "The quick brown fox jumps over the lazy dog.";
  std::vector<std::vector<float>> vectors;
  const auto runner = *model.NewRunner(256, 1);
  for (const LongInputOptions& options :
       {LongInputOptions{}, Segments(100), Segments(7, 3), Segments(7, 50)}) {
    auto request = EmbedRequest::Create(model, {{.first = text}}, {.long_input = options});
    ASSERT_TRUE(request.ok()) << request.status();
    ASSERT_TRUE((*request)->Prepare(0).ok());
    while (*(*request)->NextStage()) {
      ASSERT_TRUE(runner->Forward((*request)->sequences()).ok());
    }
    const auto vector = (*request)->Finish();
    ASSERT_TRUE(vector.ok()) << vector.status();
    vectors.emplace_back(vector->begin(), vector->end());
  }
  EXPECT_EQ(vectors[0], vectors[1]);
  EXPECT_GT(Distance(vectors[0], vectors[2]), 1e-2);
  EXPECT_GT(Distance(vectors[2], vectors[3]), 1e-2);
}

}  // namespace
}  // namespace bertrand
