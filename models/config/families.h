#pragma once

// config.json -> what the encoder is and where its weights lie. families.cc is the one place that
// knows families by name: another family is an entry there and, at most, a variant in
// EncoderConfig.
//
// The file is untrusted: sizes are bounded here so that no product overflows, and memory is made
// only after the weights' files have shown tensors of these shapes. A key that changes mathematics
// and is not implemented is Unimplemented, by its name.

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/config/encoder_config.h"
#include "models/config/head_config.h"
#include "models/model.h"

namespace bertrand {

struct ModelConfig {
  Family family{};
  std::string architecture;  // the first of `architectures`; empty when config.json has none
  EncoderConfig encoder;
  EncoderNames names;
  HeadConfig heads;
};

// `path` goes into messages.
absl::StatusOr<ModelConfig> ParseModelConfig(const Json& config, const std::string& path);
// From FOLDER/config.json.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& folder);

}  // namespace bertrand
