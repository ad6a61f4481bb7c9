// Checkpoints without tokenizer.json whose spiece.model, vocab.txt, vocab.json or merges.txt is
// damaged, for as long as one likes:
//
//   build/vocabulary_file_fuzz [SECONDS [SEED]]       in the source tree's root
//
// Of spiece.model, whose format is protobuf's, lengths, types and numbers are exchanged, pieces
// doubled, emptied, reordered and taken away, and bytes damaged; of the others lines and values.
// What must hold: no crash and no hang (build with a sanitizer to see more), ids of the vocabulary,
// spans within the text, memory within ten times the files' size and 4 MB. Prints what it did.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using Random = std::mt19937_64;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  BERTRAND_CHECK(file.is_open(), path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// ---- Protobuf

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes += static_cast<char>(value);
}

// The top fields of spiece.model, all of them messages.
struct Part {
  uint64_t number;
  std::string bytes;
};

std::vector<Part> SplitMessages(std::string_view bytes) {
  std::vector<Part> fields;
  const auto read = [&bytes] {
    uint64_t value = 0;
    for (int shift = 0; !bytes.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes[0]);
      bytes.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (!bytes.empty()) {
    const uint64_t number = read() >> 3;
    const uint64_t size = read();
    fields.push_back({number, std::string(bytes.substr(0, size))});
    bytes.remove_prefix(size);
  }
  return fields;
}

// A piece's fields: text (1), score (2), type (3); some of them odd.
std::string OddPiece(Random& random) {
  constexpr uint32_t kScores[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xFF7FFFFF,
                                  0x00000001, 0x80000000, 0,          0xC1200000};
  const std::string texts[] = {"",     "a",    "<unk>", "<s>",   "\u2581",  "the",
                               "\xFF", "\xC3", " ",     "[CLS]", "\u2581a", "\U0001F600"};
  std::string text = texts[random() % std::size(texts)];
  if (random() % 8 == 0) text = std::string(random() % 3000, 'a');
  const uint32_t score = kScores[random() % std::size(kScores)];
  std::string bytes = "\x0A" + Varint(text.size()) + text + "\x15";
  bytes.append(reinterpret_cast<const char*>(&score), sizeof(score));
  if (random() % 2 == 0) bytes += "\x18" + Varint(random() % 9);
  return bytes;
}

// Bytes that are no field, or one of another kind.
std::string OddField(Random& random) {
  const std::string fields[] = {
      std::string(12, '\xFF'),                   // a number that never ends
      "\x0A" + Varint(~uint64_t{0}),             // lengths beyond the end
      "\x0A" + Varint(uint64_t{1} << 31) + "a",  //
      "\x12\x7F",                                //
      std::string(2000, '\x0B'),                 // groups within groups
      "\x0B\x0C",                                // one group
      std::string(1, '\0'),                      // field 0
      "\x15\x01\x02",                            // fixed ones cut short
      "\x11\x01",                                //
      "\x10\x05",                                // a number where a score is expected
      "\x1D\x01\x02\x03\x04",                    //
      "\x08\x01",                                //
      "\x0F",                                    // kind 7
      Varint(~uint64_t{0}) + "\x01",             // an enormous field number
      "\x1A\x03\x12\x80\x80",                    // a normaliser's map that is cut short
      "\x12\x04\x18\x02\xC0\x02",                // another type of model
  };
  return fields[random() % std::size(fields)];
}

void DamageBytes(std::string* bytes, Random& random) {
  if (bytes->empty()) return;
  const size_t at = random() % bytes->size();
  switch (random() % 5) {
    case 0:
      (*bytes)[at] = static_cast<char>(random());
      break;
    case 1:
      bytes->erase(at, 1 + random() % 16);
      break;
    case 2:
      bytes->insert(at, bytes->substr(random() % bytes->size(), random() % 40));
      break;
    case 3:
      (*bytes)[at] = static_cast<char>((*bytes)[at] ^ 1 << random() % 8);
      break;
    default:
      if (random() % 4 == 0) bytes->resize(at);
  }
}

std::string DamagedModel(const std::string& whole, Random& random) {
  std::vector<Part> fields = SplitMessages(whole);
  for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
    const size_t at = random() % fields.size(), other = random() % fields.size();
    switch (random() % 9) {
      case 0:
        fields[at].bytes = OddPiece(random);
        break;
      case 1:
        fields.insert(fields.begin() + static_cast<std::ptrdiff_t>(at), {1, OddPiece(random)});
        break;
      case 2:
        fields.insert(fields.begin() + static_cast<std::ptrdiff_t>(at), fields[other]);
        break;
      case 3:
        if (fields.size() > 1) fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 4:
        std::swap(fields[at], fields[other]);
        break;
      case 5:
        fields[at].bytes += OddField(random);
        break;
      case 6:
        fields[at].number = random() % 6;
        break;
      case 7:  // the specifications, and the map in one of them
        DamageBytes(
            &fields[fields.size() - 1 - random() % std::min<size_t>(3, fields.size())].bytes,
            random);
        break;
      default:
        DamageBytes(&fields[at].bytes, random);
    }
  }
  std::string bytes;
  for (const Part& field : fields) {
    bytes += Varint(field.number << 3 | 2) + Varint(field.bytes.size()) + field.bytes;
  }
  if (random() % 4 == 0) bytes += OddField(random);
  if (random() % 8 == 0) DamageBytes(&bytes, random);
  return bytes;
}

// ---- Text

std::string DamagedText(std::string text, bool is_json, Random& random) {
  const std::string pieces[] = {"",
                                " ",
                                "  ",
                                "\r\n",
                                "\r",
                                "\n\n",
                                "\xFF",
                                "\xEF\xBB\xBF",
                                "[UNK]",
                                "[CLS]\n",
                                "##",
                                "a b c",
                                "a",
                                "\u0120",
                                "#version: 9",
                                std::string("\0", 1),
                                std::string(5000, 'a')};
  const std::string values[] = {"-1",  "0",     "2147483648", "9007199254740992",
                                "1.5", "null",  "\"\"",       "[1, 2]",
                                "{}",  "1e400", "4"};
  for (uint64_t changes = 1 + random() % 4; changes > 0 && !text.empty(); --changes) {
    // From one separator to the next: a line, or a member.
    const char separator = is_json ? ',' : '\n';
    const size_t begin = text.find(separator, random() % text.size());
    const size_t end = begin == text.npos ? text.npos : text.find(separator, begin + 1);
    if (end == text.npos) continue;
    const std::string part = text.substr(begin, end - begin);
    switch (random() % 6) {
      case 0:
        text.erase(begin, part.size());
        break;
      case 1:
        text.insert(end, part);
        break;
      case 2: {
        const std::string& piece = pieces[random() % std::size(pieces)];
        text.replace(begin + 1, random() % part.size(), piece);
        break;
      }
      case 3: {
        const size_t colon = text.find(':', begin);
        if (!is_json || colon == text.npos || colon > end) break;
        text.replace(colon + 1, end - colon - 1, values[random() % std::size(values)]);
        break;
      }
      case 4:
        std::reverse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                     text.begin() + static_cast<std::ptrdiff_t>(end));
        break;
      default:
        DamageBytes(&text, random);
    }
  }
  return text;
}

// ---- A case

class Fuzzer {
 public:
  explicit Fuzzer(uint64_t seed) : random_(seed) {
    const std::string data = "tests/models/tokenizer/data/trained/";
    for (const char* name : {"unigram.model", "lean.model"})
      models_.push_back(ReadFile(data + name));
    vocabulary_ = ReadFile(data + "vocab.json");
    merges_ = ReadFile(data + "merges.txt");
    words_ = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (const char* word :
         {"the", "a", "b", "##a", "##b", "un", "##aff", "##able", "\u4e2d", "."}) {
      words_.append(word).append("\n");
    }
  }

  // Whether the tokenizer could be loaded.
  bool Once() {
    TestFolder folder;
    std::string model_type;
    size_t bytes = 0;
    const auto write = [&](const std::string& name, const std::string& text) {
      folder.Write(name, text);
      bytes += text.size();
    };
    switch (random_() % 4) {
      case 0:
        model_type = "bert";
        write("vocab.txt", DamagedText(words_, false, random_));
        break;
      case 1: {
        model_type = "roberta";
        const bool is_vocabulary = random_() % 2 == 0;
        write("vocab.json", is_vocabulary ? DamagedText(vocabulary_, true, random_) : vocabulary_);
        write("merges.txt", is_vocabulary ? merges_ : DamagedText(merges_, false, random_));
        break;
      }
      default: {
        const char* const kTypes[] = {"albert", "xlnet", "xlm-roberta", "camembert"};
        model_type = kTypes[random_() % std::size(kTypes)];
        const bool is_fairseq = model_type == "xlm-roberta" || model_type == "camembert";
        write(is_fairseq ? "sentencepiece.bpe.model" : "spiece.model",
              DamagedModel(models_[random_() % 8 == 0 ? 0 : 1], random_));
      }
    }
    write("config.json", "{\"model_type\": \"" + model_type + "\"}");
    const CountedMemory memory;
    const auto tokenizer = Tokenizer::Load(folder.path());
    constexpr size_t kFreeBytes = 4 << 20, kExpansionMax = 10;
    BERTRAND_CHECK(
        memory.peak_bytes() <= kFreeBytes + kExpansionMax * bytes,
        "files of " + std::to_string(bytes) + " bytes took " + std::to_string(memory.peak_bytes()));
    if (tokenizer.ok()) Use(**tokenizer);
    BERTRAND_CHECK(tokenizer.ok() || Message(tokenizer.status()).size() < 2000, "a long message");
    return tokenizer.ok();
  }

 private:
  static void Use(const Tokenizer& tokenizer) {
    Encoding encoding;
    EncodeOptions options;
    options.want_spans = options.want_words = true;
    const std::string texts[] = {"", "the unaffable [SEP] \u4e2d\u6587 e\u0301 1,234 '' ``x",
                                 "\u00e9\u302e\u2581a\t\r\n\u00a0\U0001F600\ufb01 don't",
                                 std::string(2000, 'a')};
    for (const std::string& text : texts) {
      if (!tokenizer.Encode(text, nullptr, options, &encoding).ok()) continue;
      for (size_t i = 0; i < encoding.ids.size(); ++i) {
        const TokenSpan& span = encoding.spans[i];
        BERTRAND_CHECK(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer.vocab_size(), "an id");
        BERTRAND_CHECK(span.start_byte <= span.end_byte && span.end_byte <= text.size(), "a span");
      }
      const std::vector<uint32_t> ids(encoding.ids.begin(), encoding.ids.end());
      const absl::StatusOr<std::string> decoded = tokenizer.Decode(ids, false);
      BERTRAND_CHECK(!decoded.ok() || !FindInvalidUtf8(*decoded).has_value(), "decoded UTF-8");
    }
  }

  Random random_;
  std::vector<std::string> models_;
  std::string vocabulary_, merges_, words_;
};

int Main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  Fuzzer fuzzer(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  const auto clock = [] { return std::chrono::steady_clock::now(); };
  const auto start = clock();
  size_t count = 0, loaded = 0;
  double slowest = 0;
  while (std::chrono::duration<double>(clock() - start).count() < seconds) {
    const auto begin = clock();
    loaded += fuzzer.Once() ? 1 : 0;
    ++count;
    slowest = std::max(slowest, std::chrono::duration<double>(clock() - begin).count());
  }
  std::printf("%zu checkpoints, %zu loaded, slowest %.2f s\n", count, loaded, slowest);
  return loaded > 0 && loaded < count ? 0 : 1;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
