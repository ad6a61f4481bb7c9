// Tokenizes what comes on standard input and writes the results to standard output, in binary, for
// scripts that compare them with `tokenizers` (tokenizer_fuzz.py, tests/models/tokenizer).
//
//     tokenizer_dump FOLDER|TOKENIZER.JSON [--step-by-step]
//
// Little-endian records. In: u8 operation.
//   0, encode: u8 pair, u8 special tokens, u8 truncation mode, u8 side, i64 max_tokens,
//      u32 bytes, first text, u32 bytes, second text.
//   1, decode: u8 skip special tokens, u32 count, u32 ids.
// Out: u8 1 if it went well, else 0 and u32 bytes, message. Then
//   encode: u32 n, i64 num_truncated, i32 ids[n], i32 type_ids[n], u8 special[n], i8 sequence[n],
//      u32 spans[n][4], i32 words[n].
//   decode: u32 bytes, text.
// --step-by-step: BertSplitter is not used.

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "kernels/status.h"
#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

template <typename T>
bool Read(T* value) {
  return std::fread(value, sizeof(T), 1, stdin) == 1;
}

bool ReadText(std::string* text) {
  uint32_t size;
  if (!Read(&size)) return false;
  text->resize(size);
  return std::fread(text->data(), 1, size, stdin) == size;
}

template <typename T>
void Write(const T* values, size_t count) {
  std::fwrite(values, sizeof(T), count, stdout);
}
template <typename T>
void Write(T value) {
  Write(&value, 1);
}

void WriteError(const absl::Status& status) {
  const std::string message = Message(status);
  Write<uint8_t>(0);
  Write(static_cast<uint32_t>(message.size()));
  Write(message.data(), message.size());
}

bool EncodeOne(const Tokenizer& tokenizer, Encoding* encoding) {
  uint8_t pair, special, mode, side;
  EncodeOptions options;
  std::string first, second;
  if (!Read(&pair) || !Read(&special) || !Read(&mode) || !Read(&side) ||
      !Read(&options.max_tokens) || !ReadText(&first) || !ReadText(&second)) {
    return false;
  }
  options.add_special_tokens = special != 0;
  options.want_spans = options.want_words = true;
  options.truncation = static_cast<TruncationMode>(mode);
  options.side = static_cast<TruncationSide>(side);
  const std::string_view second_view = second;
  absl::Status status = tokenizer.Encode(first, pair ? &second_view : nullptr, options, encoding);
  // The same without spans takes another way through the code.
  if (status.ok()) {
    const std::vector<int32_t> ids = encoding->ids;
    Encoding plain;
    options.want_spans = options.want_words = false;
    status = tokenizer.Encode(first, pair ? &second_view : nullptr, options, &plain);
    BERTRAND_CHECK(status.ok() && plain.ids == ids && plain.spans.empty() && plain.words.empty(),
                   "ids depend on what is wanted");
  }
  if (!status.ok()) {
    WriteError(status);
    return true;
  }
  const size_t n = encoding->ids.size();
  Write<uint8_t>(1);
  Write(static_cast<uint32_t>(n));
  Write(encoding->num_truncated);
  Write(encoding->ids.data(), n);
  Write(encoding->type_ids.data(), n);
  Write(encoding->special.data(), n);
  Write(encoding->sequence.data(), n);
  for (const TokenSpan& s : encoding->spans) {
    const uint32_t span[4] = {s.start, s.end, s.start_byte, s.end_byte};
    Write(span, 4);
  }
  Write(encoding->words.data(), n);
  return true;
}

bool DecodeOne(const Tokenizer& tokenizer) {
  uint8_t skip;
  uint32_t count;
  if (!Read(&skip) || !Read(&count)) return false;
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) {
    if (!Read(&id)) return false;
  }
  const absl::StatusOr<std::string> text = tokenizer.Decode(ids, skip != 0);
  if (!text.ok()) {
    WriteError(text.status());
    return true;
  }
  Write<uint8_t>(1);
  Write(static_cast<uint32_t>(text->size()));
  Write(text->data(), text->size());
  return true;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Open(const std::string& path, bool step_by_step) {
  if (!path.ends_with(".json")) return Tokenizer::Load(path);
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  absl::StatusOr<PipelineParts> parts = PartsFromJson(text.str(), "");
  if (!parts.ok()) return parts.status();
  return Pipeline::Create(*std::move(parts), !step_by_step);
}

int Main(int argc, char** argv) {
  if (argc < 2) return 2;
  const bool step_by_step = argc > 2 && std::strcmp(argv[2], "--step-by-step") == 0;
  const auto tokenizer = Open(argv[1], step_by_step);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", Message(tokenizer.status()).c_str());
    return 1;
  }
  Encoding encoding;
  uint8_t operation;
  while (Read(&operation)) {
    if (operation == 0 ? !EncodeOne(**tokenizer, &encoding) : !DecodeOne(**tokenizer)) return 3;
  }
  return 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
