#pragma once

// What the commands with a result per text share: the road from the texts to the printed results,
// and the printing of scores and spans. One thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/commands/inputs.h"
#include "client/connection.h"
#include "client/output.h"

namespace bertrand::client {

// ---- Printing

// A name and its score in a list that is printed as bars.
struct Score {
  std::string name;
  float score = 0;
};
// Lines that end in newlines, indented by two: name, bar, score; the best in bold. No bars where a
// score is not between 0 and 1 (logits).
std::string Bars(const std::vector<Score>& scores, const Terminal& terminal);
std::vector<Score> ScoresOf(const v1::ClassifyResponse::Classification& classification);

// {"start":..,"end":..,"start_byte":..,"end_byte":..,"sequence_index":..} without the braces.
std::string JsonSpan(const v1::TextSpan& span);
// [{"label":..,"score":..,"label_id":..}, ...]
std::string JsonLabels(const v1::ClassifyResponse::Classification& classification);
// ,"num_tokens":..,"num_truncated_tokens":..; nothing where the server gave no statistics.
template <typename Response>
std::string JsonStats(const Response& response, int index) {
  if (index >= response.stats_size()) return "";
  const v1::InputStats& stats = response.stats(index);
  return ",\"num_tokens\":" + std::to_string(stats.num_tokens()) +
         ",\"num_truncated_tokens\":" + std::to_string(stats.num_truncated_tokens());
}

// The title of a text's results: itself on a line, cut to the terminal; "(blank)" when there is
// nothing to see.
void PrintTitle(std::string_view text, const Terminal& terminal);

// The JSON document {"results":[...]}, written element by element.
class JsonResults {
 public:
  // `element` is one JSON value.
  void Add(const std::string& element);
  void End();

 private:
  std::size_t num_added_ = 0;
};

// ---- From texts to results

// What people are told, on standard error, when texts were cut to what the model reads.
class CutTexts {
 public:
  template <typename Response>
  void Count(const Response& response) {
    for (const v1::InputStats& stats : response.stats()) {
      ++num_texts_;
      if (stats.num_truncated_tokens() > 0) ++num_cut_;
      num_tokens_ += stats.num_truncated_tokens();
    }
  }
  // Nothing when no text was cut. `remedy`: an option that has all of a text read, or empty.
  void Report(std::string_view remedy) const;

 private:
  uint64_t num_texts_ = 0, num_cut_ = 0, num_tokens_ = 0;
};

// INTERNAL when an answer has not as many results as the request has texts.
grpc::Status CheckCount(std::size_t num_results, std::size_t num_texts);

template <typename Response>
int NumResults(const Response& response) {
  if constexpr (requires { response.results_size(); }) {
    return response.results_size();
  } else {
    return response.embeddings_size();
  }
}

// How a command asks for the results of texts, and prints each.
template <typename Request, typename Response>
struct TextCommand {
  using Method = grpc::Status (v1::Inference::Stub::*)(grpc::ClientContext*, const Request&,
                                                       Response*);
  Method method = nullptr;
  std::function<void(const std::vector<std::string>& texts, Request* request)> fill;
  // A JSON object without its braces and "text".
  std::function<std::string(const std::string& text, const Response&, int index)> json;
  std::function<void(const std::string& text, const Response&, int index)> people;
  std::string_view cut_remedy;  // as CutTexts::Report's
};

// Asks piece by piece and prints as answers come, so that a corpus needs no memory. Returns the
// exit status.
template <typename Request, typename Response>
int RunTexts(const ConnectionOptions& connection_options, const InputOptions& inputs,
             const TextCommand<Request, Response>& command, std::size_t num_inputs_max = 1024) {
  Connection connection(connection_options);
  InputReader reader(inputs, num_inputs_max);
  JsonResults document;
  CutTexts cut;
  while (true) {
    const std::optional<std::vector<std::string>> piece = reader.Next();
    if (!piece) return 1;
    if (piece->empty()) break;
    Request request;
    command.fill(*piece, &request);
    Response response;
    grpc::Status status = connection.Call([&](grpc::ClientContext* context) {
      return (connection.inference().*command.method)(context, request, &response);
    });
    if (status.ok()) {
      status = CheckCount(static_cast<std::size_t>(NumResults(response)), piece->size());
    }
    if (!status.ok()) return connection.Report(reader.Located(status));
    cut.Count(response);
    for (std::size_t i = 0; i < piece->size(); ++i) {
      const std::string& text = (*piece)[i];
      const int index = static_cast<int>(i);
      if (inputs.json) {
        document.Add("{\"text\":" + JsonString(text) + "," + command.json(text, response, index) +
                     "}");
      } else {
        command.people(text, response, index);
      }
    }
    // gRPC ignores SIGPIPE: without this, `| head` would leave the whole corpus to be computed.
    if (!std::cout.flush()) return 1;
  }
  if (inputs.json) {
    document.End();
  } else {
    cut.Report(command.cut_remedy);
  }
  return 0;
}

}  // namespace bertrand::client
