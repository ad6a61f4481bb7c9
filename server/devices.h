#pragma once

// Which devices and types of --device and --dtype, and a backend for each pair that is needed.
//
// Owns the backends, which models refer to. For one thread at a time.

#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/thread_pool.h"

namespace bertrand {

// "auto" is "cpu"; "cuda:0,1" and "emulated:0,1" are several. InvalidArgument says what is
// expected.
absl::StatusOr<std::vector<std::string>> ParseDevices(const std::string& device);

// Whether a device computes in 16 bits where nobody says otherwise, and has slots for batches of
// its own instead of the process's threads.
bool IsGpu(const std::string& device);

// What a checkpoint that is stored in `stored` is computed in. "auto": on a GPU, and so in its
// emulation, float16 for float32 and float16, bfloat16 for bfloat16; float32 on a CPU. "float8":
// the same on a GPU, as the type of all that is not a layer's product. InvalidArgument for that on
// a CPU, and for unknown names.
absl::StatusOr<DType> ChooseType(const std::string& dtype, const std::string& device, DType stored);

class Devices {
 public:
  // `names` as ParseDevices gives them; `pool` must outlive it.
  // `cache_folder` as CreateBackend's.
  Devices(std::vector<std::string> names, std::string dtype, std::string cache_folder,
          ThreadPool* pool)
      : names_(std::move(names)),
        dtype_(std::move(dtype)),
        cache_folder_(std::move(cache_folder)),
        pool_(*pool) {}

  size_t size() const { return names_.size(); }
  // Whether models are to be loaded with LoadOptions::dtype "float8".
  bool is_float8() const { return dtype_ == Name(DType::kFloat8); }
  const std::string& name(size_t device) const { return names_[device]; }

  // Backend::Tune of every backend, `time` for each. Errors, and the report's lines, name the
  // device.
  absl::StatusOr<TuningReport> Tune(int64_t max_tokens, std::chrono::milliseconds time,
                                    bool unverified) const;

  // The backend for a checkpoint, made when it is first asked for. Errors name the flag.
  absl::StatusOr<const Backend*> For(size_t device, DType stored);

 private:
  const std::vector<std::string> names_;
  const std::string dtype_, cache_folder_;
  ThreadPool& pool_;
  std::map<std::pair<size_t, DType>, std::unique_ptr<Backend>> backends_;
};

}  // namespace bertrand
