// Random texts, seeded: BertSplitter's single pass gives what its parts give one after the other,
// for every combination of the normaliser's options, with and without added tokens. What the parts
// give is compared with `tokenizers` by tokenizer_fuzz.py.

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "kernels/status.h"
#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Where something happens: controls, spaces, punctuation, ideographs, marks that stay or go,
// letters that change case or decompose.
constexpr char32_t kInteresting[] = {
    0,       '\t',    '\n',    ' ',     ' ',     ' ',     '.',     '#',     '[',     'a',
    'b',     'a',     'B',     'z',     '9',     0x7F,    0x85,    0xA0,    0xAD,    0xC9,
    0xE9,    0x130,   0x300,   0x301,   0x323,   0x344,   0x345,   0x34F,   0x37E,   0x3A3,
    0x3C2,   0x416,   0x5B0,   0x94D,   0xE38,   0xF73,   0x1100,  0x1161,  0x11A8,  0x1E69,
    0x1FEF,  0x200B,  0x2028,  0x2260,  0x3000,  0x302E,  0x302F,  0x3400,  0x4E00,  0xAC00,
    0xAC01,  0xF900,  0xFB1D,  0xFFFD,  0x16FF0, 0x1D15E, 0x1D160, 0x1D165, 0x1D16D, 0x1F600,
    0x20000, 0x2F800, 0xE0001, 0x10FFFF};

std::string RandomText(std::mt19937* random) {
  std::string text;
  const size_t length = (*random)() % 24;
  for (size_t i = 0; i < length; ++i) {
    const uint32_t kind = (*random)() % 20;
    if (kind == 0) {
      text += "[SEP]";
    } else if (kind == 1) {
      char32_t c = (*random)() % 0x110000;
      if (c >= 0xD800 && c < 0xE000) c = U'x';
      AppendUtf8(c, &text);
    } else if (kind == 2) {
      text += std::string((*random)() % 12, 'a');
    } else {
      AppendUtf8(kInteresting[(*random)() % std::size(kInteresting)], &text);
    }
  }
  return text;
}

// The interesting code points, in lower case and decomposed too, are tokens of their own.
std::string TokenizerJson(int options) {
  std::string vocabulary = R"("[UNK]": 0, "[SEP]": 1)";
  int32_t id = 2;
  Vocabulary seen;
  const auto add = [&](char32_t c) {
    std::string text;
    AppendUtf8(c, &text);
    if (c < 0x20 || c == U'"' || seen.Find(text).has_value()) return;
    EXPECT_TRUE(seen.Add(text, id).ok());
    for (const char* prefix : {"", "##"}) {
      vocabulary.append(", \"").append(prefix).append(text).append("\": ");
      vocabulary += std::to_string(id++);
    }
  };
  for (const char32_t c : kInteresting) {
    char32_t parts[kMaxDecomposition];
    const size_t count = Decompose(c, parts);
    add(c);
    for (size_t i = 0; i < count; ++i) add(parts[i]);
    for (const char32_t lower : SequenceAt(RecordOf(c).lower)) add(lower);
  }
  const auto flag = [&](int bit) { return options >> bit & 1 ? "true" : "false"; };
  return std::string(R"({"added_tokens": [{"id": 1, "content": "[SEP]", "special": true}],)") +
         R"("normalizer": {"type": "BertNormalizer", "clean_text": )" + flag(0) +
         R"(, "handle_chinese_chars": )" + flag(1) + R"(, "strip_accents": )" + flag(2) +
         R"(, "lowercase": )" + flag(3) + R"(}, "pre_tokenizer": {"type": "BertPreTokenizer"},)" +
         R"("model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",)" +
         R"("max_input_chars_per_word": 9, "vocab": {)" + vocabulary + "}}}";
}

std::unique_ptr<Tokenizer> Make(const std::string& json, bool short_way) {
  auto parts = PartsFromJson(json, "");
  EXPECT_TRUE(parts.ok()) << Message(parts.status());
  auto tokenizer = Pipeline::Create(*std::move(parts), short_way);
  EXPECT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  return *std::move(tokenizer);
}

TEST(TokenizerShortWayTest, EqualsItsParts) {
  for (int options = 0; options < 16; ++options) {
    SCOPED_TRACE(options);
    const std::string json = TokenizerJson(options);
    const auto short_way = Make(json, true), step_by_step = Make(json, false);
    std::mt19937 random(static_cast<uint32_t>(options));
    Encoding got, want;
    EncodeOptions encode;
    encode.want_spans = true;
    for (int i = 0; i < 4000; ++i) {
      const std::string text = RandomText(&random);
      ASSERT_TRUE(short_way->Encode(text, nullptr, encode, &got).ok());
      ASSERT_TRUE(step_by_step->Encode(text, nullptr, encode, &want).ok());
      ASSERT_EQ(got.ids, want.ids) << testing::PrintToString(text);
      ASSERT_EQ(got.spans == want.spans, true) << testing::PrintToString(text);
    }
  }
}

}  // namespace
}  // namespace bertrand
