// Tokenizing speed on one thread, in processor time.
//
//     tokenizer_benchmark FOLDER TEXT [ROUNDS [IDS]]
//     tokenizer_benchmark --hostile FOLDER TEXT [MEGABYTES]
//
// FOLDER is a checkpoint's, TEXT a file with a text a line. Prints one JSON object: MB/s of the
// first pass (all words are new), of the best and the median of ROUNDS (9) further passes, the same
// with spans, and the time to load. Each text's number of ids and its ids are written to IDS, as
// u32. tokenizer_peers.py measures others in turn with it.
//
// --hostile: what a byte of hostile_texts.h's texts costs, each a single text of MEGABYTES (10),
// beside a byte of TEXT, repeated to as many. Prints a JSON object a line: the least of three
// passes in nanoseconds a byte, without and with spans, and how many times TEXT's that is.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/benchmarks/hostile_texts.h"

namespace bertrand {
namespace {

double ProcessorSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Pass {
  double seconds = 0;
  size_t num_tokens = 0;
};

Pass Run(const Tokenizer& tokenizer, const std::vector<std::string>& texts, bool want_spans,
         Encoding* encoding) {
  EncodeOptions options;
  options.want_spans = want_spans;
  Pass pass;
  const double start = ProcessorSeconds();
  for (const std::string& text : texts) {
    BERTRAND_CHECK(tokenizer.Encode(text, nullptr, options, encoding).ok(), text);
    pass.num_tokens += encoding->ids.size();
  }
  pass.seconds = ProcessorSeconds() - start;
  return pass;
}

void WriteIds(const Tokenizer& tokenizer, const std::vector<std::string>& texts, const char* path,
              Encoding* encoding) {
  std::ofstream file(path, std::ios::binary);
  for (const std::string& text : texts) {
    BERTRAND_CHECK(tokenizer.Encode(text, nullptr, {}, encoding).ok(), text);
    const auto count = static_cast<uint32_t>(encoding->ids.size());
    file.write(reinterpret_cast<const char*>(&count), sizeof(count));
    file.write(reinterpret_cast<const char*>(encoding->ids.data()),
               static_cast<std::streamsize>(count * sizeof(int32_t)));
  }
}

std::unique_ptr<Tokenizer> Load(const char* folder) {
  auto tokenizer = Tokenizer::Load(folder);
  if (tokenizer.ok()) return *std::move(tokenizer);
  std::fprintf(stderr, "%s\n", Message(tokenizer.status()).c_str());
  std::exit(1);
}

struct Cost {
  double plain = 0, spans = 0;  // nanoseconds a byte
};

Cost CostOf(const Tokenizer& tokenizer, const std::string& text, int passes, Encoding* encoding) {
  const std::vector<std::string> texts = {text};
  const auto nanoseconds = [&](bool want_spans) {
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < passes; ++i) {
      least = std::min(least, Run(tokenizer, texts, want_spans, encoding).seconds);
    }
    return 1e9 * least / static_cast<double>(text.size());
  };
  return {nanoseconds(false), nanoseconds(true)};
}

void PrintCost(std::string_view name, const Cost& cost, const Cost& ordinary) {
  std::printf(
      "{\"text\": \"%.*s\", \"ns_per_byte\": %.2f, \"ratio\": %.2f, "
      "\"spans_ns_per_byte\": %.2f, \"spans_ratio\": %.2f}\n",
      static_cast<int>(name.size()), name.data(), cost.plain, cost.plain / ordinary.plain,
      cost.spans, cost.spans / ordinary.spans);
  std::fflush(stdout);
}

// Of many units the one that costs most when it is repeated.
std::string WorstUnit(const Tokenizer& tokenizer, Encoding* encoding) {
  constexpr size_t kNumUnits = 3000, kTrialBytes = 10000;
  std::string worst;
  double most = 0;
  for (const std::string& unit : HostileUnits(tokenizer, kNumUnits)) {
    const double cost = CostOf(tokenizer, Repeat(unit, kTrialBytes), 2, encoding).plain;
    if (cost > most) worst = unit, most = cost;
  }
  return worst;
}

void MeasureHostile(const char* folder, const char* text_path, double megabytes) {
  constexpr int kPasses = 3;
  const std::unique_ptr<Tokenizer> tokenizer = Load(folder);
  const auto size = static_cast<size_t>(1e6 * megabytes);
  std::ifstream file(text_path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  BERTRAND_CHECK(!text.empty(), text_path);
  Encoding encoding;
  const Cost ordinary = CostOf(*tokenizer, Repeat(text, size), kPasses, &encoding);
  PrintCost("ordinary", ordinary, ordinary);
  for (size_t i = 0; i < NumHostileTexts(); ++i) {
    const HostileText hostile = MakeHostileText(*tokenizer, i, size);
    PrintCost(hostile.name, CostOf(*tokenizer, hostile.text, kPasses, &encoding), ordinary);
  }
  const std::string worst = Repeat(WorstUnit(*tokenizer, &encoding), size);
  PrintCost("worst of 3,000 units", CostOf(*tokenizer, worst, kPasses, &encoding), ordinary);
}

int Main(int argc, char** argv) {
  const bool hostile = argc > 1 && argv[1] == std::string_view("--hostile");
  if (argc < (hostile ? 4 : 3)) {
    std::fprintf(stderr,
                 "usage: tokenizer_benchmark FOLDER TEXT [ROUNDS [IDS]]\n"
                 "       tokenizer_benchmark --hostile FOLDER TEXT [MEGABYTES]\n");
    return 2;
  }
  if (hostile) {
    MeasureHostile(argv[2], argv[3], argc > 4 ? std::atof(argv[4]) : 10);
    return 0;
  }
  const double load_start = ProcessorSeconds();
  const std::unique_ptr<Tokenizer> tokenizer = Load(argv[1]);
  const double load_seconds = ProcessorSeconds() - load_start;
  std::ifstream file(argv[2]);
  std::vector<std::string> texts;
  double megabytes = 0;
  for (std::string line; std::getline(file, line); texts.push_back(line)) {
    megabytes += 1e-6 * static_cast<double>(line.size());
  }
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 9;
  Encoding encoding;
  const Pass first = Run(*tokenizer, texts, false, &encoding);
  std::vector<double> plain, spans;
  for (int i = 0; i < rounds; ++i) {
    plain.push_back(Run(*tokenizer, texts, false, &encoding).seconds);
    spans.push_back(Run(*tokenizer, texts, true, &encoding).seconds);
  }
  if (argc > 4) WriteIds(*tokenizer, texts, argv[4], &encoding);
  std::sort(plain.begin(), plain.end());
  std::sort(spans.begin(), spans.end());
  const size_t middle = plain.size() / 2;
  std::printf(
      "{\"texts\": %zu, \"megabytes\": %.3f, \"tokens\": %zu, \"load_ms\": %.1f, "
      "\"first_mb_per_s\": %.1f, \"best_mb_per_s\": %.1f, \"median_mb_per_s\": %.1f, "
      "\"spans_best_mb_per_s\": %.1f, \"spans_median_mb_per_s\": %.1f}\n",
      texts.size(), megabytes, first.num_tokens, 1e3 * load_seconds, megabytes / first.seconds,
      megabytes / plain.front(), megabytes / plain[middle], megabytes / spans.front(),
      megabytes / spans[middle]);
  return 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
