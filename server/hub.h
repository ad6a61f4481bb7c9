#pragma once

// Downloads of models from a Hugging Face hub into huggingface_hub's cache, in its layout, so that
// both use what the other has fetched:
//
//   models--ORG--NAME/blobs/ETAG                a file's bytes; ETAG.incomplete while it comes
//                     snapshots/COMMIT/FILE     a symbolic link to its blob
//                     refs/REVISION             the commit of a branch or tag, written at the end
//                     .bertrand/COMMIT          ours: everything that a model needs is there
//   .locks/models--ORG--NAME/ETAG.lock          held while a blob is downloaded
//
// Called while the server starts, from one thread; other processes may do the same at the same
// time.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "server/hub_client.h"

namespace bertrand {

// Lines for the log: progress and what went otherwise than asked.
using HubLog = std::function<void(const std::string& line)>;

struct HubModel {
  std::string id;        // ORG/NAME, or a NAME of old
  std::string revision;  // branch, tag or commit
};

class HubRepository {
 public:
  // Of the model in the cache in `cache_folder`, which need not exist.
  HubRepository(std::filesystem::path cache_folder, HubModel model);

  // The commit that the revision stands for here; itself, where nothing is known of it.
  std::string CachedCommit() const;
  std::filesystem::path Snapshot(const std::string& commit) const;
  // Whether everything a model needs was downloaded by us.
  bool IsComplete(const std::string& commit) const;

  // The files of the revision, as the hub has them.
  struct Listing {
    std::string commit;
    std::vector<std::string> files;
  };
  static absl::StatusOr<Listing> List(const HubModel& model, HubClient* client);

  // Fetches what is missing of what a model needs: config, tokenizer and sentence-transformers
  // files, and of the weights safetensors, else pytorch_model.bin. Every file is checked against
  // its size, and its sha256 where the hub says it, before it appears in the snapshot.
  absl::Status Download(const Listing& listing, HubClient* client, const HubLog& log);

 private:
  absl::Status Fetch(const std::string& file, const std::string& commit, HubClient* client,
                     const HubLog& log);
  absl::Status FetchBlob(const std::string& file, const std::string& path, const HubFile& info,
                         HubClient* client, const HubLog& log);

  const std::filesystem::path cache_, folder_;
  const HubModel model_;
};

}  // namespace bertrand
