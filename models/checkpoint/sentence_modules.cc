#include "models/checkpoint/sentence_modules.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

constexpr uint64_t kConfigBytesMax = 16'000'000;
constexpr int64_t kWidthMax = 1 << 17;
constexpr size_t kModulesMax = 64;

// models/Pooling.py, in the order of concatenation, which is that of its forward().
struct NamedPooling {
  PoolingMode mode;
  std::string_view name;  // `pooling_mode`
  std::string_view flag;  // the older booleans
  bool flag_default;
};
constexpr std::array kPoolings = {
    NamedPooling{PoolingMode::kCls, "cls", "pooling_mode_cls_token", false},
    NamedPooling{PoolingMode::kMax, "max", "pooling_mode_max_tokens", false},
    NamedPooling{PoolingMode::kMean, "mean", "pooling_mode_mean_tokens", true},
    NamedPooling{PoolingMode::kMeanSqrtLen, "mean_sqrt_len_tokens",
                 "pooling_mode_mean_sqrt_len_tokens", false},
    NamedPooling{PoolingMode::kWeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens",
                 false},
    NamedPooling{PoolingMode::kLastToken, "lasttoken", "pooling_mode_lasttoken", false},
};

// torch.nn's classes by their last name.
struct NamedActivation {
  std::string_view name;
  Activation activation;
};
constexpr std::array kActivations = {
    NamedActivation{"Identity", Activation::kNone},
    NamedActivation{"Tanh", Activation::kTanh},
    NamedActivation{"ReLU", Activation::kRelu},
    NamedActivation{"GELU", Activation::kGeluErf},
    NamedActivation{"SiLU", Activation::kSilu},
    NamedActivation{"Sigmoid", Activation::kSigmoid},
};

std::string_view LastComponent(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

std::string LowerAscii(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

absl::StatusOr<Json> ReadJson(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kConfigBytesMax));
  return Json::ParseOwned(std::move(text), path, Json::SameKeys::kLastCounts);
}

// ---- Pooling
// --------------------------------------------------------------------------------------

// `pooling_mode`: a name, or in newer files a list of names.
void ReadPoolingNames(ConfigReader& reader, const Json& value, std::vector<PoolingMode>* modes) {
  std::array<bool, kPoolings.size()> wanted{};
  const auto add = [&](const Json& item) {
    const std::string* text = item.as_string();
    const std::string name = text == nullptr ? "" : LowerAscii(*text);
    for (size_t i = 0; i < kPoolings.size(); ++i) {
      if (kPoolings[i].name == name) {
        wanted[i] = true;
        return;
      }
    }
    reader.Fail("pooling_mode", "is " + Describe(item) + ", expected cls, max, mean, " +
                                    "mean_sqrt_len_tokens, weightedmean or lasttoken");
  };
  if (value.is_array()) {
    for (const Json& item : value.elements()) add(item);
  } else {
    add(value);
  }
  for (size_t i = 0; i < kPoolings.size(); ++i) {
    if (wanted[i]) modes->push_back(kPoolings[i].mode);
  }
}

absl::Status ReadPooling(const std::string& folder, SentenceModules* result) {
  const std::string path = JoinPath(folder, "config.json");
  BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
  ConfigReader reader(config, path);
  for (const auto& member : config.members()) {
    const std::string& key = member.first;
    const bool is_known = key == "pooling_mode" ||
                          std::any_of(kPoolings.begin(), kPoolings.end(),
                                      [&](const NamedPooling& entry) { return entry.flag == key; });
    if (key.starts_with("pooling_mode") && !is_known) {
      reader.FailUnimplemented(key, "is no pooling mode of this version");
    }
  }
  if (const Json* names = reader.Find("pooling_mode")) {
    ReadPoolingNames(reader, *names, &result->pooling);
  } else {
    for (const NamedPooling& entry : kPoolings) {
      if (reader.Bool(entry.flag, entry.flag_default)) result->pooling.push_back(entry.mode);
    }
  }
  if (result->pooling.empty()) reader.Fail("pooling_mode", "names no mode, expected at least one");
  result->include_prompt = reader.Bool("include_prompt", true);
  return reader.status();
}

// ---- Modules after the pooling
// --------------------------------------------------------------------

absl::Status CheckWeightsFile(const std::string& folder) {
  for (const char* file : {"model.safetensors", "pytorch_model.bin"}) {
    if (PathExists(JoinPath(folder, file))) return absl::OkStatus();
  }
  return NotFound(folder + " has no model.safetensors and no pytorch_model.bin");
}

absl::StatusOr<SentenceModule> ReadDense(const std::string& folder) {
  const std::string path = JoinPath(folder, "config.json");
  BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
  ConfigReader reader(config, path);
  SentenceModule module{SentenceModule::Kind::kDense, folder};
  module.in_features = reader.Int("in_features", 0, 1, kWidthMax);
  module.out_features = reader.Int("out_features", 0, 1, kWidthMax);
  if (module.in_features == 0) reader.Fail("in_features", "is missing");
  if (module.out_features == 0) reader.Fail("out_features", "is missing");
  module.has_bias = reader.Bool("bias", true);
  const std::string name = reader.String("activation_function", "torch.nn.modules.activation.Tanh");
  const auto known =
      std::find_if(kActivations.begin(), kActivations.end(),
                   [&](const NamedActivation& entry) { return entry.name == LastComponent(name); });
  if (known == kActivations.end()) {
    reader.FailUnimplemented(
        "activation_function",
        "is \"" + name + "\", served are Identity, Tanh, ReLU, GELU, SiLU and Sigmoid");
  } else {
    module.activation = known->activation;
  }
  for (const char* key : {"module_input_name", "module_output_name"}) {
    const std::string target = reader.String(key, "sentence_embedding");
    if (target != "sentence_embedding") {
      reader.FailUnimplemented(key, "is \"" + target + "\", \"sentence_embedding\" is served");
    }
  }
  BERTRAND_RETURN_IF_ERROR(reader.status());
  BERTRAND_RETURN_IF_ERROR(CheckWeightsFile(folder));
  return module;
}

absl::StatusOr<SentenceModule> ReadLayerNorm(const std::string& folder) {
  const std::string path = JoinPath(folder, "config.json");
  BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
  ConfigReader reader(config, path);
  SentenceModule module{SentenceModule::Kind::kLayerNorm, folder};
  module.in_features = module.out_features = reader.Int("dimension", 0, 1, kWidthMax);
  if (module.in_features == 0) reader.Fail("dimension", "is missing");
  BERTRAND_RETURN_IF_ERROR(reader.status());
  BERTRAND_RETURN_IF_ERROR(CheckWeightsFile(folder));
  return module;
}

// ---- The transformer's own file
// -------------------------------------------------------------------

// `model_args` and its like are keyword arguments for transformers: those that leave the
// mathematics as they are pass.
void CheckArguments(ConfigReader& reader) {
  constexpr std::array kHarmless = {
      std::string_view("add_pooling_layer"), std::string_view("attn_implementation"),
      std::string_view("device_map"),        std::string_view("dtype"),
      std::string_view("low_cpu_mem_usage"), std::string_view("torch_dtype"),
      std::string_view("trust_remote_code"), std::string_view("use_safetensors"),
  };
  for (const char* key : {"model_args", "tokenizer_args", "config_args"}) {
    const Json* arguments = reader.Find(key);
    if (arguments == nullptr) continue;
    for (const auto& [name, value] : arguments->members()) {
      const bool is_default = name == "use_fast" && value.as_bool() == true;
      if (!is_default && std::find(kHarmless.begin(), kHarmless.end(), name) == kHarmless.end()) {
        reader.FailUnimplemented(std::string(key) + "." + name, "is not served");
      }
    }
  }
}

absl::Status ReadTransformer(const std::string& folder, SentenceModules* result) {
  result->transformer_folder = folder;
  // models/Transformer.py, load_config: the first that exists.
  for (const char* name : {"sentence_bert_config.json", "sentence_roberta_config.json",
                           "sentence_distilbert_config.json", "sentence_camembert_config.json",
                           "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
                           "sentence_xlnet_config.json"}) {
    const std::string path = JoinPath(folder, name);
    if (!PathExists(path)) continue;
    BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
    if (config.members().empty() && config.is_object()) continue;
    ConfigReader reader(config, path);
    if (reader.Find("max_seq_length") != nullptr) {
      result->max_seq_length = reader.Int("max_seq_length", 0, 1, int64_t{1} << 31);
    }
    result->do_lower_case = reader.Bool("do_lower_case", false);
    CheckArguments(reader);
    return reader.status();
  }
  return absl::OkStatus();
}

absl::Status ReadPrompts(const std::string& folder, SentenceModules* result) {
  const std::string path = JoinPath(folder, "config_sentence_transformers.json");
  if (!PathExists(path)) return absl::OkStatus();
  BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
  ConfigReader reader(config, path);
  if (const Json* prompts = reader.Find("prompts")) {
    if (!prompts->is_object()) reader.Fail("prompts", "is " + Describe(*prompts));
    for (const auto& [name, text] : prompts->members()) {
      if (!text.is_string()) {
        reader.Fail("prompts", "has \"" + name + "\": " + Describe(text) + ", expected a string");
        break;
      }
      result->prompts[name] = *text.as_string();
    }
  }
  if (reader.Find("default_prompt_name") != nullptr) {
    const std::string name = reader.String("default_prompt_name", "");
    if (!result->prompts.contains(name)) {
      reader.Fail("default_prompt_name", "is \"" + name + "\", which prompts does not have");
    }
    result->default_prompt_name = name;
  }
  return reader.status();
}

// ---- modules.json
// ---------------------------------------------------------------------------------

struct ModuleEntry {
  std::string type;  // the last class name
  std::string folder;
};

absl::StatusOr<std::vector<ModuleEntry>> ReadModuleList(const std::string& folder) {
  const std::string path = JoinPath(folder, "modules.json");
  BERTRAND_ASSIGN_OR_RETURN(const Json list, ReadJson(path));
  if (!list.is_array() || list.elements().empty() || list.elements().size() > kModulesMax) {
    return InvalidArgument(path + ": expected an array of 1 to " + std::to_string(kModulesMax) +
                           " modules");
  }
  std::vector<ModuleEntry> modules;
  for (const Json& item : list.elements()) {
    ConfigReader reader(item, path + ": module " + std::to_string(modules.size()));
    const std::string type = reader.String("type", "");
    const std::string name = reader.String("path", "");
    if (type.empty()) reader.Fail("type", "is missing");
    if (!StaysInside(name)) {
      reader.Fail("path", "is \"" + name + "\", expected a folder inside the checkpoint's");
    }
    BERTRAND_RETURN_IF_ERROR(reader.status());
    modules.push_back({std::string(LastComponent(type)), JoinPath(folder, name)});
  }
  return modules;
}

absl::Status ReadSplade(const std::string& folder, SentenceModules* result) {
  const std::string path = JoinPath(folder, "config.json");
  BERTRAND_ASSIGN_OR_RETURN(const Json config, ReadJson(path));
  ConfigReader reader(config, path);
  const std::string strategy = reader.String("pooling_strategy", "max");
  const std::string activation = reader.String("activation_function", "relu");
  if (strategy != "max" && strategy != "sum") {
    reader.FailUnimplemented("pooling_strategy", "is \"" + strategy + "\", served are max and sum");
  }
  if (activation != "relu" && activation != "log1p_relu") {
    reader.FailUnimplemented("activation_function",
                             "is \"" + activation + "\", served are relu and log1p_relu");
  }
  result->sparse_sum = strategy == "sum";
  result->sparse_log_twice = activation == "log1p_relu";
  result->pooling = {PoolingMode::kMean};
  return reader.status();
}

absl::Status AddModule(const ModuleEntry& entry, size_t index, const std::string& path,
                       SentenceModules* result) {
  const std::string where = path + ": module " + std::to_string(index) + " is " + entry.type;
  const bool is_sparse = entry.type == "MLMTransformer";
  if ((entry.type == "Transformer" || is_sparse) != (index == 0)) {
    return Unimplemented(where + ", expected the first module, and no other, to be Transformer " +
                         "or MLMTransformer");
  }
  if (index == 0) {
    result->is_sparse = is_sparse;
    return ReadTransformer(entry.folder, result);
  }
  if (result->is_sparse != (entry.type == "SpladePooling") || (result->is_sparse && index > 1)) {
    return Unimplemented(where +
                         ", expected SpladePooling after MLMTransformer, nothing else, and " +
                         "nowhere else");
  }
  if (result->is_sparse) return ReadSplade(entry.folder, result);
  if (entry.type == "Dropout") return absl::OkStatus();
  if (entry.type == "Pooling") {
    if (!result->pooling.empty()) return Unimplemented(where + ", after another Pooling");
    return ReadPooling(entry.folder, result);
  }
  const bool is_dense = entry.type == "Dense", is_norm = entry.type == "LayerNorm";
  if (!is_dense && !is_norm && entry.type != "Normalize") {
    return Unimplemented(where +
                         ", which is not served; Transformer, Pooling, Dense, LayerNorm, "
                         "Normalize and Dropout are");
  }
  if (result->pooling.empty()) return InvalidArgument(where + ", before any Pooling");
  if (!is_dense && !is_norm) {
    // Its folder need not exist: it has nothing to say.
    result->modules.push_back({SentenceModule::Kind::kNormalize});
    return absl::OkStatus();
  }
  BERTRAND_ASSIGN_OR_RETURN(SentenceModule module,
                            is_dense ? ReadDense(entry.folder) : ReadLayerNorm(entry.folder));
  result->modules.push_back(std::move(module));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentenceModules> ReadSentenceModules(const std::string& folder) {
  SentenceModules result;
  result.prompts = {{"query", ""}, {"document", ""}};
  const std::string path = JoinPath(folder, "modules.json");
  if (!PathExists(path)) {
    result.transformer_folder = folder;
    result.pooling = {PoolingMode::kMean};
    result.notes.push_back(folder + " has no modules.json: mean pooling, not normalised");
    return result;
  }
  result.has_list = true;
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<ModuleEntry> entries, ReadModuleList(folder));
  for (size_t index = 0; index < entries.size(); ++index) {
    BERTRAND_RETURN_IF_ERROR(AddModule(entries[index], index, path, &result));
  }
  if (result.pooling.empty()) return Unimplemented(path + " has no Pooling module");
  BERTRAND_RETURN_IF_ERROR(ReadPrompts(folder, &result));
  return result;
}

}  // namespace bertrand
