// tokenizer.json files with their values exchanged, for as long as one likes:
//
//   build/tokenizer_file_fuzz [SECONDS [SEED [FILE...]]]       in the source tree's root
//
// Files: those of tests/models/tokenizer/data, or the given ones. One to four values of a file
// become another kind, a number at the edge of something, a value from elsewhere in it, or vanish;
// now and then bytes are damaged. What loads also tokenizes and decodes. What must hold: no crash
// and no hang (build with a sanitizer to see more), ids of the vocabulary, spans within the text,
// memory within ten times the file's size and 4 MB, which is what json.h lets a tree take whatever
// the text. Files of a few kilobytes are held to the 4 MB only: give large FILEs to test the ten.
// Prints what it did.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/fuzz/counted_memory.h"

namespace bertrand {
namespace {

struct Value {
  size_t begin, end;
  bool is_key = false;
};

// Where the values of a JSON text are, keys and whole members included.
std::vector<Value> ValuesOf(std::string_view text) {
  std::vector<Value> values;
  std::vector<size_t> open;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '{' || c == '[') {
      open.push_back(at);
    } else if ((c == '}' || c == ']') && !open.empty()) {
      values.push_back({open.back(), at + 1});
      open.pop_back();
    } else if (c == '"') {
      const size_t begin = at++;
      while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
      const size_t end = std::min(at + 1, text.size());
      values.push_back({begin, end, end < text.size() && text[end] == ':'});
    } else if (std::string_view("-0123456789tfn").find(c) != std::string_view::npos) {
      const size_t begin = at;
      at = std::min(text.find_first_of(",]} \n", at), text.size());
      values.push_back({begin, at--});
    }
  }
  return values;
}

constexpr const char* kReplacements[] = {"null",
                                         "true",
                                         "false",
                                         "0",
                                         "1",
                                         "-1",
                                         "2",
                                         "100",
                                         "0.5",
                                         "-0.0",
                                         "1e308",
                                         "-1e308",
                                         "1e999",
                                         "NaN",
                                         "Infinity",
                                         "16777215",
                                         "20000",
                                         "2147483646",
                                         "2147483647",
                                         "2147483648",
                                         "4294967295",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "18446744073709551616",
                                         "\"\"",
                                         "\"a\"",
                                         "\" \"",
                                         "\"##\"",
                                         "\"\\u0000\"",
                                         "\"\\ud83d\\ude00\"",
                                         "\"\\ud83d\"",
                                         "\"\\u2581\"",
                                         "\"(a+)+$\"",
                                         "\"(a|aa)*b\"",
                                         "\".*.*.*=.*\"",
                                         "\"[\"",
                                         "\"\\\\p{L}+\"",
                                         "{\"Regex\": \"(a+)+$\"}",
                                         "{\"String\": \"\"}",
                                         "{\"Regex\": \"\"}",
                                         "[]",
                                         "{}",
                                         "[[]]",
                                         "[\"a\", \"b\"]",
                                         "[\"a\", 0]",
                                         "{\"a\": 0}",
                                         "{\"type\": \"Sequence\"}"};

std::string Mutated(std::string text, std::mt19937_64& random) {
  for (size_t changes = 1 + random() % 4; changes > 0 && !text.empty(); --changes) {
    const std::vector<Value> values = ValuesOf(text);
    if (values.empty()) break;
    // Most of the time not one of the vocabulary, which is nearly all of them.
    const size_t vocabulary = random() % 4 == 0 ? text.size() : text.find("\"vocab\"");
    Value value = values[random() % values.size()];
    for (int i = 0; i < 200 && value.begin > vocabulary; ++i) {
      value = values[random() % values.size()];
    }
    const size_t size = value.end - value.begin;
    switch (value.is_key && random() % 8 != 0 ? 4 : random() % 8) {
      case 0: {
        const Value other = values[random() % values.size()];
        text.replace(value.begin, size, text.substr(other.begin, other.end - other.begin));
        break;
      }
      case 1: {  // gone, with the comma before it
        const size_t begin = value.begin - (value.begin > 0 && text[value.begin - 1] == ',');
        text.erase(begin, value.end - begin);
        break;
      }
      case 2:
        text.insert(value.end, "," + text.substr(value.begin, size));
        break;
      case 3:
        text[random() % text.size()] = static_cast<char>(random());
        break;
      case 4:
        text.replace(value.begin, size,
                     "\"" + std::string(random() % 4 == 0 ? random() % 3000 : 1, 'a') + "\"");
        break;
      default:
        text.replace(value.begin, size, kReplacements[random() % std::size(kReplacements)]);
    }
  }
  return text;
}

const std::string kTexts[] = {"", "the quick [SEP] unaffable \u4e2d\u6587 e\u0301 1,234 <mask> '' ",
                              "aaaabaaab  \u00e9\u302e\u2581a\t\r\n\u00a0\U0001F600don't",
                              std::string(3000, 'a'), std::string(400, ' ')};

void Use(const Tokenizer& tokenizer, std::mt19937_64& random) {
  Encoding encoding;
  for (const std::string& text : kTexts) {
    EncodeOptions options;
    options.want_spans = options.want_words = random() % 2 == 0;
    options.add_special_tokens = random() % 4 != 0;
    if (random() % 3 == 0) options.max_tokens = static_cast<int64_t>(random() % 40);
    const std::string_view second = kTexts[random() % std::size(kTexts)];
    const bool is_pair = random() % 3 == 0;
    if (!tokenizer.Encode(text, is_pair ? &second : nullptr, options, &encoding).ok()) continue;
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      BERTRAND_CHECK(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer.vocab_size(), "an id");
      if (!options.want_spans) continue;
      const TokenSpan& span = encoding.spans[i];
      const size_t size = encoding.sequence[i] == 1 ? second.size() : text.size();
      BERTRAND_CHECK(
          span.start <= span.end && span.start_byte <= span.end_byte && span.end_byte <= size,
          "a span");
    }
  }
  std::vector<uint32_t> ids(random() % 20);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(random() % (tokenizer.vocab_size() + 1));
  const absl::StatusOr<std::string> decoded = tokenizer.Decode(ids, random() % 2 == 0);
  BERTRAND_CHECK(!decoded.ok() || !FindInvalidUtf8(*decoded).has_value(), "decoded UTF-8");
}

std::vector<std::string> ReadFiles(int argc, char** argv) {
  std::vector<std::string> paths(argv + std::min(argc, 3), argv + argc);
  if (paths.empty()) {
    for (const auto& entry :
         std::filesystem::directory_iterator("tests/models/tokenizer/data/tokenizers")) {
      paths.push_back(entry.path().string());
    }
    std::sort(paths.begin(), paths.end());
  }
  std::vector<std::string> texts;
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    BERTRAND_CHECK(file.is_open(), path);
    texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return texts;
}

int Main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  const std::vector<std::string> files = ReadFiles(argc, argv);
  constexpr size_t kFreeBytes = 4 << 20, kMostExpansion = 10;
  const auto clock = [] { return std::chrono::steady_clock::now(); };
  const auto start = clock();
  size_t count = 0, loaded = 0;
  double slowest = 0, most = 0;
  while (std::chrono::duration<double>(clock() - start).count() < seconds) {
    const std::string text = Mutated(files[count++ % files.size()], random);
    const auto begin = clock();
    {
      const CountedMemory memory;
      const auto tokenizer = Tokenizer::FromJson(text, "");
      const size_t used = memory.peak_bytes();
      most = std::max(most, static_cast<double>(used) / static_cast<double>(text.size() + 1));
      if (used > kFreeBytes + kMostExpansion * text.size()) {
        std::fprintf(stderr, "%zu bytes for a file of %zu:\n%s\n", used, text.size(), text.c_str());
        std::abort();
      }
      if (tokenizer.ok()) Use(**tokenizer, random);
      loaded += tokenizer.ok();
    }
    slowest = std::max(slowest, std::chrono::duration<double>(clock() - begin).count());
  }
  std::printf("%zu files, %zu loaded, slowest %.2f s, most memory %.1f times the file's size\n",
              count, loaded, slowest, most);
  return loaded > 0 ? 0 : 1;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
