#pragma once

// What is known of the blocks' inputs before they run in float8 (docs/fp8.md): the largest
// magnitude that each product's input had for some texts, and the file in which that is kept.
//
// The file is untrusted, as all of a checkpoint's folder: every number is checked, and it is
// refused for another checkpoint than the one it was made with.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/checkpoint/weight_files.h"
#include "models/config/encoder_config.h"

namespace bertrand {

// The largest magnitudes of what a block's four products read: the hidden states, attention's
// output, the hidden states again, the activation's results.
struct BlockInputs {
  float qkv = 0, out = 0, up = 0, down = 0;
};

// In the checkpoint's folder.
inline constexpr char kFloat8FileName[] = "bertrand-fp8.json";

// Blocks with weights of their own. Layers that share them share the inputs' scales.
size_t NumBlocks(const EncoderConfig& config);

// InvalidArgument names the size that products in float8 do not take (kernels/backend.h).
absl::Status CheckFloat8Sizes(const EncoderConfig& config);

// What tells checkpoints apart: sizes, and a hash over the names, the shapes and the first values
// of all tensors.
struct CheckpointMark {
  int64_t num_blocks = 0, hidden_size = 0, intermediate_size = 0;
  std::string weights;  // 16 hexadecimal digits
};
absl::StatusOr<CheckpointMark> MarkOf(const EncoderConfig& config, const WeightFiles& files);

// The file's text. FailedPrecondition names a product whose input was never anything but 0, or not
// finite. `texts`, `tokens`: what it was made with, for people.
absl::StatusOr<std::string> FormatFloat8Inputs(const CheckpointMark& mark,
                                               std::span<const BlockInputs> inputs, int64_t texts,
                                               int64_t tokens);

// As many as mark.num_blocks. NotFound: there is no such file. InvalidArgument names the file and
// the field, or says that it is another checkpoint's.
absl::StatusOr<std::vector<BlockInputs>> ReadFloat8Inputs(const std::string& path,
                                                          const CheckpointMark& mark);

}  // namespace bertrand
