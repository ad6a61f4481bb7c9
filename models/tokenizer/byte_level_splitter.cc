#include "models/tokenizer/byte_level_splitter.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <string>

#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// text[begin, end): for each byte the code point that it is of.
void SourcesOf(std::string_view text, size_t begin, size_t end, std::vector<SourceRange>* sources) {
  sources->clear();
  while (begin < end) {
    size_t next = begin;
    NextCodePoint(text, &next);
    const SourceRange range{static_cast<uint32_t>(begin), static_cast<uint32_t>(next)};
    sources->insert(sources->end(), next - begin, range);
    begin = next;
  }
}

bool IsAscii(char byte) { return static_cast<unsigned char>(byte) < 0x80; }

}  // namespace

// One text.
class ByteLevelSplitter::Pass {
 public:
  Pass(const ByteLevelSplitter& splitter, std::string_view text, size_t begin, size_t end,
       Memory* memory, TokenRun* run)
      : splitter_(splitter),
        model_(splitter.model_),
        text_(text),
        at_(begin),
        end_(end),
        memory_(*memory),
        run_(*run) {}

  void SpacedWord() {
    const size_t begin = at_;
    at_ = EndOfSpacedWord(text_, begin, end_);
    const std::string word = std::string(1, ' ').append(text_, begin, at_ - begin);
    SourceRange* source = nullptr;
    if (run_.want_sources()) {
      SourcesOf(text_, begin, at_, &memory_.sources);
      memory_.sources.insert(memory_.sources.begin(), SourceRange(memory_.sources.front()));
      source = memory_.sources.data();
    }
    has_all_ &= model_.AddWord(word, source, &memory_.model, &run_);
    run_.EndWord();
  }

  bool Run() {
    while (at_ < end_) {
      if (!IsPlain() || !AddWindow()) AddWords();
      if (num_words_ >= kBatch) LookUp();
    }
    LookUp();
    return has_all_;
  }

 private:
  // Words wait until there are this many; a window adds kWindow at most.
  static constexpr size_t kBatch = 192;
  // Of a window and the look-up of its last word.
  static constexpr size_t kRead = WordCutter::kWindow + WordTable::kReadableBytes;

  struct Word {
    uint32_t begin, end;
    WordTable::Probe probe;
    int32_t whole = -1;  // its token, if it is one
  };

  // The words from at_ on that a window shows whole. False: none.
  bool AddWindow() {
    std::array<char, kRead> copy;
    const char* window = text_.data() + at_;
    if (text_.size() - at_ < kRead) {
      copy.fill(0);
      std::memcpy(copy.data(), window, text_.size() - at_);
      window = copy.data();
    }
    const uint64_t starts = splitter_.cutter_.Cut(window, end_ - at_);
    uint32_t begin = 0;
    for (uint64_t rest = starts & (starts - 1); rest != 0; rest &= rest - 1) {
      const auto end = static_cast<uint32_t>(std::countr_zero(rest));
      Add(window + begin, true, begin, end);
      begin = end;
    }
    at_ += begin;
    return begin != 0;
  }

  // A word that has other than ASCII at once is one for Unicode's tables.
  bool IsPlain() const {
    return IsAscii(text_[at_]) && (at_ + 1 == end_ || IsAscii(text_[at_ + 1]));
  }

  void AddWords() {
    ByteLevelWords words(text_, at_, end_);
    do {
      const size_t next = words.Next();
      const bool readable = at_ + WordTable::kReadableBytes <= text_.size();
      Add(text_.data() + at_, readable, 0, static_cast<uint32_t>(next - at_));
      at_ = next;
    } while (num_words_ < kBatch && at_ < end_ && !IsPlain());
  }

  // From at_ + begin to at_ + end.
  void Add(const char* word, bool readable, uint32_t begin, uint32_t end) {
    const WordTable::Key key = WordTable::KeyOf({word, end - begin}, readable);
    const auto at = static_cast<uint32_t>(at_);
    words_[num_words_++] = {at + begin, at + end, model_.words().Start(key), -1};
  }

  std::string_view TextOf(const Word& word) const {
    return text_.substr(word.begin, word.end - word.begin);
  }

  // One of those that are merged without a job.
  bool IsTwoBytes(const Word& word) const {
    return word.end - word.begin == 2 && model_.merges_short_words();
  }

  // Both are of one code point, or ASCII.
  void AddTwoBytes(const Word& word) {
    const char* const bytes = text_.data() + word.begin;
    const int32_t both = model_.short_merger().PairToken(bytes);
    const SourceRange whole = {word.begin, word.end};
    if (both >= 0) return run_.AddReserved(both, whole);
    const bool is_ascii = IsAscii(bytes[0]);
    const uint32_t middle = word.begin + 1;
    run_.AddReserved(model_.short_merger().ByteToken(bytes[0]),
                     is_ascii ? SourceRange{word.begin, middle} : whole);
    run_.AddReserved(model_.short_merger().ByteToken(bytes[1]),
                     is_ascii ? SourceRange{middle, word.end} : whole);
  }

  void LookUp() {
    std::vector<MergeJob>& jobs = memory_.model.jobs;
    std::vector<std::string_view>& long_words = memory_.long_words;
    size_t num_jobs = 0;
    long_words.clear();
    for (Word& word : std::span(words_).first(num_words_)) {
      word.whole = WordTable::Finish(word.probe);
      if (word.whole >= 0) continue;
      if (!model_.CanMerge(TextOf(word))) {
        if (model_.merges_short_words()) long_words.push_back(TextOf(word));
        continue;
      }
      if (IsTwoBytes(word)) continue;
      if (num_jobs == jobs.size()) jobs.resize(2 * num_jobs + kBatch);
      jobs[num_jobs++].word = TextOf(word);
    }
    if (num_jobs > 0) model_.short_merger().Run(std::span(jobs).first(num_jobs));
    if (!long_words.empty()) model_.MergeLong(long_words, &memory_.model);
    const MergeJob* job = jobs.data();
    size_t num_long = 0;
    // Each word is one token, or two, or reserves more.
    run_.Reserve(2 * num_words_);
    for (const Word& word : std::span(words_).first(num_words_)) {
      if (word.whole >= 0) {
        run_.AddReserved(word.whole, {word.begin, word.end});
      } else if (IsTwoBytes(word)) {
        AddTwoBytes(word);
      } else {
        AddParts(word, &job, &num_long);
        run_.Reserve(2 * num_words_);
      }
      run_.EndWord();
    }
    num_words_ = 0;
  }

  // *job: the next one that LookUp has run; *num_long: how many long words have been added.
  void AddParts(const Word& word, const MergeJob** job, size_t* num_long) {
    const SourceRange* source = nullptr;
    if (run_.want_sources()) {
      SourcesOf(text_, word.begin, word.end, &memory_.sources);
      source = memory_.sources.data();
    }
    if (model_.CanMerge(TextOf(word))) return model_.AddJob(*(*job)++, source, &run_);
    if (model_.merges_short_words()) {
      const std::vector<size_t>& ends = memory_.model.path_ends;
      const size_t begin = *num_long == 0 ? 0 : ends[*num_long - 1], end = ends[*num_long];
      ++*num_long;
      const auto path = std::span<const int32_t>(memory_.model.path).subspan(begin, end - begin);
      return model_.AddPath(TextOf(word), source, path, &run_);
    }
    has_all_ &= model_.AddParts(TextOf(word), source, &memory_.model, &run_);
  }

  const ByteLevelSplitter& splitter_;
  const Bpe& model_;
  const std::string_view text_;
  size_t at_;
  const size_t end_;
  Memory& memory_;
  TokenRun& run_;
  bool has_all_ = true;
  size_t num_words_ = 0;
  std::array<Word, kBatch + WordCutter::kWindow> words_;
};

bool ByteLevelSplitter::Tokenize(std::string_view text, size_t begin, size_t end, bool is_spaced,
                                 Memory* memory, TokenRun* run) const {
  Pass pass(*this, text, begin, end, memory, run);
  if (is_spaced) pass.SpacedWord();
  return pass.Run();
}

}  // namespace bertrand
