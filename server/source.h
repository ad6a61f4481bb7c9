#pragma once

// SOURCE of --model: a folder, or a Hugging Face id, from the local cache or downloaded into it.

#include <absl/status/statusor.h>

#include <string>

#include "server/hub.h"

namespace bertrand {

struct ResolvedSource {
  std::string folder;
  std::string revision;  // the commit, of a hub id
};

// A folder is taken as it is. "ORG/NAME[@REVISION]" is looked up in huggingface_hub's cache
// (HF_HUB_CACHE or HUGGINGFACE_HUB_CACHE, else hub in HF_HOME, else huggingface/hub in
// XDG_CACHE_HOME or ~/.cache). What was downloaded before is used without asking the hub; what is
// missing is downloaded, unless HF_HUB_OFFLINE forbids it. A snapshot that somebody else made is
// completed where the hub can be reached, and used as it is where it cannot. Errors say what was
// tried and what to do.
absl::StatusOr<ResolvedSource> ResolveSource(const std::string& source, const HubLog& log);

}  // namespace bertrand
