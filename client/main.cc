// bertrand: the command-line client. Each command is a file in client/commands.
//
// Exit status: 0; 1 when a call failed or there is no server; 2 for a wrong command line.

#include <CLI/CLI.hpp>
#include <iostream>

#include "client/commands/embed.h"
#include "client/commands/models.h"
#include "client/commands/tokenize.h"

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
  bertrand::client::AddTokenizeCommand(app, exit_status);
  bertrand::client::AddModelsCommand(app, exit_status);
  try {
    app.parse(argc, argv);
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
