#include "client/commands/calibrate.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace bertrand::client {
namespace {

struct CalibrateOptions {
  std::string model, texts, output;
};

// Returns only when there is no such program.
int Run(const CalibrateOptions& options) {
  std::error_code error;
  const auto beside =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "bertrand-server";
  const std::string server =
      std::filesystem::exists(beside, error) ? beside.string() : "bertrand-server";
  // With a name, so that nothing in the source is taken for one.
  std::vector<std::string> arguments = {server, "--model=model=" + options.model,
                                        "--calibrate=" + options.texts};
  if (!options.output.empty()) arguments.push_back("--calibrate-output=" + options.output);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execvp(server.c_str(), pointers.data());
  std::cerr << "bertrand: calibrating is the work of bertrand-server, which cannot be started: "
            << std::strerror(errno) << "\n";
  return 1;
}

}  // namespace

void AddCalibrateCommand(CLI::App& app, int& exit_status) {
  CLI::App* command =
      app.add_subcommand("calibrate", "Scales for --dtype float8, from a file of texts");
  auto options = std::make_shared<CalibrateOptions>();
  command->add_option("MODEL", options->model, "A checkpoint's folder or a hub id[@revision]")
      ->type_name("")
      ->required();
  command
      ->add_option("TEXTS", options->texts,
                   "Texts such as the model will be given, one a line; -: standard input.\n"
                   "A tab separates the two texts of a pair, where the model takes pairs")
      ->type_name("")
      ->required();
  command
      ->add_option("--output", options->output,
                   "Where to write, if not to bertrand-fp8.json in the model's folder;\n"
                   "bertrand-server --fp8-scales reads it")
      ->type_name("FILE");
  command->footer(
      "Needs no server that runs: bertrand-server, beside this program, reads the model and runs\n"
      "the texts on the CPU. Some hundred texts are enough.\n"
      "Examples:\n"
      "  bertrand calibrate path/to/all-MiniLM-L6-v2 texts.txt\n"
      "  bertrand-server --model path/to/all-MiniLM-L6-v2 --device cuda --dtype float8");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
