// Times forwards of a checkpoint's encoder, for forward_benchmark.py and tests/gpu/run:
//
//   forward_benchmark [--device D] [--dtype T] [--seconds S] [--tuning-cache FOLDER]
//                     [--tuning-seconds S] FOLDER THREADS SHAPE ...
//
// A SHAPE is SEQUENCES,LENGTH,MEMORY, or the sequences' lengths: 17+128+30. Prints a line for each:
// the median time in ms, and the median of all threads' CPU time, which other work on the machine
// disturbs less. With a memory, each sequence is a segment that has one, full. Without any SHAPE,
// shapes are read from standard input, a line each: what is measured by turns with a peer.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
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
  std::string text;
  std::vector<int64_t> lengths;
  int64_t memory = 0;
};

// Lengths of nothing when it cannot be read.
Shape ParseShape(const std::string& text) {
  Shape shape{text, {}, 0};
  long sequences = 0, length = 0, memory = 0;
  if (std::sscanf(text.c_str(), "%ld,%ld,%ld", &sequences, &length, &memory) == 3) {
    shape.lengths.assign(static_cast<size_t>(std::max(sequences, 0L)), length);
    shape.memory = memory;
    return shape;
  }
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, '+');) {
    shape.lengths.push_back(std::atol(part.c_str()));
  }
  return shape;
}

struct Arguments {
  std::string device = "cpu", dtype = "float32", folder, tuning_cache;
  double seconds = 2, tuning_seconds = 0;
  bool unverified = false;
  int threads = 0;
  std::vector<std::string> shapes;
};

class Bench {
 public:
  explicit Bench(const Arguments& arguments)
      : pool_(arguments.threads), seconds_(arguments.seconds) {
    const DType dtype = arguments.dtype == "float16"    ? DType::kFloat16
                        : arguments.dtype == "bfloat16" ? DType::kBFloat16
                                                        : DType::kFloat32;
    backend_ = ValueOrDie(CreateBackend(arguments.device, pool_, dtype, arguments.tuning_cache));
    const std::string& folder = arguments.folder;
    config_ = ValueOrDie(ReadModelConfig(folder));
    const WeightFiles files = ValueOrDie(WeightFiles::Open(folder));
    std::string note;
    encoder_ = ValueOrDie(Encoder::Load(config_.encoder, config_.names, files, *backend_, &note));
    head_ =
        ValueOrDie(EmbedHead::Load(ValueOrDie(ReadSentenceModules(folder)), *encoder_, *backend_));
  }

  // As the server does before it serves: linear layers are timed, for batches up to 16384 tokens.
  void Tune(double seconds, bool unverified) {
    const std::unique_ptr<Prepared> first = Prepare(ParseShape("1,16,0"));
    const absl::Status status = first->runner->Forward(first->batch);
    BERTRAND_CHECK(status.ok(), Message(status));
    const auto time = std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
    const TuningReport report = ValueOrDie(backend_->Tune(16384, time, unverified));
    for (const std::string& line : report.shapes) std::fprintf(stderr, "%s\n", line.c_str());
    for (const std::string& line : report.notes) std::fprintf(stderr, "%s\n", line.c_str());
  }

  void Run(const std::string& text) {
    std::unique_ptr<Prepared>& prepared = prepared_[text];
    if (prepared == nullptr) prepared = Prepare(ParseShape(text));
    Measure(text, *prepared);
  }

 private:
  // A batch and what it reads and writes.
  struct Prepared {
    std::unique_ptr<ModelRunner> runner;
    std::vector<int32_t> ids, types;
    std::vector<float> vectors;
    std::vector<EmbedOutput> outputs;
    std::vector<std::unique_ptr<DocumentMemory>> memories;
    std::vector<SequenceWork> batch;
  };

  std::unique_ptr<Prepared> Prepare(const Shape& shape) {
    auto prepared = std::make_unique<Prepared>();
    int64_t tokens = 0, longest = 0;
    for (const int64_t length : shape.lengths) {
      BERTRAND_CHECK(length > 0, "a shape: " + shape.text);
      tokens += length;
      longest = std::max(longest, length);
    }
    BERTRAND_CHECK(tokens > 0, "a shape: " + shape.text);
    const auto sequences = static_cast<int64_t>(shape.lengths.size());
    prepared->runner = ValueOrDie(
        PackedRunner::Create(*encoder_, *head_, *backend_, tokens + shape.memory, sequences));
    for (int64_t i = 0; i < longest; ++i) prepared->ids.push_back(static_cast<int32_t>(i % 100));
    prepared->types.resize(prepared->ids.size());
    const auto width = static_cast<size_t>(config_.encoder.hidden_size);
    prepared->vectors.resize(shape.lengths.size() * width);
    prepared->outputs.resize(shape.lengths.size());
    for (size_t i = 0; i < shape.lengths.size(); ++i) {
      const auto length = static_cast<size_t>(shape.lengths[i]);
      prepared->outputs[i].vector = std::span(prepared->vectors).subspan(i * width, width);
      SequenceWork work{.ids = std::span(prepared->ids).first(length),
                        .type_ids = std::span(prepared->types).first(length),
                        .embed = &prepared->outputs[i]};
      if (shape.memory > 0) {
        prepared->memories.push_back(std::make_unique<DocumentMemory>(
            ValueOrDie(EncoderMemory::Create(*backend_, config_.encoder, shape.memory)),
            PooledDocument(head_->num_poolings(), config_.encoder.hidden_size)));
        work.memory = prepared->memories.back().get();
      }
      prepared->batch.push_back(work);
    }
    return prepared;
  }

  void Measure(const std::string& text, Prepared& prepared) const {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times_ms, cpu_times_ms;
    const auto start = Clock::now();
    // The first ones fill the memories and the caches.
    for (int i = 0; i < 5 || Clock::now() - start < std::chrono::duration<double>(seconds_); ++i) {
      const auto begin = Clock::now();
      const std::clock_t cpu_begin = std::clock();
      const absl::Status status = prepared.runner->Forward(prepared.batch);
      BERTRAND_CHECK(status.ok(), Message(status));
      if (i < 2) continue;
      times_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
      cpu_times_ms.push_back(1e3 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC);
    }
    std::sort(times_ms.begin(), times_ms.end());
    std::sort(cpu_times_ms.begin(), cpu_times_ms.end());
    std::printf("%s %.4f %.4f\n", text.c_str(), times_ms[times_ms.size() / 2],
                cpu_times_ms[cpu_times_ms.size() / 2]);
    std::fflush(stdout);
  }

  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  ModelConfig config_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<EmbedHead> head_;
  const double seconds_;
  std::map<std::string, std::unique_ptr<Prepared>> prepared_;
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      words.push_back(word);
      continue;
    }
    if (word == "--unverified-kernels") {
      arguments->unverified = true;
      continue;
    }
    if (++i == argc) return false;
    if (word == "--device") {
      arguments->device = argv[i];
    } else if (word == "--dtype") {
      arguments->dtype = argv[i];
    } else if (word == "--tuning-cache") {
      arguments->tuning_cache = argv[i];
    } else if (word == "--tuning-seconds") {
      arguments->tuning_seconds = std::atof(argv[i]);
    } else if (word == "--seconds") {
      arguments->seconds = std::atof(argv[i]);
    } else {
      return false;
    }
  }
  if (words.size() < 2) return false;
  arguments->folder = words[0];
  arguments->threads = std::atoi(words[1].c_str());
  arguments->shapes.assign(words.begin() + 2, words.end());
  return arguments->threads > 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) {
  bertrand::Arguments arguments;
  if (!bertrand::Parse(argc, argv, &arguments)) {
    std::fprintf(stderr,
                 "usage: forward_benchmark [--device D] [--dtype T] [--seconds S] [--tuning-cache "
                 "FOLDER] [--tuning-seconds S] [--unverified-kernels] FOLDER THREADS SHAPE ...\n");
    return 2;
  }
  bertrand::Bench bench(arguments);
  if (arguments.tuning_seconds > 0) {
    bench.Tune(arguments.tuning_seconds, arguments.unverified);
  }
  for (const std::string& shape : arguments.shapes) bench.Run(shape);
  if (!arguments.shapes.empty()) return 0;
  for (std::string shape; std::getline(std::cin, shape);) bench.Run(shape);
  return 0;
}
