#include "models/encoder/float8_inputs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

constexpr int64_t kVersion = 1;
constexpr char kType[] = "float8_e4m3";
constexpr uint64_t kFileBytesMax = 4 << 20;
// No input of a layer is beyond these, whose scales and their reciprocals are plain float32.
constexpr double kLeast = 1e-12, kMost = 1e12;

struct Field {
  const char* name;
  float BlockInputs::*value;
};
constexpr std::array kFields = {Field{"qkv", &BlockInputs::qkv}, Field{"out", &BlockInputs::out},
                                Field{"up", &BlockInputs::up}, Field{"down", &BlockInputs::down}};

std::string BlockName(size_t index, std::string_view field = "") {
  return "blocks[" + std::to_string(index) + "]" + (field.empty() ? "" : ".") + std::string(field);
}

// A member that must be there, and nothing but `names` may.
absl::Status CheckMembers(const Json& object, const std::string& where,
                          std::span<const std::string_view> names) {
  if (!object.is_object()) {
    return InvalidArgument(where + " is " + object.KindName() + ", expected an object");
  }
  for (const std::string_view name : names) {
    if (object.Find(name) == nullptr) {
      return InvalidArgument(where + ": " + std::string(name) + " is missing");
    }
  }
  for (const auto& [name, value] : object.members()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return InvalidArgument(where + ": " + Describe(value) + " of a name that is not known, \"" +
                             name.substr(0, 60) + "\"");
    }
  }
  return absl::OkStatus();
}

absl::Status Wrong(const std::string& path, std::string_view field, const Json& value,
                   const std::string& expected) {
  return InvalidArgument(path + ": " + std::string(field) + " is " + Describe(value) +
                         ", expected " + expected);
}

absl::Status CheckMark(const Json& file, const std::string& path, const CheckpointMark& mark) {
  const char* const again =
      "; the file is another checkpoint's: make it again with `bertrand "
      "calibrate`";
  const std::pair<const char*, int64_t> sizes[] = {{"num_blocks", mark.num_blocks},
                                                   {"hidden_size", mark.hidden_size},
                                                   {"intermediate_size", mark.intermediate_size}};
  for (const auto& [name, size] : sizes) {
    const Json& value = *file.Find(name);
    if (value.as_int() != size) return Wrong(path, name, value, std::to_string(size) + again);
  }
  const Json& weights = *file.Find("weights");
  const std::string* const hash = weights.as_string();
  if (hash == nullptr || *hash != mark.weights) {
    return Wrong(path, "weights", weights, "\"" + mark.weights + "\"" + again);
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockInputs> ReadBlock(const Json& block, size_t index, const std::string& path) {
  std::array<std::string_view, kFields.size()> names;
  std::transform(kFields.begin(), kFields.end(), names.begin(),
                 [](const Field& field) { return field.name; });
  BERTRAND_RETURN_IF_ERROR(CheckMembers(block, path + ": " + BlockName(index), names));
  BlockInputs inputs;
  for (const Field& field : kFields) {
    const Json& value = *block.Find(field.name);
    const std::optional<double> number = value.as_number();
    if (!number || !(*number >= kLeast && *number <= kMost)) {
      return Wrong(path, BlockName(index, field.name), value, "a number from 1e-12 to 1e12");
    }
    inputs.*field.value = static_cast<float>(*number);
  }
  return inputs;
}

}  // namespace

size_t NumBlocks(const EncoderConfig& config) {
  return static_cast<size_t>(config.num_groups * config.blocks_per_layer);
}

absl::Status CheckFloat8Sizes(const EncoderConfig& config) {
  if (config.num_layers == 0) {
    return InvalidArgument("float8: the checkpoint has no layers; use another --dtype");
  }
  const struct {
    const char* name;
    int64_t size, multiple;
  } sizes[] = {{"hidden states", config.hidden_size, kFloat8Multiple},
               {"inner states", config.intermediate_size, kFloat8Multiple},
               {"heads", config.head_size, kFloat8HeadMultiple}};
  for (const auto& [name, size, multiple] : sizes) {
    if (size % multiple == 0) continue;
    return InvalidArgument("float8: the checkpoint's " + std::string(name) + " have " +
                           std::to_string(size) + " values, expected a multiple of " +
                           std::to_string(multiple) + "; use another --dtype");
  }
  if (config.hidden_size > kFloat8HiddenMax) {
    return InvalidArgument("float8: the checkpoint's hidden states have " +
                           std::to_string(config.hidden_size) + " values, expected at most " +
                           std::to_string(kFloat8HiddenMax) + "; use another --dtype");
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointMark> MarkOf(const EncoderConfig& config, const WeightFiles& files) {
  BERTRAND_ASSIGN_OR_RETURN(std::string weights, files.Fingerprint());
  return CheckpointMark{static_cast<int64_t>(NumBlocks(config)), config.hidden_size,
                        config.intermediate_size, std::move(weights)};
}

absl::StatusOr<std::string> FormatFloat8Inputs(const CheckpointMark& mark,
                                               std::span<const BlockInputs> inputs, int64_t texts,
                                               int64_t tokens) {
  std::string text = "{\n  \"version\": " + std::to_string(kVersion) + ",\n  \"dtype\": \"" +
                     kType + "\",\n  \"num_blocks\": " + std::to_string(mark.num_blocks) +
                     ",\n  \"hidden_size\": " + std::to_string(mark.hidden_size) +
                     ",\n  \"intermediate_size\": " + std::to_string(mark.intermediate_size) +
                     ",\n  \"weights\": \"" + mark.weights +
                     "\",\n  \"num_texts\": " + std::to_string(texts) +
                     ",\n  \"num_tokens\": " + std::to_string(tokens) + ",\n  \"blocks\": [";
  for (size_t index = 0; index < inputs.size(); ++index) {
    text += index == 0 ? "\n    {" : ",\n    {";
    for (const Field& field : kFields) {
      const float value = inputs[index].*field.value;
      if (!(value >= kLeast && value <= kMost)) {
        return FailedPrecondition("the input of " + BlockName(index, field.name) +
                                  " had a largest magnitude of " + std::to_string(value) +
                                  ", expected from 1e-12 to 1e12: there is no scale for it");
      }
      char number[32];
      std::snprintf(number, sizeof(number), "%.9g", double{value});
      text +=
          (&field == kFields.data() ? "\"" : ", \"") + std::string(field.name) + "\": " + number;
    }
    text += "}";
  }
  return text + "\n  ]\n}\n";
}

absl::StatusOr<std::vector<BlockInputs>> ReadFloat8Inputs(const std::string& path,
                                                          const CheckpointMark& mark) {
  BERTRAND_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kFileBytesMax));
  BERTRAND_ASSIGN_OR_RETURN(const Json file, Json::ParseOwned(std::move(text), path));
  // The version first: another one may have other members.
  if (const Json* version = file.Find("version");
      version != nullptr && version->as_int() != kVersion) {
    return Wrong(path, "version", *version, std::to_string(kVersion));
  }
  constexpr std::string_view kNames[] = {
      "version", "dtype",     "num_blocks", "hidden_size", "intermediate_size",
      "weights", "num_texts", "num_tokens", "blocks"};
  BERTRAND_RETURN_IF_ERROR(CheckMembers(file, path, kNames));
  const Json& type = *file.Find("dtype");
  if (type.as_string() == nullptr || *type.as_string() != kType) {
    return Wrong(path, "dtype", type, "\"" + std::string(kType) + "\"");
  }
  BERTRAND_RETURN_IF_ERROR(CheckMark(file, path, mark));
  for (const char* name : {"num_texts", "num_tokens"}) {
    const Json& value = *file.Find(name);
    if (!value.as_int() || *value.as_int() < 1) return Wrong(path, name, value, "1 or more");
  }
  const Json& blocks = *file.Find("blocks");
  if (!blocks.is_array()) return Wrong(path, "blocks", blocks, "an array");
  if (static_cast<int64_t>(blocks.elements().size()) != mark.num_blocks) {
    return InvalidArgument(path + ": blocks has " + std::to_string(blocks.elements().size()) +
                           " elements, expected " + std::to_string(mark.num_blocks));
  }
  std::vector<BlockInputs> inputs;
  for (const Json& block : blocks.elements()) {
    BERTRAND_ASSIGN_OR_RETURN(inputs.emplace_back(), ReadBlock(block, inputs.size(), path));
  }
  return inputs;
}

}  // namespace bertrand
