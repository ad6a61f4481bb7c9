#include "client/commands/spans.h"

#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

// ---- entities

struct EntitiesOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  std::string aggregation = "simple";
  std::vector<std::string> ignore_labels;
  bool all_labels = false;
  std::optional<uint32_t> stride_tokens;
};

v1::ClassifyTokensRequest MakeRequest(const EntitiesOptions& options,
                                      const std::vector<std::string>& texts) {
  v1::ClassifyTokensRequest request;
  FillModel(options.inputs, request);
  v1::ClassifyTokensRequest::Aggregation aggregation =
      v1::ClassifyTokensRequest::AGGREGATION_UNSPECIFIED;
  if (options.aggregation != "none") {
    v1::ClassifyTokensRequest::Aggregation_Parse(EnumName("AGGREGATION", options.aggregation),
                                                 &aggregation);
  }
  request.set_aggregation(aggregation);
  for (const std::string& label : options.ignore_labels) request.add_ignore_labels(label);
  request.set_keep_all_labels(options.all_labels);
  if (options.stride_tokens) request.set_stride_tokens(*options.stride_tokens);
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
  return request;
}

std::string JsonEntities(const v1::ClassifyTokensResponse::Entities& entities) {
  std::string out = "\"entities\":[";
  const char* separator = "";
  for (const v1::Entity& entity : entities.entities()) {
    out += separator;
    out += "{\"label\":" + JsonString(entity.label()) + ",\"score\":" + JsonNumber(entity.score()) +
           ",\"text\":" + JsonString(entity.text()) +
           ",\"token_index\":" + std::to_string(entity.token_index()) + "," +
           JsonSpan(entity.span()) + "}";
    separator = ",";
  }
  return out + "]";
}

void PrintEntities(const std::string& text, const v1::ClassifyTokensResponse::Entities& entities,
                   const Terminal& terminal) {
  std::vector<Mark> marks;
  Table table(
      {{"label"}, {"score", Table::Align::kRight}, {"span", Table::Align::kRight}, {"text"}});
  for (const v1::Entity& entity : entities.entities()) {
    const v1::TextSpan& span = entity.span();
    marks.push_back({span.start_byte(), span.end_byte(), entity.label()});
    table.AddRow({Shorten(entity.label(), 24), Fixed(entity.score(), 4),
                  std::to_string(span.start()) + "-" + std::to_string(span.end()),
                  Shorten(entity.text(), 60)});
  }
  if (marks.empty()) {
    PrintTitle(text, terminal);
    std::cout << terminal.Dim("  (no entities)") << "\n\n";
    return;
  }
  std::cout << WithMarks(text, marks, terminal) << "\n" << table.ToString(terminal) << "\n";
}

int RunEntities(const EntitiesOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::ClassifyTokensRequest, v1::ClassifyTokensResponse> command;
  command.method = &v1::Inference::Stub::ClassifyTokens;
  command.cut_remedy = "--stride";
  command.fill = [&](const std::vector<std::string>& texts, v1::ClassifyTokensRequest* request) {
    *request = MakeRequest(options, texts);
  };
  command.json = [](const std::string&, const v1::ClassifyTokensResponse& response, int index) {
    return JsonEntities(response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::ClassifyTokensResponse& response,
                       int index) { PrintEntities(text, response.results(index), terminal); };
  return RunTexts(options.connection, options.inputs, command);
}

void AddEntitiesCommand(CLI::App& app, int& exit_status) {
  CLI::App* command =
      app.add_subcommand("entities", "Names, places and other labelled parts of texts");
  auto options = std::make_shared<EntitiesOptions>();
  AddTextOptions(*command, options->inputs);
  command
      ->add_option("--aggregation", options->aggregation,
                   "How tokens become entities:\nnone, simple, first, average or max")
      ->check(OneOf({"none", "simple", "first", "average", "max"}))
      ->type_name("HOW")
      ->capture_default_str();
  command
      ->add_option("--ignore", options->ignore_labels, "A label to leave out; may be repeated [O]")
      ->allow_extra_args(false)
      ->type_name("LABEL");
  command->add_flag("--all-labels", options->all_labels, "Leave out no label");
  command
      ->add_option_function<uint32_t>(
          "--stride", [options](const uint32_t& tokens) { options->stride_tokens = tokens; },
          "Read long texts in windows that share N tokens")
      ->check(CLI::Range(0, 1'000'000).description(""))
      ->type_name("N");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand entities \"Ada Lovelace was born in London.\"\n"
      "  bertrand entities --document --stride 64 --json -f report.txt");
  command->callback([options, &exit_status] { exit_status = RunEntities(*options); });
}

// ---- replaced

struct ReplacedOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  bool by_token = false;
};

using Verdicts = v1::DetectReplacedTokensResponse::Verdicts;

std::string JsonVerdicts(const Verdicts& verdicts) {
  std::string out = "\"verdicts\":[";
  const char* separator = "";
  for (const auto& verdict : verdicts.verdicts()) {
    out += separator;
    out += "{\"text\":" + JsonString(verdict.text()) + ",\"score\":" + JsonNumber(verdict.score()) +
           ",\"replaced\":" + (verdict.replaced() ? "true" : "false") + "," +
           JsonSpan(verdict.span()) + "}";
    separator = ",";
  }
  return out + "]";
}

void PrintVerdicts(const std::string& text, const Verdicts& verdicts, const Terminal& terminal) {
  std::vector<Mark> marks;
  std::vector<Score> scores;
  for (const auto& verdict : verdicts.verdicts()) {
    scores.push_back({verdict.text(), verdict.score()});
    if (!verdict.replaced()) continue;
    marks.push_back({verdict.span().start_byte(), verdict.span().end_byte(), ""});
  }
  if (marks.empty()) {
    PrintTitle(text, terminal);
  } else {
    std::cout << WithMarks(text, marks, terminal) << "\n";
  }
  std::cout << Bars(scores, terminal) << "\n";
}

int RunReplaced(const ReplacedOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::DetectReplacedTokensRequest, v1::DetectReplacedTokensResponse> command;
  command.method = &v1::Inference::Stub::DetectReplacedTokens;
  command.fill = [&](const std::vector<std::string>& texts,
                     v1::DetectReplacedTokensRequest* request) {
    FillModel(options.inputs, *request);
    request->set_by_word(!options.by_token);
    for (const std::string& text : texts) request->add_inputs()->set_text(text);
  };
  command.json = [](const std::string&, const v1::DetectReplacedTokensResponse& response,
                    int index) {
    return JsonVerdicts(response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::DetectReplacedTokensResponse& response,
                       int index) { PrintVerdicts(text, response.results(index), terminal); };
  return RunTexts(options.connection, options.inputs, command);
}

void AddReplacedCommand(CLI::App& app, int& exit_status) {
  CLI::App* command =
      app.add_subcommand("replaced", "Words that do not belong into texts (ELECTRA)");
  auto options = std::make_shared<ReplacedOptions>();
  AddTextOptions(*command, options->inputs);
  command->add_flag("--by-token", options->by_token, "A verdict per token instead of per word");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand replaced \"The chef ate the delicious guitar.\"");
  command->callback([options, &exit_status] { exit_status = RunReplaced(*options); });
}

}  // namespace

void AddSpanCommands(CLI::App& app, int& exit_status) {
  AddEntitiesCommand(app, exit_status);
  AddReplacedCommand(app, exit_status);
}

}  // namespace bertrand::client
