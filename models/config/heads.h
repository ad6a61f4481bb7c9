#pragma once

// config.json -> HeadConfig, beside families.h: the other place that knows families by name.

#include "models/checkpoint/config_reader.h"
#include "models/config/encoder_config.h"
#include "models/config/head_config.h"

namespace bertrand {

// `architectures`: config.json's, none when it has none. Errors go into `reader`.
HeadConfig ReadHeadConfig(ConfigReader& reader, Family family,
                          const std::vector<std::string>& architectures,
                          const EncoderConfig& encoder);

}  // namespace bertrand
