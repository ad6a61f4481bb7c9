// Checkpoints of the suite without some of their tensors: what is missing is said, or the head is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "tests/parity/parity.h"
#include "tests/parity/suite_weights.h"

namespace bertrand {
namespace {

using testing::Contains;
using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

const std::string kSuite = "tests/parity/suite";

class Damaged : public testing::Test {
 protected:
  // The checkpoint without tensors whose names begin with one of `without`.
  absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& name,
                                              const std::vector<std::string>& without) {
    const Json checkpoint = ReadJsonFile(kSuite + "/" + name + ".json");
    const TestFolder folder;
    folder.CopyFrom(kSuite + "/tokenizers/" + *checkpoint.Find("tokenizer")->as_string());
    for (const auto& [file, text] : checkpoint.Find("files")->members()) {
      folder.Write(file, *text.as_string());
    }
    WriteSuiteWeights(*checkpoint.Find("weights"), folder, without);
    return Model::Load(folder.path(), *backend_, {});
  }
  std::string Error(const std::string& name, const std::vector<std::string>& without) {
    const auto model = Load(name, without);
    return model.ok() ? "loads" : Message(model.status());
  }

  TestBackend backend_{"cpu"};
};

TEST_F(Damaged, TensorsOfTheEncoder) {
  EXPECT_THAT(Error("bert_classes", {"bert.encoder.layer.0.output.dense.bias"}),
              EndsWith("tensor \"bert.encoder.layer.0.output.dense.bias\" is missing, "
                       "expected [64]"));
}

// config.json names the head, and a part of it is there.
TEST_F(Damaged, TensorsOfHeads) {
  EXPECT_THAT(Error("bert_classes", {"classifier.weight"}),
              EndsWith("tensor \"classifier.weight\" is missing, expected [3,64]"));
  EXPECT_THAT(Error("bert_classes", {"classifier.bias"}),
              EndsWith("tensor \"classifier.bias\" is missing, expected [3]"));
  EXPECT_THAT(Error("bert_classes", {"bert.pooler"}),
              EndsWith("tensor \"bert.pooler.dense.weight\" is missing, expected [64,64]"));
  EXPECT_THAT(Error("bert_base", {"pooler.dense.weight"}),
              HasSubstr("tensor \"pooler.dense.weight\" is missing"));
  EXPECT_THAT(Error("roberta_classes", {"classifier.dense"}),
              HasSubstr("tensor \"classifier.dense.weight\" is missing"));
  EXPECT_THAT(Error("distilbert_classes", {"pre_classifier"}),
              HasSubstr("tensor \"pre_classifier.weight\" is missing"));
  EXPECT_THAT(Error("albert_tokens", {"classifier.weight"}),
              HasSubstr("tensor \"classifier.weight\" is missing"));
  EXPECT_THAT(Error("bert_answers", {"qa_outputs.weight"}),
              HasSubstr("tensor \"qa_outputs.weight\" is missing"));
  EXPECT_THAT(Error("roberta_masks", {"lm_head.layer_norm"}),
              HasSubstr("tensor \"lm_head.layer_norm.weight\" is missing"));
  EXPECT_THAT(Error("electra_pretraining", {"discriminator_predictions.dense."}),
              HasSubstr("tensor \"discriminator_predictions.dense.weight\" is missing"));
  EXPECT_THAT(Error("bert_next", {"cls.seq_relationship.weight"}),
              HasSubstr("tensor \"cls.seq_relationship.weight\" is missing, expected [2,48]"));
  EXPECT_THAT(Error("xlnet_beam", {"end_logits.dense_0"}),
              HasSubstr("tensor \"end_logits.dense_0.weight\" is missing"));
}

// Nothing of it is there: the rest is served, and the log says so.
TEST_F(Damaged, WholeHeads) {
  const std::pair<const char*, std::vector<std::string>> heads[] = {
      {"bert_classes", {"classifier"}},
      {"albert_tokens", {"classifier"}},
      {"distilbert_answers", {"qa_outputs"}},
      {"roberta_masks", {"lm_head"}},
      {"electra_pretraining", {"discriminator"}},
      {"xlnet_beam", {"start_logits", "end_logits", "answer_class"}},
  };
  for (const auto& [name, without] : heads) {
    const auto model = Load(name, without);
    ASSERT_TRUE(model.ok()) << name << ": " << model.status();
    const ModelDescription& about = (*model)->description();
    EXPECT_EQ(about.tasks, (std::vector<Task>{Task::kEmbed, Task::kEmbedTokens})) << name;
    EXPECT_THAT(about.load_notes,
                Contains(HasSubstr(about.architecture + ", but the checkpoint has no weights")));
  }
}

TEST_F(Damaged, NothingIsSaidOfWholeCheckpoints) {
  for (const char* name : {"bert_classes", "bert_base", "xlnet_beam", "xlnet_answers", "xlnet_lm",
                           "albert_pretraining", "electra_pretraining", "bert_next"}) {
    const auto model = Load(name, {});
    ASSERT_TRUE(model.ok()) << name << ": " << model.status();
    EXPECT_THAT((*model)->description().load_notes, Each(Not(HasSubstr("no weights")))) << name;
  }
}

}  // namespace
}  // namespace bertrand
