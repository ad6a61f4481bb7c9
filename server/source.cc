#include "server/source.h"

#include <absl/strings/str_cat.h>

#include <filesystem>
#include <regex>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

// huggingface_hub/constants.py.
fs::path HubCache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string cache = Environment(name); !cache.empty()) return ExpandHome(cache);
  }
  return fs::path(HubHome()) / "hub";
}

bool IsHubId(const std::string& id) {
  static const std::regex pattern("[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?");
  return id.size() <= 200 && std::regex_match(id, pattern);
}

bool IsSaneRevision(const std::string& revision) {
  return !revision.empty() && revision.size() <= 200 && !revision.starts_with('/') &&
         revision.find("..") == std::string::npos;
}

absl::StatusOr<ResolvedSource> ResolveHubModel(const HubModel& model, const HubLog& log) {
  const HubOptions options = HubOptions::FromEnvironment();
  HubRepository repository(HubCache(), model);
  const std::string cached = repository.CachedCommit();
  const fs::path snapshot = repository.Snapshot(cached);
  std::error_code error;
  const bool is_cached = !cached.empty() && fs::is_directory(snapshot, error);
  const ResolvedSource as_cached{.folder = snapshot.string(), .revision = cached};
  if (is_cached && (options.offline || repository.IsComplete(cached))) return as_cached;
  if (options.offline) {
    return NotFound(absl::StrCat("no such folder, and not in the Hugging Face cache (",
                                 snapshot.string(),
                                 "); HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to download"));
  }
  HubClient client(options);
  // Nothing of the cached snapshot is to be replaced by a newer one here.
  const HubModel wanted{.id = model.id, .revision = is_cached ? cached : model.revision};
  const auto listing = HubRepository::List(wanted, &client);
  if (!listing.ok()) {
    if (!is_cached) {
      const char* hint = "; without a network, give a folder, or a cache that has it (HF_HOME)";
      return absl::Status(listing.status().code(),
                          absl::StrCat("no such folder, and ", Message(listing.status()),
                                       absl::IsUnavailable(listing.status()) ? hint : ""));
    }
    log(absl::StrCat(model.id, " is used as it is in the cache, where a file may be missing: ",
                     Message(listing.status())));
    return as_cached;
  }
  BERTRAND_RETURN_IF_ERROR(repository.Download(*listing, &client, log));
  return ResolvedSource{.folder = repository.Snapshot(listing->commit).string(),
                        .revision = listing->commit};
}

}  // namespace

absl::StatusOr<ResolvedSource> ResolveSource(const std::string& source, const HubLog& log) {
  std::error_code error;
  if (fs::is_directory(source, error)) return ResolvedSource{.folder = source};
  if (fs::exists(source, error)) {
    return InvalidArgument(absl::StrCat(source,
                                        ": not a folder; a model is the folder of a "
                                        "checkpoint, with its config.json"));
  }
  const size_t at = source.find('@');
  const HubModel model{.id = source.substr(0, at),
                       .revision = at == std::string::npos ? "main" : source.substr(at + 1)};
  if (!IsHubId(model.id) || !IsSaneRevision(model.revision)) {
    return NotFound(
        absl::StrCat(source, ": no such folder, and not a hub id (ORG/NAME[@REVISION])"));
  }
  auto resolved = ResolveHubModel(model, log);
  if (!resolved.ok()) return Annotate(resolved.status(), source);
  return resolved;
}

}  // namespace bertrand
