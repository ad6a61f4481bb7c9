// Text to vector against sentence-transformers: modules of all kinds over tiny checkpoints
// (make_checkpoints.py), prompts, lower-casing, and the limits of a checkpoint.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/status.h"
#include "tests/parity/parity.h"

namespace bertrand {
namespace {

// As in encoder_parity_test.cc.
constexpr float kTolerance = 3e-5f;

struct Case {
  std::string name, base, folder;
};

std::vector<Case> Cases() {
  std::vector<Case> found;
  const Json cases = ReadJsonFile(kCheckpoints + "/cases.json");
  for (const Json& item : cases.Find("sentence")->elements()) {
    found.push_back({*item.Find("name")->as_string(), *item.Find("base")->as_string(),
                     *item.Find("folder")->as_string()});
  }
  return found;
}

// The base's files with the variant's over them.
void PutTogether(const Case& checkpoint, const TestFolder& folder) {
  folder.CopyFrom(kCheckpoints + "/" + checkpoint.base, checkpoint.folder);
  folder.CopyFrom(kCheckpoints + "/sentence/" + checkpoint.name);
}

class SentenceParity : public testing::TestWithParam<std::tuple<const char*, Case>> {
 protected:
  void SetUp() override {
    PutTogether(std::get<1>(GetParam()), folder_);
    auto model = Model::Load(folder_.path(), *backend_, {});
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }

  TestBackend backend_{std::get<0>(GetParam())};
  TestFolder folder_;
  std::unique_ptr<Model> model_;
};

TEST_P(SentenceParity, VectorsEqual) {
  const Json cases = ReadJsonFile(kCheckpoints + "/cases.json");
  std::vector<std::string> texts;
  for (const Json& text : cases.Find("texts")->elements()) texts.push_back(*text.as_string());
  const auto dimensions = static_cast<size_t>(model_->description().embedding_dimensions);
  const Expected expected(folder_.path() + "/expected.safetensors");
  auto runner = model_->NewRunner(1024, 16);
  ASSERT_TRUE(runner.ok()) << runner.status();

  // A tensor's name tells the prompt: "none", "name:NAME" or "text:PROMPT".
  for (const StoredTensor& tensor : expected.tensors()) {
    SCOPED_TRACE(tensor.name);
    PrepareOptions options;
    options.as_sentence = true;
    if (tensor.name.starts_with("name:")) options.prompt_name = tensor.name.c_str() + 5;
    if (tensor.name.starts_with("text:")) options.prompt = tensor.name.c_str() + 5;
    std::vector<PreparedInput> inputs(texts.size());
    std::vector<EmbedOutput> outputs(texts.size());
    std::vector<float> actual(texts.size() * dimensions, std::nanf(""));
    std::vector<SequenceWork> batch;
    for (size_t i = 0; i < texts.size(); ++i) {
      const absl::Status status = model_->Prepare({texts[i]}, options, &inputs[i]);
      ASSERT_TRUE(status.ok()) << status;
      outputs[i].num_prompt_tokens = inputs[i].num_prompt_tokens;
      outputs[i].vector = std::span(actual).subspan(i * dimensions, dimensions);
      batch.push_back({inputs[i].encoding.ids, inputs[i].encoding.type_ids, &outputs[i]});
    }
    const absl::Status status = (*runner)->Forward(batch);
    ASSERT_TRUE(status.ok()) << status;
    ExpectClose(actual, expected.Read(tensor.name), kTolerance, tensor.name);
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, SentenceParity,
                         testing::Combine(testing::ValuesIn(ParityDevices()),
                                          testing::ValuesIn(Cases())),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::get<1>(info.param).name;
                         });

class SentenceModel : public testing::Test {
 protected:
  std::unique_ptr<Model> Load(const Case& checkpoint) {
    PutTogether(checkpoint, folder_);
    auto model = Model::Load(folder_.path(), *backend_, {});
    BERTRAND_CHECK(model.ok(), Message(model.status()));
    return *std::move(model);
  }

  TestBackend backend_{"reference"};
  TestFolder folder_;
};

TEST_F(SentenceModel, Description) {
  const auto model = Load({"dense", "plain", ""});
  const ModelDescription& about = model->description();
  EXPECT_EQ(about.family, Family::kBert);
  EXPECT_EQ(about.architecture, "BertModel");
  EXPECT_EQ(about.tasks, (std::vector{Task::kEmbed, Task::kEmbedTokens}));
  EXPECT_TRUE(model->HasTask(Task::kEmbed));
  EXPECT_FALSE(model->HasTask(Task::kClassify));
  EXPECT_EQ(about.hidden_size, 40);
  EXPECT_EQ(about.num_layers, 2);
  EXPECT_EQ(about.num_heads, 5);
  EXPECT_EQ(about.vocab_size, 211);
  EXPECT_EQ(about.max_tokens, 40);
  EXPECT_EQ(about.embedding_dimensions, 24);
  EXPECT_TRUE(about.normalizes);
  EXPECT_EQ(about.compute_type, "float32");
  EXPECT_EQ(about.device, "reference");
  const uint64_t layer = 4 * (40 * 40 + 40) + 2 * 52 * 40 + 52 + 40 + 4 * 40;
  const uint64_t parameters = (211 + 40 + 2 + 2) * 40 + 2 * layer + 40 * 40 + 40 + 24 * 40 + 24;
  EXPECT_EQ(about.num_parameters, parameters);
  EXPECT_GE(about.weight_bytes, 4 * parameters);
}

TEST_F(SentenceModel, Prompts) {
  const auto model = Load({"prompts", "plain", ""});
  PreparedInput input;
  PrepareOptions options;
  options.as_sentence = true;
  options.prompt_name = "nobody";
  absl::Status status = model->Prepare({"a"}, options, &input);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status),
            "unknown prompt_name \"nobody\", this model has doc, document, query, upper");
  options.prompt = "x";
  EXPECT_EQ(model->Prepare({"a"}, options, &input).code(), absl::StatusCode::kInvalidArgument);
  options.prompt_name = "";
  EXPECT_TRUE(model->Prepare({"a"}, options, &input).ok());
  EXPECT_EQ(input.num_prompt_tokens, 2);  // [CLS] x
  // "document" has no text of its own: no prompt, the default one neither.
  options = {};
  options.as_sentence = true;
  options.prompt_name = "document";
  EXPECT_TRUE(model->Prepare({"a"}, options, &input).ok());
  EXPECT_EQ(input.num_prompt_tokens, 0);
  EXPECT_EQ(input.encoding.ids.size(), 3u);
  // Texts as they are: no default prompt.
  EXPECT_TRUE(model->Prepare({" a "}, {}, &input).ok());
  EXPECT_EQ(input.encoding.ids.size(), 3u);
}

TEST_F(SentenceModel, LimitsAndRanges) {
  const auto model = Load({"mode_name", "plain", ""});  // max_seq_length 12
  EXPECT_EQ(model->description().max_tokens, 12);
  PreparedInput input;
  const std::string text = "the cat sat on the mat and the hello world is in one";
  EXPECT_TRUE(model->Prepare({text}, {}, &input).ok());
  EXPECT_EQ(input.encoding.ids.size(), 12u);
  PrepareOptions options;
  options.encode.truncation = TruncationMode::kFail;
  EXPECT_EQ(model->Prepare({text}, options, &input).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(model->Prepare({"bad \xff"}, {}, &input).ok());
  options = {};
  options.as_sentence = true;
  const absl::Status status = model->Prepare({"  bad \xff"}, options, &input);
  EXPECT_NE(Message(status).find("byte 6"), std::string::npos) << status;

  const std::vector<uint32_t> ids{2, 5, 3}, types{0, 1, 1};
  EXPECT_TRUE(model->PrepareIds(ids, types, &input).ok());
  EXPECT_EQ(input.encoding.ids, (std::vector<int32_t>{2, 5, 3}));
  EXPECT_EQ(input.encoding.type_ids, (std::vector<int32_t>{0, 1, 1}));
  EXPECT_EQ(input.encoding.special, (std::vector<uint8_t>{1, 0, 1}));
  EXPECT_TRUE(model->PrepareIds(ids, {}, &input).ok());
  EXPECT_EQ(input.encoding.type_ids, (std::vector<int32_t>{0, 0, 0}));
  EXPECT_FALSE(model->PrepareIds({}, {}, &input).ok());
  EXPECT_FALSE(model->PrepareIds(ids, std::vector<uint32_t>{0}, &input).ok());
  EXPECT_FALSE(model->PrepareIds(std::vector<uint32_t>{211}, {}, &input).ok());
  EXPECT_FALSE(model->PrepareIds(std::vector<uint32_t>{0xffffffff}, {}, &input).ok());
  EXPECT_FALSE(model->PrepareIds(ids, std::vector<uint32_t>{0, 0, 2}, &input).ok());
  // Ids that a client made itself may use every position.
  const auto positions = static_cast<size_t>(model->description().max_ids);
  EXPECT_GT(positions, 13u);
  EXPECT_TRUE(model->PrepareIds(std::vector<uint32_t>(positions, 5), {}, &input).ok());
  EXPECT_FALSE(model->PrepareIds(std::vector<uint32_t>(positions + 1, 5), {}, &input).ok());
}

// Spans are of the text that was given, whatever was put before it or taken away.
TEST_F(SentenceModel, SpansOfTheGivenText) {
  const auto model = Load({"prompts", "plain", ""});
  PreparedInput input;
  PrepareOptions options;
  options.as_sentence = true;
  options.prompt_name = "query";
  options.encode.want_spans = true;
  const std::string text = "  \xc3\xa4 cat \n";
  ASSERT_TRUE(model->Prepare({text}, options, &input).ok());
  // [CLS] query : a cat [SEP], the umlaut without its dots.
  ASSERT_EQ(input.encoding.spans.size(), 6u);
  EXPECT_EQ(input.encoding.spans[1], (TokenSpan{0, 0, 0, 0}));
  EXPECT_EQ(input.encoding.spans[3], (TokenSpan{2, 3, 2, 4}));
  EXPECT_EQ(input.encoding.spans[4], (TokenSpan{4, 7, 5, 8}));
  EXPECT_EQ(input.encoding.spans[5], (TokenSpan{0, 0, 0, 0}));
}

// One token type: the tokenizer's 1 for a pair's second text has no row.
TEST_F(SentenceModel, PairsNeedTwoTokenTypes) {
  folder_.CopyFrom(kCheckpoints + "/one_type");
  const auto model = Model::Load(folder_.path(), *backend_, {});
  ASSERT_TRUE(model.ok()) << model.status();
  PreparedInput input;
  const std::string_view second = "b";
  EXPECT_FALSE((*model)->Prepare({"a", &second}, {}, &input).ok());
  EXPECT_TRUE((*model)->Prepare({"a"}, {}, &input).ok());
  EXPECT_EQ((*model)->EmbedDimensions(PoolingChoice::kPooler).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(SentenceModel, PoolingOfAConcatenationThatFeedsDense) {
  const auto model = Load({"dense_twice", "plain", ""});
  EXPECT_EQ(*model->EmbedDimensions(std::nullopt), 7);
  EXPECT_FALSE(model->EmbedDimensions(PoolingChoice::kMean).ok());
}

// What a head reads is not among them.
TEST_F(SentenceModel, UnusedTensorsAreNoted) {
  folder_.CopyFrom(kCheckpoints + "/masked_lm");
  const auto load = [this] {
    const auto model = Model::Load(folder_.path(), *backend_, {});
    BERTRAND_CHECK(model.ok(), Message(model.status()));
    return (*model)->description().load_notes;
  };
  const std::vector<std::string> none = load();
  ASSERT_EQ(none.size(), 1u) << none.back();
  EXPECT_NE(none[0].find("modules.json"), std::string::npos);

  // Another model's head: without its layers there is no masked-LM head, and its bias is left over.
  folder_.CopyFrom(kCheckpoints + "/one_type");
  const std::string config = folder_.path() + "/config.json";
  std::ifstream in(config);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const size_t at = text.find("BertForTokenClassification");
  ASSERT_NE(at, std::string::npos);
  folder_.Write("config.json", text.replace(at, 26, "BertModel"));
  const std::vector<std::string> notes = load();
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[1].find("classifier.bias"), std::string::npos) << notes[1];
  EXPECT_EQ(notes[1].find("position_ids"), std::string::npos) << notes[1];
}

TEST(ModelLoad, Errors) {
  TestBackend backend("reference");
  EXPECT_EQ(Model::Load("/does/not/exist", *backend, {}).status().code(),
            absl::StatusCode::kNotFound);
  const absl::Status status =
      Model::Load(kCheckpoints + "/plain", *backend, {.dtype = "float16"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("\"float16\" on a device that computes in float32"),
            std::string::npos)
      << status;
}

}  // namespace
}  // namespace bertrand
