#pragma once

// Weights from a checkpoint's files onto a device, tensor by tensor.
//
// Loading runs in two passes over the same list of weights: kCheck looks up every name and compares
// every shape, so that a wrong checkpoint fails before memory is made for it; kLoad reads, packs
// and uploads. Host memory is that of the largest linear layer; tables go through in pieces.
//
// Names are resolved as checkpoints vary: with or without a prefix, and NAME.gamma, NAME.beta for
// NAME.weight, NAME.bias (transformers' modeling_utils.py renames them so).
//
// Used by one thread. `files` and `backend` must outlive the loader.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint/weight_files.h"

namespace bertrand {

// Device memory with its shape.
struct DeviceTensor {
  std::unique_ptr<Buffer> buffer;
  TensorView view;
};

struct NormWeights {
  DeviceTensor gamma, beta;
};

class WeightLoader {
 public:
  enum class Pass : uint8_t { kCheck, kLoad };

  // The prefix is taken when PREFIX + anchor + ".weight" is there.
  WeightLoader(const WeightFiles& files, const Backend& backend, std::string_view prefix,
               std::string_view anchor);

  // In kCheck the functions below fill nothing in.
  void set_pass(Pass pass) { pass_ = pass; }

  bool Has(std::string_view name) const;
  // NAME's weight, or its bias alone.
  bool HasPart(std::string_view name) const;
  // Whether Linear and Norm would find tensors of these shapes.
  bool FitsLinear(std::string_view name, int64_t out_features, int64_t in_features,
                  bool with_bias = true) const;
  bool FitsNorm(std::string_view name, int64_t size) const;
  // The same by a tensor's whole name, prefix included.
  bool HasTensor(std::string_view tensor_name) const { return files_.Has(tensor_name); }
  // NAME.weight [rows, columns].
  absl::StatusOr<DeviceTensor> Table(std::string_view name, int64_t rows, int64_t columns);
  // NAME.weight and NAME.bias [size].
  absl::StatusOr<NormWeights> Norm(std::string_view name, int64_t size);
  // Layers of one input, fused into one of `names.size() * out_features_each` outputs: NAME.weight
  // [out, in] and, with_bias, NAME.bias [out] of each, one below the other. Here and below, an
  // input_max above 0 asks for float8 (Backend::PackFloat8).
  absl::StatusOr<std::unique_ptr<PackedLinear>> Linear(std::span<const std::string> names,
                                                       int64_t out_features_each,
                                                       int64_t in_features, bool with_bias = true,
                                                       float input_max = 0);

  // The same of tensors whose whole names these are, without biases, [hidden, heads, head_size] and
  // to be read as [in, out]: hidden -> names.size() * heads * head_size.
  absl::StatusOr<std::unique_ptr<PackedLinear>> IntoHeads(std::span<const std::string> names,
                                                          int64_t hidden, int64_t heads,
                                                          int64_t head_size, float input_max = 0);
  // One such tensor read as [out, in]: heads * head_size -> hidden.
  absl::StatusOr<std::unique_ptr<PackedLinear>> OutOfHeads(std::string_view name, int64_t hidden,
                                                           int64_t heads, int64_t head_size,
                                                           float input_max = 0);
  // A tensor whose whole name this is: [heads, head_size], or [count, heads, head_size] for a count
  // above 0.
  absl::StatusOr<DeviceTensor> OfHeads(std::string_view name, int64_t count, int64_t heads,
                                       int64_t head_size);

  // A layer of tensors by their full names, without looking for another: the weight [out, in], and
  // the bias [out] unless it is empty.
  absl::StatusOr<std::unique_ptr<PackedLinear>> LinearOf(const std::string& weight,
                                                         const std::string& bias,
                                                         int64_t out_features, int64_t in_features);

  // Of the kLoad pass.
  uint64_t num_parameters() const { return num_parameters_; }
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Full names of the tensors that were asked for, and one that is known and not needed.
  const std::set<std::string, std::less<>>& used_tensors() const { return used_; }
  void MarkUsed(const std::string& tensor_name) { used_.insert(tensor_name); }

  // The tensors that nothing asked for, but for those that end with one of `ignored_suffixes`; as
  // one line for the log, empty when there are none.
  std::string UnusedNote(std::span<const std::string> ignored_suffixes) const;

 private:
  // The name under which the file has the weight or bias of `name`; when it has none, the plain
  // one.
  std::string WeightName(std::string_view name) const;
  std::string BiasName(std::string_view name) const;
  absl::StatusOr<DeviceTensor> Vector(const std::string& tensor_name, int64_t size);
  absl::StatusOr<DeviceTensor> Upload(const std::string& tensor_name, int64_t rows, int64_t columns,
                                      bool is_vector);
  absl::Status ReadTransposed(const std::string& tensor_name, int64_t rows, int64_t columns,
                              std::span<float> out) const;
  // `tensor_name` is for errors.
  absl::StatusOr<std::unique_ptr<PackedLinear>> Pack(const std::string& tensor_name,
                                                     std::span<const float> weight,
                                                     std::span<const float> bias,
                                                     int64_t out_features, int64_t in_features,
                                                     float input_max = 0);
  absl::StatusOr<std::span<float>> Scratch(size_t size);

  const WeightFiles& files_;
  const Backend& backend_;
  std::string prefix_;
  Pass pass_ = Pass::kCheck;
  std::set<std::string, std::less<>> used_;
  uint64_t num_parameters_ = 0, weight_bytes_ = 0;
  std::unique_ptr<float[]> scratch_;
  size_t scratch_size_ = 0;
};

}  // namespace bertrand
