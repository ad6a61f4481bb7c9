// modules.json and the files around it.

#include "models/checkpoint/sentence_modules.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::HasSubstr;

constexpr const char* kTransformer =
    R"({"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"})";
constexpr const char* kPooling =
    R"({"idx":1,"name":"1","path":"p","type":"sentence_transformers.models.Pooling"})";

class SentenceModulesTest : public testing::Test {
 protected:
  SentenceModulesTest() {
    folder_.Write("p/config.json", R"({"pooling_mode":"mean"})");
    WriteModules("");
  }
  // Transformer and Pooling, with `more` behind.
  void WriteModules(const std::string& more) {
    folder_.Write("modules.json", std::string("[") + kTransformer + "," + kPooling +
                                      (more.empty() ? "" : "," + more) + "]");
  }
  void WriteModule(const std::string& type) {
    WriteModules(R"({"path":"d","type":"sentence_transformers.models.)" + type + "\"}");
  }
  absl::StatusOr<SentenceModules> Read() { return ReadSentenceModules(folder_.path()); }
  std::string Error() {
    const auto modules = Read();
    return modules.ok() ? "read" : Message(modules.status());
  }
  std::vector<PoolingMode> Pooling(const std::string& config) {
    folder_.Write("p/config.json", config);
    const auto modules = Read();
    EXPECT_TRUE(modules.ok()) << modules.status();
    return modules.ok() ? modules->pooling : std::vector<PoolingMode>();
  }
  std::string PoolingError(const std::string& config) {
    folder_.Write("p/config.json", config);
    return Error();
  }

  TestFolder folder_;
};

TEST_F(SentenceModulesTest, PlainFolder) {
  const TestFolder plain;
  const auto modules = ReadSentenceModules(plain.path());
  ASSERT_TRUE(modules.ok()) << modules.status();
  EXPECT_EQ(modules->pooling, (std::vector{PoolingMode::kMean}));
  EXPECT_TRUE(modules->modules.empty());
  EXPECT_EQ(modules->transformer_folder, plain.path());
  EXPECT_EQ(modules->prompts.size(), 2u);
  EXPECT_EQ(modules->notes.size(), 1u);
}

TEST_F(SentenceModulesTest, PoolingModes) {
  using enum PoolingMode;
  EXPECT_EQ(Pooling(R"({"pooling_mode":"LastToken"})"), (std::vector{kLastToken}));
  EXPECT_EQ(Pooling(R"({"pooling_mode":["weightedmean","cls"]})"),
            (std::vector{kCls, kWeightedMean}));
  // The constructor's default.
  EXPECT_EQ(Pooling("{}"), (std::vector{kMean}));
  EXPECT_EQ(Pooling(R"({"pooling_mode_cls_token":true})"), (std::vector{kCls, kMean}));
  EXPECT_EQ(Pooling(R"({"pooling_mode_lasttoken":true,"pooling_mode_weightedmean_tokens":true,)"
                    R"("pooling_mode_mean_sqrt_len_tokens":true,"pooling_mode_mean_tokens":true,)"
                    R"("pooling_mode_max_tokens":true,"pooling_mode_cls_token":true})"),
            (std::vector{kCls, kMax, kMean, kMeanSqrtLen, kWeightedMean, kLastToken}));
  // The name wins over the booleans.
  EXPECT_EQ(Pooling(R"({"pooling_mode":"max","pooling_mode_cls_token":true})"),
            (std::vector{kMax}));
  EXPECT_THAT(PoolingError(R"({"pooling_mode_mean_tokens":false})"), HasSubstr("names no mode"));
  EXPECT_THAT(PoolingError(R"({"pooling_mode":[]})"), HasSubstr("names no mode"));
  EXPECT_THAT(PoolingError(R"({"pooling_mode":"median"})"), HasSubstr("is \"median\""));
  EXPECT_THAT(PoolingError(R"({"pooling_mode":1})"), HasSubstr("is 1"));
  EXPECT_THAT(PoolingError(R"({"pooling_mode_median_tokens":true})"),
              HasSubstr("pooling_mode_median_tokens is no pooling mode"));
  EXPECT_THAT(PoolingError(R"({"pooling_mode_cls_token":1})"), HasSubstr("expected true or false"));
}

TEST_F(SentenceModulesTest, Dense) {
  WriteModule("Dense");
  EXPECT_THAT(Error(), HasSubstr("d/config.json"));
  folder_.Write("d/config.json", R"({"in_features":8,"out_features":4})");
  EXPECT_THAT(Error(), HasSubstr("d has no model.safetensors and no pytorch_model.bin"));
  folder_.Write("d/pytorch_model.bin", "");
  auto modules = Read();
  ASSERT_TRUE(modules.ok()) << modules.status();
  ASSERT_EQ(modules->modules.size(), 1u);
  EXPECT_EQ(modules->modules[0].activation, Activation::kTanh);
  EXPECT_TRUE(modules->modules[0].has_bias);
  const std::pair<const char*, Activation> known[] = {
      {"torch.nn.modules.linear.Identity", Activation::kNone},
      {"torch.nn.modules.activation.GELU", Activation::kGeluErf},
      {"torch.nn.modules.activation.ReLU", Activation::kRelu},
      {"torch.nn.modules.activation.SiLU", Activation::kSilu},
      {"torch.nn.modules.activation.Sigmoid", Activation::kSigmoid},
  };
  for (const auto& [name, activation] : known) {
    folder_.Write("d/config.json", std::string(R"({"in_features":8,"out_features":4,"bias":false,)"
                                               R"("activation_function":")") +
                                       name + "\"}");
    modules = Read();
    ASSERT_TRUE(modules.ok()) << modules.status();
    EXPECT_EQ(modules->modules[0].activation, activation) << name;
    EXPECT_FALSE(modules->modules[0].has_bias);
  }
  const auto error = [&](const std::string& config) {
    folder_.Write("d/config.json", config);
    return Error();
  };
  EXPECT_THAT(error(R"({"in_features":8,"out_features":4,"activation_function":"a.Mish"})"),
              HasSubstr("is \"a.Mish\""));
  EXPECT_THAT(error(R"({"in_features":8})"), HasSubstr("out_features is missing"));
  EXPECT_THAT(error(R"({"in_features":-8,"out_features":4})"), HasSubstr("in_features is -8"));
  EXPECT_THAT(error(R"({"in_features":8,"out_features":4,"module_input_name":"token_embeddings"})"),
              HasSubstr("module_input_name is \"token_embeddings\""));
}

TEST_F(SentenceModulesTest, OtherModules) {
  WriteModule("Normalize");  // without a folder
  EXPECT_EQ(Read()->modules.size(), 1u);
  WriteModule("Dropout");
  EXPECT_TRUE(Read()->modules.empty());
  for (const char* type : {"WordWeights", "LSTM", "CNN", "WeightedLayerPooling", "Router"}) {
    WriteModule(type);
    EXPECT_THAT(Error(), HasSubstr(std::string("module 2 is ") + type + ", which is not served"));
  }
  WriteModule("Pooling");
  EXPECT_THAT(Error(), HasSubstr("after another Pooling"));
  WriteModule("Transformer");
  EXPECT_THAT(Error(), HasSubstr("expected the first module"));
}

TEST_F(SentenceModulesTest, ModuleList) {
  const auto error = [&](const std::string& list) {
    folder_.Write("modules.json", list);
    return Error();
  };
  EXPECT_THAT(error("[]"), HasSubstr("expected an array of 1 to"));
  EXPECT_THAT(error("{}"), HasSubstr("expected an array of 1 to"));
  EXPECT_THAT(error("[1]"), HasSubstr("expected an object"));
  EXPECT_THAT(error(R"([{"path":""}])"), HasSubstr("type is missing"));
  EXPECT_THAT(error(std::string("[") + kPooling + "]"), HasSubstr("expected the first module"));
  EXPECT_THAT(error(std::string("[") + kTransformer + "]"), HasSubstr("has no Pooling module"));
  EXPECT_THAT(error(std::string("[") + kTransformer + R"(,{"type":"x.Normalize","path":"n"}])"),
              HasSubstr("before any Pooling"));
  EXPECT_THAT(error(std::string("[") + kTransformer + R"(,{"type":"x.Pooling","path":"../p"}])"),
              HasSubstr("\"../p\", expected a folder inside"));
  EXPECT_THAT(error(std::string("[") + kTransformer + R"(,{"type":"x.Pooling","path":"/p"}])"),
              HasSubstr("expected a folder inside"));
}

TEST_F(SentenceModulesTest, TransformerSettings) {
  const auto error = [&](const std::string& config) {
    folder_.Write("sentence_bert_config.json", config);
    return Error();
  };
  EXPECT_EQ(error(R"({"max_seq_length":256,"do_lower_case":true})"), "read");
  EXPECT_EQ(Read()->max_seq_length, 256);
  EXPECT_TRUE(Read()->do_lower_case);
  EXPECT_EQ(error(R"({"max_seq_length":null,"model_args":{"torch_dtype":"float16"}})"), "read");
  EXPECT_EQ(Read()->max_seq_length, std::nullopt);
  EXPECT_THAT(error(R"({"max_seq_length":0})"), HasSubstr("max_seq_length is 0"));
  EXPECT_THAT(error(R"({"max_seq_length":"256"})"), HasSubstr("max_seq_length is \"256\""));
  EXPECT_EQ(error(R"({"tokenizer_args":{"use_fast":true}})"), "read");
  EXPECT_THAT(error(R"({"tokenizer_args":{"use_fast":false}})"),
              HasSubstr("tokenizer_args.use_fast is not served"));
  // An empty one is passed over for those of other names, in order.
  EXPECT_EQ(error("{}"), "read");
  folder_.Write("sentence_xlnet_config.json", R"({"max_seq_length":8})");
  folder_.Write("sentence_roberta_config.json", R"({"max_seq_length":9})");
  EXPECT_EQ(Read()->max_seq_length, 9);
}

TEST_F(SentenceModulesTest, Prompts) {
  const auto error = [&](const std::string& config) {
    folder_.Write("config_sentence_transformers.json", config);
    return Error();
  };
  EXPECT_EQ(error(R"({"prompts":{"query":"q: ","x":"y"},"default_prompt_name":"x"})"), "read");
  const auto modules = Read();
  EXPECT_EQ(modules->prompts.at("query"), "q: ");
  EXPECT_EQ(modules->prompts.at("document"), "");
  EXPECT_EQ(modules->default_prompt_name, "x");
  EXPECT_EQ(error(R"({"prompts":{},"default_prompt_name":null})"), "read");
  EXPECT_THAT(error(R"({"default_prompt_name":"nobody"})"), HasSubstr("is \"nobody\""));
  EXPECT_THAT(error(R"({"prompts":{"a":1}})"), HasSubstr("\"a\": 1, expected a string"));
  EXPECT_THAT(error(R"({"prompts":["a"]})"), HasSubstr("prompts is an array"));
}

}  // namespace
}  // namespace bertrand
