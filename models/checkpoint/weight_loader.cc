#include "models/checkpoint/weight_loader.h"

#include <algorithm>
#include <new>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// Tables go to the device in pieces of at most this many values (16 MB).
constexpr int64_t kPieceSize = int64_t{4} << 20;

}  // namespace

WeightLoader::WeightLoader(const WeightFiles& files, const Backend& backend,
                           std::string_view prefix, std::string_view anchor)
    : files_(files), backend_(backend) {
  const std::string with_prefix = std::string(prefix) + std::string(anchor) + ".weight";
  if (files.Has(with_prefix)) prefix_ = prefix;
}

std::string WeightLoader::WeightName(std::string_view name) const {
  const std::string base = prefix_ + std::string(name);
  return !files_.Has(base + ".weight") && files_.Has(base + ".gamma") ? base + ".gamma"
                                                                      : base + ".weight";
}

std::string WeightLoader::BiasName(std::string_view name) const {
  const std::string base = prefix_ + std::string(name);
  return !files_.Has(base + ".bias") && files_.Has(base + ".beta") ? base + ".beta"
                                                                   : base + ".bias";
}

bool WeightLoader::Has(std::string_view name) const { return files_.Has(WeightName(name)); }

bool WeightLoader::HasPart(std::string_view name) const {
  return Has(name) || files_.Has(BiasName(name));
}

bool WeightLoader::FitsLinear(std::string_view name, int64_t out_features, int64_t in_features,
                              bool with_bias) const {
  return files_.Check(WeightName(name), {out_features, in_features}).ok() &&
         (!with_bias || files_.Check(BiasName(name), {out_features}).ok());
}

bool WeightLoader::FitsNorm(std::string_view name, int64_t size) const {
  return files_.Check(WeightName(name), {size}).ok() && files_.Check(BiasName(name), {size}).ok();
}

absl::StatusOr<DeviceTensor> WeightLoader::Table(std::string_view name, int64_t rows,
                                                 int64_t columns) {
  const std::string tensor_name = WeightName(name);
  BERTRAND_RETURN_IF_ERROR(files_.Check(tensor_name, {rows, columns}));
  return Upload(tensor_name, rows, columns, /*is_vector=*/false);
}

absl::StatusOr<DeviceTensor> WeightLoader::Vector(const std::string& tensor_name, int64_t size) {
  BERTRAND_RETURN_IF_ERROR(files_.Check(tensor_name, {size}));
  return Upload(tensor_name, 1, size, /*is_vector=*/true);
}

absl::StatusOr<NormWeights> WeightLoader::Norm(std::string_view name, int64_t size) {
  NormWeights norm;
  BERTRAND_ASSIGN_OR_RETURN(norm.gamma, Vector(WeightName(name), size));
  BERTRAND_ASSIGN_OR_RETURN(norm.beta, Vector(BiasName(name), size));
  return norm;
}

absl::StatusOr<DeviceTensor> WeightLoader::Upload(const std::string& tensor_name, int64_t rows,
                                                  int64_t columns, bool is_vector) {
  used_.insert(tensor_name);
  DeviceTensor tensor;
  if (pass_ == Pass::kCheck) return tensor;
  const DType dtype = backend_.activation_dtype();
  const size_t row_bytes = static_cast<size_t>(columns) * SizeOf(dtype);
  BERTRAND_ASSIGN_OR_RETURN(tensor.buffer,
                            backend_.Allocate(static_cast<size_t>(rows) * row_bytes));
  void* const data = tensor.buffer->data();
  tensor.view =
      is_vector ? TensorView(data, dtype, {columns}) : TensorView(data, dtype, {rows, columns});
  const int64_t rows_each = std::max<int64_t>(1, kPieceSize / columns);
  for (int64_t row = 0; row < rows; row += rows_each) {
    const int64_t size = std::min(rows_each, rows - row);
    BERTRAND_ASSIGN_OR_RETURN(const std::span<float> piece,
                              Scratch(static_cast<size_t>(size * columns)));
    BERTRAND_RETURN_IF_ERROR(files_.Read(tensor_name, row * columns, piece));
    const TensorView to(static_cast<char*>(data) + static_cast<size_t>(row) * row_bytes, dtype,
                        {size, columns});
    const absl::Status status = backend_.Upload(piece, to);
    if (!status.ok()) return Annotate(status, "tensor \"" + tensor_name + "\"");
  }
  num_parameters_ += static_cast<uint64_t>(rows * columns);
  weight_bytes_ += tensor.buffer->size_bytes();
  return tensor;
}

absl::StatusOr<std::unique_ptr<PackedLinear>> WeightLoader::Linear(
    std::span<const std::string> names, int64_t out_features_each, int64_t in_features,
    bool with_bias, float input_max) {
  const auto part_size = static_cast<size_t>(out_features_each * in_features);
  const auto bias_size = with_bias ? static_cast<size_t>(out_features_each) : 0;
  const auto num_parts = names.size();
  std::span<float> values;
  if (pass_ == Pass::kLoad) {
    BERTRAND_ASSIGN_OR_RETURN(values, Scratch(num_parts * (part_size + bias_size)));
  }
  const std::span<float> weight = values.first(std::min(values.size(), num_parts * part_size));
  const std::span<float> bias = values.subspan(weight.size());
  for (size_t part = 0; part < num_parts; ++part) {
    const std::string weight_name = WeightName(names[part]);
    BERTRAND_RETURN_IF_ERROR(files_.Check(weight_name, {out_features_each, in_features}));
    used_.insert(weight_name);
    const std::string bias_name = BiasName(names[part]);
    if (with_bias) {
      BERTRAND_RETURN_IF_ERROR(files_.Check(bias_name, {out_features_each}));
      used_.insert(bias_name);
    }
    if (pass_ == Pass::kCheck) continue;
    BERTRAND_RETURN_IF_ERROR(
        files_.Read(weight_name, 0, weight.subspan(part * part_size, part_size)));
    if (with_bias) {
      BERTRAND_RETURN_IF_ERROR(
          files_.Read(bias_name, 0, bias.subspan(part * bias_size, bias_size)));
    }
  }
  if (pass_ == Pass::kCheck) return std::unique_ptr<PackedLinear>();
  return Pack(WeightName(names[0]), weight, bias,
              static_cast<int64_t>(num_parts) * out_features_each, in_features, input_max);
}

absl::StatusOr<std::unique_ptr<PackedLinear>> WeightLoader::LinearOf(const std::string& weight,
                                                                     const std::string& bias,
                                                                     int64_t out_features,
                                                                     int64_t in_features) {
  BERTRAND_RETURN_IF_ERROR(files_.Check(weight, {out_features, in_features}));
  if (!bias.empty()) BERTRAND_RETURN_IF_ERROR(files_.Check(bias, {out_features}));
  MarkUsed(weight);
  if (!bias.empty()) MarkUsed(bias);
  if (pass_ == Pass::kCheck) return std::unique_ptr<PackedLinear>();
  const auto weight_size = static_cast<size_t>(out_features * in_features);
  const size_t bias_size = bias.empty() ? 0 : static_cast<size_t>(out_features);
  BERTRAND_ASSIGN_OR_RETURN(const std::span<float> values, Scratch(weight_size + bias_size));
  BERTRAND_RETURN_IF_ERROR(files_.Read(weight, 0, values.first(weight_size)));
  if (bias_size > 0) BERTRAND_RETURN_IF_ERROR(files_.Read(bias, 0, values.subspan(weight_size)));
  return Pack(weight, values.first(weight_size), values.subspan(weight_size), out_features,
              in_features);
}

absl::StatusOr<std::unique_ptr<PackedLinear>> WeightLoader::Pack(
    const std::string& tensor_name, std::span<const float> weight, std::span<const float> bias,
    int64_t out_features, int64_t in_features, float input_max) {
  num_parameters_ += weight.size() + bias.size();
  auto linear = input_max > 0
                    ? backend_.PackFloat8(weight, bias, out_features, in_features, input_max)
                    : backend_.PackLinear(weight, bias, out_features, in_features);
  if (!linear.ok()) return Annotate(linear.status(), "tensor \"" + tensor_name + "\"");
  weight_bytes_ += (*linear)->size_bytes();
  return linear;
}

absl::StatusOr<std::unique_ptr<PackedLinear>> WeightLoader::IntoHeads(
    std::span<const std::string> names, int64_t hidden, int64_t heads, int64_t head_size,
    float input_max) {
  const int64_t width = heads * head_size;
  for (const std::string& name : names) {
    BERTRAND_RETURN_IF_ERROR(files_.Check(prefix_ + name, {hidden, heads, head_size}));
    MarkUsed(prefix_ + name);
  }
  if (pass_ == Pass::kCheck) return std::unique_ptr<PackedLinear>();
  const auto part_size = static_cast<size_t>(hidden * width);
  BERTRAND_ASSIGN_OR_RETURN(const std::span<float> weight, Scratch(names.size() * part_size));
  for (size_t part = 0; part < names.size(); ++part) {
    BERTRAND_RETURN_IF_ERROR(ReadTransposed(prefix_ + names[part], hidden, width,
                                            weight.subspan(part * part_size, part_size)));
  }
  return Pack(prefix_ + names[0], weight, {}, static_cast<int64_t>(names.size()) * width, hidden,
              input_max);
}

absl::StatusOr<std::unique_ptr<PackedLinear>> WeightLoader::OutOfHeads(
    std::string_view name, int64_t hidden, int64_t heads, int64_t head_size, float input_max) {
  const std::string tensor_name = prefix_ + std::string(name);
  BERTRAND_RETURN_IF_ERROR(files_.Check(tensor_name, {hidden, heads, head_size}));
  MarkUsed(tensor_name);
  if (pass_ == Pass::kCheck) return std::unique_ptr<PackedLinear>();
  const int64_t width = heads * head_size;
  BERTRAND_ASSIGN_OR_RETURN(const std::span<float> weight,
                            Scratch(static_cast<size_t>(hidden * width)));
  BERTRAND_RETURN_IF_ERROR(files_.Read(tensor_name, 0, weight));
  return Pack(tensor_name, weight, {}, hidden, width, input_max);
}

absl::StatusOr<DeviceTensor> WeightLoader::OfHeads(std::string_view name, int64_t count,
                                                   int64_t heads, int64_t head_size) {
  const std::string tensor_name = prefix_ + std::string(name);
  BERTRAND_RETURN_IF_ERROR(count > 0 ? files_.Check(tensor_name, {count, heads, head_size})
                                     : files_.Check(tensor_name, {heads, head_size}));
  BERTRAND_ASSIGN_OR_RETURN(
      DeviceTensor tensor,
      Upload(tensor_name, std::max<int64_t>(count, 1) * heads, head_size, /*is_vector=*/false));
  if (count > 0 && tensor.view) {
    tensor.view = {tensor.view.data(), tensor.view.dtype(), {count, heads, head_size}};
  }
  return tensor;
}

// [rows, columns] in the file, [columns, rows] in `out`; some rows at a time, which stay in the
// cache while they are spread.
absl::Status WeightLoader::ReadTransposed(const std::string& tensor_name, int64_t rows,
                                          int64_t columns, std::span<float> out) const {
  constexpr int64_t kRowsEach = 16;
  std::vector<float> piece(static_cast<size_t>(std::min(rows, kRowsEach) * columns));
  for (int64_t row = 0; row < rows; row += kRowsEach) {
    const auto count = static_cast<size_t>(std::min(kRowsEach, rows - row));
    const std::span<float> read = std::span(piece).first(count * static_cast<size_t>(columns));
    BERTRAND_RETURN_IF_ERROR(files_.Read(tensor_name, row * columns, read));
    for (size_t column = 0; column < static_cast<size_t>(columns); ++column) {
      float* const to = &out[column * static_cast<size_t>(rows) + static_cast<size_t>(row)];
      for (size_t i = 0; i < count; ++i) to[i] = read[i * static_cast<size_t>(columns) + column];
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<float>> WeightLoader::Scratch(size_t size) {
  if (size > scratch_size_) {
    scratch_size_ = 0;
    scratch_.reset();
    // Not filled with zeros: it is overwritten at once.
    scratch_.reset(new (std::nothrow) float[size]);
    if (scratch_ == nullptr) {
      return ResourceExhausted("no host memory for " + std::to_string(size) + " weights");
    }
    scratch_size_ = size;
  }
  return std::span<float>(scratch_.get(), size);
}

std::string WeightLoader::UnusedNote(std::span<const std::string> ignored_suffixes) const {
  constexpr size_t kNamedMax = 200;
  std::string named;
  size_t count = 0;
  for (const std::string& name : files_.Names()) {
    const bool is_ignored =
        std::any_of(ignored_suffixes.begin(), ignored_suffixes.end(),
                    [&name](const std::string& suffix) { return name.ends_with(suffix); });
    if (is_ignored || used_.contains(name)) continue;
    if (++count <= kNamedMax) named += (count > 1 ? ", " : "") + name;
  }
  if (count == 0) return "";
  if (count > kNamedMax) named += ", ...";
  return files_.path() + ": " + std::to_string(count) + " tensors are not used: " + named;
}

}  // namespace bertrand
