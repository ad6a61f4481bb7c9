#include "models/tokenizer/normalizer.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Calls visit(code point, source range) for each code point of `text`.
template <typename Visit>
void ForEachCodePoint(const NormalizedText& text, Visit visit) {
  size_t i = 0;
  while (i < text.text.size()) {
    const SourceRange from = text.tracked ? text.source[i] : SourceRange{};
    const char32_t c = NextCodePoint(text.text, &i);
    visit(c, from);
  }
}

// One step: *spare is filled from *text by `visit(c, from, out)`, then they are exchanged.
template <typename Visit>
void Rewrite(NormalizedText* text, NormalizedText* spare, Visit visit) {
  spare->Clear();
  spare->tracked = text->tracked;
  ForEachCodePoint(*text, [&](char32_t c, SourceRange from) { visit(c, from, spare); });
  text->Swap(spare);
}

}  // namespace

void CanonicalDecomposer::Start(NormalizedText* out) {
  out_ = out;
  run_.clear();
  sources_.clear();
  next_source_ = 0;
}

void CanonicalDecomposer::Add(char32_t c, SourceRange from) {
  char32_t parts[kMaxDecomposition];
  const size_t count = Decompose(c, parts);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t rank = RecordOf(parts[i]).combining_rank;
    if (rank == 0) Flush();
    if (i == 0) sources_.push_back(from);
    run_.push_back({parts[i], rank, i == 0});
    if (rank == 0) Flush();
  }
}

void CanonicalDecomposer::Flush() {
  SortMarks(&run_);
  for (const Part& part : run_) {
    if (part.replaces) last_ = sources_[next_source_++];
    out_->Append(part.c, last_);
  }
  run_.clear();
  sources_.clear();
  next_source_ = 0;
}

void NormalizedText::Assign(std::string_view source_text, uint32_t from, bool track) {
  text.assign(source_text);
  base = from;
  tracked = track;
  source.clear();
  if (!tracked) return;
  source.resize(source_text.size());
  size_t i = 0;
  while (i < source_text.size()) {
    const size_t start = i;
    NextCodePoint(source_text, &i);
    const SourceRange range{base + static_cast<uint32_t>(start), base + static_cast<uint32_t>(i)};
    std::fill(source.begin() + start, source.begin() + i, range);
  }
}

void NormalizedText::Append(char32_t c, SourceRange from) {
  char buffer[4];
  const size_t length = WriteUtf8(c, buffer);
  text.append(buffer, length);
  if (tracked) source.insert(source.end(), length, from);
}

void TextRewriter::Add(char32_t c, int64_t change) {
  const std::string& old = text_.text;
  SourceRange from{text_.base, text_.base};
  if (text_.tracked) {
    if (change > 0 || at_ >= old.size()) {
      if (at_ > 0) from = text_.source[at_ - 1];
    } else {
      from = text_.source[at_];
    }
    for (; change <= 0 && at_ < old.size(); ++change) NextCodePoint(old, &at_);
  }
  spare_.Append(c, from);
}

void CleanText(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const uint16_t flags = RecordOf(c).flags;
    if (flags & kCleanedAway) return;
    out->Append(flags & kSpace ? U' ' : c, from);
  });
}

void IsolateIdeographs(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const bool isolate = HasFlag(c, kIdeograph);
    if (isolate) out->Append(U' ', from);
    out->Append(c, from);
    if (isolate) out->Append(U' ', from);
  });
}

void DecomposeCanonically(NormalizedText* text, NormalizedText* spare) {
  spare->Clear();
  spare->tracked = text->tracked;
  CanonicalDecomposer decomposer;
  decomposer.Start(spare);
  ForEachCodePoint(*text, [&](char32_t c, SourceRange from) { decomposer.Add(c, from); });
  decomposer.Flush();
  text->Swap(spare);
}

void RemoveNonspacingMarks(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    if (!HasFlag(c, kNonspacingMark)) out->Append(c, from);
  });
}

void LowerCase(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const uint16_t lower = RecordOf(c).lower;
    if (lower == 0) {
      out->Append(c, from);
      return;
    }
    for (const char32_t part : SequenceAt(lower)) out->Append(part, from);
  });
}

void BertNormalizer::Normalize(NormalizedText* text, NormalizedText* spare) const {
  if (options_.clean_text) CleanText(text, spare);
  if (options_.handle_chinese_chars) IsolateIdeographs(text, spare);
  if (options_.strip_accents) {
    DecomposeCanonically(text, spare);
    RemoveNonspacingMarks(text, spare);
  }
  if (options_.lowercase) LowerCase(text, spare);
}

}  // namespace bertrand
