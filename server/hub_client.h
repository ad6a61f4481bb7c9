#pragma once

// HTTP requests to a Hugging Face hub, by libcurl: what a snapshot is downloaded with.
//
// The token goes to the endpoint alone, never to a host that it redirects to, and into no message.
// A HubClient keeps its connection; it is used by one thread.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace bertrand {

struct HubOptions {
  std::string endpoint;  // without a slash at the end
  std::string token;     // empty: none
  bool offline = false;

  // As huggingface_hub: HF_ENDPOINT, else https://huggingface.co; HF_TOKEN, else what `hf auth
  // login` left in HF_TOKEN_PATH or in HF_HOME/token; HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE.
  static HubOptions FromEnvironment();
};

// An environment variable, empty when it is not set.
std::string Environment(const char* name);
// huggingface_hub's folder for everything: HF_HOME, else huggingface in XDG_CACHE_HOME or ~/.cache.
std::string HubHome();
// A leading ~ replaced by HOME.
std::string ExpandHome(const std::string& path);

// What the hub says of a file. For a file in large file storage, etag is its sha256.
struct HubFile {
  std::string commit;
  std::string etag;
  int64_t size_bytes = -1;  // -1: not said
};

class HubClient {
 public:
  // Called now and then with the bytes there are.
  using Progress = std::function<void(int64_t num_bytes)>;

  explicit HubClient(HubOptions options);
  ~HubClient();

  // Errors of all three are one line: Unavailable when there is no network, or the hub is broken or
  // busy (after some attempts); PermissionDenied when it wants a token or another one; NotFound.

  // The answer's body; `path` begins with a slash and is encoded.
  absl::StatusOr<std::string> Get(const std::string& path);
  // A file's HEAD, through redirects within the hub.
  absl::StatusOr<HubFile> Head(const std::string& path);
  // Writes to the file at `partial_path`, after what is in it where the hub sends a range, else
  // from its start. Goes on by itself when a connection breaks.
  absl::Status Download(const std::string& path, const std::string& partial_path,
                        int64_t size_bytes, const Progress& progress);

 private:
  // One answer, as far as it goes: `code` 0 when there was none.
  struct Answer {
    long code = 0;
    std::map<std::string, std::string> headers;  // names in lower case; of the last answer
    std::string error;                           // of the connection, when it failed
    std::string write_error;                     // the same, where it was ours: a full disk
    bool worth_retrying = false;
  };
  struct Transfer;

  Answer Perform(const std::string& url, Transfer* transfer);
  // Repeats what may pass by itself. OK for 2xx, and for 3xx where they are not followed.
  absl::Status Try(const std::string& url, Transfer* transfer, Answer* answer);
  absl::Status Failed(const Answer& answer) const;

  struct Handle;
  const HubOptions options_;
  const std::unique_ptr<Handle> handle_;
};

// `text` with everything but letters, digits, -._~ and the characters of `kept` as %XX.
std::string UrlEncoded(const std::string& text, const std::string& kept = "");

}  // namespace bertrand
