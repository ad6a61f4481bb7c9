#include "client/commands/sparse.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

using SparseVector = v1::EmbedSparseResponse::SparseVector;

// What is shown to people when they do not say how much they want to see.
constexpr uint32_t kShownMax = 16;
// Of one request.
constexpr std::size_t kInputsMax = 1024;

struct SparseOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  uint32_t top_k = 0;
};

std::string JsonVector(const SparseVector& vector) {
  std::string indices, values;
  for (const uint32_t index : vector.indices()) {
    indices += (indices.empty() ? "" : ",") + std::to_string(index);
  }
  for (const float value : vector.values()) {
    values += (values.empty() ? "" : ",") + JsonNumber(value);
  }
  return "\"indices\":[" + indices + "],\"values\":[" + values + "]";
}

// Words for vocabulary ids, asked of the server once each.
class Words {
 public:
  Words(const ConnectionOptions& connection, std::string model)
      : connection_(connection), model_(std::move(model)) {}

  // Ids that the server does not explain stay numbers.
  void Learn(const SparseVector& vector) {
    v1::DetokenizeRequest request;
    request.set_model(model_);
    request.set_skip_special_tokens(false);
    std::vector<uint32_t> asked;
    for (const uint32_t id : vector.indices()) {
      if (!words_.emplace(id, std::to_string(id)).second || asked.size() == kInputsMax) continue;
      request.add_inputs()->add_ids(id);
      asked.push_back(id);
    }
    if (asked.empty()) return;
    v1::DetokenizeResponse response;
    const grpc::Status status = connection_.Call([&](grpc::ClientContext* context) {
      return connection_.inference().Detokenize(context, request, &response);
    });
    if (!status.ok() || response.texts_size() != request.inputs_size()) return;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      words_[asked[i]] = response.texts(static_cast<int>(i));
    }
  }

  const std::string& Of(uint32_t id) const { return words_.at(id); }

 private:
  Connection connection_;
  const std::string model_;
  std::map<uint32_t, std::string> words_;
};

// The weights from the largest to the smallest.
SparseVector Largest(const SparseVector& vector, std::size_t count) {
  std::vector<int> order(
      static_cast<std::size_t>(std::min(vector.indices_size(), vector.values_size())));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return vector.values(a) > vector.values(b); });
  SparseVector largest;
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i) {
    largest.add_indices(vector.indices(order[i]));
    largest.add_values(vector.values(order[i]));
  }
  return largest;
}

void PrintVector(const std::string& text, const SparseVector& vector, std::size_t count,
                 Words* words, const Terminal& terminal) {
  PrintTitle(text, terminal);
  const SparseVector largest = Largest(vector, count);
  words->Learn(largest);
  Table table({{"weight", Table::Align::kRight}, {"id", Table::Align::kRight}, {"word"}});
  for (int i = 0; i < largest.indices_size(); ++i) {
    table.AddRow({Fixed(largest.values(i), 4), std::to_string(largest.indices(i)),
                  Shorten(words->Of(largest.indices(i)), 40)});
  }
  std::cout << table.ToString(terminal);
  if (vector.indices_size() > largest.indices_size()) {
    std::cout << "  ... " << vector.indices_size() << " weights in all\n";
  }
  std::cout << "\n";
}

int Run(const SparseOptions& options) {
  const Terminal terminal = Terminal::Detect();
  Words words(options.connection, options.inputs.model);
  TextCommand<v1::EmbedSparseRequest, v1::EmbedSparseResponse> command;
  command.method = &v1::Inference::Stub::EmbedSparse;
  command.fill = [&](const std::vector<std::string>& texts, v1::EmbedSparseRequest* request) {
    FillRequest(options.inputs, texts, *request);
    request->set_top_k(options.top_k);
  };
  command.json = [](const std::string&, const v1::EmbedSparseResponse& response, int index) {
    return JsonVector(response.embeddings(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::EmbedSparseResponse& response,
                       int index) {
    const std::size_t count = options.top_k > 0 ? options.top_k : kShownMax;
    PrintVector(text, response.embeddings(index), count, &words, terminal);
  };
  return RunTexts(options.connection, options.inputs, command);
}

}  // namespace

void AddSparseCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("sparse", "Lexical vectors of texts: weighted words");
  auto options = std::make_shared<SparseOptions>();
  AddInputOptions(*command, options->inputs);
  command->add_option("--top-k", options->top_k, "Only the N largest weights [all]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand sparse \"What do cats eat?\"\n"
      "  bertrand sparse --json --top-k 128 < corpus.txt > vectors.json");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
