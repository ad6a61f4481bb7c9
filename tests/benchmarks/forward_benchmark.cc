// Times forwards of a checkpoint's encoder, for forward_benchmark.py:
//
//   forward_benchmark FOLDER THREADS SEQUENCES,LENGTH,MEMORY ...
//
// Prints a line for each shape: the median time in ms, and the median of all threads' CPU time,
// which other work on the machine disturbs less. With a memory, each sequence is a segment that has
// one, full.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_files.h"
#include "models/config/families.h"
#include "models/document_memory.h"
#include "models/runner.h"

namespace bertrand {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  BERTRAND_CHECK(value.ok(), Message(value.status()));
  return *std::move(value);
}

struct Shape {
  int64_t sequences = 1, length = 0, memory = 0;
};

class Bench {
 public:
  Bench(const std::string& folder, int threads) : pool_(threads) {
    backend_ = ValueOrDie(CreateBackend("cpu", pool_));
    config_ = ValueOrDie(ReadModelConfig(folder));
    const WeightFiles files = ValueOrDie(WeightFiles::Open(folder));
    std::string note;
    encoder_ = ValueOrDie(Encoder::Load(config_.encoder, config_.names, files, *backend_, &note));
    head_ =
        ValueOrDie(EmbedHead::Load(ValueOrDie(ReadSentenceModules(folder)), *encoder_, *backend_));
  }

  void Run(const Shape& shape) {
    const int64_t tokens = shape.sequences * shape.length;
    auto runner = ValueOrDie(
        PackedRunner::Create(*encoder_, *head_, *backend_, tokens + shape.memory, shape.sequences));
    const auto length = static_cast<size_t>(shape.length);
    std::vector<int32_t> ids(length), types(length, 0);
    for (size_t i = 0; i < length; ++i) ids[i] = static_cast<int32_t>(i % 100);
    std::vector<float> vectors(static_cast<size_t>(shape.sequences * config_.encoder.hidden_size));
    std::vector<EmbedOutput> outputs(static_cast<size_t>(shape.sequences));
    std::vector<std::unique_ptr<DocumentMemory>> memories;
    std::vector<SequenceWork> batch;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const auto width = static_cast<size_t>(config_.encoder.hidden_size);
      outputs[i].vector = std::span(vectors).subspan(i * width, width);
      SequenceWork work{.ids = ids, .type_ids = types, .embed = &outputs[i]};
      if (shape.memory > 0) {
        memories.push_back(std::make_unique<DocumentMemory>(
            ValueOrDie(EncoderMemory::Create(*backend_, config_.encoder, shape.memory)),
            PooledDocument(head_->num_poolings(), config_.encoder.hidden_size)));
        work.memory = memories.back().get();
      }
      batch.push_back(work);
    }
    Measure(shape, *runner, batch);
  }

 private:
  static void Measure(const Shape& shape, ModelRunner& runner,
                      const std::vector<SequenceWork>& batch) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times_ms, cpu_times_ms;
    const auto start = Clock::now();
    // The first ones fill the memories and the caches.
    for (int i = 0; i < 5 || Clock::now() - start < std::chrono::seconds(2); ++i) {
      const auto begin = Clock::now();
      const std::clock_t cpu_begin = std::clock();
      const absl::Status status = runner.Forward(batch);
      BERTRAND_CHECK(status.ok(), Message(status));
      if (i < 2) continue;
      times_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
      cpu_times_ms.push_back(1e3 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC);
    }
    std::sort(times_ms.begin(), times_ms.end());
    std::sort(cpu_times_ms.begin(), cpu_times_ms.end());
    std::printf("%ld,%ld,%ld %.3f %.3f\n", static_cast<long>(shape.sequences),
                static_cast<long>(shape.length), static_cast<long>(shape.memory),
                times_ms[times_ms.size() / 2], cpu_times_ms[cpu_times_ms.size() / 2]);
    std::fflush(stdout);
  }

  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  ModelConfig config_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<EmbedHead> head_;
};

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: forward_benchmark FOLDER THREADS SEQUENCES,LENGTH,MEMORY ...\n");
    return 2;
  }
  bertrand::Bench bench(argv[1], std::atoi(argv[2]));
  for (int i = 3; i < argc; ++i) {
    bertrand::Shape shape;
    long sequences = 0, length = 0, memory = 0;
    if (std::sscanf(argv[i], "%ld,%ld,%ld", &sequences, &length, &memory) != 3) return 2;
    bench.Run({sequences, length, memory});
  }
  return 0;
}
