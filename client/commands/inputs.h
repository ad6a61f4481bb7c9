#pragma once

// The texts and the options that commands share: from the command line, from a file or from
// standard input, line by line, in requests that a server takes. One thread.

#include <grpcpp/support/status.h>

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/bertrand.pb.h"

namespace bertrand::client {

struct InputOptions {
  std::vector<std::string> texts;
  std::string model;
  std::string prompt;
  std::string prompt_name;
  std::string truncation;
  std::string file;
  uint32_t max_tokens = 0;
  bool document = false;
  bool json = false;
};

// Adds --file and --document.
void AddSourceOptions(CLI::App& command, InputOptions& options);
// Adds TEXT... (under that `name`), --file, --document, --model, --truncation, --max-tokens,
// --json.
void AddTextOptions(CLI::App& command, InputOptions& options, const std::string& name = "TEXT");
// The same with --prompt and --prompt-name.
void AddInputOptions(CLI::App& command, InputOptions& options);

// What is done with texts that are too long, besides cutting them.
struct LongOptions {
  std::string mode;
  uint32_t window_tokens = 0, overlap_tokens = 0, memory_tokens = 0;
};

// Adds --long, --window-tokens, --overlap-tokens, --memory-tokens.
void AddLongOptions(CLI::App& command, LongOptions& options);
// Requires: --long was given.
void FillLongInput(const LongOptions& options, v1::LongInput* long_input);

// Reads the texts in pieces: at most 1,024 inputs and below 4 MB, so a corpus of any size can be
// piped through. A text larger than that comes alone, for the server to refuse.
class InputReader {
 public:
  explicit InputReader(const InputOptions& options, std::size_t num_inputs_max = 1024);

  // The next piece; empty at the end. nullopt, after a message on standard error, if the file
  // cannot be read or a text is not UTF-8. That there was no text at all is said there, too.
  std::optional<std::vector<std::string>> Next();

  // The status of a call with the last piece, whose message counts inputs from that piece's first
  // one: "inputs[5]" becomes the line of the file, or the index among all texts.
  grpc::Status Located(const grpc::Status& status) const;

 private:
  std::optional<std::string> NextText();

  const std::vector<std::string>& texts_;
  const std::size_t num_inputs_max_;
  const std::string path_;  // of the file, or empty
  const bool from_arguments_, document_;
  std::ifstream file_;
  std::string problem_;  // found when it was opened
  std::size_t num_read_ = 0;
  std::size_t num_before_ = 0, num_in_piece_ = 0;  // Texts before the last piece, and in it.
  std::optional<std::string> held_back_;           // Read, but too large for the piece before.
};

// A check that an option's value is one of `choices`, written with hyphens or with underscores.
CLI::Validator OneOf(std::vector<std::string> choices);

// The proto's name of an enum value: ("MODE", "only-first") gives "MODE_ONLY_FIRST".
std::string EnumName(std::string_view prefix, std::string_view value);

// And back, without the prefix: ("TASK_", "TASK_EMBED") gives "embed"; unspecified gives "".
std::string ReadableName(std::string_view prefix, std::string_view name);

// Fills model and truncation.
template <typename Request>
void FillModel(const InputOptions& options, Request& request) {
  request.set_model(options.model);
  v1::Truncation::Mode mode = v1::Truncation::MODE_UNSPECIFIED;
  if (!options.truncation.empty()) {
    v1::Truncation::Mode_Parse(EnumName("MODE", options.truncation), &mode);
  }
  if (mode != v1::Truncation::MODE_UNSPECIFIED || options.max_tokens > 0) {
    request.mutable_truncation()->set_mode(mode);
    request.mutable_truncation()->set_max_tokens(options.max_tokens);
  }
}

// Fills what EmbedRequest, EmbedSparseRequest and TokenizeRequest have in common.
template <typename Request>
void FillRequest(const InputOptions& options, const std::vector<std::string>& texts,
                 Request& request) {
  FillModel(options, request);
  request.set_prompt(options.prompt);
  request.set_prompt_name(options.prompt_name);
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
}

}  // namespace bertrand::client
