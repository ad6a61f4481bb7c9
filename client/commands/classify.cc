#include "client/commands/classify.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/results.h"

namespace bertrand::client {
namespace {

struct ClassifyOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  LongOptions long_input;
  std::string second;  // the second text of every pair
  bool pairs = false;  // whether `second` was given
  std::string activation;
  uint32_t top_k = 0;
};

int RunClassify(const ClassifyOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::ClassifyRequest, v1::ClassifyResponse> command;
  command.method = &v1::Inference::Stub::Classify;
  command.cut_remedy = "--long";
  command.fill = [&](const std::vector<std::string>& texts, v1::ClassifyRequest* request) {
    FillModel(options.inputs, *request);
    if (!options.long_input.mode.empty()) {
      FillLongInput(options.long_input, request->mutable_long_input());
    }
    request->set_top_k(options.top_k);
    v1::Activation activation = v1::ACTIVATION_UNSPECIFIED;
    if (!options.activation.empty()) {
      v1::Activation_Parse(EnumName("ACTIVATION", options.activation), &activation);
    }
    request->set_activation(activation);
    for (const std::string& text : texts) {
      v1::Input* input = request->add_inputs();
      if (!options.pairs) {
        input->set_text(text);
        continue;
      }
      input->mutable_pair()->set_first(text);
      input->mutable_pair()->set_second(options.second);
    }
  };
  command.json = [](const std::string&, const v1::ClassifyResponse& response, int index) {
    return "\"labels\":" + JsonLabels(response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::ClassifyResponse& response, int index) {
    PrintTitle(text, terminal);
    std::cout << Bars(ScoresOf(response.results(index)), terminal) << "\n";
  };
  return RunTexts(options.connection, options.inputs, command);
}

void AddClassifyCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("classify", "Labels of texts, with their scores");
  auto options = std::make_shared<ClassifyOptions>();
  AddTextOptions(*command, options->inputs);
  command
      ->add_option_function<std::string>(
          "--second",
          [options](const std::string& text) {
            options->second = text;
            options->pairs = true;
          },
          "A second text that is read together with each TEXT")
      ->type_name("TEXT");
  command->add_option("--top-k", options->top_k, "Only the best N labels [all]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  command
      ->add_option("--activation", options->activation,
                   "none, sigmoid or softmax [as the checkpoint says]")
      ->check(OneOf({"none", "sigmoid", "softmax"}))
      ->type_name("HOW");
  AddLongOptions(*command, options->long_input);
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand classify \"I love this film.\" \"I want my money back.\"\n"
      "  bertrand classify \"A man sleeps.\" --second \"Somebody is asleep.\"\n"
      "  bertrand classify --document --long recurrence -f report.txt");
  command->callback([options, &exit_status] { exit_status = RunClassify(*options); });
}

struct ZeroShotOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  std::vector<std::string> labels;
  std::string hypothesis_template;
  bool multi_label = false;
};

int RunZeroShot(const ZeroShotOptions& options) {
  const Terminal terminal = Terminal::Detect();
  TextCommand<v1::ClassifyZeroShotRequest, v1::ClassifyZeroShotResponse> command;
  command.method = &v1::Inference::Stub::ClassifyZeroShot;
  command.fill = [&](const std::vector<std::string>& texts, v1::ClassifyZeroShotRequest* request) {
    FillModel(options.inputs, *request);
    for (const std::string& text : texts) request->add_texts(text);
    for (const std::string& label : options.labels) request->add_candidate_labels(label);
    request->set_hypothesis_template(options.hypothesis_template);
    request->set_multi_label(options.multi_label);
  };
  command.json = [](const std::string&, const v1::ClassifyZeroShotResponse& response, int index) {
    return "\"labels\":" + JsonLabels(response.results(index)) + JsonStats(response, index);
  };
  command.people = [&](const std::string& text, const v1::ClassifyZeroShotResponse& response,
                       int index) {
    PrintTitle(text, terminal);
    std::cout << Bars(ScoresOf(response.results(index)), terminal) << "\n";
  };
  // The server counts each label of each text.
  const std::size_t labels = std::max<std::size_t>(options.labels.size(), 1);
  return RunTexts(options.connection, options.inputs, command,
                  std::max<std::size_t>(1024 / labels, 1));
}

// Labels without the spaces around them, and without empty ones (as transformers'
// ZeroShotClassificationArgumentHandler has them): "politics, sport" is what people write.
std::vector<std::string> TrimLabels(const std::vector<std::string>& labels) {
  std::vector<std::string> trimmed;
  for (const std::string& label : labels) {
    const std::size_t begin = label.find_first_not_of(" \t");
    if (begin == std::string::npos) continue;
    trimmed.push_back(label.substr(begin, label.find_last_not_of(" \t") + 1 - begin));
  }
  return trimmed;
}

void AddZeroShotCommand(CLI::App& app, int& exit_status) {
  CLI::App* command =
      app.add_subcommand("zero-shot", "Which of your labels fit texts, by a model of entailment");
  auto options = std::make_shared<ZeroShotOptions>();
  AddTextOptions(*command, options->inputs);
  command
      ->add_option("-l,--labels", options->labels, "Labels, separated by commas; may be repeated")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required()
      ->type_name("A,B,...");
  command
      ->add_option("--template", options->hypothesis_template,
                   "The claim about a text, {} for the label [This example is {}.]")
      ->type_name("TEXT");
  command->add_flag("--multi-label", options->multi_label, "Each label by itself: several may fit");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand zero-shot \"The match ended in a draw.\" --labels politics,sport,science");
  command->callback([options, &exit_status] {
    options->labels = TrimLabels(options->labels);
    if (options->labels.empty()) throw CLI::ValidationError("--labels", "names no label");
    exit_status = RunZeroShot(*options);
  });
}

struct PairOptions {
  ConnectionOptions connection;
  InputOptions inputs;
};

// Texts two by two; where one text has a tab in it, its two parts.
grpc::Status MakePairs(const std::vector<std::string>& texts, std::vector<v1::TextPair>* pairs) {
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t tab = texts[i].find('\t');
    v1::TextPair& pair = pairs->emplace_back();
    if (tab != std::string::npos) {
      pair.set_first(texts[i].substr(0, tab));
      pair.set_second(texts[i].substr(tab + 1));
    } else if (i + 1 < texts.size()) {
      pair.set_first(texts[i]);
      pair.set_second(texts[++i]);
    } else {
      return {
          grpc::StatusCode::INVALID_ARGUMENT,
          "\"" + Shorten(texts[i], 60) + "\" has no second text: give two, or a line with a tab"};
    }
  }
  return grpc::Status::OK;
}

void PrintPair(const v1::TextPair& pair, const v1::PredictSentencePairResponse& response, int index,
               bool json, JsonResults* document) {
  const auto& prediction = response.results(index);
  if (json) {
    document->Add("{\"first\":" + JsonString(pair.first()) + ",\"second\":" +
                  JsonString(pair.second()) + ",\"in_order\":" + JsonNumber(prediction.in_order()) +
                  ",\"not_in_order\":" + JsonNumber(prediction.not_in_order()) +
                  JsonStats(response, index) + "}");
    return;
  }
  const Terminal terminal = Terminal::Detect();
  PrintTitle(pair.first(), terminal);
  PrintTitle(pair.second(), terminal);
  std::cout << Bars({{"in order", prediction.in_order()},
                     {"not in order", prediction.not_in_order()}},
                    terminal)
            << "\n";
}

int RunPair(const PairOptions& options) {
  Connection connection(options.connection);
  InputReader reader(options.inputs);
  JsonResults document;
  while (true) {
    const auto texts = reader.Next();
    if (!texts) return 1;
    if (texts->empty()) break;
    std::vector<v1::TextPair> pairs;
    grpc::Status status = MakePairs(*texts, &pairs);
    if (!status.ok()) return connection.Report(status);
    v1::PredictSentencePairRequest request;
    FillModel(options.inputs, request);
    request.mutable_pairs()->Add(pairs.begin(), pairs.end());
    v1::PredictSentencePairResponse response;
    status = connection.Call([&](grpc::ClientContext* context) {
      return connection.inference().PredictSentencePair(context, request, &response);
    });
    if (status.ok()) {
      status = CheckCount(static_cast<std::size_t>(response.results_size()), pairs.size());
    }
    if (!status.ok()) return connection.Report(status);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      PrintPair(pairs[i], response, static_cast<int>(i), options.inputs.json, &document);
    }
    if (!std::cout.flush()) return 1;
  }
  if (options.inputs.json) document.End();
  return 0;
}

void AddPairCommand(CLI::App& app, int& exit_status) {
  CLI::App* command =
      app.add_subcommand("pair", "Whether a second sentence follows the first (BERT, ALBERT)");
  auto options = std::make_shared<PairOptions>();
  AddTextOptions(*command, options->inputs);
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Lines of standard input: both sentences with a tab between them.\n\n"
      "Examples:\n"
      "  bertrand pair \"She opened the door.\" \"The room was empty.\"");
  command->callback([options, &exit_status] { exit_status = RunPair(*options); });
}

}  // namespace

void AddClassifyCommands(CLI::App& app, int& exit_status) {
  AddClassifyCommand(app, exit_status);
  AddZeroShotCommand(app, exit_status);
  AddPairCommand(app, exit_status);
}

}  // namespace bertrand::client
