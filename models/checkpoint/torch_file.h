#pragma once

// pytorch_model.bin: a state dict as torch.save writes it, in both of its formats.
//
//   zip (torch 1.6 and later)       NAME/data.pkl    the dict, with tensors as views of storages
//                                   NAME/data/KEY    a storage's elements
//                                   NAME/byteorder   "little" or "big"; may be absent
//   legacy                          pickles of a magic number, a version, the machine's sizes, the
//                                   dict, and the storages' keys; then for each key its number of
//                                   elements (int64) and these
//
// Follows torch/serialization.py and torch/_utils.py of PyTorch 2. The file is untrusted: pickles
// are read by pickle.h, which executes nothing; every tensor must lie within its storage, every
// storage must be in the file with exactly the bytes that the dict says, and tensors that share
// storages may be kSharingMax times the file together, so that memory is bounded by its size.
// What is no tensor in the dict is left out.

#include <absl/status/statusor.h>

#include <string>

#include "models/checkpoint/tensor_file.h"

namespace bertrand {

// Tied weights are named twice, some three times.
inline constexpr uint64_t kSharingMax = 4;

absl::StatusOr<TensorFile> OpenTorchFile(const std::string& path);

}  // namespace bertrand
