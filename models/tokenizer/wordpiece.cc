#include "models/tokenizer/wordpiece.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Lists of tokens at all states together: a vocabulary of words has fewer than three a state. A
// file made to have more would make us allocate out of proportion to its size.
constexpr size_t kMaxOutputsPerState = 4, kFreeOutputs = 1 << 16;

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

void WordPiece::BuildWholeWords() {
  whole_words_.Reserve(static_cast<size_t>(vocabulary_.num_tokens()));
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    if (!text.empty()) whole_words_.Add(text, static_cast<int32_t>(id));
  }
}

size_t WordPiece::MatchPadded(std::string_view word, int32_t* ids, uint32_t* ends) const {
  const int32_t id = whole_words_.Find(word, true);
  if (id < 0) return Match(word, ids, ends);
  ids[0] = id;
  if (ends != nullptr) ends[0] = static_cast<uint32_t>(word.size());
  return 1;
}

uint32_t WordPiece::AddOutputs(const std::vector<Output>& outputs) {
  if (outputs.empty()) return 0;
  const auto index = static_cast<uint32_t>(outputs_.size());
  // Doubling would take three times the memory for a while.
  const size_t needed = outputs_.size() + outputs.size() + 1;
  if (needed > outputs_.capacity()) outputs_.reserve(needed + needed / 8);
  outputs_.push_back({static_cast<int32_t>(outputs.size()), 0});
  outputs_.insert(outputs_.end(), outputs.begin(), outputs.end());
  return index;
}

void WordPiece::AppendOutputs(uint32_t state, std::vector<Output>* outputs) const {
  const Output* header = &outputs_[states_.cell(state).second];
  outputs->insert(outputs->end(), header + 1, header + 1 + header->id);
}

// Each token is a key, and behind the prefix another one.
size_t WordPiece::CountKeys() const {
  const std::string& prefix = options_.continuing_subword_prefix;
  size_t count = 0;
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    if (!text.empty()) count += text.size() > prefix.size() && text.starts_with(prefix) ? 2 : 1;
  }
  return count;
}

absl::Status WordPiece::BuildAutomaton() {
  const std::string& prefix = options_.continuing_subword_prefix;
  std::vector<DoubleArray::Key> keys;
  keys.reserve(CountKeys());
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
  if (absl::Status status = states_.Build(keys, 2, &ends); !status.ok()) {
    return Annotate(status, "vocab");
  }
  // Until its turn comes, `second` of a state is which key ends in it, plus one. Of a word's entries
  // two never share one: texts are distinct.
  for (size_t i = 0; i < keys.size(); ++i) {
    states_.cell(ends[i]).second = static_cast<uint32_t>(i) + 1;
  }
  ends = {};

  outputs_.assign(1, {0, 0});
  const std::vector<uint32_t>& order = states_.by_depth();
  const size_t most = kMaxOutputsPerState * order.size() + kFreeOutputs;
  std::vector<Output> outputs;
  for (const uint32_t state : order) {
    DoubleArray::Cell& cell = states_.cell(state);
    const uint32_t parent = cell.check;
    if (parent == DoubleArray::kNone) continue;  // a root
    outputs.clear();
    if (cell.second != 0) {
      const DoubleArray::Key& entry = keys[cell.second - 1];
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
  fprintf(stderr, "states %zu outputs %zu cap %zu keys %zu\n", order.size(), outputs_.size(), outputs_.capacity(), keys.size());
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

bool WordPiece::AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                        TokenRun* run) const {
  size_t count = 0;
  if (CountCodePoints(word) <= max_input_chars_) {
    run->Reserve(word.size());
    if (scratch->ends.size() < word.size()) scratch->ends.resize(2 * word.size());
    count = Match(word, run->next_id(), scratch->ends.data());
  }
  if (count == 0) {
    if (!unk_id_.has_value()) return false;
    run->Add(*unk_id_, source == nullptr
                           ? SourceRange{}
                           : SourceRange{source[0].start, source[word.size() - 1].end});
    return true;
  }
  uint32_t start = 0;
  for (size_t i = 0; source != nullptr && i < count; ++i) {
    const uint32_t end = scratch->ends[i];
    run->AddSource({source[start].start, source[end - 1].end}, run->size() + i);
    start = end;
  }
  run->Advance(count);
  return true;
}

absl::StatusOr<std::unique_ptr<WordPiece>> ParseWordPiece(Json json) {
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
  json = Json();  // its memory is for the automaton
  return WordPiece::Create(std::move(vocabulary), std::move(options));
}

}  // namespace bertrand
