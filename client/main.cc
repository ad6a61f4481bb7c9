// bertrand: the command-line client. Each command is a file in client/commands.
//
// Exit status: 0; 1 when a call failed or there is no server, or an input cannot be read; 2 for a
// wrong command line.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/answer.h"
#include "client/commands/calibrate.h"
#include "client/commands/classify.h"
#include "client/commands/embed.h"
#include "client/commands/fill_mask.h"
#include "client/commands/models.h"
#include "client/commands/rerank.h"
#include "client/commands/spans.h"
#include "client/commands/sparse.h"
#include "client/commands/tokenize.h"
#include "client/output.h"

namespace {

// CLI11 takes an argument such as "[MASK]" for a list in brackets and removes them. So they are
// guarded by a control character behind them, which every option takes off again.
constexpr char kGuard = '\x1e';

std::vector<std::string> GuardedArguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  // `help` and `help COMMAND`, as many programs have them.
  if (!arguments.empty() && arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  }
  for (std::string& argument : arguments) {
    if (argument.starts_with('[') && argument.ends_with(']')) argument += kGuard;
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  return arguments;
}

std::string Unguarded(std::string argument) {
  if (argument.ends_with(kGuard)) argument.pop_back();
  return argument;
}

// Name and value of an option on one line, the default and the variable behind what it is.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return (type.empty() ? "" : " " + type) +
           (option->get_positional() && option->get_expected_max() > 1 ? " ..." : "");
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    if (!option->get_default_str().empty()) text += " [" + option->get_default_str() + "]";
    if (!option->get_envname().empty()) text += ", or " + option->get_envname();
    return text;
  }
};

// One line that says what to change.
int ReportWrongLine(const CLI::App& app, const std::vector<std::string>& arguments,
                    const CLI::ParseError& error) {
  const auto commands = app.get_subcommands({});
  const auto is_command = [&](const std::string& name) {
    return std::any_of(commands.begin(), commands.end(),
                       [&](const CLI::App* command) { return command->get_name() == name; });
  };
  if (arguments.empty()) {
    std::cerr << app.help();
    return 2;
  }
  const std::string& first = arguments.back();  // they are in reverse
  if (is_command(first)) {
    std::cerr << "bertrand " << first << ": " << error.what() << " (bertrand " << first
              << " --help)\n";
    return 2;
  }
  std::cerr << "bertrand: ";
  if (first.starts_with('-')) {
    std::cerr << error.what() << " (bertrand --help)\n";
    return 2;
  }
  std::cerr << "unknown command \"" << bertrand::client::OneLine(Unguarded(first))
            << "\"; there are";
  for (const CLI::App* command : commands) {
    std::cerr << (command == commands.front() ? " " : ", ") << command->get_name();
  }
  std::cerr << "\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Bertrand's command-line client: asks a running bertrand-server.", "bertrand");
  app.set_version_flag("--version", "bertrand " BERTRAND_VERSION);
  app.require_subcommand(1);
  app.footer(
      "`bertrand COMMAND --help` shows a command's options.\n"
      "The server is at --address, else BERTRAND_ADDRESS, else 127.0.0.1:50051; start one with\n"
      "`./run serve MODEL` or `build/bertrand-server --model MODEL`.");
  app.formatter(std::make_shared<HelpFormatter>());
  int exit_status = 0;
  bertrand::client::AddEmbedCommand(app, exit_status);
  bertrand::client::AddSparseCommand(app, exit_status);
  bertrand::client::AddClassifyCommands(app, exit_status);
  bertrand::client::AddRerankCommand(app, exit_status);
  bertrand::client::AddSpanCommands(app, exit_status);
  bertrand::client::AddAnswerCommand(app, exit_status);
  bertrand::client::AddFillMaskCommand(app, exit_status);
  bertrand::client::AddTokenizeCommand(app, exit_status);
  bertrand::client::AddModelsCommand(app, exit_status);
  bertrand::client::AddCalibrateCommand(app, exit_status);
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) option->transform(Unguarded);
  }
  const std::vector<std::string> arguments = GuardedArguments(argc, argv);
  try {
    app.parse(std::vector<std::string>(arguments));
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return ReportWrongLine(app, arguments, error);
  }
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "bertrand: cannot write to standard output\n";
    return 1;
  }
  return exit_status;
}
