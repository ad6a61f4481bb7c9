#include "client/commands/answer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

// Context shown on each side of an answer, where a terminal has the room.
constexpr std::size_t kAroundColumnsMin = 8, kAroundColumnsMax = 60;
// Indent, dots and the mark's brackets.
constexpr std::size_t kBesideContextColumns = 16;

struct AnswerOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  std::string question;
  uint32_t top_k = 0, max_seq_tokens = 0, max_answer_tokens = 0;
  std::optional<uint32_t> doc_stride_tokens;
  bool allow_no_answer = false, any_token = false;
};

v1::AnswerQuestionRequest MakeRequest(const AnswerOptions& options,
                                      const std::vector<std::string>& contexts) {
  v1::AnswerQuestionRequest request;
  request.set_model(options.inputs.model);
  request.set_top_k(options.top_k);
  request.set_max_seq_tokens(options.max_seq_tokens);
  request.set_max_answer_tokens(options.max_answer_tokens);
  if (options.doc_stride_tokens) request.set_doc_stride_tokens(*options.doc_stride_tokens);
  request.set_allow_no_answer(options.allow_no_answer);
  if (options.any_token) request.set_align_to_words(false);
  for (const std::string& context : contexts) {
    v1::QuestionContext* input = request.add_inputs();
    input->set_question(options.question);
    input->set_context(context);
  }
  return request;
}

std::string JsonAnswers(const std::string& question,
                        const v1::AnswerQuestionResponse::Answers& answers) {
  std::string out = "\"question\":" + JsonString(question) + ",\"answers\":[";
  const char* separator = "";
  for (const v1::Answer& answer : answers.answers()) {
    out += separator;
    out += "{\"text\":" + JsonString(answer.text()) + ",\"score\":" + JsonNumber(answer.score()) +
           "," + JsonSpan(answer.span()) + "}";
    separator = ",";
  }
  return out + "]";
}

void PrintAnswers(const std::string& context, const v1::AnswerQuestionResponse::Answers& answers,
                  const Terminal& terminal) {
  for (const v1::Answer& answer : answers.answers()) {
    const std::string text = answer.text().empty() ? "(no answer)" : OneLine(answer.text());
    std::cout << Fixed(answer.score(), 4) << "  " << terminal.Bold(text) << "\n";
    const v1::TextSpan& span = answer.span();
    if (span.start_byte() >= span.end_byte() || span.end_byte() > context.size()) continue;
    Mark mark{span.start_byte(), span.end_byte(), ""};
    const std::size_t taken =
        std::min(terminal.num_columns, CountColumns(text) + kBesideContextColumns);
    const std::size_t room =
        terminal.interactive ? (terminal.num_columns - taken) / 2 : kAroundColumnsMax;
    const std::string around =
        Around(context, &mark, std::clamp(room, kAroundColumnsMin, kAroundColumnsMax));
    std::cout << "        " << WithMarks(around, {mark}, terminal) << "\n";
  }
  std::cout << "\n";
}

int Run(const AnswerOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::AnswerQuestionRequest, v1::AnswerQuestionResponse> command;
  command.method = &v1::Inference::Stub::AnswerQuestion;
  command.fill = [&](const std::vector<std::string>& texts, v1::AnswerQuestionRequest* request) {
    *request = MakeRequest(options, texts);
  };
  command.json = [&](const std::string&, const v1::AnswerQuestionResponse& response, int index) {
    return JsonAnswers(options.question, response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::AnswerQuestionResponse& response,
                       int index) { PrintAnswers(text, response.results(index), terminal); };
  // Each request repeats the question with every context: fewer of them where it is long.
  const std::size_t contexts = 1'000'000 / (options.question.size() + 1);
  return RunTexts(options.connection, options.inputs, command,
                  std::clamp<std::size_t>(contexts, 1, 1024));
}

}  // namespace

void AddAnswerCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("answer", "Parts of texts that answer a question");
  auto options = std::make_shared<AnswerOptions>();
  command->add_option("QUESTION", options->question, "The question")->required()->type_name("");
  command
      ->add_option("CONTEXT", options->inputs.texts,
                   "Texts to look in; without any, or with -, the lines of standard input")
      ->type_name("");
  AddSourceOptions(*command, options->inputs);
  command
      ->add_option("-m,--model", options->inputs.model, "Name of the model [the server's default]")
      ->type_name("NAME");
  const auto add_count = [&](const char* flag, uint32_t& value, const char* help) {
    command->add_option(flag, value, help)
        ->check(CLI::Range(1, 1'000'000).description(""))
        ->type_name("N");
  };
  add_count("--top-k", options->top_k, "The N best answers of each text [1]");
  add_count("--max-seq-tokens", options->max_seq_tokens,
            "Tokens of a window, question included [the model's limit, at most 384]");
  add_count("--max-answer-tokens", options->max_answer_tokens, "Tokens of an answer [15]");
  command
      ->add_option_function<uint32_t>(
          "--doc-stride", [options](const uint32_t& n) { options->doc_stride_tokens = n; },
          "Tokens that windows share [128, at most half a window]")
      ->check(CLI::Range(0, 1'000'000).description(""))
      ->type_name("N");
  command->add_flag("--allow-no-answer", options->allow_no_answer, "The text may have no answer");
  command->add_flag("--any-token", options->any_token, "Answers may begin and end within words");
  command->add_flag("--json", options->inputs.json, "Print one JSON document");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand answer \"Who wrote it?\" \"The letter was written by Mary Shelley in 1818.\"\n"
      "  bertrand answer \"When did rates go up?\" --document --top-k 3 -f report.txt");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
