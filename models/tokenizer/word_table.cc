#include "models/tokenizer/word_table.h"

#include <algorithm>

namespace bertrand {

void WordTable::Reserve(size_t count, size_t memory_max) {
  size_t size = std::bit_ceil(std::max<size_t>(2, count / 2));
  while (size > 2 && size > memory_max / kLineBytes) size /= 2;
  shift_ = 64 - std::countr_zero(size);
  lines_.assign(size + kMaxLines, Line{});
}

void WordTable::Add(std::string_view text, int32_t id) {
  const Key key = KeyOf(text, false);
  if (key == Key{}) return;
  Line* line = &lines_[static_cast<size_t>(LineOf(key) - lines_.data())];
  Line* const end = line + kMaxLines;
  while (line != end && line->is_full()) ++line;
  if (line == end) return;
  size_t slot = 0;
  while (line->ids[1 + slot] >= 0) ++slot;
  line->keys[slot] = key;
  line->ids[1 + slot] = id;
}

int32_t WordTable::FindBehind(const Probe& probe) {
  const Line* line = probe.line;
  for (size_t i = 1; i < kMaxLines && line->is_full(); ++i) {
    const int32_t id = (++line)->Find(probe.key);
    if (id >= 0) return id;
  }
  return -1;
}

}  // namespace bertrand
