#include "client/commands/rerank.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

struct RerankOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  std::string query;
  std::string activation;
  uint32_t top_n = 0;
};

// A document of the whole run.
struct Ranked {
  std::size_t index = 0;
  float score = 0;
  std::string document;
};

grpc::Status AddRanks(const v1::RerankResponse& response, const std::vector<std::string>& documents,
                      std::size_t first_index, std::vector<Ranked>* ranked) {
  for (const v1::RerankResponse::Rank& rank : response.ranks()) {
    if (rank.index() >= documents.size()) {
      return {grpc::StatusCode::INTERNAL, "a rank's index, " + std::to_string(rank.index()) +
                                              ", is beyond the " +
                                              std::to_string(documents.size()) + " documents"};
    }
    ranked->push_back({first_index + rank.index(), rank.score(), documents[rank.index()]});
  }
  return grpc::Status::OK;
}

void KeepBest(uint32_t top_n, std::vector<Ranked>* ranked) {
  std::stable_sort(ranked->begin(), ranked->end(),
                   [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
  if (top_n > 0 && ranked->size() > top_n) ranked->resize(top_n);
}

void Print(const RerankOptions& options, const std::vector<Ranked>& ranked) {
  if (options.inputs.json) {
    std::cout << "{\"query\":" << JsonString(options.query) << ",\"results\":[";
    const char* separator = "\n";
    for (const Ranked& rank : ranked) {
      std::cout << separator << "{\"index\":" << rank.index
                << ",\"score\":" << JsonNumber(rank.score)
                << ",\"document\":" << JsonString(rank.document) << "}";
      separator = ",\n";
    }
    std::cout << "\n]}\n";
    return;
  }
  if (ranked.empty()) return;
  const Terminal terminal = Terminal::Detect();
  Table table({{"rank", Table::Align::kRight},
               {"score", Table::Align::kRight},
               {"#", Table::Align::kRight},
               {"document"}});
  const std::size_t width =
      terminal.interactive ? std::max<std::size_t>(terminal.num_columns, 60) - 28 : 1000;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    table.AddRow({std::to_string(i + 1), Fixed(ranked[i].score, 4),
                  std::to_string(ranked[i].index + 1), Shorten(ranked[i].document, width)});
  }
  std::cout << terminal.Bold(Shorten(options.query, terminal.num_columns)) << "\n"
            << table.ToString(terminal);
}

int Run(const RerankOptions& options) {
  Connection connection(options.connection);
  InputReader reader(options.inputs);
  std::vector<Ranked> ranked;
  std::size_t num_documents = 0;
  CutTexts cut;
  v1::Activation activation = v1::ACTIVATION_UNSPECIFIED;
  if (!options.activation.empty()) {
    v1::Activation_Parse(EnumName("ACTIVATION", options.activation), &activation);
  }
  while (true) {
    const auto documents = reader.Next();
    if (!documents) return 1;
    if (documents->empty()) break;
    v1::RerankRequest request;
    FillModel(options.inputs, request);
    request.set_query(options.query);
    request.set_top_n(options.top_n);
    request.set_activation(activation);
    for (const std::string& document : *documents) request.add_documents(document);
    v1::RerankResponse response;
    grpc::Status status = connection.Call([&](grpc::ClientContext* context) {
      return connection.inference().Rerank(context, request, &response);
    });
    if (status.ok()) status = AddRanks(response, *documents, num_documents, &ranked);
    if (!status.ok()) return connection.Report(reader.Located(status));
    cut.Count(response);
    num_documents += documents->size();
    KeepBest(options.top_n, &ranked);
  }
  Print(options, ranked);
  if (!options.inputs.json) cut.Report("");
  return 0;
}

}  // namespace

void AddRerankCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("rerank", "Texts by their relevance to a query");
  auto options = std::make_shared<RerankOptions>();
  command->add_option("QUERY", options->query, "The query")->required()->type_name("");
  AddTextOptions(*command, options->inputs, "DOCUMENT");
  command->add_option("--top-n", options->top_n, "Only the best N texts [all]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  command
      ->add_option("--activation", options->activation,
                   "none, sigmoid or softmax [as the checkpoint says]")
      ->check(OneOf({"none", "sigmoid", "softmax"}))
      ->type_name("HOW");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand rerank \"how do cats sleep\" \"Cats nap all day.\" \"Rates went up.\"\n"
      "  bertrand rerank \"how do cats sleep\" --top-n 10 -f passages.txt");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
