// bertrand: the command-line client. Each command is a file in client/commands.
//
// Exit status: 0; 1 when a call failed or there is no server; 2 for a wrong command line.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "client/commands/answer.h"
#include "client/commands/classify.h"
#include "client/commands/embed.h"
#include "client/commands/fill_mask.h"
#include "client/commands/models.h"
#include "client/commands/rerank.h"
#include "client/commands/spans.h"
#include "client/commands/sparse.h"
#include "client/commands/tokenize.h"

namespace {

// CLI11 takes an argument such as "[MASK]" for a list in brackets and removes them. So they are
// guarded by a control character behind them, which every option takes off again.
constexpr char kGuard = '\x1e';

std::vector<std::string> GuardedArguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
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

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Bertrand's command-line client: asks a running bertrand-server.", "bertrand");
  app.set_version_flag("--version", "bertrand " BERTRAND_VERSION);
  app.require_subcommand(1);
  app.footer(
      "`bertrand COMMAND --help` shows a command's options.\n"
      "The server is at --address, else BERTRAND_ADDRESS, else 127.0.0.1:50051; start one with\n"
      "`./run serve MODEL` or `build/bertrand-server --model MODEL`.");
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
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) option->transform(Unguarded);
  }
  try {
    app.parse(GuardedArguments(argc, argv));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "bertrand: cannot write to standard output\n";
    return 1;
  }
  return exit_status;
}
