#include "models/tokenizer/vocabulary.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

constexpr int64_t kMostHoles = 1 << 14;
// An id and a length before each text.
constexpr size_t kHeaderBytes = 2 * sizeof(uint32_t);

// At most three quarters of the table are used.
size_t SlotsFor(size_t count) { return count + count / 3 + 1; }

std::string Quoted(std::string_view token) {
  std::string quoted(1, '"');
  quoted += token;
  return quoted += '"';
}

}  // namespace

void Vocabulary::Reserve(size_t count, size_t text_bytes, int64_t max_id) {
  texts_.reserve(text_bytes + count * kHeaderBytes);
  by_id_.reserve(static_cast<size_t>(max_id + 1));
  Rehash(SlotsFor(count));
}

size_t Vocabulary::ReservedBytes(size_t count, size_t text_bytes, int64_t max_id) {
  const auto num_ids = static_cast<size_t>(max_id + 1);
  return text_bytes + count * kHeaderBytes + (num_ids + SlotsFor(count)) * sizeof(uint32_t);
}

std::string_view Vocabulary::TextAt(uint32_t place) const {
  uint32_t length;
  std::memcpy(&length, texts_.data() + place + sizeof(uint32_t), sizeof(length));
  return {texts_.data() + place + kHeaderBytes, length};
}

int32_t Vocabulary::IdAt(uint32_t place) const {
  int32_t id;
  std::memcpy(&id, texts_.data() + place, sizeof(id));
  return id;
}

size_t Vocabulary::Slot(std::string_view token) const {
  size_t slot = std::hash<std::string_view>()(token) % table_.size();
  while (table_[slot] != kNone && TextAt(table_[slot]) != token) {
    slot = slot + 1 == table_.size() ? 0 : slot + 1;
  }
  return slot;
}

void Vocabulary::Rehash(size_t num_slots) {
  if (num_slots <= table_.size()) return;
  table_.assign(num_slots, kNone);
  for (uint32_t place = 0; place < texts_.size();) {
    const std::string_view text = TextAt(place);
    table_[Slot(text)] = place;
    place += static_cast<uint32_t>(kHeaderBytes + text.size());
  }
}

absl::Status Vocabulary::Add(std::string_view token, int32_t id) {
  if (Has(id)) {
    return InvalidArgument("vocab: id " + std::to_string(id) + " is both " + Quoted(Text(id)) +
                           " and " + Quoted(token));
  }
  if (Find(token).has_value()) return InvalidArgument("vocab: " + Quoted(token) + " has two ids");
  Replace(token, id);
  return absl::OkStatus();
}

void Vocabulary::Replace(std::string_view token, int32_t id) {
  if (SlotsFor(num_texts_ + 1) > table_.size()) Rehash(SlotsFor(2 * num_texts_ + 8));
  uint32_t& place = table_[Slot(token)];
  if (place == kNone) {
    place = static_cast<uint32_t>(texts_.size());
    const auto length = static_cast<uint32_t>(token.size());
    texts_.resize(texts_.size() + kHeaderBytes + length);
    std::memcpy(texts_.data() + place + sizeof(id), &length, sizeof(length));
    std::copy(token.begin(), token.end(), texts_.data() + place + kHeaderBytes);
    ++num_texts_;
  }
  std::memcpy(texts_.data() + place, &id, sizeof(id));
  if (id >= size()) by_id_.resize(static_cast<size_t>(id) + 1, kNone);
  by_id_[static_cast<size_t>(id)] = place;
}

void Vocabulary::Move(std::string_view token, int32_t id) {
  if (const std::optional<int32_t> before = Find(token)) {
    by_id_[static_cast<size_t>(*before)] = kNone;
  }
  Replace(token, id);
}

std::optional<int32_t> Vocabulary::Find(std::string_view token) const {
  if (table_.empty()) return std::nullopt;
  const uint32_t place = table_[Slot(token)];
  if (place == kNone) return std::nullopt;
  return IdAt(place);
}

std::string_view Vocabulary::Text(int64_t id) const {
  return Has(id) ? TextAt(by_id_[static_cast<size_t>(id)]) : std::string_view();
}

absl::StatusOr<Vocabulary> ParseVocabulary(const Json& json) {
  if (!json.is_object()) {
    return InvalidArgument(std::string("vocab must be an object, but it is ") + json.KindName());
  }
  // Memory goes by the largest id: holes are allowed, a file of a few bytes for millions is not.
  const auto count = static_cast<int64_t>(json.members().size());
  const int64_t most = 4 * count + kMostHoles;
  int64_t max_id = -1;
  size_t text_bytes = 0;
  for (const auto& [token, value] : json.members()) {
    int32_t id;
    BERTRAND_ASSIGN_OR_RETURN(id, ParseTokenId(value, "vocab: the id of " + Quoted(token)));
    if (id > most) {
      return InvalidArgument("vocab: the id of " + Quoted(token) + " is " + std::to_string(id) +
                             "; with " + std::to_string(count) + " tokens it may be at most " +
                             std::to_string(most));
    }
    max_id = std::max<int64_t>(max_id, id);
    text_bytes += token.size();
  }
  Vocabulary vocabulary;
  vocabulary.Reserve(json.members().size(), text_bytes, max_id);
  for (const auto& [token, value] : json.members()) {
    BERTRAND_RETURN_IF_ERROR(vocabulary.Add(token, static_cast<int32_t>(*value.as_int())));
  }
  return vocabulary;
}

absl::StatusOr<Vocabulary> ParseVocabText(std::string_view text, size_t memory_max) {
  if (const auto invalid = FindInvalidUtf8(text)) {
    return InvalidArgument("byte " + std::to_string(*invalid) + " is not UTF-8");
  }
  // Calls visit(line) for each. Python reads a first U+FEFF as a part of the first line.
  const auto for_each_line = [&](auto visit) {
    size_t start = 0;
    while (start < text.size()) {
      const size_t end = std::min(text.find_first_of("\r\n", start), text.size());
      visit(text.substr(start, end - start));
      start = end + 1;
      if (end < text.size() && text[end] == '\r' && start < text.size() && text[start] == '\n')
        ++start;
    }
  };
  // Of lines of at most two bytes there are no more different ones than kShortLines.
  constexpr size_t kShortLines = 1 + 128 + 128 * 128 + 32 * 64;
  int64_t count = 0;
  size_t num_short = 0, num_long = 0, text_bytes = 2 * kShortLines;
  for_each_line([&](std::string_view line) {
    ++count;
    ++(line.size() <= 2 ? num_short : num_long);
    text_bytes += line.size() <= 2 ? 0 : line.size();
  });
  if (count > kMaxTokenId) {
    return InvalidArgument(std::to_string(count) + " lines; at most " +
                           std::to_string(kMaxTokenId) + " tokens are supported");
  }
  Vocabulary vocabulary;
  const size_t num_tokens = num_long + std::min(num_short, kShortLines);
  BERTRAND_RETURN_IF_ERROR(
      CheckMemory(Vocabulary::ReservedBytes(num_tokens, text_bytes, count - 1), memory_max));
  vocabulary.Reserve(num_tokens, text_bytes, count - 1);
  int32_t id = 0;
  for_each_line([&](std::string_view line) { vocabulary.Move(line, id++); });
  return vocabulary;
}

}  // namespace bertrand
