#include "client/commands/tokenize.h"

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/commands/inputs.h"
#include "client/connection.h"
#include "client/output.h"

namespace bertrand::client {
namespace {

struct TokenizeOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  bool no_special_tokens = false;
};

// What the token covers of the text; empty for special tokens and for spans beyond the text.
std::string_view Surface(const std::string& text, const v1::Token& token) {
  const v1::TextSpan& span = token.span();
  if (token.special() || span.start_byte() > span.end_byte() || span.end_byte() > text.size()) {
    return {};
  }
  return std::string_view(text).substr(span.start_byte(), span.end_byte() - span.start_byte());
}

void PrintJson(const std::string& text, const v1::TokenizeResponse::Tokens& tokens) {
  std::cout << "{\"text\":" << JsonString(text) << ",\"tokens\":[";
  const char* separator = "";
  for (const v1::Token& token : tokens.tokens()) {
    const v1::TextSpan& span = token.span();
    std::cout << separator << "{\"id\":" << token.id() << ",\"text\":" << JsonString(token.text())
              << ",\"start\":" << span.start() << ",\"end\":" << span.end()
              << ",\"start_byte\":" << span.start_byte() << ",\"end_byte\":" << span.end_byte()
              << ",\"sequence_index\":" << span.sequence_index()
              << ",\"special\":" << (token.special() ? "true" : "false")
              << ",\"type_id\":" << token.type_id() << "}";
    separator = ",";
  }
  std::cout << "]}";
}

void PrintForPeople(const std::string& text, const v1::TokenizeResponse::Tokens& tokens,
                    const Terminal& terminal) {
  Table table({{"#", Table::Align::kRight},
               {"id", Table::Align::kRight},
               {"token"},
               {"span", Table::Align::kRight},
               {"surface"}});
  for (int i = 0; i < tokens.tokens_size(); ++i) {
    const v1::Token& token = tokens.tokens(i);
    const std::string span = token.special() ? ""
                                             : std::to_string(token.span().start()) + "-" +
                                                   std::to_string(token.span().end());
    const std::string surface = token.special() ? "(special)" : Shorten(Surface(text, token), 40);
    table.AddRow(
        {std::to_string(i), std::to_string(token.id()), Shorten(token.text(), 40), span, surface},
        token.special());
  }
  std::cout << terminal.Bold(Shorten(text, terminal.num_columns)) << "\n"
            << table.ToString(terminal) << "\n";
}

int Run(const TokenizeOptions& options) {
  Connection connection(options.connection);
  InputReader reader(options.inputs);
  const Terminal terminal = Terminal::Detect();
  const bool json = options.inputs.json;
  std::size_t num_printed = 0;
  while (true) {
    const std::optional<std::vector<std::string>> piece = reader.Next();
    if (!piece) return 1;
    if (piece->empty()) break;
    v1::TokenizeRequest request;
    FillRequest(options.inputs, *piece, request);
    if (options.no_special_tokens) request.set_add_special_tokens(false);
    v1::TokenizeResponse response;
    grpc::Status status = connection.Call([&](grpc::ClientContext* context) {
      return connection.inference().Tokenize(context, request, &response);
    });
    if (status.ok() && static_cast<std::size_t>(response.results_size()) != piece->size()) {
      status = {grpc::StatusCode::INTERNAL, std::to_string(response.results_size()) +
                                                " results for " + std::to_string(piece->size()) +
                                                " texts"};
    }
    if (!status.ok()) return connection.Report(reader.Located(status));
    for (std::size_t i = 0; i < piece->size(); ++i) {
      const auto& tokens = response.results(static_cast<int>(i));
      if (json) {
        std::cout << (num_printed++ == 0 ? "{\"results\":[\n" : ",\n");
        PrintJson((*piece)[i], tokens);
      } else {
        PrintForPeople((*piece)[i], tokens, terminal);
      }
    }
    // gRPC ignores SIGPIPE: without this, `| head` would leave the whole corpus to be tokenised.
    if (!std::cout.flush()) return 1;
  }
  if (json) std::cout << (num_printed == 0 ? "{\"results\":[]}\n" : "\n]}\n");
  return 0;
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("tokenize", "Tokens, ids and spans of texts");
  auto options = std::make_shared<TokenizeOptions>();
  AddInputOptions(*command, options->inputs);
  command->add_flag("--no-special-tokens", options->no_special_tokens,
                    "Leave out [CLS], [SEP] and their like");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Spans count Unicode code points, end exclusive; --json has bytes too.\n"
      "Nothing is cut unless --truncation or --max-tokens says so.\n\n"
      "Examples:\n"
      "  bertrand tokenize \"Unbelievably good\"\n"
      "  bertrand tokenize --json < corpus.txt");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
