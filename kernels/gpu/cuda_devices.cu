#include <cuda_runtime.h>

#include <cstdio>

#include "kernels/gpu/cuda_half.h"

extern "C" int bertrand_cuda_device(int index, BertrandCudaDevice* device) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  cudaDeviceProp properties{};
  if (error == cudaSuccess && index < count) error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) {
    std::snprintf(device->text, sizeof(device->text), "%s", cudaGetErrorString(error));
    return -1;
  }
  if (index >= count) return 0;
  std::snprintf(device->text, sizeof(device->text), "%s", properties.name);
  device->major = properties.major;
  device->minor = properties.minor;
  device->memory_bytes = properties.totalGlobalMem;
  return 1;
}
