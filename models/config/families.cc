#include "models/config/families.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

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
                             "is \"" + positions + "\", served is \"absolute\"");
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

// An integer under either of two names: transformers' configurations of some families have names of
// their own and take the usual ones as well (attribute_map), which win.
int64_t ReadSize(ConfigReader& reader, std::string_view key, std::string_view usual,
                 int64_t fallback, int64_t min, int64_t max) {
  return reader.Int(reader.Find(usual) != nullptr ? usual : key, fallback, min, max);
}

void CheckHeads(ConfigReader& reader, EncoderConfig* config) {
  if (!reader.status().ok()) return;
  if (config->hidden_size % config->num_heads != 0) {
    reader.Fail("hidden size", "is " + std::to_string(config->hidden_size) +
                                   ", expected a multiple of the number of attention heads, " +
                                   std::to_string(config->num_heads));
    return;
  }
  config->head_size = config->hidden_size / config->num_heads;
  if (config->head_size > kHeadSizeMax) {
    reader.FailUnimplemented(
        "hidden size", "/ attention heads is " + std::to_string(config->head_size) +
                           ", heads of at most " + std::to_string(kHeadSizeMax) + " are served");
  }
}

// Defaults of a configuration class.
struct Sizes {
  int64_t vocab = 0, embedding = 0, hidden = 0, layers = 0, heads = 0, intermediate = 0;
  int64_t positions = 512, types = 2;
  const char* activation = "gelu";
  double eps = 1e-12;
};

// The keys that most families share.
void ReadSizes(ConfigReader& reader, const Sizes& defaults, EncoderConfig* config) {
  config->vocab_size = reader.Int("vocab_size", defaults.vocab, 1, kTableRowsMax);
  config->hidden_size = reader.Int("hidden_size", defaults.hidden, 1, kWidthMax);
  config->embedding_size = config->hidden_size;
  config->num_layers = reader.Int("num_hidden_layers", defaults.layers, 0, kLayersMax);
  config->num_groups = config->num_layers;
  config->num_heads = reader.Int("num_attention_heads", defaults.heads, 1, kWidthMax);
  config->intermediate_size = reader.Int("intermediate_size", defaults.intermediate, 1, kWidthMax);
  config->num_positions =
      reader.Int("max_position_embeddings", defaults.positions, 1, kTableRowsMax);
  config->num_token_types = reader.Int("type_vocab_size", defaults.types, 1, kTableRowsMax);
  config->layer_norm_eps = static_cast<float>(reader.Number("layer_norm_eps", defaults.eps, 0, 1));
  config->activation = ReadActivation(reader, "hidden_act", defaults.activation);
}

void NameTables(std::string_view prefix, EncoderNames* names) {
  names->prefix = prefix;
  names->word = "embeddings.word_embeddings";
  names->position = "embeddings.position_embeddings";
  names->token_type = "embeddings.token_type_embeddings";
  names->embedding_norm = "embeddings.LayerNorm";
  names->ignored_suffixes = {"embeddings.position_ids"};
}

// modeling_bert.py and those that were copied from it.
void NameAsBert(std::string_view prefix, EncoderNames* names) {
  NameTables(prefix, names);
  names->query = "encoder.layer.{}.attention.self.query";
  names->key = "encoder.layer.{}.attention.self.key";
  names->value = "encoder.layer.{}.attention.self.value";
  names->attention_out = "encoder.layer.{}.attention.output.dense";
  names->attention_norm = "encoder.layer.{}.attention.output.LayerNorm";
  names->up = "encoder.layer.{}.intermediate.dense";
  names->down = "encoder.layer.{}.output.dense";
  names->output_norm = "encoder.layer.{}.output.LayerNorm";
}

// The functions below: transformers/models/FAMILY/configuration_FAMILY.py; the defaults are theirs.

constexpr Sizes kBaseSizes = {
    .vocab = 30522, .hidden = 768, .layers = 12, .heads = 12, .intermediate = 3072};

void ReadBert(ConfigReader& reader, ModelConfig* model) {
  ReadSizes(reader, kBaseSizes, &model->encoder);
  NameAsBert("bert.", &model->names);
  model->names.pooler = "pooler.dense";
}

// Also XLM-R and CamemBERT, which differ in nothing that is computed.
void ReadRoberta(ConfigReader& reader, ModelConfig* model) {
  Sizes sizes = kBaseSizes;
  sizes.vocab = 50265;
  EncoderConfig& config = model->encoder;
  ReadSizes(reader, sizes, &config);
  // Positions count the tokens that are not <pad>, from its id on (modeling_roberta.py,
  // create_position_ids_from_input_ids).
  config.unnumbered_id = reader.Int("pad_token_id", 1, 0, kTableRowsMax);
  config.position_offset = config.unnumbered_id + 1;
  if (reader.status().ok() && config.max_tokens() < 1) {
    reader.Fail("max_position_embeddings", "is " + std::to_string(config.num_positions) +
                                               ", expected more than pad_token_id + 1, " +
                                               std::to_string(config.position_offset));
  }
  NameAsBert("roberta.", &model->names);
  model->names.pooler = "pooler.dense";
}

void ReadElectra(ConfigReader& reader, ModelConfig* model) {
  Sizes sizes = kBaseSizes;
  sizes.hidden = 256;
  sizes.heads = 4;
  sizes.intermediate = 1024;
  EncoderConfig& config = model->encoder;
  ReadSizes(reader, sizes, &config);
  config.embedding_size = reader.Int("embedding_size", 128, 1, kWidthMax);
  config.has_projection = config.embedding_size != config.hidden_size;
  NameAsBert("electra.", &model->names);
  model->names.projection = "embeddings_project";
}

void ReadDistilBert(ConfigReader& reader, ModelConfig* model) {
  EncoderConfig& config = model->encoder;
  config.vocab_size = reader.Int("vocab_size", 30522, 1, kTableRowsMax);
  config.hidden_size = ReadSize(reader, "dim", "hidden_size", 768, 1, kWidthMax);
  config.embedding_size = config.hidden_size;
  config.num_layers = ReadSize(reader, "n_layers", "num_hidden_layers", 6, 0, kLayersMax);
  config.num_groups = config.num_layers;
  config.num_heads = ReadSize(reader, "n_heads", "num_attention_heads", 12, 1, kWidthMax);
  config.intermediate_size = reader.Int("hidden_dim", 3072, 1, kWidthMax);
  config.num_positions = reader.Int("max_position_embeddings", 512, 1, kTableRowsMax);
  config.layer_norm_eps = 1e-12f;  // not in its configuration
  config.activation = ReadActivation(reader, "activation", "gelu");

  EncoderNames& names = model->names;
  NameTables("distilbert.", &names);
  names.token_type.clear();
  names.query = "transformer.layer.{}.attention.q_lin";
  names.key = "transformer.layer.{}.attention.k_lin";
  names.value = "transformer.layer.{}.attention.v_lin";
  names.attention_out = "transformer.layer.{}.attention.out_lin";
  names.attention_norm = "transformer.layer.{}.sa_layer_norm";
  names.up = "transformer.layer.{}.ffn.lin1";
  names.down = "transformer.layer.{}.ffn.lin2";
  names.output_norm = "transformer.layer.{}.output_layer_norm";
}

void ReadAlbert(ConfigReader& reader, ModelConfig* model) {
  const Sizes sizes = {.vocab = 30000,
                       .hidden = 4096,
                       .layers = 12,
                       .heads = 64,
                       .intermediate = 16384,
                       .activation = "gelu_new"};
  EncoderConfig& config = model->encoder;
  ReadSizes(reader, sizes, &config);
  config.embedding_size = reader.Int("embedding_size", 128, 1, kWidthMax);
  config.has_projection = true;  // whatever the sizes
  config.num_groups = reader.Int("num_hidden_groups", 1, 1, kLayersMax);
  config.blocks_per_layer = reader.Int("inner_group_num", 1, 1, kLayersMax);

  EncoderNames& names = model->names;
  NameTables("albert.", &names);
  names.projection = "encoder.embedding_hidden_mapping_in";
  const std::string block = "encoder.albert_layer_groups.{}.albert_layers.{}.";
  names.query = block + "attention.query";
  names.key = block + "attention.key";
  names.value = block + "attention.value";
  names.attention_out = block + "attention.dense";
  names.attention_norm = block + "attention.LayerNorm";
  names.up = block + "ffn";
  names.down = block + "ffn_output";
  names.output_norm = block + "full_layer_layer_norm";
  names.pooler = "pooler";
}

// Keys of XLNetConfig that change what is computed and are not implemented.
void RefuseUnimplementedXlnet(ConfigReader& reader) {
  const std::string type = reader.String("attn_type", "bi");
  if (type != "bi") {
    reader.FailUnimplemented("attn_type", "is \"" + type + "\", \"bi\" is served");
  }
  if (reader.Bool("bi_data", false)) {
    reader.FailUnimplemented("bi_data", "is true: pairs of a text and its reverse are not served");
  }
}

// XLNetSequenceSummary is what the others call a pooler. (Of other kinds: models/config/heads.cc.)
void NameXlnetSummary(ConfigReader& reader, ModelConfig* model) {
  const std::string type = reader.String("summary_type", "last");
  const std::string activation =
      reader.String("summary_activation", reader.Has("summary_activation") ? "" : "tanh");
  const bool is_type_known = type == "last" || type == "cls_index" || type == "first";
  if (!is_type_known || (!activation.empty() && activation != "tanh")) return;
  model->encoder.pools_last_token = type != "first";
  model->encoder.pooler_activation = activation.empty() ? Activation::kNone : Activation::kTanh;
  model->names.pooler = "sequence_summary.summary";
  model->names.pooler_is_outside = true;
}

void ReadXlnet(ConfigReader& reader, ModelConfig* model) {
  EncoderConfig& config = model->encoder;
  config.positions = PositionKind::kRelative;
  config.vocab_size = ReadSize(reader, "vocab_size", "n_token", 32000, 1, kTableRowsMax);
  config.hidden_size = ReadSize(reader, "d_model", "hidden_size", 1024, 1, kWidthMax);
  config.embedding_size = config.hidden_size;
  config.num_layers = ReadSize(reader, "n_layer", "num_hidden_layers", 24, 0, kLayersMax);
  config.num_groups = config.num_layers;
  config.num_heads = ReadSize(reader, "n_head", "num_attention_heads", 16, 1, kWidthMax);
  config.intermediate_size = reader.Int("d_inner", 4096, 1, kWidthMax);
  config.layer_norm_eps = static_cast<float>(reader.Number("layer_norm_eps", 1e-12, 0, 1));
  config.activation = ReadActivation(reader, "ff_activation", "gelu");
  // Whatever `same_length` and `untie_r` say: the first is for attn_type "uni", and the tensors are
  // each layer's own in any case. Not positive: no clamp, all of the segment.
  const int64_t clamp = reader.Int("clamp_len", -1, -kTableRowsMax, kTableRowsMax);
  config.distance_max = std::max<int64_t>(clamp, 0);
  config.memory_reuse_tokens =
      std::max<int64_t>(reader.Int("reuse_len", 0, -kTableRowsMax, kTableRowsMax), 0);
  // Compared, not looked up: a text's, its pair's, <cls>, <pad>.
  config.num_token_types = 4;
  RefuseUnimplementedXlnet(reader);
  if (config.hidden_size % 2 != 0) {
    reader.Fail("d_model", "is " + std::to_string(config.hidden_size) +
                               ", expected an even number, half of them sines and half cosines");
  }
  if (const int64_t size = reader.Int("d_head", 0, 0, kWidthMax);
      size != 0 && size != config.hidden_size / config.num_heads) {
    reader.Fail("d_head", "is " + std::to_string(size) + ", expected d_model / n_head, " +
                              std::to_string(config.hidden_size / config.num_heads));
  }

  EncoderNames& names = model->names;
  names.prefix = "transformer.";
  names.word = "word_embedding";
  const std::string attention = "layer.{}.rel_attn.";
  names.query = attention + "q";
  names.key = attention + "k";
  names.value = attention + "v";
  names.attention_out = attention + "o";
  names.distance = attention + "r";
  names.content_bias = attention + "r_w_bias";
  names.position_bias = attention + "r_r_bias";
  names.segment_bias = attention + "r_s_bias";
  names.segments = attention + "seg_embed";
  names.attention_norm = attention + "layer_norm";
  names.up = "layer.{}.ff.layer_1";
  names.down = "layer.{}.ff.layer_2";
  names.output_norm = "layer.{}.ff.layer_norm";
  NameXlnetSummary(reader, model);
  // What stands for tokens that are to be predicted, in pre-training.
  names.ignored_suffixes = {"mask_emb"};
}

struct FamilyEntry {
  std::string_view model_type;
  Family family;
  void (*read)(ConfigReader& reader, ModelConfig* model);
};
constexpr std::array kFamilies = {
    FamilyEntry{"bert", Family::kBert, ReadBert},
    FamilyEntry{"roberta", Family::kRoberta, ReadRoberta},
    FamilyEntry{"xlm-roberta", Family::kRoberta, ReadRoberta},
    FamilyEntry{"camembert", Family::kRoberta, ReadRoberta},
    FamilyEntry{"albert", Family::kAlbert, ReadAlbert},
    FamilyEntry{"distilbert", Family::kDistilBert, ReadDistilBert},
    FamilyEntry{"electra", Family::kElectra, ReadElectra},
    FamilyEntry{"xlnet", Family::kXlnet, ReadXlnet},
};

absl::StatusOr<const FamilyEntry*> FindFamily(const std::string& model_type,
                                              const std::string& path) {
  std::string served;
  for (const FamilyEntry& entry : kFamilies) {
    if (entry.model_type == model_type) return &entry;
    served += (served.empty() ? "" : ", ") + std::string(entry.model_type);
  }
  return InvalidArgument(path + ": unknown model_type \"" + model_type + "\"; " + served +
                         " are served");
}

// Classes, the one that wrote the file first. (Python takes a string for a list too.)
std::vector<std::string> ReadArchitectures(ConfigReader& reader) {
  const Json* list = reader.Find("architectures");
  if (list == nullptr) return {};
  if (const std::string* one = list->as_string()) return {*one};
  if (!list->is_array()) {
    reader.Fail("architectures", "is " + Describe(*list) + ", expected a list");
  }
  std::vector<std::string> names;
  for (const Json& item : list->elements()) {
    const std::string* name = item.as_string();
    if (name == nullptr) {
      reader.Fail("architectures", "holds " + Describe(item) + ", expected the names of classes");
      break;
    }
    names.push_back(*name);
  }
  return names;
}

// Configurations from before 2020 have no model_type; their class's name says the same.
std::string ModelTypeOf(std::string_view architecture) {
  constexpr std::pair<std::string_view, std::string_view> kClasses[] = {
      {"Bert", "bert"},           {"Roberta", "roberta"}, {"XLMRoberta", "xlm-roberta"},
      {"Camembert", "camembert"}, {"Albert", "albert"},   {"DistilBert", "distilbert"},
      {"Electra", "electra"},     {"XLNet", "xlnet"},
  };
  for (const auto& [start, model_type] : kClasses) {
    const std::string_view rest = architecture.substr(std::min(start.size(), architecture.size()));
    if (!architecture.starts_with(start)) continue;
    if (rest == "Model" || rest == "LMHeadModel" || rest.starts_with("For")) {
      return std::string(model_type);
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& config, const std::string& path) {
  ConfigReader reader(config, path);
  const std::vector<std::string> architectures = ReadArchitectures(reader);
  const std::string architecture = architectures.empty() ? "" : architectures[0];
  const std::string model_type = reader.String("model_type", ModelTypeOf(architecture));
  BERTRAND_RETURN_IF_ERROR(reader.status());
  if (model_type.empty()) {
    return InvalidArgument(path + ": model_type is missing: is this a checkpoint of transformers?");
  }
  BERTRAND_ASSIGN_OR_RETURN(const FamilyEntry* entry, FindFamily(model_type, path));
  ModelConfig model;
  model.family = entry->family;
  model.architecture = architecture;
  RefuseUnimplemented(reader);
  entry->read(reader, &model);
  CheckHeads(reader, &model.encoder);
  model.heads = ReadHeadConfig(reader, model.family, architectures, model.encoder);
  BERTRAND_RETURN_IF_ERROR(reader.status());
  return model;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& folder) {
  const std::string path = JoinPath(folder, "config.json");
  if (!PathExists(path) && PathExists(JoinPath(folder, "adapter_config.json"))) {
    return InvalidArgument(folder + ": has adapter_config.json and no config.json: it is an " +
                           "adapter of PEFT, not a model; merge it into its base model " +
                           "(merge_and_unload) and save that");
  }
  BERTRAND_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kConfigBytesMax));
  BERTRAND_ASSIGN_OR_RETURN(const Json config,
                            Json::ParseOwned(std::move(text), path, Json::SameKeys::kLastCounts));
  return ParseModelConfig(config, path);
}

}  // namespace bertrand
