#include "models/tokenizer/wordpiece.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Lists of tokens at all states together: a vocabulary of words has fewer than three a state. A
// file made to have more would make us allocate out of proportion to its size.
constexpr size_t kMaxOutputsPerState = 64;

// The first `size` <= 16 bytes at `at`, of which 16 can be read, as two numbers.
std::pair<uint64_t, uint64_t> LoadPadded(const char* at, size_t size) {
  uint64_t low, high;
  std::memcpy(&low, at, sizeof(low));
  std::memcpy(&high, at + sizeof(low), sizeof(high));
  const auto keep = [](uint64_t word, size_t bytes) {  // bytes < 8
    return word & ((uint64_t{1} << (8 * bytes)) - 1);
  };
  if (size < 8) return {keep(low, size), 0};
  return {low, size == 16 ? high : keep(high, size - 8)};
}

}  // namespace

WordPiece::WordPiece(Vocabulary vocabulary, WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)),
      options_(std::move(options)),
      unk_id_(vocabulary_.Find(options_.unk_token)),
      max_input_chars_(static_cast<uint64_t>(options_.max_input_chars_per_word)) {}

absl::StatusOr<std::unique_ptr<WordPiece>> WordPiece::Create(Vocabulary vocabulary,
                                                             WordPieceOptions options) {
  std::unique_ptr<WordPiece> model(new WordPiece(std::move(vocabulary), std::move(options)));
  BERTRAND_RETURN_IF_ERROR(model->BuildAutomaton());
  model->BuildWholeWords();
  return model;
}

size_t WordPiece::WholeWordPlace(uint64_t low, uint64_t high) const {
  // Two odd constants of many bits; the upper bits of the product are the mixed ones.
  const uint64_t mixed = (low ^ std::rotl(high * 0x9E3779B97F4A7C15u, 29)) * 0xD6E8FEB86659FD93u;
  return static_cast<size_t>(mixed >> whole_words_shift_);
}

void WordPiece::BuildWholeWords() {
  static_assert(std::endian::native == std::endian::little, "LoadPadded masks the upper bytes");
  const size_t places = std::bit_ceil(2 * static_cast<size_t>(vocabulary_.num_tokens()) + 2);
  whole_words_shift_ = 64 - std::countr_zero(places);
  whole_words_.assign(places + kMaxProbes, WholeWord{});
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    if (text.empty() || text.size() > kWholeWordBytes) continue;
    char padded[kWholeWordBytes] = {};
    std::copy(text.begin(), text.end(), padded);
    const auto [low, high] = LoadPadded(padded, text.size());
    WholeWord* place = &whole_words_[WholeWordPlace(low, high)];
    WholeWord* const end = place + kMaxProbes;
    while (place != end && place->size != 0) ++place;
    if (place == end) continue;
    *place = {low, high, static_cast<int32_t>(id), static_cast<uint32_t>(text.size())};
  }
}

size_t WordPiece::MatchPadded(std::string_view word, int32_t* ids, uint32_t* ends) const {
  if (word.size() <= kWholeWordBytes) {
    const auto [low, high] = LoadPadded(word.data(), word.size());
    const WholeWord* place = &whole_words_[WholeWordPlace(low, high)];
    for (size_t i = 0; i < kMaxProbes && place[i].size != 0; ++i) {
      if (place[i].low != low || place[i].high != high || place[i].size != word.size()) continue;
      ids[0] = place[i].id;
      if (ends != nullptr) ends[0] = static_cast<uint32_t>(word.size());
      return 1;
    }
  }
  return Match(word, ids, ends);
}

uint32_t WordPiece::AddOutputs(const std::vector<Output>& outputs) {
  if (outputs.empty()) return 0;
  const auto index = static_cast<uint32_t>(outputs_.size());
  outputs_.push_back({static_cast<int32_t>(outputs.size()), 0});
  outputs_.insert(outputs_.end(), outputs.begin(), outputs.end());
  return index;
}

void WordPiece::AppendOutputs(uint32_t state, std::vector<Output>* outputs) const {
  const Output* header = &outputs_[states_.cell(state).second];
  outputs->insert(outputs->end(), header + 1, header + 1 + header->id);
}

absl::Status WordPiece::BuildAutomaton() {
  const std::string& prefix = options_.continuing_subword_prefix;
  std::vector<DoubleArray::Key> keys;
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    const auto value = static_cast<uint32_t>(id);
    // Longer entries than words can be never match.
    if (text.empty() || CountCodePoints(text) > max_input_chars_ + CountCodePoints(prefix))
      continue;
    keys.push_back({text, kWordRoot - 1, value});
    if (text.size() > prefix.size() && text.starts_with(prefix)) {
      keys.push_back({text.substr(prefix.size()), kContinuationRoot - 1, value});
    }
  }
  std::vector<uint32_t> ends;
  states_.Build(keys, 2, &ends);
  // Which key ends in a state. Of a word's entries two never share one: texts are distinct.
  std::unordered_map<uint32_t, size_t> key_at;
  for (size_t i = 0; i < keys.size(); ++i) key_at.emplace(ends[i], i);

  outputs_.assign(1, {0, 0});
  const std::vector<uint32_t>& order = states_.by_depth();
  const size_t most = kMaxOutputsPerState * (order.size() + 1024);
  std::vector<Output> outputs;
  for (const uint32_t state : order) {
    DoubleArray::Cell& cell = states_.cell(state);
    const uint32_t parent = cell.check;
    if (parent == DoubleArray::kNone) continue;  // a root
    outputs.clear();
    if (const auto key = key_at.find(state); key != key_at.end()) {
      const DoubleArray::Key& entry = keys[key->second];
      outputs.push_back(
          {static_cast<int32_t>(entry.value), static_cast<uint32_t>(entry.text.size())});
      cell.first = kContinuationRoot;
    } else {
      const auto byte = static_cast<unsigned char>(state ^ states_.cell(parent).base);
      AppendOutputs(parent, &outputs);
      uint32_t z = states_.cell(parent).first, next = DoubleArray::kNone;
      while (z != DoubleArray::kNone && (next = states_.Step(z, byte)) == DoubleArray::kNone) {
        AppendOutputs(z, &outputs);
        z = states_.cell(z).first;
      }
      cell.first = next;
      if (next == DoubleArray::kNone) outputs.clear();
    }
    cell.second = AddOutputs(outputs);
    if (outputs_.size() > most) {
      return InvalidArgument(
          "vocab: entries repeat each other too often for the WordPiece automaton");
    }
  }
  states_.Seal();
  return absl::OkStatus();
}

template <bool kWantEnds>
size_t WordPiece::MatchImpl(std::string_view word, int32_t* ids, uint32_t* ends) const {
  size_t count = 0;
  uint32_t end = 0;
  const auto emit = [&](uint32_t header) {
    const Output* output = &outputs_[header];
    for (int32_t left = output->id; left > 0; --left) {
      ++output;
      ids[count] = output->id;
      if constexpr (kWantEnds) ends[count] = end += output->length;
      ++count;
    }
  };
  uint32_t state = kWordRoot;
  for (const char byte : word) {
    uint32_t next;
    while ((next = states_.Step(state, static_cast<unsigned char>(byte))) == DoubleArray::kNone) {
      const DoubleArray::Cell& cell = states_.cell(state);
      if (cell.first == DoubleArray::kNone) return 0;
      emit(cell.second);
      state = cell.first;
    }
    state = next;
  }
  while (state != kContinuationRoot) {
    const DoubleArray::Cell& cell = states_.cell(state);
    if (cell.first == DoubleArray::kNone) return 0;
    emit(cell.second);
    state = cell.first;
  }
  return count;
}

size_t WordPiece::Match(std::string_view word, int32_t* ids, uint32_t* ends) const {
  return ends == nullptr ? MatchImpl<false>(word, ids, ends) : MatchImpl<true>(word, ids, ends);
}

absl::StatusOr<std::unique_ptr<WordPiece>> ParseWordPiece(const Json& json) {
  const JsonFields fields(json, "model");
  WordPieceOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.unk_token, fields.String("unk_token"));
  BERTRAND_ASSIGN_OR_RETURN(options.continuing_subword_prefix,
                            fields.String("continuing_subword_prefix"));
  BERTRAND_ASSIGN_OR_RETURN(
      options.max_input_chars_per_word,
      fields.Integer("max_input_chars_per_word", 100, 0, std::numeric_limits<int64_t>::max()));
  const Json* entries = json.Find("vocab");
  if (entries == nullptr) return InvalidArgument("model: `vocab` is absent");
  Vocabulary vocabulary;
  BERTRAND_ASSIGN_OR_RETURN(vocabulary, ParseVocabulary(*entries));
  return WordPiece::Create(std::move(vocabulary), std::move(options));
}

}  // namespace bertrand
