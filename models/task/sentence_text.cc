#include "models/task/sentence_text.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace bertrand {
namespace {

struct LowerRun {
  uint32_t first, last, step;
  int32_t delta;
};
struct CodePointRange {
  uint32_t first, last;
};
#include "models/task/sentence_text_tables.inc"

constexpr uint32_t kCapitalSigma = 0x3a3, kSmallSigma = 0x3c3, kFinalSigma = 0x3c2;
constexpr uint32_t kCapitalDottedI = 0x130, kCombiningDotAbove = 0x307;

template <typename Range, size_t kSize>
const Range* FindRange(const Range (&ranges)[kSize], uint32_t code_point) {
  const auto* it =
      std::lower_bound(std::begin(ranges), std::end(ranges), code_point,
                       [](const Range& range, uint32_t value) { return range.last < value; });
  return it != std::end(ranges) && it->first <= code_point ? it : nullptr;
}

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

// The code point at `*at`, which moves behind it. Text cut within a code point ends it.
uint32_t Next(std::string_view text, size_t* at) {
  const auto lead = static_cast<uint8_t>(text[(*at)++]);
  if (lead < 0x80) return lead;
  uint32_t code_point = lead >= 0xf0 ? lead & 0x07u : lead >= 0xe0 ? lead & 0x0fu : lead & 0x1fu;
  while (*at < text.size() && IsContinuation(text[*at])) {
    code_point = code_point << 6 | (static_cast<uint8_t>(text[(*at)++]) & 0x3fu);
  }
  return code_point;
}

// The code point that ends before `*at`, which moves to its start.
uint32_t Previous(std::string_view text, size_t* at) {
  size_t start = *at - 1;
  while (start > 0 && IsContinuation(text[start])) --start;
  *at = start;
  return Next(text, &start);
}

void AppendUtf8(uint32_t code_point, std::string* out) {
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
    return;
  }
  const int num_continuations = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  constexpr uint8_t kLeads[] = {0, 0xc0, 0xe0, 0xf0};
  out->push_back(
      static_cast<char>(kLeads[num_continuations] | code_point >> (6 * num_continuations)));
  for (int i = num_continuations - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80 | ((code_point >> (6 * i)) & 0x3f)));
  }
}

// Whether the sigma at [begin, end) ends its word: a cased letter before it and none after, looking
// past case-ignorable characters (CPython, Objects/unicodeobject.c, handle_capital_sigma).
bool IsFinalSigma(std::string_view text, size_t begin, size_t end) {
  bool is_behind_letter = false;
  while (begin > 0) {
    const uint32_t code_point = Previous(text, &begin);
    if (FindRange(kCaseIgnorable, code_point) != nullptr) continue;
    is_behind_letter = FindRange(kCased, code_point) != nullptr;
    break;
  }
  if (!is_behind_letter) return false;
  while (end < text.size()) {
    const uint32_t code_point = Next(text, &end);
    if (FindRange(kCaseIgnorable, code_point) != nullptr) continue;
    return FindRange(kCased, code_point) == nullptr;
  }
  return true;
}

uint32_t Lower(uint32_t code_point) {
  const LowerRun* run = FindRange(kLowerRuns, code_point);
  if (run == nullptr || (code_point - run->first) % run->step != 0) return code_point;
  return static_cast<uint32_t>(static_cast<int64_t>(code_point) + run->delta);
}

}  // namespace

std::string_view StripPython(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    size_t next = begin;
    if (FindRange(kSpace, Next(text, &next)) == nullptr) break;
    begin = next;
  }
  size_t end = text.size();
  while (end > begin) {
    size_t previous = end;
    if (FindRange(kSpace, Previous(text, &previous)) == nullptr) break;
    end = previous;
  }
  return text.substr(begin, end - begin);
}

void AppendLowerPython(std::string_view text, std::string* out) {
  out->reserve(out->size() + text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t code_point = Next(text, &at);
    if (code_point < 0x80) {
      const bool is_upper = code_point >= 'A' && code_point <= 'Z';
      out->push_back(static_cast<char>(is_upper ? code_point + 32 : code_point));
    } else if (code_point == kCapitalSigma) {
      AppendUtf8(IsFinalSigma(text, begin, at) ? kFinalSigma : kSmallSigma, out);
    } else if (code_point == kCapitalDottedI) {
      AppendUtf8('i', out);
      AppendUtf8(kCombiningDotAbove, out);
    } else {
      AppendUtf8(Lower(code_point), out);
    }
  }
}

std::string_view CleanText(std::string_view text, const TextCleaning& cleaning,
                           std::string* memory) {
  if (!cleaning.prompt.empty()) {
    memory->assign(cleaning.prompt);
    memory->append(text);
    text = *memory;
  }
  if (cleaning.strip) text = StripPython(text);
  if (!cleaning.lower) return text;
  std::string lower;
  AppendLowerPython(text, &lower);
  *memory = std::move(lower);
  return *memory;
}

void MapSpansBack(std::string_view text, const TextCleaning& cleaning,
                  std::span<const int8_t> sequence, int8_t which, std::span<TokenSpan> spans) {
  std::string whole(cleaning.prompt);
  whole += text;
  const std::string_view kept = cleaning.strip ? StripPython(whole) : std::string_view(whole);

  // Where each code point of the cleaned text comes from, in the prompt and text together.
  struct Position {
    uint32_t code_point, byte;
  };
  struct Source {
    Position begin, end;
  };
  std::vector<Source> sources;
  const auto num_prompt_bytes = static_cast<uint32_t>(cleaning.prompt.size());
  const auto kept_begin = static_cast<size_t>(kept.data() - whole.data());
  uint32_t index = 0, num_prompt_code_points = 0;
  for (size_t at = 0; at < whole.size(); ++index) {
    const Position begin{index, static_cast<uint32_t>(at)};
    if (at < num_prompt_bytes) ++num_prompt_code_points;
    const uint32_t code_point = Next(whole, &at);
    if (begin.byte < kept_begin || begin.byte >= kept_begin + kept.size()) continue;
    const Source source{begin, {index + 1, static_cast<uint32_t>(at)}};
    const bool is_two = cleaning.lower && code_point == kCapitalDottedI;
    sources.insert(sources.end(), is_two ? 2 : 1, source);
  }

  const auto without_prompt = [&](Position position) {
    if (position.byte < num_prompt_bytes) return Position{0, 0};
    return Position{position.code_point - num_prompt_code_points, position.byte - num_prompt_bytes};
  };
  for (size_t i = 0; i < spans.size(); ++i) {
    TokenSpan& span = spans[i];
    if (sequence[i] != which || sources.empty()) continue;
    const size_t last = sources.size() - 1;
    const Source& first = sources[std::min<size_t>(span.start, last)];
    const Position begin = without_prompt(span.start > last ? first.end : first.begin);
    Position end = begin;
    if (span.end > span.start) {
      end = without_prompt(sources[std::min<size_t>(span.end - 1, last)].end);
    }
    span = {begin.code_point, end.code_point, begin.byte, end.byte};
  }
}

}  // namespace bertrand
