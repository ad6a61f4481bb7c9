#pragma once

// The texts and the options that embed and tokenize share: from the command line or from standard
// input, line by line, in requests that a server takes. One thread.

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
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
  uint32_t max_tokens = 0;
  bool json = false;
};

// Adds TEXT..., --model, --prompt, --prompt-name, --truncation, --max-tokens, --json.
void AddInputOptions(CLI::App& command, InputOptions& options);

// Reads the texts in pieces: at most 1,024 inputs and below 4 MB, so a corpus of any size can be
// piped through. A text larger than that comes alone, for the server to refuse.
class InputReader {
 public:
  explicit InputReader(const InputOptions& options);

  // The next piece; empty at the end. nullopt, after a message on standard error, if a text is not
  // UTF-8.
  std::optional<std::vector<std::string>> Next();

 private:
  std::optional<std::string> NextText();

  const std::vector<std::string>& texts_;
  bool from_stdin_;
  std::size_t num_read_ = 0;
  std::optional<std::string> held_back_;  // Read, but too large for the piece before.
};

// A check that an option's value is one of `choices`, written with hyphens or with underscores.
CLI::Validator OneOf(std::vector<std::string> choices);

// The proto's name of an enum value: ("MODE", "only-first") gives "MODE_ONLY_FIRST".
std::string EnumName(std::string_view prefix, std::string_view value);

// And back, without the prefix: ("TASK_", "TASK_EMBED") gives "embed"; unspecified gives "".
std::string ReadableName(std::string_view prefix, std::string_view name);

// Fills what EmbedRequest and TokenizeRequest have in common.
template <typename Request>
void FillRequest(const InputOptions& options, const std::vector<std::string>& texts,
                 Request& request) {
  request.set_model(options.model);
  request.set_prompt(options.prompt);
  request.set_prompt_name(options.prompt_name);
  v1::Truncation::Mode mode = v1::Truncation::MODE_UNSPECIFIED;
  if (!options.truncation.empty()) {
    v1::Truncation::Mode_Parse(EnumName("MODE", options.truncation), &mode);
  }
  if (mode != v1::Truncation::MODE_UNSPECIFIED || options.max_tokens > 0) {
    request.mutable_truncation()->set_mode(mode);
    request.mutable_truncation()->set_max_tokens(options.max_tokens);
  }
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
}

}  // namespace bertrand::client
