// config.json: what is read, and every way to be refused.

#include "models/config/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::HasSubstr;

absl::StatusOr<ModelConfig> Parse(const std::string& text) {
  const auto json = Json::Parse(text, "config.json");
  if (!json.ok()) return json.status();
  return ParseModelConfig(*json, "config.json");
}

// A small BERT with some members more or other.
absl::StatusOr<ModelConfig> ParseBert(const std::string& members) {
  return Parse(R"({"model_type":"bert")" + (members.empty() ? "" : "," + members) + "}");
}

std::string Error(const std::string& members) {
  const auto config = ParseBert(members);
  return config.ok() ? "parsed" : Message(config.status());
}

TEST(Families, DefaultsAreTransformers) {
  const auto config = ParseBert("");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, Family::kBert);
  EXPECT_EQ(config->architecture, "");
  const EncoderConfig& encoder = config->encoder;
  EXPECT_EQ(encoder.vocab_size, 30522);
  EXPECT_EQ(encoder.hidden_size, 768);
  EXPECT_EQ(encoder.num_layers, 12);
  EXPECT_EQ(encoder.num_heads, 12);
  EXPECT_EQ(encoder.head_size, 64);
  EXPECT_EQ(encoder.intermediate_size, 3072);
  EXPECT_EQ(encoder.max_tokens(), 512);
  EXPECT_EQ(encoder.num_token_types, 2);
  EXPECT_EQ(encoder.activation, Activation::kGeluErf);
  EXPECT_EQ(encoder.layer_norm_eps, 1e-12f);
}

TEST(Families, Activations) {
  const std::vector<std::pair<const char*, Activation>> known = {
      {"gelu", Activation::kGeluErf},
      {"gelu_python", Activation::kGeluErf},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"tanh", Activation::kTanh},
  };
  for (const auto& [name, activation] : known) {
    const auto config = ParseBert(std::string(R"("hidden_act":")") + name + "\"");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->encoder.activation, activation) << name;
  }
  for (const char* name : {"quick_gelu", "gelu_10", "mish", "relu6", "GELU", ""}) {
    EXPECT_THAT(Error(std::string(R"("hidden_act":")") + name + "\""),
                HasSubstr(std::string("hidden_act is \"") + name + "\""));
  }
  EXPECT_THAT(Error(R"("hidden_act":7)"), HasSubstr("hidden_act is 7, expected a string"));
}

TEST(Families, OtherFamilies) {
  EXPECT_THAT(Message(Parse(R"({"model_type":"gpt2"})").status()),
              HasSubstr("config.json: unknown model_type \"gpt2\"; bert, roberta,"));
  EXPECT_THAT(Message(Parse("{}").status()), HasSubstr("model_type is missing"));
  EXPECT_THAT(Message(Parse(R"({"model_type":3})").status()), HasSubstr("model_type is 3"));
  EXPECT_THAT(Message(Parse("[]").status()), HasSubstr("expected an object"));
}

TEST(Families, ModelTypeFromTheClass) {
  const std::pair<const char*, Family> known[] = {
      {"BertForMaskedLM", Family::kBert},        {"RobertaModel", Family::kRoberta},
      {"XLMRobertaModel", Family::kRoberta},     {"CamembertForMaskedLM", Family::kRoberta},
      {"AlbertForPreTraining", Family::kAlbert}, {"ElectraForPreTraining", Family::kElectra},
      {"DistilBertModel", Family::kDistilBert},
  };
  for (const auto& [architecture, family] : known) {
    const auto config =
        Parse(std::string(R"({"hidden_size":64,"num_attention_heads":4,"architectures":[")") +
              architecture + "\"]}");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family, family) << architecture;
  }
  EXPECT_THAT(Message(Parse(R"({"architectures":["BertGenerationDecoder"]})").status()),
              HasSubstr("model_type is missing"));
}

TEST(Families, LabelsThatAreNumbers) {
  const auto config = Parse(R"({"model_type":"bert","id2label":{"1":-1,"0":"one"}})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.labels, (std::vector<std::string>{"one", "-1"}));
}

// The heads that a file may have: of every class that is named; of any where it is nobody's known.
TEST(Families, SeveralArchitectures) {
  const auto heads = [](const std::string& architectures) {
    const auto config = Parse(R"({"model_type":"bert","architectures":)" + architectures + "}");
    EXPECT_TRUE(config.ok()) << config.status();
    std::string found;
    for (const LogitsHeadNames& names : config->heads.logits) {
      if (names.head == LogitsHead::kClassifier) found += names.is_named ? "C" : "c";
      if (names.head == LogitsHead::kTokenClassifier) found += names.is_named ? "T" : "t";
    }
    return found + (config->heads.masked_lm.is_named ? "M" : "m");
  };
  EXPECT_EQ(heads(R"(["BertForMaskedLM"])"), "M");
  EXPECT_EQ(heads(R"(["BertForMaskedLM","BertForSequenceClassification"])"), "CM");
  EXPECT_EQ(heads(R"(["BertForTokenClassification","BertForMaskedLM"])"), "TM");
  EXPECT_EQ(heads(R"("BertForSequenceClassification")"), "Cm");
  EXPECT_EQ(heads(R"(["MySentimentBert"])"), "cm");
  EXPECT_EQ(heads("[]"), "cm");
  EXPECT_EQ(heads(R"(["BertModel"])"), "m");
  EXPECT_EQ(heads(R"(["BertForMultipleChoice"])"), "m");
}

TEST(Families, LabelsAreNamedLate) {
  const auto config = Parse(R"({"model_type":"bert","num_labels":131072})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.num_labels, 131072);
  EXPECT_TRUE(config->heads.labels.empty());
  EXPECT_EQ(NamesOfLabels(config->heads).back(), "LABEL_131071");
}

TEST(Families, PositionsAfterPadding) {
  for (const char* type : {"roberta", "xlm-roberta", "camembert"}) {
    const std::string begin = std::string(R"({"model_type":")") + type + "\"";
    const auto config = Parse(begin + R"(,"max_position_embeddings":130,"pad_token_id":1})");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family, Family::kRoberta);
    EXPECT_EQ(config->encoder.max_tokens(), 128);
    EXPECT_EQ(config->encoder.unnumbered_id, 1);
    const auto none = Parse(begin + R"(,"max_position_embeddings":2,"pad_token_id":1})");
    EXPECT_THAT(Message(none.status()), HasSubstr("max_position_embeddings is 2, expected more"));
    EXPECT_THAT(Message(Parse(begin + R"(,"pad_token_id":-1})").status()),
                HasSubstr("pad_token_id is -1"));
  }
}

TEST(Families, OwnNamesOfKeys) {
  const auto own = Parse(R"({"model_type":"distilbert","dim":48,"n_heads":4,"n_layers":2})");
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->encoder.hidden_size, 48);
  EXPECT_EQ(own->encoder.head_size, 12);
  EXPECT_EQ(own->encoder.num_layers, 2);
  EXPECT_EQ(own->encoder.num_token_types, 0);
  const auto usual = Parse(R"({"model_type":"distilbert","dim":48,"hidden_size":96})");
  ASSERT_TRUE(usual.ok()) << usual.status();
  EXPECT_EQ(usual->encoder.hidden_size, 96);
}

// modeling_albert.py: int(i / (num_hidden_layers / num_hidden_groups)).
TEST(Families, LayersOfGroups) {
  const auto config = Parse(
      R"({"model_type":"albert","num_hidden_layers":5,"num_hidden_groups":2,"inner_group_num":3})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->encoder.has_projection);
  EXPECT_EQ(config->encoder.blocks_per_layer, 3);
  std::vector<int64_t> groups;
  for (int64_t layer = 0; layer < 5; ++layer) groups.push_back(config->encoder.Group(layer));
  EXPECT_THAT(groups, testing::ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(Message(Parse(R"({"model_type":"albert","num_hidden_groups":0})").status()),
              HasSubstr("num_hidden_groups is 0"));
}

absl::StatusOr<ModelConfig> ParseXlnet(const std::string& members) {
  return Parse(R"({"model_type":"xlnet")" + (members.empty() ? "" : "," + members) + "}");
}

TEST(Families, RelativePositions) {
  const auto config = ParseXlnet("");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, Family::kXlnet);
  const EncoderConfig& encoder = config->encoder;
  EXPECT_EQ(encoder.positions, PositionKind::kRelative);
  EXPECT_EQ(encoder.vocab_size, 32000);
  EXPECT_EQ(encoder.hidden_size, 1024);
  EXPECT_EQ(encoder.num_layers, 24);
  EXPECT_EQ(encoder.num_heads, 16);
  EXPECT_EQ(encoder.intermediate_size, 4096);
  EXPECT_EQ(encoder.activation, Activation::kGeluErf);
  EXPECT_EQ(encoder.layer_norm_eps, 1e-12f);
  EXPECT_EQ(encoder.max_tokens(), 0);
  EXPECT_EQ(encoder.distance_max, 0);
  EXPECT_EQ(encoder.memory_reuse_tokens, 0);
  EXPECT_EQ(encoder.num_token_types, 4);
  EXPECT_EQ(config->heads.traits.memory_tokens, 512);

  const auto other = ParseXlnet(
      R"("d_model":48,"n_head":3,"n_layer":2,"d_inner":70,"d_head":16,"ff_activation":"relu",)"
      R"("clamp_len":9,"reuse_len":5,"mem_len":null,"untie_r":false,"same_length":true)");
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->encoder.head_size, 16);
  EXPECT_EQ(other->encoder.activation, Activation::kRelu);
  EXPECT_EQ(other->encoder.distance_max, 9);
  EXPECT_EQ(other->encoder.memory_reuse_tokens, 5);
  EXPECT_EQ(other->heads.traits.memory_tokens, 0);
  const auto usual =
      ParseXlnet(R"("hidden_size":96,"num_attention_heads":6,"num_hidden_layers":1,"n_token":50)");
  ASSERT_TRUE(usual.ok()) << usual.status();
  EXPECT_EQ(usual->encoder.hidden_size, 96);
  EXPECT_EQ(usual->encoder.vocab_size, 50);
}

TEST(Families, RelativePositionsThatAreRefused) {
  const std::string classes = R"("architectures":["XLNetForSequenceClassification"],)";
  const std::vector<std::pair<std::string, const char*>> unimplemented = {
      {R"("attn_type":"uni")", "attn_type is \"uni\""},
      {R"("bi_data":true)", "bi_data is true"},
      {classes + R"("summary_type":"mean")", "summary_type is \"mean\""},
      {classes + R"("summary_type":"attn")", "summary_type is \"attn\""},
      {classes + R"("summary_activation":"relu")", "summary_activation is \"relu\""},
      {classes + R"("summary_use_proj":false)", "summary_use_proj is false"},
      {classes + R"("summary_use_proj":null)", "summary_use_proj is false"},
  };
  for (const auto& [members, message] : unimplemented) {
    const auto config = ParseXlnet(members);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kUnimplemented) << members;
    EXPECT_THAT(Message(config.status()), HasSubstr(message));
  }
  // Who has no classifier needs no summary.
  EXPECT_TRUE(ParseXlnet(R"("architectures":["XLNetModel"],"summary_type":"mean")").ok());
  const std::vector<std::pair<const char*, const char*>> invalid = {
      {R"("d_model":49,"n_head":7)", "d_model is 49, expected an even number"},
      {R"("d_model":48,"n_head":3,"d_head":8)", "d_head is 8, expected d_model / n_head, 16"},
      {R"("d_model":48,"n_head":5)", "hidden size is 48, expected a multiple of"},
      {R"("d_model":2147483648)", "d_model is 2147483648"},
      {R"("n_head":0)", "n_head is 0"},
      {R"("mem_len":-1)", "mem_len is -1"},
      {R"("clamp_len":"far")", "clamp_len is \"far\""},
      {R"("d_inner":0)", "d_inner is 0"},
  };
  for (const auto& [members, message] : invalid) {
    const auto config = ParseXlnet(members);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << members;
    EXPECT_THAT(Message(config.status()), HasSubstr(message));
  }
}

TEST(Families, MathematicsThatAreNotImplemented) {
  EXPECT_EQ(Error(R"("is_decoder":false,"pruned_heads":{},"chunk_size_feed_forward":8,)"
                  R"("position_embedding_type":"absolute","quantization_config":null,)"
                  R"("auto_map":{"AutoTokenizer":"x.py--T"})"),
            "parsed");
  const std::vector<std::pair<const char*, const char*>> refused = {
      {R"("is_decoder":true)", "is_decoder is true"},
      {R"("add_cross_attention":true)", "add_cross_attention is true"},
      {R"("position_embedding_type":"relative_key")",
       "position_embedding_type is \"relative_key\""},
      {R"("position_embedding_type":"relative_key_query")", "position_embedding_type"},
      {R"("position_embedding_type":"alibi")", "position_embedding_type"},
      {R"("pruned_heads":{"0":[1]})", "pruned_heads is not empty"},
      {R"("quantization_config":{"bits":4})", "quantization_config"},
      {R"("auto_map":{"AutoModel":"x.py--M"})", "auto_map has AutoModel"},
      {R"("hidden_size":1024,"num_attention_heads":2)", "is 512, heads of at most 256"},
  };
  for (const auto& [members, message] : refused) {
    const auto config = ParseBert(members);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kUnimplemented) << members;
    EXPECT_THAT(Message(config.status()), HasSubstr(message));
  }
}

// sentence-transformers' CrossEncoder with one label: its scores are what the activation makes of
// the logits.
TEST(Families, CrossEncoderActivations) {
  const auto parse = [](const std::string& name, const std::string& labels) {
    return ParseBert(R"("num_labels":)" + labels +
                     R"(,"sentence_transformers":{"activation_fn":")" + name + "\"}");
  };
  const std::string modules = "torch.nn.modules.";
  const auto sigmoid = parse(modules + "activation.Sigmoid", "1");
  ASSERT_TRUE(sigmoid.ok()) << sigmoid.status();
  EXPECT_EQ(sigmoid->heads.traits.rerank, ScoreFunction::kSigmoid);
  const auto identity = parse(modules + "linear.Identity", "1");
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->heads.traits.rerank, ScoreFunction::kNone);
  for (const char* name : {"activation.ReLU", "activation.Tanh", "activation.Softmax"}) {
    const auto refused = parse(modules + name, "1");
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(Message(refused.status()),
                HasSubstr("sentence_transformers.activation_fn is \"" + modules + name +
                          "\", served are Identity and Sigmoid"));
    EXPECT_TRUE(parse(modules + name, "2").ok()) << "there is no Rerank";
  }
  EXPECT_THAT(Error(R"("num_labels":1,"sbert_ce_default_activation_function":)"
                    R"("torch.nn.modules.activation.GELU")"),
              HasSubstr("is \"torch.nn.modules.activation.GELU\""));
}

TEST(Families, HostileValues) {
  const std::vector<std::pair<const char*, const char*>> refused = {
      {R"("hidden_size":2147483648)", "hidden_size is 2147483648, expected an integer from 1 to"},
      {R"("hidden_size":0)", "hidden_size is 0"},
      {R"("hidden_size":"768")", "hidden_size is \"768\""},
      {R"("hidden_size":768.0)", "hidden_size is 768"},
      {R"("hidden_size":1e400)", "hidden_size is inf"},
      {R"("hidden_size":[768])", "hidden_size is an array"},
      {R"("hidden_size":1000000000000000019884624838656)", "hidden_size is 1e+30"},
      {R"("num_attention_heads":0)", "num_attention_heads is 0"},
      {R"("num_attention_heads":-12)", "num_attention_heads is -12"},
      {R"("num_attention_heads":7)", "hidden size is 768, expected a multiple of"},
      {R"("num_hidden_layers":-1)", "num_hidden_layers is -1"},
      {R"("num_hidden_layers":1000000000)", "num_hidden_layers is 1000000000"},
      {R"("intermediate_size":0)", "intermediate_size is 0"},
      {R"("vocab_size":0)", "vocab_size is 0"},
      {R"("vocab_size":9223372036854775807)", "vocab_size is 9223372036854775807"},
      {R"("max_position_embeddings":0)", "max_position_embeddings is 0"},
      {R"("type_vocab_size":0)", "type_vocab_size is 0"},
      {R"("layer_norm_eps":NaN)", "layer_norm_eps is nan"},
      {R"("layer_norm_eps":Infinity)", "layer_norm_eps is inf"},
      {R"("layer_norm_eps":-1e-12)", "layer_norm_eps is -1e-12"},
      {R"("layer_norm_eps":1e400)", "layer_norm_eps is inf"},
      {R"("layer_norm_eps":null,"hidden_act":null,"vocab_size":"9")", "vocab_size is \"9\""},
      {R"("num_attention_heads":"12")", "num_attention_heads is \"12\""},
      {R"("num_hidden_layers":"two")", "num_hidden_layers is \"two\""},
      {R"("num_hidden_layers":NaN)", "num_hidden_layers is nan"},
      {R"("hidden_size":-9223372036854775808)", "hidden_size is -9223372036854775808"},
      {R"("hidden_size":true)", "hidden_size is true"},
      {R"("intermediate_size":2147483648)", "intermediate_size is 2147483648"},
      {R"("max_position_embeddings":4294967296)", "max_position_embeddings is 4294967296"},
      {R"("type_vocab_size":-2)", "type_vocab_size is -2"},
      {R"("num_labels":0)", "num_labels is 0"},
      {R"("num_labels":1000000000)", "num_labels is 1000000000"},
      {R"("id2label":{"0":"a","2":"b"})", "id2label has \"2\", expected the ids 0 to 1"},
      {R"("id2label":{"00":"a","0":"b"})", "id2label has \"0\""},
      {R"("id2label":{"-1":"a"})", "id2label has \"-1\""},
      {R"("id2label":{"0":null})", "id2label has \"0\""},
      {R"("id2label":{"0":7.5})", "id2label has \"0\""},
      {R"("id2label":{})", "id2label is empty"},
      {R"("tie_word_embeddings":1)", "tie_word_embeddings is 1, expected true or false"},
      {R"("model_type":["bert"])", "model_type"},
      {R"("layer_norm_eps":"1e-12")", "layer_norm_eps is \"1e-12\""},
      {R"("is_decoder":"no")", "is_decoder is \"no\", expected true or false"},
      {R"("architectures":[1])", "architectures"},
      {R"("architectures":3)", "architectures is 3, expected a list"},
      {R"("problem_type":"ranking")", "problem_type is \"ranking\""},
      {R"("id2label":[1])", "id2label is an array"},
  };
  for (const auto& [members, message] : refused) EXPECT_THAT(Error(members), HasSubstr(message));
  // Null is absent, as in Python's constructors of configurations without it.
  EXPECT_EQ(Error(R"("hidden_size":null)"), "parsed");
  EXPECT_EQ(Error(R"("num_hidden_layers":0)"), "parsed");
}

TEST(Families, File) {
  const TestFolder folder;
  EXPECT_EQ(ReadModelConfig(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("config.json", R"({"model_type":"bert","architectures":["BertForMaskedLM"]})");
  const auto config = ReadModelConfig(folder.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "BertForMaskedLM");
  folder.Write("config.json", "{\"model_type\":");
  EXPECT_THAT(Message(ReadModelConfig(folder.path()).status()), HasSubstr("config.json"));
}

}  // namespace
}  // namespace bertrand
