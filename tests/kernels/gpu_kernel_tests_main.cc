// gpu_kernel_tests: the kernels' tests on CUDA's device 0. Exit status 77 where there is none,
// after a line that says so; REQUIRE_CUDA=1 makes that a failure.
//
//   --exact_allocations   memory without red zones, for compute-sanitizer

#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/kernels/kernel_device.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--exact_allocations") != 0) {
      std::fprintf(stderr, "gpu_kernel_tests: not understood: %s\n", argv[i]);
      return 2;
    }
    bertrand::exact_allocations = true;
  }
  // Lists are made without a device too.
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    std::fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(error));
    const char* required = std::getenv("REQUIRE_CUDA");
    return required != nullptr && std::strcmp(required, "1") == 0 ? 1 : 77;
  }
  const auto device = bertrand::simt::Device::Open(0);
  if (!device.ok()) {
    std::fprintf(stderr, "device 0: %s\n", bertrand::Message(device.status()).c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
