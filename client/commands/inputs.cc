#include "client/commands/inputs.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <regex>
#include <utility>

#include "client/output.h"

namespace bertrand::client {
namespace {

constexpr std::size_t kInputsMax = 1024;
// gRPC's default is 4 MB a message; this leaves room for the request's other fields.
constexpr std::size_t kBytesMax = 4 * 1024 * 1024 - 256 * 1024;
// Tags and lengths of a text within its Input within the request.
constexpr std::size_t kInputOverheadBytes = 12;

std::string Mapped(std::string_view text, int (*map)(int)) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(map(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

CLI::Validator OneOf(std::vector<std::string> choices) {
  const auto hyphens = [](std::string text) {
    std::replace(text.begin(), text.end(), '_', '-');
    return text;
  };
  return CLI::IsMember(std::move(choices), hyphens).description("");
}

std::string EnumName(std::string_view prefix, std::string_view value) {
  std::string name = std::string(prefix) + "_" + Mapped(value, std::toupper);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string ReadableName(std::string_view prefix, std::string_view name) {
  if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  return name == "UNSPECIFIED" ? "" : Mapped(name, std::tolower);
}

void AddSourceOptions(CLI::App& command, InputOptions& options) {
  command.add_option("-f,--file", options.file, "Read the texts from this file, one a line")
      ->type_name("PATH");
  command.add_flag("--document", options.document,
                   "The file, or standard input, is one text, not one a line");
}

void AddTextOptions(CLI::App& command, InputOptions& options, const std::string& name) {
  command
      .add_option(name, options.texts, "Texts; without any, or with -, the lines of standard input")
      ->type_name("");
  AddSourceOptions(command, options);
  command.add_option("-m,--model", options.model, "Name of the model [the server's default]")
      ->type_name("NAME");
  command
      .add_option("--truncation", options.truncation,
                  "What happens to a text that is too long: fail,\n"
                  "longest-first, only-first or only-second")
      ->check(OneOf({"fail", "longest-first", "only-first", "only-second"}))
      ->type_name("HOW");
  command
      .add_option("--max-tokens", options.max_tokens,
                  "Tokens per text, special ones included [the model's limit]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  command.add_flag("--json", options.json, "Print one JSON document");
}

void AddInputOptions(CLI::App& command, InputOptions& options) {
  AddTextOptions(command, options);
  command.add_option("--prompt", options.prompt, "Text put before each input")->type_name("TEXT");
  command
      .add_option("--prompt-name", options.prompt_name, "The same, by its name in the checkpoint")
      ->type_name("NAME");
}

void AddLongOptions(CLI::App& command, LongOptions& options) {
  CLI::Option* mode =
      command.add_option("--long", options.mode,
                         "What happens to a text that is too long, instead of being cut:\n"
                         "windows (combined), or recurrence (XLNet's memory)");
  mode->check(OneOf({"windows", "recurrence"}))->type_name("HOW");
  const auto add = [&](const char* flag, uint32_t& value, const char* help) {
    command.add_option(flag, value, help)
        ->needs(mode)
        ->check(CLI::Range(1, 1'000'000).description(""))
        ->type_name("N");
  };
  add("--window-tokens", options.window_tokens,
      "Tokens of a window or segment [the model's limit]");
  add("--overlap-tokens", options.overlap_tokens, "Tokens that windows share [0]");
  add("--memory-tokens", options.memory_tokens,
      "Tokens that a segment remembers [the checkpoint's]");
}

void FillLongInput(const LongOptions& options, v1::LongInput* long_input) {
  v1::LongInput::Mode mode = v1::LongInput::MODE_UNSPECIFIED;
  v1::LongInput::Mode_Parse(EnumName("MODE", options.mode), &mode);
  long_input->set_mode(mode);
  long_input->set_window_tokens(options.window_tokens);
  long_input->set_overlap_tokens(options.overlap_tokens);
  long_input->set_memory_tokens(options.memory_tokens);
}

InputReader::InputReader(const InputOptions& options, std::size_t num_inputs_max)
    : texts_(options.texts),
      num_inputs_max_(std::min(num_inputs_max, kInputsMax)),
      path_(options.file),
      from_arguments_(path_.empty() && !texts_.empty() &&
                      !(texts_.size() == 1 && texts_[0] == "-")),
      document_(options.document) {
  if (!path_.empty()) {
    std::error_code error;
    if (!texts_.empty()) {
      problem_ = "texts on the command line, and --file: which?";
    } else if (std::filesystem::is_directory(path_, error)) {
      problem_ = path_ + ": a folder, not a file";
    } else if (file_.open(path_, std::ios::binary); !file_) {
      problem_ = path_ + ": " + std::strerror(errno);
    }
  } else if (from_arguments_ && document_) {
    problem_ = "--document is for --file and standard input; a text on the command line is one";
  } else if (!from_arguments_ && isatty(STDIN_FILENO) == 1) {
    std::cerr << "Reading texts from the terminal, one a line; end with Ctrl-D.\n";
  }
}

std::optional<std::string> InputReader::NextText() {
  if (held_back_) return std::exchange(held_back_, std::nullopt);
  if (from_arguments_) {
    if (num_read_ == texts_.size()) return std::nullopt;
    return texts_[num_read_++];
  }
  std::istream& input = path_.empty() ? std::cin : file_;
  std::string line;
  if (document_) {
    if (num_read_ > 0) return std::nullopt;
    line.assign(std::istreambuf_iterator<char>(input), {});
    if (line.ends_with('\n')) line.pop_back();
  } else if (!std::getline(input, line)) {
    return std::nullopt;
  }
  if (line.ends_with('\r')) line.pop_back();
  // Editors of another system begin files with it.
  if (num_read_ == 0 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  ++num_read_;
  return line;
}

std::optional<std::vector<std::string>> InputReader::Next() {
  if (!problem_.empty()) {
    std::cerr << "bertrand: " << problem_ << "\n";
    return std::nullopt;
  }
  std::vector<std::string> piece;
  std::size_t num_bytes = 0;
  while (piece.size() < num_inputs_max_) {
    std::optional<std::string> text = NextText();
    if (!text) break;
    if (!IsValidUtf8(*text)) {
      std::cerr << "bertrand: " << (path_.empty() ? "" : path_ + ": ")
                << (from_arguments_ ? "text " : "line ") << num_read_
                << " is not valid UTF-8; `iconv -f latin1 -t utf-8` converts, say, Latin-1\n";
      return std::nullopt;
    }
    num_bytes += text->size() + kInputOverheadBytes;
    if (num_bytes > kBytesMax && !piece.empty()) {
      held_back_ = std::move(text);
      break;
    }
    piece.push_back(*std::move(text));
  }
  if (num_read_ == 0) std::cerr << "bertrand: no texts\n";
  num_before_ += std::exchange(num_in_piece_, piece.size());
  return piece;
}

grpc::Status InputReader::Located(const grpc::Status& status) const {
  static const std::regex kIndex(R"((inputs|texts|documents)\[([0-9]{1,9})\](\.text)?)");
  const std::string message = status.error_message();
  std::string located;
  auto rest = message.begin();
  for (std::sregex_iterator match(message.begin(), message.end(), kIndex), end; match != end;
       ++match) {
    const std::size_t index = num_before_ + std::stoul((*match)[2]);
    located.append(rest, (*match)[0].first);
    if (from_arguments_ || document_) {
      located += (*match)[1].str() + "[" + std::to_string(index) + "]" + (*match)[3].str();
    } else {
      located += (path_.empty() ? "" : path_ + ": ") + "line " + std::to_string(index + 1);
    }
    rest = (*match)[0].second;
  }
  located.append(rest, message.end());
  return {status.error_code(), located, status.error_details()};
}

}  // namespace bertrand::client
