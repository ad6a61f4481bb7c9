#include <cstdio>
#include <memory>
#include <utility>

#include "kernels/gpu/cuda_half.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

absl::StatusOr<std::unique_ptr<Backend>> Create(int index, const char* name, int dtype,
                                                const char* cache_folder) {
  BERTRAND_ASSIGN_OR_RETURN(std::unique_ptr<simt::Device> device, simt::Device::Open(index));
  return gpu::CreateGpuBackend(std::move(device),
                               {name, static_cast<DType>(dtype), {.cache_folder = cache_folder}});
}

}  // namespace
}  // namespace bertrand

extern "C" void bertrand_cuda_backend(int index, const char* name, int dtype,
                                      const char* cache_folder, BertrandCudaBackend* result) {
  auto backend = bertrand::Create(index, name, dtype, cache_folder);
  *result = {};
  if (backend.ok()) {
    result->backend = backend->release();
    return;
  }
  result->error = static_cast<int>(backend.status().code());
  std::snprintf(result->text, sizeof(result->text), "%s",
                bertrand::Message(backend.status()).c_str());
}
