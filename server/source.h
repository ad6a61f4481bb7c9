#pragma once

// SOURCE of --model: a folder, or a Hugging Face id that is in the local cache.

#include <absl/status/statusor.h>

#include <string>

namespace bertrand {

struct ResolvedSource {
  std::string folder;
  std::string revision;  // the commit, of a hub id
};

// A folder is taken as it is. "ORG/NAME[@REVISION]" is looked up in huggingface_hub's cache
// (HF_HUB_CACHE or HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else huggingface/hub in XDG_CACHE_HOME
// or ~/.cache), whose layout is
// models--ORG--NAME/{refs/REVISION, snapshots/COMMIT}. NotFound says where was looked and what to
// do.
absl::StatusOr<ResolvedSource> ResolveSource(const std::string& source);

}  // namespace bertrand
