// Unicode's normal forms NFD, NFKD, NFC and NFKC, with the alignment that `tokenizers` gives them.

#include <algorithm>
#include <optional>

#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

struct Unit {
  char32_t c;
  int64_t change;  // TextRewriter's
};

// The canonical composition algorithm over a decomposed text. A composite's change is the sum of
// its parts', less one.
class Composer {
 public:
  explicit Composer(TextRewriter* out) : out_(*out) {}

  void Add(Unit unit, uint8_t rank) {
    if (!starter_.has_value()) {
      if (rank != 0) {
        out_.Add(unit.c, unit.change);
      } else {
        starter_ = unit;
      }
      return;
    }
    // A mark of the same or a higher rank in between blocks the way to the starter.
    const bool blocked = last_rank_ != 0 && last_rank_ >= rank;
    const char32_t composed = blocked ? 0 : Compose(starter_->c, unit.c);
    if (composed != 0) {
      starter_ = Unit{composed, starter_->change + unit.change - 1};
    } else if (rank == 0) {
      Flush();
      starter_ = unit;
    } else {
      marks_.push_back(unit);
      last_rank_ = rank;
    }
  }

  void Flush() {
    if (starter_.has_value()) out_.Add(starter_->c, starter_->change);
    for (const Unit& mark : marks_) out_.Add(mark.c, mark.change);
    starter_.reset();
    marks_.clear();
    last_rank_ = 0;
  }

 private:
  TextRewriter& out_;
  std::optional<Unit> starter_;
  std::vector<Unit> marks_;  // those that stay behind the starter
  uint8_t last_rank_ = 0;
};

bool IsAscii(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace

void ApplyForm(bool compatible, bool compose, NormalizedText* text, NormalizedText* spare) {
  if (IsAscii(text->text)) return;
  struct Part {
    Unit unit;
    uint8_t rank;
  };
  TextRewriter rewriter(text, spare);
  Composer composer(&rewriter);
  std::vector<Part> run;  // marks, to be put in canonical order
  const auto emit = [&](const Part& part) {
    if (compose) {
      composer.Add(part.unit, part.rank);
    } else {
      rewriter.Add(part.unit.c, part.unit.change);
    }
  };
  const auto flush = [&] {
    SortMarks(&run);
    for (const Part& part : run) emit(part);
    run.clear();
  };
  size_t at = 0;
  while (at < text->text.size()) {
    const char32_t c = NextCodePoint(text->text, &at);
    char32_t parts[kMaxDecomposition];
    const size_t count = compatible ? DecomposeCompatibly(c, parts) : Decompose(c, parts);
    for (size_t i = 0; i < count; ++i) {
      const Part part{{parts[i], i > 0}, RecordOf(parts[i]).combining_rank};
      if (part.rank != 0) {
        run.push_back(part);
        continue;
      }
      flush();
      emit(part);
    }
  }
  flush();
  composer.Flush();
  rewriter.Finish();
}

}  // namespace bertrand
