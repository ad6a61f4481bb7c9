// Tokenizing speed on one thread, in processor time.
//
//     tokenizer_benchmark FOLDER TEXT [ROUNDS [IDS]]
//
// FOLDER is a checkpoint's, TEXT a file with a text a line. Prints one JSON object: MB/s of the
// first pass (all words are new), of the best and the median of ROUNDS (9) further passes, the same
// with spans, and the time to load. Each text's number of ids and its ids are written to IDS, as
// u32. tokenizer_peers.py measures others in turn with it.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"

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

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenizer_benchmark FOLDER TEXT [ROUNDS [IDS]]\n");
    return 2;
  }
  const double load_start = ProcessorSeconds();
  const auto tokenizer = Tokenizer::Load(argv[1]);
  const double load_seconds = ProcessorSeconds() - load_start;
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", Message(tokenizer.status()).c_str());
    return 1;
  }
  std::ifstream file(argv[2]);
  std::vector<std::string> texts;
  double megabytes = 0;
  for (std::string line; std::getline(file, line); texts.push_back(line)) {
    megabytes += 1e-6 * static_cast<double>(line.size());
  }
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 9;
  Encoding encoding;
  const Pass first = Run(**tokenizer, texts, false, &encoding);
  std::vector<double> plain, spans;
  for (int i = 0; i < rounds; ++i) {
    plain.push_back(Run(**tokenizer, texts, false, &encoding).seconds);
    spans.push_back(Run(**tokenizer, texts, true, &encoding).seconds);
  }
  if (argc > 4) WriteIds(**tokenizer, texts, argv[4], &encoding);
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
