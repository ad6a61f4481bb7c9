#include "models/tokenizer/vocabulary.h"

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

constexpr int64_t kMostHoles = 1 << 14;

std::string Quoted(std::string_view token) {
  std::string quoted(1, '"');
  quoted += token;
  return quoted += '"';
}

}  // namespace

std::string_view Vocabulary::Own(std::string_view token) {
  texts_.emplace_back(token);
  return texts_.back();
}

absl::Status Vocabulary::Add(std::string_view token, int32_t id) {
  if (Has(id)) {
    return InvalidArgument("vocab: id " + std::to_string(id) + " is both " + Quoted(Text(id)) +
                           " and " + Quoted(token));
  }
  if (ids_.count(token) != 0) return InvalidArgument("vocab: " + Quoted(token) + " has two ids");
  Replace(token, id);
  return absl::OkStatus();
}

void Vocabulary::Replace(std::string_view token, int32_t id) {
  const std::string_view text = Own(token);
  if (id >= size()) by_id_.resize(static_cast<size_t>(id) + 1);
  by_id_[static_cast<size_t>(id)] = text;
  ids_[text] = id;
}

std::optional<int32_t> Vocabulary::Find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::string_view Vocabulary::Text(int64_t id) const {
  return Has(id) ? by_id_[static_cast<size_t>(id)] : std::string_view();
}

absl::StatusOr<Vocabulary> ParseVocabulary(const Json& json) {
  if (!json.is_object()) {
    return InvalidArgument(std::string("vocab must be an object, but it is ") + json.KindName());
  }
  Vocabulary vocabulary;
  // Memory goes by the largest id: holes are allowed, a file of a few bytes for millions is not.
  const auto count = static_cast<int64_t>(json.members().size());
  const int64_t most = 4 * count + kMostHoles;
  for (const auto& [token, value] : json.members()) {
    int32_t id;
    BERTRAND_ASSIGN_OR_RETURN(id, ParseTokenId(value, "vocab: the id of " + Quoted(token)));
    if (id > most) {
      return InvalidArgument("vocab: the id of " + Quoted(token) + " is " + std::to_string(id) +
                             "; with " + std::to_string(count) + " tokens it may be at most " +
                             std::to_string(most));
    }
    BERTRAND_RETURN_IF_ERROR(vocabulary.Add(token, id));
  }
  return vocabulary;
}

absl::StatusOr<Vocabulary> ParseVocabText(std::string_view text) {
  if (const auto invalid = FindInvalidUtf8(text)) {
    return InvalidArgument("byte " + std::to_string(*invalid) + " is not UTF-8");
  }
  // Python reads a first U+FEFF as a part of the first line.
  std::vector<std::string_view> lines;
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = std::min(text.find_first_of("\r\n", start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
    if (end < text.size() && text[end] == '\r' && start < text.size() && text[start] == '\n')
      ++start;
  }
  if (static_cast<int64_t>(lines.size()) > kMaxTokenId) {
    return InvalidArgument(std::to_string(lines.size()) + " lines; at most " +
                           std::to_string(kMaxTokenId) + " tokens are supported");
  }
  std::unordered_map<std::string_view, size_t> last;
  for (size_t i = 0; i < lines.size(); ++i) last[lines[i]] = i;
  Vocabulary vocabulary;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (last[lines[i]] == i) vocabulary.Replace(lines[i], static_cast<int32_t>(i));
  }
  return vocabulary;
}

}  // namespace bertrand
