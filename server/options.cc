#include "server/options.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <absl/time/time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr char kVersion[] = BERTRAND_VERSION;
constexpr int64_t kCountMax = std::numeric_limits<int64_t>::max() / 4;

std::string EnvironmentName(std::string_view flag) {
  std::string name = "BERTRAND_";
  for (const char c : flag.substr(2)) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

constexpr size_t kHelpColumns = 100, kHelpIndent = 30;

// `text` in lines that fit beside an indent, at spaces.
std::string Wrapped(const std::string& text) {
  std::string out;
  size_t column = 0;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(text, ' '))) {
    if (column > 0 && column + 1 + word.size() > kHelpColumns - kHelpIndent) {
      out += '\n';
      column = 0;
    }
    if (column > 0) out += ' ';
    out += word;
    column = column == 0 ? word.size() : column + 1 + word.size();
  }
  return out;
}

// Flag and value on the left; on the right what it is, its default and its variable.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return type.empty() ? "" : " " + type;
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    const std::string variable = option->get_envname();
    if (!variable.empty()) {
      const std::string value = option->get_default_str();
      text += value.empty() ? " [" + variable + "]" : " [" + value + "; " + variable + "]";
    }
    return Wrapped(text);
  }
};

// As the hub's files are: XDG_CACHE_HOME, else ~/.cache.
std::string DefaultTuningCache() {
  for (const auto& [variable, folder] :
       {std::pair("XDG_CACHE_HOME", "/bertrand"), std::pair("HOME", "/.cache/bertrand")}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && value[0] == '/') return absl::StrCat(value, folder);
  }
  return "";
}

// The application with what CLI11 needs for its values to live.
struct CommandLine {
  explicit CommandLine(Options* options);

  template <typename T>
  CLI::Option* Add(const std::string& flag, T* value, const std::string& help) {
    return app.add_option(flag, *value, help)
        ->envname(EnvironmentName(flag))
        ->capture_default_str();
  }
  void AddCount(const std::string& flag, int64_t* value, const std::string& help,
                int64_t least = 1) {
    Add(flag, value, help)->check(CLI::Range(least, kCountMax).description(""))->type_name("N");
  }
  void AddChoice(const std::string& flag, std::string* value, const std::string& help,
                 const std::set<std::string>& choices) {
    Add(flag, value, absl::StrCat(help, ": ", absl::StrJoin(choices, ", ")))
        ->check(CLI::IsMember(choices).description(""))
        ->type_name("HOW");
  }
  void AddDuration(const std::string& flag, std::chrono::microseconds* value,
                   const std::string& help) {
    app.add_option_function<std::string>(
           flag, [value](const std::string& text) { *value = *ParseDuration(text); }, help)
        ->envname(EnvironmentName(flag))
        ->default_str(absl::FormatDuration(absl::Microseconds(value->count())))
        ->type_name("TIME")
        ->check([](const std::string& text) {
          const auto parsed = ParseDuration(text);
          return parsed.ok() ? std::string() : Message(parsed.status());
        });
  }
  void AddLimits(Options* options);

  CLI::App app{"Bertrand: an inference server for the BERT family over gRPC."};
  std::vector<std::string> models, float8_files;
};

CommandLine::CommandLine(Options* options) {
  app.name("bertrand-server");
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(
      "In brackets: the default, and the environment variable that sets the same.\n"
      "When it is ready it prints one line, `ready grpc=HOST:PORT http=HOST:PORT`, to standard\n"
      "output; the log goes to standard error.\n\n"
      "Examples:\n"
      "  bertrand-server --model path/to/all-MiniLM-L6-v2\n"
      "  bertrand-server --model ner=dslim/bert-base-NER --model qa=path/to/squad --threads 8");
  app.set_version_flag("--version", std::string("bertrand-server ") + kVersion);
  // The variable is read in FillLists: CLI11 takes an environment's value as one element.
  app.add_option(
         "--model", models,
         "A model to serve, as NAME=SOURCE or SOURCE; may be given several times, the first "
         "is the default. SOURCE: a checkpoint's folder, or a hub id[@revision], which is "
         "downloaded into the Hugging Face cache once (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and "
         "HF_HOME as for huggingface_hub) [BERTRAND_MODEL, several separated by commas]")
      ->type_name("[NAME=]SOURCE")
      ->allow_extra_args(false);
  Add("--grpc-address", &options->grpc_address, "Where gRPC listens; port 0: any free one")
      ->type_name("HOST:PORT");
  Add("--http-address", &options->http_address,
      "Where HTTP listens (/health, /metrics); port 0: any free one")
      ->type_name("HOST:PORT");
  Add("--device", &options->device,
      "auto (the CPU), cpu, reference, cuda, cuda:N, several as cuda:0,1 with every model on each, "
      "emulated (the GPU's kernels on the CPU, for tests)")
      ->type_name("DEVICE");
  AddChoice("--dtype", &options->dtype,
            "Type of weights and activations. auto is float32 on a CPU; on a GPU, emulated or not, "
            "it is bfloat16 for checkpoints in bfloat16 and float16 for all others, of which those "
            "with values beyond 65504 need bfloat16. float8 is the same with the layers' products "
            "in e4m3: for GPUs of compute capability 8.9 or later and models for which `bertrand "
            "calibrate` has found scales. One of",
            {"auto", "float32", "float16", "bfloat16", "float8"});
  app.add_option("--fp8-scales", float8_files,
                 "What `bertrand calibrate --output` has written for a model, where it is not in "
                 "the model's folder; of several models NAME's [BERTRAND_FP8_SCALES, several "
                 "separated by commas]")
      ->type_name("[NAME=]FILE")
      ->allow_extra_args(false);
  options->tuning_cache = DefaultTuningCache();
  Add("--tuning-cache", &options->tuning_cache,
      "Folder for what --tuning-time finds; empty: nothing is kept")
      ->type_name("FOLDER");
  AddDuration(
      "--tuning-time", &options->tuning_time,
      "How long a GPU may measure at the start which algorithms are fastest for the models; "
      "what it has no time for is left to the next start");
  app.add_flag("--unverified-kernels", options->unverified_kernels,
               "Measure kernels for Hopper too that no GPU has verified yet")
      ->envname("BERTRAND_UNVERIFIED_KERNELS");
  AddCount("--threads", &options->threads,
           "Compute threads; 0: the cores of the affinity and the cgroup's quota", 0);
  AddChoice("--truncation", &options->truncation,
            "What is done with too long inputs when the request does not say",
            {"fail", "longest-first", "only-first", "only-second"});
  AddLimits(options);
  AddDuration("--drain-timeout", &options->drain_timeout,
              "How long accepted requests may still run after SIGTERM or SIGINT");
  AddChoice("--log-level", &options->log_level, "How much goes to standard error",
            {"debug", "info", "warning", "error", "off"});
  AddChoice("--log-format", &options->log_format, "How it looks", {"text", "json"});
  app.add_flag("--check", options->check, "Load the models, report, and exit")
      ->envname("BERTRAND_CHECK");
  Add("--calibrate", &options->calibrate,
      "Instead of serving, run the lines of a file (-: standard input) through the model, on the "
      "CPU, and keep what float8 needs to know: what `bertrand calibrate` starts")
      ->type_name("TEXTS");
  Add("--calibrate-output", &options->calibrate_output,
      "Where that is kept; empty: bertrand-fp8.json in the model's folder")
      ->type_name("FILE");
}

void CommandLine::AddLimits(Options* options) {
  AddCount("--max-batch-tokens", &options->max_batch_tokens,
           "Tokens of one batch, raised to a model's longest input; also the longest input of "
           "models without a limit");
  AddCount(
      "--max-batches", &options->max_batches,
      "Batches in flight on each device, each with a workspace of its own for each model; 0: 2 "
      "on a GPU, else as many as threads, at most 16",
      0);
  AddCount("--max-queue-tokens", &options->max_queue_tokens, "Tokens that may wait for a batch");
  AddCount("--max-queue-bytes", &options->max_queue_bytes,
           "Memory that all requests may need, from arrival to answer");
  AddCount("--max-queue-requests", &options->max_queue_requests,
           "Requests that may be here, from arrival to answer");
  AddDuration("--max-queue-delay", &options->max_queue_delay,
              "How long a request may wait for others to fill its batch");
  AddCount("--max-inputs-per-request", &options->max_inputs_per_request, "Inputs of one request");
  AddCount("--max-request-bytes", &options->max_request_bytes, "Size of one request's message");
  AddCount("--max-response-bytes", &options->max_response_bytes, "Size of one answer's message");
  AddDuration("--max-request-time", &options->max_request_time,
              "Deadline of requests that have none, or a later one");
  AddCount("--max-stream-requests", &options->max_stream_requests,
           "Requests of one stream in flight; more are not read");
  AddCount("--max-concurrent-calls", &options->max_concurrent_calls,
           "Calls of one connection at the same time; more wait at the client");
  AddCount("--max-http-connections", &options->max_http_connections,
           "HTTP connections; more are closed at once");
  AddDuration("--max-connection-age", &options->max_connection_age,
              "Age at which gRPC clients are asked to connect anew; 0: never");
}

// Lists, which may be in the environment as well.
void FillLists(CommandLine* line) {
  for (const auto& [variable, list] : {std::pair("BERTRAND_MODEL", &line->models),
                                       std::pair("BERTRAND_FP8_SCALES", &line->float8_files)}) {
    const char* value = std::getenv(variable);
    if (list->empty() && value != nullptr) *list = absl::StrSplit(value, ',', absl::SkipEmpty());
  }
}

std::vector<std::string> UnknownVariables(const CLI::App& app) {
  // The last is the clients'.
  std::set<std::string> known = {"BERTRAND_MODEL", "BERTRAND_FP8_SCALES", "BERTRAND_ADDRESS"};
  for (const CLI::Option* option : app.get_options()) known.insert(option->get_envname());
  std::vector<std::string> warnings;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string name = std::string(*variable).substr(0, std::string(*variable).find('='));
    if (!absl::StartsWith(name, "BERTRAND_") || known.contains(name)) continue;
    // Kubernetes sets these in every pod beside a service called bertrand.
    if (absl::StartsWith(name, "BERTRAND_SERVICE_") || absl::StartsWith(name, "BERTRAND_PORT")) {
      continue;
    }
    warnings.push_back(absl::StrCat("the environment variable ", name,
                                    " is not one of the server's and is ignored; see --help"));
  }
  return warnings;
}

// CLI11 reports over several lines at times; ours is one.
std::string OneLine(const std::string& text) { return absl::StrReplaceAll(text, {{"\n", " "}}); }

// "NAME=FILE" of a model, or "FILE" of the only one.
absl::Status FillFloat8Files(const CommandLine& line, Options* options) {
  for (const std::string& text : line.float8_files) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals == std::string::npos ? 0 : equals);
    const bool is_named = std::any_of(options->models.begin(), options->models.end(),
                                      [&](const ModelArgument& m) { return m.name == name; });
    if (!is_named && options->models.size() > 1) {
      return InvalidArgument(
          absl::StrCat("--fp8-scales: \"", text, "\" is not NAME=FILE with the name of a --model"));
    }
    const std::string file = is_named ? text.substr(equals + 1) : text;
    if (file.empty() ||
        !options->float8_files.emplace(is_named ? name : options->models[0].name, file).second) {
      return InvalidArgument(
          absl::StrCat("--fp8-scales: \"", text, "\", expected one file for each model"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCalibration(const Options& options) {
  if (options.calibrate.empty() && !options.calibrate_output.empty()) {
    return InvalidArgument("--calibrate-output without --calibrate");
  }
  if (!options.calibrate.empty() && options.models.size() != 1) {
    return InvalidArgument(
        absl::StrCat("--calibrate is for one --model, not ", options.models.size()));
  }
  return absl::OkStatus();
}

absl::Status Validate(const CommandLine& line, Options* options) {
  if (line.models.empty()) {
    return InvalidArgument(
        "no --model given: try --model FOLDER or --model ORG/NAME of the Hugging Face hub "
        "(--help lists all flags)");
  }
  std::set<std::string> names;
  for (const std::string& text : line.models) {
    BERTRAND_ASSIGN_OR_RETURN(ModelArgument model, ParseModelArgument(text));
    if (!names.insert(model.name).second) {
      return InvalidArgument(
          absl::StrCat("--model: the name \"", model.name, "\" is used twice; use NAME=SOURCE"));
    }
    options->models.push_back(std::move(model));
  }
  BERTRAND_RETURN_IF_ERROR(FillFloat8Files(line, options));
  BERTRAND_RETURN_IF_ERROR(CheckCalibration(*options));
  for (const auto& [flag, address] : {std::pair("--grpc-address", options->grpc_address),
                                      std::pair("--http-address", options->http_address)}) {
    const size_t colon = address.rfind(':');
    uint32_t port = 0;
    if (colon == std::string::npos || colon == 0 ||
        !absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
      return InvalidArgument(
          absl::StrCat(flag, ": \"", address, "\" is not HOST:PORT, such as 127.0.0.1:50051"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::chrono::microseconds> ParseDuration(const std::string& text) {
  absl::Duration duration;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &duration)) {
    return InvalidArgument(absl::StrCat("\"", text, "\" is not a time such as 200ms, 30s or 5m"));
  }
  if (duration < absl::ZeroDuration() || duration > absl::Hours(24 * 365)) {
    return InvalidArgument(absl::StrCat("\"", text, "\" is not between 0 and a year"));
  }
  return std::chrono::microseconds(absl::ToInt64Microseconds(duration));
}

absl::StatusOr<ModelArgument> ParseModelArgument(std::string_view text) {
  ModelArgument model;
  const size_t equals = text.find('=');
  if (equals != std::string_view::npos) {
    model.name = text.substr(0, equals);
    model.source = text.substr(equals + 1);
  } else {
    model.source = text;
    std::string_view path = text;
    while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
    path = path.substr(0, path.find('@'));
    const size_t slash = path.rfind('/');
    model.name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  }
  const bool legal = std::all_of(model.name.begin(), model.name.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || c == '.' || c == '_' || c == '-');
  });
  if (!legal || model.name.empty() || model.name.size() > 128) {
    return InvalidArgument(absl::StrCat("--model: \"", model.name,
                                        "\" is not a name ([A-Za-z0-9._-], 1 to 128 characters); "
                                        "use --model NAME=SOURCE"));
  }
  if (model.source.empty()) {
    return InvalidArgument(absl::StrCat("--model ", model.name, "=: the source is missing"));
  }
  return model;
}

absl::StatusOr<ParsedOptions> ParseOptions(int argc, const char* const* argv) {
  ParsedOptions parsed;
  CommandLine line(&parsed.options);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text_to_print = line.app.help();
    return parsed;
  } catch (const CLI::CallForVersion& version) {
    parsed.text_to_print = std::string(version.what()) + "\n";
    return parsed;
  } catch (const CLI::ExtrasError&) {
    return InvalidArgument(
        absl::StrCat("not understood: ", absl::StrJoin(line.app.remaining(), " "),
                     " (--help lists all flags; a model is --model SOURCE)"));
  } catch (const CLI::ParseError& error) {
    return InvalidArgument(OneLine(error.what()));
  }
  FillLists(&line);
  BERTRAND_RETURN_IF_ERROR(Validate(line, &parsed.options));
  parsed.warnings = UnknownVariables(line.app);
  return parsed;
}

}  // namespace bertrand
