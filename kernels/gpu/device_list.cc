#include "kernels/gpu/device_list.h"

#include <dlfcn.h>

#include <charconv>
#include <filesystem>
#include <system_error>

#include "kernels/gpu/cuda_half.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

// The CUDA half lies beside the executable, or where the loader looks.
absl::StatusOr<void*> LoadCudaHalf() {
  std::error_code error;
  const auto executable = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = (executable.parent_path() / "libbertrand_cuda.so").string();
  if (void* half = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL)) return half;
  const std::string first = dlerror();
  if (void* half = dlopen("libbertrand_cuda.so", RTLD_NOW | RTLD_LOCAL)) return half;
  return FailedPrecondition("the CUDA half cannot be loaded: " + first);
}

// A function of the CUDA half, which stays loaded.
template <typename Function>
absl::StatusOr<Function*> Find(const char* name) {
  static const absl::StatusOr<void*> half = LoadCudaHalf();
  if (!half.ok()) return half.status();
  auto* const function = reinterpret_cast<Function*>(dlsym(*half, name));
  if (function == nullptr) {
    return FailedPrecondition(std::string("libbertrand_cuda.so has no ") + name +
                              ": it is of another version");
  }
  return function;
}

}  // namespace

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() {
  BERTRAND_ASSIGN_OR_RETURN(const auto list,
                            Find<decltype(bertrand_cuda_device)>("bertrand_cuda_device"));
  std::vector<CudaDevice> devices;
  while (true) {
    BertrandCudaDevice device{};
    const int result = list(static_cast<int>(devices.size()), &device);
    if (result < 0) return FailedPrecondition(std::string("CUDA: ") + device.text);
    if (result == 0) return devices;
    devices.push_back({device.text, device.major, device.minor, device.memory_bytes});
  }
}

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const std::string& name, DType dtype,
                                                           const std::string& cache_folder) {
  int index = 0;
  if (name != "cuda") {
    const size_t begin = sizeof("cuda:") - 1;
    const char* const end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + begin, end, index);
    if (name.rfind("cuda:", 0) != 0 || error != std::errc() || rest != end || index < 0) {
      return InvalidArgument("device '" + name + "', expected cuda or cuda:N with N from 0 on");
    }
  }
  BERTRAND_ASSIGN_OR_RETURN(const auto create,
                            Find<decltype(bertrand_cuda_backend)>("bertrand_cuda_backend"));
  BertrandCudaBackend result{};
  create(index, name.c_str(), static_cast<int>(dtype), cache_folder.c_str(), &result);
  if (result.backend != nullptr) {
    return std::unique_ptr<Backend>(static_cast<Backend*>(result.backend));
  }
  return absl::Status(static_cast<absl::StatusCode>(result.error), result.text);
}

}  // namespace bertrand
