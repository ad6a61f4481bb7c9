#include "server/calibrate.h"

#include <absl/strings/str_cat.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/thread_pool.h"
#include "models/encoder/float8_inputs.h"
#include "models/model.h"
#include "server/source.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

// Maxima hardly grow after some hundred texts.
constexpr int64_t kTextsMax = 100'000;
constexpr int64_t kBatchTokens = 2048;

// The lines of a file, or of standard input, that are not blank.
class TextFile {
 public:
  TextFile(std::string path, int64_t line_bytes_max)
      : path_(std::move(path)), line_bytes_max_(static_cast<size_t>(line_bytes_max)) {}

  absl::Status Open() {
    if (path_ == "-") {
      if (isatty(STDIN_FILENO) == 1) {
        std::fprintf(stderr, "Reading texts from the terminal, one a line; end with Ctrl-D.\n");
      }
      return absl::OkStatus();
    }
    std::error_code error;
    if (fs::is_directory(path_, error)) return InvalidArgument(path_ + ": a folder, not a file");
    file_.open(path_, std::ios::binary);
    if (!file_) return NotFound(absl::StrCat(path_, ": ", std::strerror(errno)));
    size_bytes_ = fs::is_regular_file(path_, error) ? fs::file_size(path_, error) : 0;
    return absl::OkStatus();
  }

  // Nothing at the end.
  absl::StatusOr<std::optional<std::string>> Next() {
    std::istream& input = path_ == "-" ? std::cin : file_;
    std::string line;
    while (std::getline(input, line)) {
      ++line_number_;
      bytes_read_ += line.size() + 1;
      if (line.ends_with('\r')) line.pop_back();
      // Editors of another system begin files with it.
      if (line_number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (line.size() > line_bytes_max_) {
        return InvalidArgument(absl::StrCat(Where(), "a text of ", line.size(),
                                            " bytes, expected at most ", line_bytes_max_,
                                            " (--max-request-bytes)"));
      }
      return std::optional(std::move(line));
    }
    if (input.bad()) return Unavailable(absl::StrCat(path_, ": ", std::strerror(errno)));
    return std::optional<std::string>();
  }

  std::string Where() const { return absl::StrCat(path_, ": line ", line_number_, ": "); }
  // "12 % of the file", or "" where it has no size.
  std::string Share() const {
    if (size_bytes_ == 0) return "";
    return absl::StrCat(", ", std::min<uint64_t>(100, 100 * bytes_read_ / size_bytes_),
                        " % of the file");
  }

 private:
  const std::string path_;
  const size_t line_bytes_max_;
  std::ifstream file_;
  uint64_t size_bytes_ = 0, bytes_read_ = 0;
  int64_t line_number_ = 0;
};

// On a terminal one line that changes, elsewhere a line now and then.
class Progress {
 public:
  void Show(int64_t texts, int64_t tokens, const std::string& share) {
    const auto now = steady_clock::now();
    if (now - shown_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))) {
      return;
    }
    shown_ = now;
    std::fprintf(stderr,
                 terminal_ ? "\rcalibrating: %lld texts, %lld tokens%s   "
                           : "calibrating: %lld texts, %lld tokens%s\n",
                 static_cast<long long>(texts), static_cast<long long>(tokens), share.c_str());
  }
  ~Progress() {
    if (terminal_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  steady_clock::time_point shown_ = steady_clock::now();
};

bool TakesPairs(const Model& model) {
  return model.HasTask(Task::kClassify) || model.HasTask(Task::kRerank) ||
         model.HasTask(Task::kAnswerQuestion) || model.HasTask(Task::kPredictSentencePair);
}

struct Counts {
  int64_t texts = 0, tokens = 0, cut = 0;
};

// Texts to ids, batches of them to the layers.
class Run {
 public:
  Run(const Model& model, int64_t tokens_max) : model_(model), takes_pairs_(TakesPairs(model)) {
    prepare_.encode.max_tokens = tokens_max;
    prepare_.as_sentence = model.description().tasks.front() == Task::kEmbed;
    batch_tokens_max_ = std::max(tokens_max, kBatchTokens);
  }

  absl::Status Start() {
    BERTRAND_ASSIGN_OR_RETURN(calibration_, model_.NewCalibration(batch_tokens_max_));
    return absl::OkStatus();
  }
  absl::Status Add(const std::string& line) {
    const size_t tab = takes_pairs_ ? line.find('\t') : std::string::npos;
    const std::string_view first = std::string_view(line).substr(0, tab);
    const std::string_view second =
        tab == std::string::npos ? std::string_view() : std::string_view(line).substr(tab + 1);
    PreparedInput input;
    BERTRAND_RETURN_IF_ERROR(
        model_.Prepare({first, tab == std::string::npos ? nullptr : &second}, prepare_, &input));
    const auto size = static_cast<int64_t>(input.encoding.ids.size());
    if (size == 0) return absl::OkStatus();
    if (batch_tokens_ + size > batch_tokens_max_) BERTRAND_RETURN_IF_ERROR(Flush());
    batch_tokens_ += size;
    counts_.tokens += size;
    counts_.cut += input.encoding.num_truncated > 0 ? 1 : 0;
    ++counts_.texts;
    batch_.push_back(std::move(input));
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Finish() {
    BERTRAND_RETURN_IF_ERROR(Flush());
    return calibration_->Finish();
  }
  const Counts& counts() const { return counts_; }

 private:
  absl::Status Flush() {
    if (batch_.empty()) return absl::OkStatus();
    const absl::Status status = calibration_->Run(batch_);
    batch_.clear();
    batch_tokens_ = 0;
    return status;
  }

  const Model& model_;
  const bool takes_pairs_;
  PrepareOptions prepare_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<PreparedInput> batch_;
  int64_t batch_tokens_ = 0, batch_tokens_max_ = 0;
  Counts counts_;
};

absl::Status CannotWrite(const std::string& path, int error) {
  return Unavailable(absl::StrCat("cannot write ", path, ": ", std::strerror(error),
                                  "; `bertrand calibrate --output FILE` writes elsewhere, and "
                                  "bertrand-server --fp8-scales FILE reads it"));
}

// Said before the work is done, not after it.
absl::Status CheckWritable(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  const std::string name = folder.empty() ? "." : folder.string();
  std::error_code error;
  if (fs::is_directory(path, error)) return CannotWrite(path, EISDIR);
  if (!fs::is_directory(name, error)) return CannotWrite(path, ENOENT);
  return access(name.c_str(), W_OK) == 0 ? absl::OkStatus() : CannotWrite(path, errno);
}

// A reader sees a whole file, the old one or this.
absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string beside = absl::StrCat(path, ".", getpid());
  std::error_code error;
  {
    std::ofstream file(beside, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file) {
      const int reason = errno;
      fs::remove(beside, error);
      return CannotWrite(path, reason);
    }
  }
  fs::rename(beside, path, error);
  if (!error) return absl::OkStatus();
  const int reason = error.value();
  fs::remove(beside, error);
  return CannotWrite(path, reason);
}

absl::Status RunTexts(TextFile& texts, Run& run) {
  Progress progress;
  while (run.counts().texts < kTextsMax) {
    BERTRAND_ASSIGN_OR_RETURN(const std::optional<std::string> line, texts.Next());
    if (!line) return absl::OkStatus();
    if (const absl::Status status = run.Add(*line); !status.ok()) {
      return absl::Status(status.code(), texts.Where() + Message(status));
    }
    progress.Show(run.counts().texts, run.counts().tokens, texts.Share());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Calibrate(const Options& options, int threads) {
  const std::string& source_name = options.models.front().source;
  TextFile texts(options.calibrate, options.max_request_bytes);
  BERTRAND_RETURN_IF_ERROR(texts.Open());
  auto source = ResolveSource(
      source_name, [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
  if (!source.ok()) return source.status();
  const std::string output = options.calibrate_output.empty()
                                 ? (fs::path(source->folder) / kFloat8FileName).string()
                                 : options.calibrate_output;
  BERTRAND_RETURN_IF_ERROR(CheckWritable(output));
  ThreadPool pool(threads);
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, CreateBackend("cpu", pool));
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                            Model::Load(source->folder, *backend, {}));
  const int64_t limit = model->description().max_tokens;
  Run run(*model, limit > 0 ? limit : options.max_batch_tokens);
  BERTRAND_RETURN_IF_ERROR(run.Start());
  BERTRAND_RETURN_IF_ERROR(RunTexts(texts, run));
  const Counts& counts = run.counts();
  if (counts.texts == 0) {
    return InvalidArgument(options.calibrate +
                           " has no texts: some hundred are wanted, one a line, such as the "
                           "model will be given");
  }
  BERTRAND_ASSIGN_OR_RETURN(const std::string text, run.Finish());
  BERTRAND_RETURN_IF_ERROR(WriteFile(output, text));
  const std::string cut = counts.cut == 0 ? "" : absl::StrCat(" (", counts.cut, " cut)");
  std::fprintf(stderr, "%s: calibrated with %lld texts%s, %lld tokens%s\n", output.c_str(),
               static_cast<long long>(counts.texts), cut.c_str(),
               static_cast<long long>(counts.tokens),
               counts.texts == kTextsMax ? "; no more than that are read" : "");
  return absl::OkStatus();
}

}  // namespace bertrand
