// Checkpoints as they lie on the hub, by the names of their tensors: which tasks each has, and
// which tensors are merely listed as unused, as transformers warns of them. Sizes are tiny and the
// values zeros.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "kernels/thread_pool.h"
#include "models/model.h"
#include "tests/models/stored_tensors.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::Contains;
using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

using Tensors = std::vector<TestTensor>;

constexpr int64_t kHidden = 8, kInner = 12, kVocab = 40, kPositions = 20, kEmbedding = 4;

// Encoders. `norm` is how their norms' tensors end: .weight and .bias, or the legacy names.
class Layout {
 public:
  Layout& Add(const std::string& name, std::vector<int64_t> shape) {
    tensors_.push_back({name, std::move(shape)});
    return *this;
  }
  Layout& Linear(const std::string& name, int64_t out, int64_t in) {
    return Add(name + ".weight", {out, in}).Add(name + ".bias", {out});
  }
  Layout& Norm(const std::string& name, int64_t size = kHidden) {
    return Add(name + (legacy_ ? ".gamma" : ".weight"), {size})
        .Add(name + (legacy_ ? ".beta" : ".bias"), {size});
  }
  Layout& Legacy() {
    legacy_ = true;
    return *this;
  }
  Layout& Bert(const std::string& prefix, int64_t types = 2, int64_t embedding = kHidden) {
    Add(prefix + "embeddings.word_embeddings.weight", {kVocab, embedding});
    Add(prefix + "embeddings.position_embeddings.weight", {kPositions, embedding});
    Add(prefix + "embeddings.token_type_embeddings.weight", {types, embedding});
    Norm(prefix + "embeddings.LayerNorm", embedding);
    const std::string layer = prefix + "encoder.layer.0.";
    for (const char* name : {"query", "key", "value"}) {
      Linear(layer + "attention.self." + name, kHidden, kHidden);
    }
    Linear(layer + "attention.output.dense", kHidden, kHidden);
    Norm(layer + "attention.output.LayerNorm");
    Linear(layer + "intermediate.dense", kInner, kHidden);
    Linear(layer + "output.dense", kHidden, kInner);
    return Norm(layer + "output.LayerNorm");
  }
  Layout& BertMasks() {
    Linear("cls.predictions.transform.dense", kHidden, kHidden);
    Norm("cls.predictions.transform.LayerNorm");
    return Add("cls.predictions.bias", {kVocab});
  }
  Layout& RobertaMasks() {
    Linear("lm_head.dense", kHidden, kHidden);
    Norm("lm_head.layer_norm");
    return Add("lm_head.bias", {kVocab});
  }
  Layout& Albert() {
    Add("albert.embeddings.word_embeddings.weight", {kVocab, kEmbedding});
    Add("albert.embeddings.position_embeddings.weight", {kPositions, kEmbedding});
    Add("albert.embeddings.token_type_embeddings.weight", {2, kEmbedding});
    Norm("albert.embeddings.LayerNorm", kEmbedding);
    Linear("albert.encoder.embedding_hidden_mapping_in", kHidden, kEmbedding);
    const std::string layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.";
    for (const char* name : {"query", "key", "value", "dense"}) {
      Linear(layer + "attention." + name, kHidden, kHidden);
    }
    Norm(layer + "attention.LayerNorm");
    Linear(layer + "ffn", kInner, kHidden);
    Linear(layer + "ffn_output", kHidden, kInner);
    Norm(layer + "full_layer_layer_norm");
    return Linear("albert.pooler", kHidden, kHidden);
  }
  Layout& AlbertMasks() {
    Linear("predictions.dense", kEmbedding, kHidden);
    Norm("predictions.LayerNorm", kEmbedding);
    Add("predictions.bias", {kVocab});
    return Linear("predictions.decoder", kVocab, kEmbedding);
  }
  Layout& DistilBert() {
    Add("distilbert.embeddings.word_embeddings.weight", {kVocab, kHidden});
    Add("distilbert.embeddings.position_embeddings.weight", {kPositions, kHidden});
    Norm("distilbert.embeddings.LayerNorm");
    const std::string layer = "distilbert.transformer.layer.0.";
    for (const char* name : {"q_lin", "k_lin", "v_lin", "out_lin"}) {
      Linear(layer + "attention." + name, kHidden, kHidden);
    }
    Norm(layer + "sa_layer_norm");
    Linear(layer + "ffn.lin1", kInner, kHidden);
    Linear(layer + "ffn.lin2", kHidden, kInner);
    return Norm(layer + "output_layer_norm");
  }
  Layout& DistilBertMasks() {
    Linear("vocab_transform", kHidden, kHidden);
    Norm("vocab_layer_norm");
    return Linear("vocab_projector", kVocab, kHidden);
  }
  Layout& ElectraMasks() {
    Linear("generator_predictions.dense", kEmbedding, kHidden);
    Norm("generator_predictions.LayerNorm", kEmbedding);
    return Add("generator_lm_head.bias", {kVocab});
  }
  Layout& ElectraDiscriminator() {
    Linear("discriminator_predictions.dense", kHidden, kHidden);
    return Linear("discriminator_predictions.dense_prediction", 1, kHidden);
  }
  Layout& Xlnet() {
    Add("transformer.mask_emb", {1, 1, kHidden});
    Add("transformer.word_embedding.weight", {kVocab, kHidden});
    const std::string layer = "transformer.layer.0.", attention = layer + "rel_attn.";
    for (const char* name : {"q", "k", "v", "o", "r"}) {
      Add(attention + name, {kHidden, 2, kHidden / 2});
    }
    for (const char* name : {"r_w_bias", "r_r_bias", "r_s_bias"}) {
      Add(attention + name, {2, kHidden / 2});
    }
    Add(attention + "seg_embed", {2, 2, kHidden / 2});
    Norm(attention + "layer_norm");
    Linear(layer + "ff.layer_1", kInner, kHidden);
    Linear(layer + "ff.layer_2", kHidden, kInner);
    return Norm(layer + "ff.layer_norm");
  }
  const Tensors& tensors() const { return tensors_; }

 private:
  bool legacy_ = false;
  Tensors tensors_;
};

class HubLayouts : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& type,
                                              const std::string& class_name, const Layout& layout,
                                              const std::string& more = "") {
    const bool is_xlnet = type == "xlnet";
    const bool is_roberta = type.ends_with("roberta") || type == "camembert";
    const bool has_embedding = type == "albert" || type == "electra";
    const TestFolder folder;
    std::filesystem::copy("tests/e2e/tasks/nli/tokenizer.json", folder.path());
    folder.Write("model.safetensors", SafetensorsBytes(layout.tensors()));
    folder.Write("config.json",
                 R"({"model_type":")" + type + R"(","architectures":[")" + class_name + "\"]," +
                     (is_xlnet ? R"("d_model":8,"n_layer":1,"n_head":2,"d_inner":12,)"
                               : R"("hidden_size":8,"num_hidden_layers":1,"hidden_dim":12,)"
                                 R"("num_attention_heads":2,"intermediate_size":12,)"
                                 R"("max_position_embeddings":20,)") +
                     (has_embedding ? R"("embedding_size":4,)" : "") +
                     (is_roberta ? R"("type_vocab_size":1,)" : "") + more + R"("vocab_size":40})");
    return Model::Load(folder.path(), *backend_, {});
  }

  // Loads, with these tasks, the first the primary one; these are all the tensors that are unused.
  void Expect(const std::string& type, const std::string& class_name, const Layout& layout,
              const std::vector<Task>& tasks, const std::string& unused = "",
              const std::string& more = "") {
    SCOPED_TRACE(class_name + ", unused: " + unused);
    const auto model = Load(type, class_name, layout, more);
    ASSERT_TRUE(model.ok()) << model.status();
    const ModelDescription& about = (*model)->description();
    EXPECT_EQ(about.tasks[0], tasks[0]) << Name(about.tasks[0]);
    for (const Task task : tasks) EXPECT_THAT(about.tasks, Contains(task)) << Name(task);
    const auto is_note = EndsWith("not used: " + unused);
    if (unused.empty()) {
      EXPECT_THAT(about.load_notes, Each(Not(HasSubstr("not used"))));
    } else {
      EXPECT_THAT(about.load_notes, Contains(is_note));
      // A head is not served for a part of it.
      EXPECT_EQ(about.tasks.size(), NumTasks(tasks)) << testing::PrintToString(about.tasks);
    }
  }
  // Beside what every encoder can.
  static size_t NumTasks(const std::vector<Task>& tasks) {
    size_t count = 2;  // embeds texts and tokens
    for (const Task task : tasks) {
      count += task != Task::kEmbed;
      // EmbedSparse and ClassifyZeroShot are of the same heads.
      count += task == Task::kFillMask || task == Task::kClassify;
    }
    return count;
  }

  ThreadPool pool_{1, "test"};
  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", pool_);
};

// Labels of another task, as where a head is a rest of what was fine-tuned further.
const char* const kThreeLabels = R"("id2label":{"0":"a","1":"b","2":"c"},)";

Layout BertBase() { return Layout().Legacy().Bert("bert."); }
Layout RobertaBase() { return Layout().Bert("roberta.", 1); }

TEST_F(HubLayouts, Bert) {
  // bert-base-uncased
  Layout base = BertBase().Linear("bert.pooler.dense", kHidden, kHidden).BertMasks();
  base.Add("cls.predictions.decoder.weight", {kVocab, kHidden});
  base.Linear("cls.seq_relationship", 2, kHidden);
  Expect("bert", "BertForMaskedLM", base,
         {Task::kFillMask, Task::kPredictSentencePair, Task::kEmbed});
  Expect("bert", "BertForPreTraining", base, {Task::kFillMask, Task::kPredictSentencePair});
  // splade: no pooler, so that the rest of the next sentence's head says nothing.
  Expect("bert", "BertForMaskedLM",
         BertBase().BertMasks().Linear("cls.seq_relationship", 2, kHidden), {Task::kFillMask},
         "cls.seq_relationship.bias, cls.seq_relationship.weight");
  // dslim/bert-base-NER
  Layout entities = BertBase().Linear("bert.pooler.dense", kHidden, kHidden);
  entities.Add("bert.embeddings.position_ids", {1, kPositions});
  Expect("bert", "BertForTokenClassification", entities.Linear("classifier", 3, kHidden),
         {Task::kClassifyTokens}, "", kThreeLabels);
  // Half of a masked-LM head, and heads of other sizes.
  Expect("bert", "BertForQuestionAnswering",
         BertBase().Linear("qa_outputs", 2, kHidden).Add("cls.predictions.bias", {kVocab}),
         {Task::kAnswerQuestion}, "cls.predictions.bias");
  Expect("bert", "BertForMaskedLM", BertBase().BertMasks().Linear("qa_outputs", 3, kHidden),
         {Task::kFillMask}, "qa_outputs.bias, qa_outputs.weight");
  // cross-encoder/ms-marco-MiniLM-L-6-v2
  Expect("bert", "BertForSequenceClassification",
         BertBase().Linear("bert.pooler.dense", kHidden, kHidden).Linear("classifier", 1, kHidden),
         {Task::kRerank, Task::kClassify}, "", R"("id2label":{"0":"LABEL_0"},)");
}

TEST_F(HubLayouts, Roberta) {
  const Layout base = RobertaBase().RobertaMasks();
  Expect("roberta", "RobertaForMaskedLM", base, {Task::kFillMask});
  Expect("camembert", "CamembertForMaskedLM",
         RobertaBase().RobertaMasks().Add("lm_head.decoder.weight", {kVocab, kHidden}),
         {Task::kFillMask});
  Expect("xlm-roberta", "XLMRobertaForMaskedLM",
         RobertaBase().RobertaMasks().Linear("roberta.pooler.dense", kHidden, kHidden),
         {Task::kFillMask});
  // deepset/roberta-base-squad2
  Layout answers = RobertaBase().Linear("qa_outputs", 2, kHidden);
  answers.Add("roberta.embeddings.position_ids", {1, kPositions});
  Expect("roberta", "RobertaForQuestionAnswering", answers, {Task::kAnswerQuestion});
  // A classifier of three labels that went on to answer questions, where config.json has two.
  Layout classifier;
  classifier.Linear("classifier.dense", kHidden, kHidden);
  classifier.Linear("classifier.out_proj", 3, kHidden);
  Layout further = RobertaBase().Linear("qa_outputs", 2, kHidden);
  for (const TestTensor& tensor : classifier.tensors()) further.Add(tensor.name, tensor.shape);
  Expect("roberta", "RobertaForQuestionAnswering", further, {Task::kAnswerQuestion},
         "classifier.dense.bias, classifier.dense.weight, classifier.out_proj.bias, "
         "classifier.out_proj.weight");
  // Its vocabulary has grown; the masks' head has not.
  Layout grown = RobertaBase().RobertaMasks();
  for (const TestTensor& tensor : classifier.tensors()) grown.Add(tensor.name, tensor.shape);
  Expect("roberta", "RobertaForSequenceClassification", grown, {Task::kClassify, Task::kFillMask},
         "", kThreeLabels);
  Layout rest = RobertaBase().Add("lm_head.bias", {kVocab - 1});
  for (const TestTensor& tensor : classifier.tensors()) rest.Add(tensor.name, tensor.shape);
  Expect("roberta", "RobertaForSequenceClassification", rest, {Task::kClassify}, "lm_head.bias",
         kThreeLabels);
}

TEST_F(HubLayouts, AlbertAndDistilBert) {
  // albert-base-v2
  Layout albert = Layout().Albert().AlbertMasks().Add("predictions.decoder.bias", {kVocab});
  Expect("albert", "AlbertForMaskedLM", Layout().Albert().AlbertMasks(), {Task::kFillMask});
  Expect("albert", "AlbertForMaskedLM",
         Layout().Albert().AlbertMasks().Linear("sop_classifier.classifier", 2, kHidden),
         {Task::kFillMask, Task::kPredictSentencePair});
  Expect("albert", "AlbertForMaskedLM",
         Layout().Albert().AlbertMasks().Add("sop_classifier.classifier.weight", {2, kHidden}),
         {Task::kFillMask}, "sop_classifier.classifier.weight");
  // distilbert-base-uncased, and one that has been fine-tuned twice.
  Expect("distilbert", "DistilBertForMaskedLM", Layout().DistilBert().DistilBertMasks(),
         {Task::kFillMask});
  Layout twice = Layout().DistilBert().Linear("qa_outputs", 2, kHidden);
  twice.Linear("pre_classifier", kHidden, kHidden).Add("classifier.weight", {2, kHidden});
  Expect("distilbert", "DistilBertForQuestionAnswering", twice, {Task::kAnswerQuestion},
         "classifier.weight, pre_classifier.bias, pre_classifier.weight");
}

TEST_F(HubLayouts, Electra) {
  const auto base = [] {
    return Layout()
        .Bert("electra.", 2, kEmbedding)
        .Linear("electra.embeddings_project", kHidden, kEmbedding);
  };
  Expect("electra", "ElectraForMaskedLM", base().ElectraMasks(), {Task::kFillMask});
  Expect("electra", "ElectraForPreTraining", base().ElectraDiscriminator(),
         {Task::kDetectReplacedTokens});
  // Rests of the generator.
  Expect("electra", "ElectraForPreTraining", base().ElectraDiscriminator().ElectraMasks(),
         {Task::kDetectReplacedTokens, Task::kFillMask});
  Expect("electra", "ElectraForPreTraining",
         base().ElectraDiscriminator().Linear("generator_predictions.dense", kEmbedding, kHidden),
         {Task::kDetectReplacedTokens},
         "generator_predictions.dense.bias, generator_predictions.dense.weight");
  Expect("electra", "ElectraForPreTraining",
         base().ElectraDiscriminator().Add("generator_lm_head.weight", {kVocab, kEmbedding}),
         {Task::kDetectReplacedTokens}, "generator_lm_head.weight");
  Expect("electra", "ElectraForMaskedLM",
         base().ElectraMasks().Add("discriminator_predictions.dense.bias", {kHidden}),
         {Task::kFillMask}, "discriminator_predictions.dense.bias");
  EXPECT_THAT(Message(Load("electra", "ElectraForMaskedLM",
                           base().Linear("generator_predictions.dense", kEmbedding, kHidden))
                          .status()),
              HasSubstr("\"generator_predictions.LayerNorm.weight\" is missing, expected [4]"));
}

TEST_F(HubLayouts, Xlnet) {
  // xlnet-base-cased
  Expect("xlnet", "XLNetLMHeadModel", Layout().Xlnet().Add("lm_loss.bias", {kVocab}),
         {Task::kEmbed}, "lm_loss.bias");
  // Classes whose rest of a beam head is of no use to a classifier.
  Layout classifier = Layout().Xlnet().Linear("logits_proj", 2, kHidden);
  classifier.Linear("sequence_summary.summary", kHidden, kHidden);
  classifier.Linear("start_logits.dense", 1, kHidden);
  Expect("xlnet", "XLNetForSequenceClassification", classifier, {Task::kClassify},
         "start_logits.dense.bias, start_logits.dense.weight");
}

}  // namespace
}  // namespace bertrand
