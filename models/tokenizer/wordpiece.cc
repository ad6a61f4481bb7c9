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
                                                             WordPieceOptions options,
                                                             size_t memory_max) {
  std::unique_ptr<WordPiece> model(new WordPiece(std::move(vocabulary), std::move(options)));
  const size_t vocabulary_bytes = model->vocabulary_.memory_bytes();
  memory_max -= std::min(memory_max, vocabulary_bytes);
  BERTRAND_RETURN_IF_ERROR(model->BuildAutomaton(memory_max));
  const size_t automaton_bytes =
      model->states_.memory_bytes() + model->outputs_.capacity() * sizeof(Output);
  model->BuildWholeWords(memory_max - std::min(memory_max, automaton_bytes));
  return model;
}

void WordPiece::BuildWholeWords(size_t memory_max) {
  whole_words_.Reserve(static_cast<size_t>(vocabulary_.num_tokens()), memory_max);
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

// Calls visit(text, root, id) for what the automaton finds: each token at the start of a word, and
// without the prefix behind it. Longer ones than words can be never match.
template <typename Visit>
void WordPiece::ForEachEntry(Visit visit) const {
  const std::string& prefix = options_.continuing_subword_prefix;
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    if (text.empty() || CountCodePoints(text) > max_input_chars_ + CountCodePoints(prefix))
      continue;
    visit(text, kWordRoot, static_cast<int32_t>(id));
    if (text.size() > prefix.size() && text.starts_with(prefix)) {
      visit(text.substr(prefix.size()), kContinuationRoot, static_cast<int32_t>(id));
    }
  }
}

absl::Status WordPiece::BuildAutomaton(size_t memory_max) {
  std::vector<uint32_t> ends;  // the states of the entries
  {
    size_t count = 0;
    ForEachEntry([&count](std::string_view, uint32_t, int32_t) { ++count; });
    BERTRAND_RETURN_IF_ERROR(
        Annotate(CheckMemory(count * sizeof(DoubleArray::Key), memory_max), "vocab"));
    std::vector<DoubleArray::Key> keys;
    keys.reserve(count);
    ForEachEntry([&keys](std::string_view text, uint32_t root, int32_t) {
      keys.push_back({text, root - 1, 0});
    });
    if (absl::Status status = states_.Build(keys, 2, &ends, memory_max); !status.ok()) {
      return Annotate(status, "vocab");
    }
  }
  size_t num_outputs = 0;
  const size_t link_bytes = states_.memory_bytes() + ends.capacity() * sizeof(uint32_t);
  const size_t outputs_max = (memory_max - std::min(memory_max, link_bytes)) / sizeof(Output);
  BERTRAND_RETURN_IF_ERROR(LinkStates(ends, outputs_max, &num_outputs));
  outputs_.reserve(num_outputs);
  FillOutputs(ends);
  BERTRAND_CHECK(outputs_.size() == num_outputs, "outputs are counted wrongly");
  states_.Seal();
  return absl::OkStatus();
}

// Failure links, and in `second` how many outputs each state has. What ends an entry has that one,
// and goes on behind it; other states have those of the way along the failure links to where the
// text goes on. Each list takes one more, its header, and so does the empty one.
absl::Status WordPiece::LinkStates(const std::vector<uint32_t>& ends, size_t outputs_max,
                                   size_t* num_outputs) {
  for (const uint32_t end : ends) states_.cell(end).first = kContinuationRoot;
  const std::vector<uint32_t>& order = states_.by_depth();
  const size_t most = std::min(kMaxOutputsPerState * order.size() + kFreeOutputs, outputs_max);
  *num_outputs = 1;
  for (const uint32_t state : order) {
    DoubleArray::Cell& cell = states_.cell(state);
    const uint32_t parent = cell.check;
    if (parent == DoubleArray::kNone) continue;  // a root
    if (cell.first == kContinuationRoot) {
      cell.second = 1;
    } else {
      const auto byte = static_cast<unsigned char>(state ^ states_.cell(parent).base);
      uint32_t count = states_.cell(parent).second;
      uint32_t z = states_.cell(parent).first, next = DoubleArray::kNone;
      while (z != DoubleArray::kNone && (next = states_.Step(z, byte)) == DoubleArray::kNone) {
        count += states_.cell(z).second;
        z = states_.cell(z).first;
      }
      cell.first = next;
      cell.second = next == DoubleArray::kNone ? 0 : count;
    }
    *num_outputs += cell.second == 0 ? 0 : cell.second + 1;
    if (*num_outputs > most) {
      return InvalidArgument(
          "vocab: its entries repeat each other too often, or are too many, for the memory that "
          "the WordPiece automaton may take");
    }
  }
  return absl::OkStatus();
}

// The lists behind each other: `second` becomes where a state's is.
void WordPiece::FillOutputs(const std::vector<uint32_t>& ends) {
  outputs_.assign(1, {0, 0});
  size_t index = 0;
  // Of a root's entries two never end in one state: texts are distinct.
  ForEachEntry([&](std::string_view text, uint32_t, int32_t id) {
    states_.cell(ends[index++]).second = static_cast<uint32_t>(outputs_.size());
    outputs_.push_back({1, 0});
    outputs_.push_back({id, static_cast<uint32_t>(text.size())});
  });
  const auto append = [this](uint32_t state) {
    const size_t header = states_.cell(state).second;
    for (int32_t i = 1; i <= outputs_[header].id; ++i) {
      outputs_.push_back(outputs_[header + static_cast<size_t>(i)]);
    }
  };
  for (const uint32_t state : states_.by_depth()) {
    DoubleArray::Cell& cell = states_.cell(state);
    const uint32_t parent = cell.check;
    if (cell.second == 0 || cell.first == kContinuationRoot) continue;
    const auto byte = static_cast<unsigned char>(state ^ states_.cell(parent).base);
    const int32_t count = static_cast<int32_t>(cell.second);
    cell.second = static_cast<uint32_t>(outputs_.size());
    outputs_.push_back({count, 0});
    append(parent);
    for (uint32_t z = states_.cell(parent).first; states_.Step(z, byte) == DoubleArray::kNone;) {
      append(z);
      z = states_.cell(z).first;
    }
  }
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

absl::StatusOr<std::unique_ptr<WordPiece>> ParseWordPiece(Json json, size_t memory_max) {
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
  return WordPiece::Create(std::move(vocabulary), std::move(options), memory_max);
}

}  // namespace bertrand
