#include "client/commands/results.h"

#include <algorithm>

namespace bertrand::client {
namespace {

constexpr std::size_t kBarColumnsMax = 30, kBarColumnsMin = 8;
// Indent, gaps and the score beside a bar.
constexpr std::size_t kBesideBarColumns = 13;
constexpr std::size_t kNameColumnsMax = 32;

}  // namespace

std::string Bars(const std::vector<Score>& scores, const Terminal& terminal) {
  const bool fractions = std::all_of(scores.begin(), scores.end(), [](const Score& score) {
    return score.score >= 0 && score.score <= 1;
  });
  const auto best =
      std::max_element(scores.begin(), scores.end(),
                       [](const Score& a, const Score& b) { return a.score < b.score; });
  std::size_t width = 0;
  std::vector<std::string> names;
  for (const Score& score : scores) {
    names.push_back(Shorten(score.name, kNameColumnsMax));
    width = std::max(width, CountColumns(names.back()));
  }
  const std::size_t taken = std::min(terminal.num_columns, width + kBesideBarColumns);
  const std::size_t bar_columns =
      std::clamp(terminal.num_columns - taken, kBarColumnsMin, kBarColumnsMax);
  std::string out;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::string name = names[i] + std::string(width - CountColumns(names[i]), ' ');
    out += "  " + (&scores[i] == &*best ? terminal.Bold(name) : name) + "  ";
    if (fractions) {
      const std::string bar = Bar(scores[i].score, bar_columns);
      out += bar + std::string(bar_columns - CountColumns(bar), ' ') + "  ";
    }
    out += (scores[i].score < 0 || fractions ? "" : " ") + Fixed(scores[i].score, 4) + "\n";
  }
  return out;
}

std::vector<Score> ScoresOf(const v1::ClassifyResponse::Classification& classification) {
  std::vector<Score> scores;
  for (const v1::LabelScore& label : classification.labels()) {
    scores.push_back({label.label(), label.score()});
  }
  return scores;
}

std::string JsonSpan(const v1::TextSpan& span) {
  return "\"start\":" + std::to_string(span.start()) + ",\"end\":" + std::to_string(span.end()) +
         ",\"start_byte\":" + std::to_string(span.start_byte()) +
         ",\"end_byte\":" + std::to_string(span.end_byte()) +
         ",\"sequence_index\":" + std::to_string(span.sequence_index());
}

std::string JsonLabels(const v1::ClassifyResponse::Classification& classification) {
  std::string out = "[";
  for (const v1::LabelScore& label : classification.labels()) {
    if (out.size() > 1) out += ",";
    out += "{\"label\":" + JsonString(label.label()) + ",\"score\":" + JsonNumber(label.score()) +
           ",\"label_id\":" + std::to_string(label.label_id()) + "}";
  }
  return out + "]";
}

void PrintTitle(std::string_view text, const Terminal& terminal) {
  const std::string title = Shorten(text, terminal.num_columns);
  const bool is_blank = title.find_first_not_of(' ') == std::string::npos;
  std::cout << (is_blank ? terminal.Dim("(blank)") : terminal.Bold(title)) << "\n";
}

void JsonResults::Add(const std::string& element) {
  std::cout << (num_added_++ == 0 ? "{\"results\":[\n" : ",\n") << element;
}

void JsonResults::End() { std::cout << (num_added_ == 0 ? "{\"results\":[]}\n" : "\n]}\n"); }

void CutTexts::Report(std::string_view remedy) const {
  if (num_cut_ == 0) return;
  std::cerr << "bertrand: cut " << num_cut_ << " of " << num_texts_
            << (num_texts_ == 1 ? " text: " : " texts: ") << num_tokens_
            << (num_tokens_ == 1 ? " token was not read" : " tokens were not read");
  if (!remedy.empty()) std::cerr << " (" << remedy << " reads all)";
  std::cerr << "\n";
}

grpc::Status CheckCount(std::size_t num_results, std::size_t num_texts) {
  if (num_results == num_texts) return grpc::Status::OK;
  return {grpc::StatusCode::INTERNAL,
          std::to_string(num_results) + " results for " + std::to_string(num_texts) + " texts"};
}

}  // namespace bertrand::client
