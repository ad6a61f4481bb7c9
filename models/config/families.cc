#include "models/config/families.h"

#include <array>
#include <limits>
#include <string_view>

#include "kernels/status.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/file.h"
#include "models/config/heads.h"

namespace bertrand {
namespace {

constexpr uint64_t kConfigBytesMax = 16'000'000;

// Far beyond any checkpoint of these families, and small enough that products of three fit int64.
constexpr int64_t kWidthMax = 1 << 17;
constexpr int64_t kLayersMax = 1024;
constexpr int64_t kTableRowsMax = std::numeric_limits<int32_t>::max();
constexpr int64_t kHeadSizeMax = 256;  // kernels/backend.h: AttentionParams

// transformers' activations.py, ACT2CLS: names that are one function but for rounding.
struct NamedActivation {
  std::string_view name;
  Activation activation;
};
constexpr std::array kActivations = {
    NamedActivation{"gelu", Activation::kGeluErf},
    NamedActivation{"gelu_python", Activation::kGeluErf},
    NamedActivation{"gelu_new", Activation::kGeluTanh},
    NamedActivation{"gelu_fast", Activation::kGeluTanh},
    NamedActivation{"gelu_accurate", Activation::kGeluTanh},
    NamedActivation{"gelu_pytorch_tanh", Activation::kGeluTanh},
    NamedActivation{"gelu_python_tanh", Activation::kGeluTanh},
    NamedActivation{"relu", Activation::kRelu},
    NamedActivation{"silu", Activation::kSilu},
    NamedActivation{"swish", Activation::kSilu},
    NamedActivation{"tanh", Activation::kTanh},
    NamedActivation{"sigmoid", Activation::kSigmoid},
    NamedActivation{"linear", Activation::kNone},
};

Activation ReadActivation(ConfigReader& reader, std::string_view key, std::string_view fallback) {
  const std::string name = reader.String(key, fallback);
  std::string known;
  for (const NamedActivation& entry : kActivations) {
    if (entry.name == name) return entry.activation;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  reader.FailUnimplemented(key, "is \"" + name + "\", served are " + known);
  return Activation::kNone;
}

// Keys of PretrainedConfig that change what any of the families computes.
void RefuseUnimplemented(ConfigReader& reader) {
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    if (reader.Bool(key, false)) reader.FailUnimplemented(key, "is true: decoders are not served");
  }
  const std::string positions = reader.String("position_embedding_type", "absolute");
  if (positions != "absolute") {
    reader.FailUnimplemented("position_embedding_type",
                             "is \"" + positions + "\", \"absolute\" is served");
  }
  const Json* pruned = reader.Find("pruned_heads");
  if (pruned != nullptr && (!pruned->members().empty() || !pruned->elements().empty())) {
    reader.FailUnimplemented("pruned_heads", "is not empty: pruned heads are not served");
  }
  if (reader.Find("quantization_config") != nullptr) {
    reader.FailUnimplemented("quantization_config", "is there: quantised weights are not served");
  }
  // "auto_map": {"AutoModel": "file.py--Class", ...}: the mathematics are in the checkpoint's own
  // Python, which nobody can know to be the family's. (A tokenizer or config class there is
  // harmless.)
  if (const Json* auto_map = reader.Find("auto_map")) {
    for (const auto& [key, value] : auto_map->members()) {
      if (key.starts_with("AutoModel")) {
        reader.FailUnimplemented("auto_map", "has " + key + ": custom model code is not run");
      }
    }
  }
}

void CheckHeads(ConfigReader& reader, EncoderConfig* config) {
  if (!reader.status().ok()) return;
  if (config->hidden_size % config->num_heads != 0) {
    reader.Fail("hidden_size", "is " + std::to_string(config->hidden_size) +
                                   ", expected a multiple of num_attention_heads, " +
                                   std::to_string(config->num_heads));
    return;
  }
  config->head_size = config->hidden_size / config->num_heads;
  if (config->head_size > kHeadSizeMax) {
    reader.FailUnimplemented(
        "hidden_size", "/ num_attention_heads is " + std::to_string(config->head_size) +
                           ", heads of at most " + std::to_string(kHeadSizeMax) + " are served");
  }
}

// transformers/models/bert/configuration_bert.py: the defaults are its own.
void ReadBert(ConfigReader& reader, ModelConfig* model) {
  EncoderConfig& config = model->encoder;
  config.vocab_size = reader.Int("vocab_size", 30522, 1, kTableRowsMax);
  config.hidden_size = reader.Int("hidden_size", 768, 1, kWidthMax);
  config.num_layers = reader.Int("num_hidden_layers", 12, 0, kLayersMax);
  config.num_heads = reader.Int("num_attention_heads", 12, 1, kWidthMax);
  config.intermediate_size = reader.Int("intermediate_size", 3072, 1, kWidthMax);
  config.num_positions = reader.Int("max_position_embeddings", 512, 1, kTableRowsMax);
  config.num_token_types = reader.Int("type_vocab_size", 2, 1, kTableRowsMax);
  config.layer_norm_eps = static_cast<float>(reader.Number("layer_norm_eps", 1e-12, 0, 1));
  config.activation = ReadActivation(reader, "hidden_act", "gelu");

  EncoderNames& names = model->names;
  names.prefix = "bert.";
  names.word = "embeddings.word_embeddings";
  names.position = "embeddings.position_embeddings";
  names.token_type = "embeddings.token_type_embeddings";
  names.embedding_norm = "embeddings.LayerNorm";
  names.query = "encoder.layer.{}.attention.self.query";
  names.key = "encoder.layer.{}.attention.self.key";
  names.value = "encoder.layer.{}.attention.self.value";
  names.attention_out = "encoder.layer.{}.attention.output.dense";
  names.attention_norm = "encoder.layer.{}.attention.output.LayerNorm";
  names.up = "encoder.layer.{}.intermediate.dense";
  names.down = "encoder.layer.{}.output.dense";
  names.output_norm = "encoder.layer.{}.output.LayerNorm";
  names.pooler = "pooler.dense";
  names.ignored_suffixes = {"embeddings.position_ids"};
}

struct FamilyEntry {
  std::string_view model_type;
  Family family;
  void (*read)(ConfigReader& reader, ModelConfig* model);  // null: known, not served yet
};
constexpr std::array kFamilies = {
    FamilyEntry{"bert", Family::kBert, ReadBert},
    FamilyEntry{"roberta", Family::kRoberta, nullptr},
    FamilyEntry{"xlm-roberta", Family::kRoberta, nullptr},
    FamilyEntry{"camembert", Family::kRoberta, nullptr},
    FamilyEntry{"albert", Family::kAlbert, nullptr},
    FamilyEntry{"distilbert", Family::kDistilBert, nullptr},
    FamilyEntry{"electra", Family::kElectra, nullptr},
    FamilyEntry{"xlnet", Family::kXlnet, nullptr},
};

absl::StatusOr<const FamilyEntry*> FindFamily(const std::string& model_type,
                                              const std::string& path) {
  std::string served;
  for (const FamilyEntry& entry : kFamilies) {
    if (entry.read == nullptr) continue;
    served += (served.empty() ? "" : ", ") + std::string(entry.model_type);
  }
  for (const FamilyEntry& entry : kFamilies) {
    if (entry.model_type != model_type) continue;
    if (entry.read != nullptr) return &entry;
    return Unimplemented(path + ": model_type \"" + model_type +
                         "\" is not served by this version; " + served + " is");
  }
  return InvalidArgument(path + ": unknown model_type \"" + model_type + "\"; " + served +
                         " is served");
}

std::string ReadArchitecture(ConfigReader& reader) {
  const Json* list = reader.Find("architectures");
  if (list == nullptr || list->elements().empty()) return "";
  const std::string* first = list->elements()[0].as_string();
  if (first == nullptr) reader.Fail("architectures", "holds no strings");
  return first == nullptr ? "" : *first;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& config, const std::string& path) {
  ConfigReader reader(config, path);
  const std::string model_type = reader.String("model_type", "");
  BERTRAND_RETURN_IF_ERROR(reader.status());
  if (model_type.empty()) {
    return InvalidArgument(path + ": model_type is missing: is this a checkpoint of transformers?");
  }
  BERTRAND_ASSIGN_OR_RETURN(const FamilyEntry* entry, FindFamily(model_type, path));
  ModelConfig model;
  model.family = entry->family;
  model.architecture = ReadArchitecture(reader);
  RefuseUnimplemented(reader);
  entry->read(reader, &model);
  CheckHeads(reader, &model.encoder);
  model.heads = ReadHeadConfig(reader, model.family, model.architecture, model.encoder);
  BERTRAND_RETURN_IF_ERROR(reader.status());
  return model;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& folder) {
  const std::string path = JoinPath(folder, "config.json");
  BERTRAND_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kConfigBytesMax));
  BERTRAND_ASSIGN_OR_RETURN(const Json config, Json::Parse(text, path));
  return ParseModelConfig(config, path);
}

}  // namespace bertrand
