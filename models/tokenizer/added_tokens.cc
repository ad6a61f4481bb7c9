#include "models/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {

absl::Status PatternSet::Build(const std::vector<std::pair<std::string, int32_t>>& patterns) {
  std::vector<DoubleArray::Key> keys;
  for (const auto& [text, id] : patterns) keys.push_back({text, 0, static_cast<uint32_t>(id)});
  std::vector<uint32_t> ends;
  if (absl::Status status = states_.Build(keys, 1, &ends); !status.ok()) {
    return Annotate(status, "added_tokens");
  }
  states_.Seal();
  for (size_t i = 0; i < keys.size(); ++i) {
    uint32_t& output = states_.cell(ends[i]).first;
    if (output == 0) output = keys[i].value() + 1;
    const auto first = static_cast<unsigned char>(keys[i].text()[0]);
    if (!first_byte_[first]) ++num_first_;
    first_byte_[first] = true;
    only_first_ = first;
  }
  return absl::OkStatus();
}

size_t PatternSet::NextCandidate(std::string_view text, size_t from) const {
  if (num_first_ == 1) {  // BERT's: all begin with `[`
    const void* found = std::memchr(text.data() + from, only_first_, text.size() - from);
    return found == nullptr ? text.size()
                            : static_cast<size_t>(static_cast<const char*>(found) - text.data());
  }
  while (from < text.size() && !first_byte_[static_cast<unsigned char>(text[from])]) ++from;
  return from;
}

bool PatternSet::Find(std::string_view text, size_t from, AddedMatch* match) const {
  if (num_first_ == 0) return false;
  while (from < text.size() && (from = NextCandidate(text, from)) < text.size()) {
    uint32_t state = 1, output = 0;
    size_t end = from;
    for (size_t i = from; i < text.size(); ++i) {
      state = states_.Step(state, static_cast<unsigned char>(text[i]));
      if (state == DoubleArray::kNone) break;
      if (states_.cell(state).first != 0) {
        output = states_.cell(state).first;
        end = i + 1;
      }
    }
    if (output != 0) {
      *match = {from, end, static_cast<int32_t>(output - 1)};
      return true;
    }
    ++from;
  }
  return false;
}

std::optional<int32_t> AddedTokens::Find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const AddedToken* AddedTokens::Get(int64_t id) const {
  if (id < 0 || id > max_id_) return nullptr;
  const auto found = by_id_.find(static_cast<int32_t>(id));
  return found == by_id_.end() ? nullptr : &found->second;
}

bool AddedTokens::Contains(const AddedToken& token) const {
  const std::optional<int32_t> id = Find(token.content);
  return id.has_value() && *Get(*id) == token;
}

void AddedTokens::Add(const AddedToken& token, const Vocabulary& model) {
  if (token.content.empty()) return;
  if (token.special && special_.insert(token.content).second) specials_.push_back(token);
  if (Contains(token)) return;
  int32_t id;
  if (const auto known = Find(token.content)) {
    id = *known;
  } else if (const auto in_model = model.Find(token.content)) {
    id = *in_model;
  } else {
    id = static_cast<int32_t>(model.num_tokens() + num_new_++);
  }
  ids_[token.content] = id;
  by_id_[id] = token;
  max_id_ = std::max<int64_t>(max_id_, id);
  if (!IsSpecial(token.content)) others_.push_back(token);
}

absl::Status AddedTokens::Build(const Normalizer* normalizer) {
  std::vector<std::pair<std::string, int32_t>> raw, normalized;
  for (const std::vector<AddedToken>* list : {&specials_, &others_}) {
    for (const AddedToken& token : *list) {
      const int32_t id = *Find(token.content);
      if (!token.normalized) {
        raw.emplace_back(token.content, id);
        continue;
      }
      NormalizedText text, spare;
      text.Assign(token.content, 0);
      if (normalizer != nullptr) normalizer->Normalize(&text, &spare);
      if (text.text.empty()) {
        return InvalidArgument("added_tokens: nothing is left of token " + std::to_string(id) +
                               " after normalisation, so it would match everywhere");
      }
      normalized.emplace_back(std::move(text.text), id);
    }
  }
  BERTRAND_RETURN_IF_ERROR(raw_.Build(raw));
  return normalized_.Build(normalized);
}

bool AddedTokens::Adjust(std::string_view text, size_t after, WhiteSpace* white,
                         AddedMatch* match) const {
  const AddedToken& token = *Get(match->id);
  const auto space_or_word = [&](size_t at, CodePointFlag flag) {
    return HasFlag(NextCodePoint(text, &at), flag);
  };
  if (token.single_word) {
    if (match->begin > 0 && space_or_word(PreviousBoundary(text, match->begin), kWord))
      return false;
    if (match->end < text.size() && space_or_word(match->end, kWord)) return false;
  }
  if (token.lstrip) {
    // Not beyond `after`, which bounds the work to the text between two matches.
    while (match->begin > after) {
      const size_t previous = PreviousBoundary(text, match->begin);
      if (previous < after || !space_or_word(previous, kSpace)) break;
      match->begin = previous;
    }
    match->begin = std::max(match->begin, after);
  }
  if (token.rstrip) {
    const size_t begin = match->end;
    if (white->begin <= begin && begin < white->end) match->end = white->end;
    while (match->end < text.size()) {
      size_t next = match->end;
      if (!HasFlag(NextCodePoint(text, &next), kSpace)) break;
      match->end = next;
    }
    *white = {begin, match->end};
  }
  return true;
}

}  // namespace bertrand
