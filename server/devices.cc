#include "server/devices.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "kernels/status.h"

namespace bertrand {

absl::StatusOr<std::vector<std::string>> ParseDevices(const std::string& device) {
  if (device == "auto") return std::vector<std::string>{"cpu"};
  const size_t colon = device.find(':');
  if (colon == std::string::npos) return std::vector<std::string>{std::string(device)};
  std::vector<std::string> names;
  for (const std::string& index :
       std::vector<std::string>(absl::StrSplit(device.substr(colon + 1), ','))) {
    uint32_t number = 0;
    std::string name = absl::StrCat(device.substr(0, colon + 1), index);
    if (!absl::SimpleAtoi(index, &number) || absl::StrCat(number) != index ||
        std::find(names.begin(), names.end(), name) != names.end()) {
      return InvalidArgument(absl::StrCat("\"", device,
                                          "\", expected different numbers from 0 on after the "
                                          "colon, such as cuda:0,1"));
    }
    names.push_back(std::move(name));
  }
  return names;
}

bool IsGpu(const std::string& device) {
  const std::string kind = device.substr(0, device.find(':'));
  return kind == "cuda" || kind == "emulated";
}

absl::StatusOr<DType> ChooseType(const std::string& dtype, const std::string& device,
                                 DType stored) {
  const DType narrow = stored == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat16;
  if (dtype == "auto") return IsGpu(device) ? narrow : DType::kFloat32;
  if (dtype == Name(DType::kFloat8)) {
    if (IsGpu(device)) return narrow;
    return InvalidArgument(
        absl::StrCat("float8 needs a GPU of compute capability 8.9 (Ada, Hopper) or later: ",
                     "--device cuda; the device is \"", device, "\""));
  }
  for (const DType known : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    if (dtype == Name(known)) return known;
  }
  return InvalidArgument(
      absl::StrCat("\"", dtype, "\", expected auto, float32, float16, bfloat16 or float8"));
}

absl::StatusOr<const Backend*> Devices::For(size_t device, DType stored) {
  const std::string& name = names_[device];
  const auto dtype = ChooseType(dtype_, name, stored);
  if (!dtype.ok()) return Annotate(dtype.status(), "--dtype");
  std::unique_ptr<Backend>& backend = backends_[{device, *dtype}];
  if (backend == nullptr) {
    auto made = CreateBackend(name, pool_, *dtype, cache_folder_);
    if (!made.ok()) return Annotate(made.status(), "--device, --dtype");
    backend = *std::move(made);
  }
  if (is_float8()) {
    BERTRAND_RETURN_IF_ERROR(Annotate(backend->CheckFloat8(), "--device, --dtype"));
  }
  return backend.get();
}

absl::StatusOr<TuningReport> Devices::Tune(int64_t max_tokens, std::chrono::milliseconds time,
                                           bool unverified) const {
  TuningReport all;
  for (const auto& [key, backend] : backends_) {
    const auto found = backend->Tune(max_tokens, time, unverified);
    if (!found.ok()) return Annotate(found.status(), backend->name());
    for (const std::string& line : found->shapes) {
      all.shapes.push_back(backend->name() + ": " + line);
    }
    for (const std::string& line : found->notes) {
      all.notes.push_back(backend->name() + ": " + line);
    }
  }
  return all;
}

}  // namespace bertrand
