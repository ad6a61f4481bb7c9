#pragma once

// The interface between the server and libbertrand_cuda.so, which is loaded at run time: C
// functions and plain data. The one C++ object that passes, a Backend, is used through its virtual
// functions alone; nvcc leaves host code to the compiler that builds the server, of the same
// commit. Thread-safe.

#include <stdint.h>

extern "C" {

struct BertrandCudaDevice {
  char text[256];  // the device's name, or the error
  int major, minor;
  uint64_t memory_bytes;
};

// Describes device `index`: 1; 0 when there are no more; -1 on failure, with the reason as text.
__attribute__((visibility("default"))) int bertrand_cuda_device(int index,
                                                                BertrandCudaDevice* device);

struct BertrandCudaBackend {
  void* backend;    // a bertrand::Backend, which is the caller's; null on failure
  int error;        // then absl::StatusCode
  char text[1024];  // and its message
};

// Makes a backend called `name` on device `index`; dtype: bertrand::DType; cache_folder as
// CreateBackend's.
__attribute__((visibility("default"))) void bertrand_cuda_backend(int index, const char* name,
                                                                  int dtype,
                                                                  const char* cache_folder,
                                                                  BertrandCudaBackend* result);

}  // extern "C"
