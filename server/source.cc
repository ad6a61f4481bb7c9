#include "server/source.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// huggingface_hub/constants.py. A leading ~ is the home folder there, too.
fs::path HubCache() {
  const fs::path home = Environment("HOME");
  const auto expand = [&home](const std::string& path) {
    return path == "~" || path.starts_with("~/")
               ? home / path.substr(std::min<size_t>(2, path.size()))
               : fs::path(path);
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string cache = Environment(name); !cache.empty()) return expand(cache);
  }
  if (const std::string hf = Environment("HF_HOME"); !hf.empty()) return expand(hf) / "hub";
  const std::string cache = Environment("XDG_CACHE_HOME");
  return (cache.empty() ? home / ".cache" : expand(cache)) / "huggingface" / "hub";
}

bool IsHubId(const std::string& id) {
  static const std::regex pattern("[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?");
  return id.size() <= 200 && std::regex_match(id, pattern);
}

}  // namespace

absl::StatusOr<ResolvedSource> ResolveSource(const std::string& source) {
  std::error_code error;
  if (fs::is_directory(source, error)) return ResolvedSource{.folder = source};
  if (fs::exists(source, error)) {
    return InvalidArgument(absl::StrCat(source,
                                        ": not a folder; a model is the folder of a "
                                        "checkpoint, with its config.json"));
  }
  const size_t at = source.find('@');
  const std::string id = source.substr(0, at);
  const std::string revision = at == std::string::npos ? "main" : source.substr(at + 1);
  const bool sane_revision = !revision.empty() && revision.find("..") == std::string::npos;
  if (!IsHubId(id) || !sane_revision) {
    return NotFound(
        absl::StrCat(source, ": no such folder, and not a hub id (ORG/NAME[@REVISION])"));
  }
  const fs::path folder =
      HubCache() / absl::StrCat("models--", absl::StrReplaceAll(id, {{"/", "--"}}));
  std::string commit = revision;
  if (std::ifstream ref(folder / "refs" / revision); ref) {
    commit = std::string(std::istreambuf_iterator<char>(ref), {});
    absl::StripAsciiWhitespace(&commit);
  }
  const fs::path snapshot = folder / "snapshots" / commit;
  if (!commit.empty() && fs::is_directory(snapshot, error)) {
    return ResolvedSource{.folder = snapshot.string(), .revision = commit};
  }
  return NotFound(absl::StrCat(
      source, ": no such folder, and not in the Hugging Face cache (", snapshot.string(),
      "). This version does not download: run `huggingface-cli download ", id,
      revision == "main" ? "" : " --revision " + revision, "` first, or give a folder"));
}

}  // namespace bertrand
