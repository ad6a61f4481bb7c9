#pragma once

// The C interface between the server and libbertrand_cuda.so: plain data and functions alone, since
// the two are compiled by different compilers and loaded apart. Thread-safe.

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

}  // extern "C"
