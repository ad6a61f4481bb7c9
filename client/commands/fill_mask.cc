#include "client/commands/fill_mask.h"

#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

struct FillMaskOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  uint32_t top_k = 0;
  std::vector<std::string> targets;
};

std::string JsonMask(const v1::FillMaskResponse::Mask& mask) {
  std::string out = "{" + JsonSpan(mask.span()) + ",\"candidates\":[";
  const char* separator = "";
  for (const auto& candidate : mask.candidates()) {
    out += separator;
    out += "{\"token\":" + JsonString(candidate.token()) +
           ",\"score\":" + JsonNumber(candidate.score()) +
           ",\"token_id\":" + std::to_string(candidate.token_id()) +
           ",\"sequence\":" + JsonString(candidate.sequence()) + "}";
    separator = ",";
  }
  return out + "]}";
}

std::string JsonMasks(const v1::FillMaskResponse::Masks& masks) {
  std::string out = "\"masks\":[";
  const char* separator = "";
  for (const auto& mask : masks.masks()) {
    out += separator + JsonMask(mask);
    separator = ",";
  }
  return out + "]";
}

void PrintMasks(const std::string& text, const v1::FillMaskResponse::Masks& masks,
                const Terminal& terminal) {
  std::vector<Mark> marks;
  for (int i = 0; i < masks.masks_size(); ++i) {
    const v1::TextSpan& span = masks.masks(i).span();
    const std::string number = masks.masks_size() > 1 ? std::to_string(i + 1) : "";
    marks.push_back({span.start_byte(), span.end_byte(), number});
  }
  std::cout << WithMarks(text, marks, terminal) << "\n";
  for (int i = 0; i < masks.masks_size(); ++i) {
    if (masks.masks_size() > 1) std::cout << "mask " << i + 1 << "\n";
    std::vector<Score> scores;
    for (const auto& candidate : masks.masks(i).candidates()) {
      scores.push_back({candidate.token(), candidate.score()});
    }
    std::cout << Bars(scores, terminal);
  }
  std::cout << "\n";
}

int Run(const FillMaskOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::FillMaskRequest, v1::FillMaskResponse> command;
  command.method = &v1::Inference::Stub::FillMask;
  command.fill = [&](const std::vector<std::string>& texts, v1::FillMaskRequest* request) {
    FillModel(options.inputs, *request);
    request->set_top_k(options.top_k);
    for (const std::string& target : options.targets) request->add_targets(target);
    for (const std::string& text : texts) request->add_inputs()->set_text(text);
  };
  command.json = [](const std::string&, const v1::FillMaskResponse& response, int index) {
    return JsonMasks(response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::FillMaskResponse& response, int index) {
    PrintMasks(text, response.results(index), terminal);
  };
  return RunTexts(options.connection, options.inputs, command);
}

}  // namespace

void AddFillMaskCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("fill-mask", "What may stand in the place of a mask");
  auto options = std::make_shared<FillMaskOptions>();
  AddTextOptions(*command, options->inputs);
  command->add_option("--top-k", options->top_k, "The N best candidates of each mask [5]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  command->add_option("--target", options->targets, "Score only these words; may be repeated")
      ->allow_extra_args(false)
      ->type_name("WORD");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "The mask is the tokenizer's: [MASK] for BERT and its like, <mask> for RoBERTa and XLNet.\n\n"
      "Examples:\n"
      "  bertrand fill-mask \"The capital of France is [MASK].\"\n"
      "  bertrand fill-mask \"She is a [MASK].\" --target doctor --target lawyer");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
