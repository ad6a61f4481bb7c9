#include "kernels/gpu/device_list.h"

#include <dlfcn.h>

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

}  // namespace

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() {
  static const absl::StatusOr<void*> half = LoadCudaHalf();
  if (!half.ok()) return half.status();
  const auto list =
      reinterpret_cast<decltype(&bertrand_cuda_device)>(dlsym(*half, "bertrand_cuda_device"));
  BERTRAND_CHECK(list != nullptr, "libbertrand_cuda.so is of another version");
  std::vector<CudaDevice> devices;
  while (true) {
    BertrandCudaDevice device{};
    const int result = list(static_cast<int>(devices.size()), &device);
    if (result < 0) return FailedPrecondition(std::string("CUDA: ") + device.text);
    if (result == 0) return devices;
    devices.push_back({device.text, device.major, device.minor, device.memory_bytes});
  }
}

}  // namespace bertrand
