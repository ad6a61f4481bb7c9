#include "server/hub_client.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr int kAttemptsMax = 4;
constexpr int kRedirectsMax = 5;
constexpr long kConnectTimeoutSeconds = 10;
// A connection on which nothing comes for so long is given up.
constexpr long kStallSeconds = 60;
constexpr size_t kBodyBytesMax = 32 << 20;
constexpr size_t kHeadersMax = 200;

std::string ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool IsTrue(std::string value) {
  absl::AsciiStrToUpper(&value);
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

// Whether the same request may succeed in a moment: the connection was made, then broke.
bool MayPass(CURLcode code) {
  return code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
         code == CURLE_GOT_NOTHING || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM;
}

}  // namespace

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ExpandHome(const std::string& path) {
  const bool from_home = path == "~" || path.starts_with("~/");
  return from_home ? Environment("HOME") + path.substr(1) : path;
}

std::string HubHome() {
  if (const std::string home = Environment("HF_HOME"); !home.empty()) return ExpandHome(home);
  const std::string cache = Environment("XDG_CACHE_HOME");
  return (cache.empty() ? Environment("HOME") + "/.cache" : ExpandHome(cache)) + "/huggingface";
}

HubOptions HubOptions::FromEnvironment() {
  HubOptions options;
  options.endpoint = Environment("HF_ENDPOINT");
  if (options.endpoint.empty()) options.endpoint = "https://huggingface.co";
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  options.offline =
      IsTrue(Environment("HF_HUB_OFFLINE")) || IsTrue(Environment("TRANSFORMERS_OFFLINE"));
  options.token = Environment("HF_TOKEN");
  if (options.token.empty()) options.token = Environment("HUGGING_FACE_HUB_TOKEN");
  if (options.token.empty() && !IsTrue(Environment("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) {
    const std::string path = Environment("HF_TOKEN_PATH");
    options.token = ReadSmallFile(path.empty() ? HubHome() + "/token" : ExpandHome(path));
  }
  // A line break in it would be a header of its own.
  std::erase_if(options.token, [](unsigned char c) { return c <= ' ' || c >= 0x7F; });
  return options;
}

std::string UrlEncoded(const std::string& text, const std::string& kept) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || std::string("-._~" + kept).find(c) != std::string::npos) {
      out += c;
    } else {
      out += {'%', kDigits[byte >> 4], kDigits[byte & 0xF]};
    }
  }
  return out;
}

// ---- One request

struct HubClient::Handle {
  Handle() {
    // Once in a process, and before its threads use it.
    static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
    curl = started == CURLE_OK ? curl_easy_init() : nullptr;
    BERTRAND_CHECK(curl != nullptr, "libcurl does not start");
  }
  ~Handle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
  CURL* curl = nullptr;
  curl_slist* headers = nullptr;
};

// What is asked for, and where the answer goes.
struct HubClient::Transfer {
  bool head = false;
  std::string* body = nullptr;  // or
  int file = -1;
  int64_t first_byte = 0;  // of the file
  int64_t size_bytes_max = -1;
  const Progress* progress = nullptr;
  // While it runs.
  CURL* curl = nullptr;
  Answer* answer = nullptr;
  int64_t num_bytes = 0;
  std::string write_error;

  size_t OnHeader(const char* text, size_t size) {
    std::string line(text, size);
    // Each answer of a chain of redirects begins anew.
    if (line.starts_with("HTTP/")) answer->headers.clear();
    const size_t colon = line.find(':');
    if (colon == std::string::npos || answer->headers.size() >= kHeadersMax) return size;
    std::string name = line.substr(0, colon), value = line.substr(colon + 1);
    absl::AsciiStrToLower(&name);
    absl::StripAsciiWhitespace(&value);
    answer->headers[name] = value;
    return size;
  }

  size_t OnBody(const char* data, size_t size) {
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (code / 100 != 2) return size;  // what an error page says is not of interest
    if (body != nullptr) {
      if (body->size() + size > kBodyBytesMax) return Fail("the answer is larger than 32 MB");
      body->append(data, size);
      return size;
    }
    if (num_bytes == 0 && first_byte > 0 && code != 206) {  // all of it comes, not the rest
      first_byte = 0;
      if (ftruncate(file, 0) != 0 || lseek(file, 0, SEEK_SET) != 0) return Fail(strerror(errno));
    }
    if (size_bytes_max >= 0 && first_byte + num_bytes + int64_t(size) > size_bytes_max) {
      return Fail(absl::StrCat("more than the ", size_bytes_max, " bytes that were announced"));
    }
    for (size_t done = 0; done < size;) {
      const ssize_t written = write(file, data + done, size - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return Fail(strerror(errno));
      done += static_cast<size_t>(written);
    }
    num_bytes += static_cast<int64_t>(size);
    if (progress != nullptr && *progress) (*progress)(first_byte + num_bytes);
    return size;
  }

  // Ends the transfer: libcurl sees a number that is not the size.
  size_t Fail(std::string error) {
    write_error = std::move(error);
    return 0;
  }
};

HubClient::HubClient(HubOptions options)
    : options_(std::move(options)), handle_(std::make_unique<Handle>()) {
  if (!options_.token.empty()) {
    handle_->headers =
        curl_slist_append(nullptr, ("Authorization: Bearer " + options_.token).c_str());
  }
}
HubClient::~HubClient() = default;

HubClient::Answer HubClient::Perform(const std::string& url, Transfer* transfer) {
  using Write = size_t (*)(char*, size_t, size_t, void*);
  const Write on_header = [](char* data, size_t size, size_t count, void* user) {
    return static_cast<Transfer*>(user)->OnHeader(data, size * count);
  };
  const Write on_body = [](char* data, size_t size, size_t count, void* user) {
    return static_cast<Transfer*>(user)->OnBody(data, size * count);
  };
  Answer answer;
  CURL* curl = handle_->curl;
  transfer->curl = curl;
  transfer->answer = &answer;
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_reset(curl);  // keeps the connection
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "bertrand-server");
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  // libcurl does not send an Authorization header on to another host, nor to another port.
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, handle_->headers);
  curl_easy_setopt(curl, CURLOPT_NOBODY, transfer->head ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, transfer->head ? 0L : 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, long{kRedirectsMax});
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectTimeoutSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
  const std::string range = absl::StrCat(transfer->first_byte, "-");
  if (transfer->first_byte > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  // Behind a proxy that opens TLS there is another authority.
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    if (const std::string file = Environment(name); !file.empty()) {
      curl_easy_setopt(curl, CURLOPT_CAINFO, file.c_str());
    }
  }
  const CURLcode code = curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.code);
  if (code != CURLE_OK) {
    answer.error = *error != '\0' ? error : curl_easy_strerror(code);
    if (!transfer->write_error.empty()) answer.error = answer.write_error = transfer->write_error;
    const bool stalled = code == CURLE_OPERATION_TIMEDOUT && answer.code != 0;
    answer.worth_retrying = MayPass(code) || stalled;
  } else {
    answer.worth_retrying = answer.code >= 500 || answer.code == 429 || answer.code == 408;
  }
  return answer;
}

absl::Status HubClient::Try(const std::string& url, Transfer* transfer, Answer* answer) {
  for (int attempt = 1;; ++attempt) {
    *answer = Perform(url, transfer);
    if (answer->error.empty() && answer->code / 100 <= 3) return absl::OkStatus();
    if (!answer->worth_retrying || attempt == kAttemptsMax) return Failed(*answer);
    absl::SleepFor(absl::Milliseconds(500) * (1 << attempt));
    if (transfer->body != nullptr) transfer->body->clear();
    transfer->first_byte += transfer->num_bytes;
    transfer->num_bytes = 0;
  }
}

absl::Status HubClient::Failed(const Answer& answer) const {
  const auto header = [&answer](const char* name) {
    const auto found = answer.headers.find(name);
    return found == answer.headers.end() ? std::string() : found->second;
  };
  if (!answer.write_error.empty()) return Unavailable(answer.write_error);
  if (!answer.error.empty()) {
    return Unavailable(absl::StrCat(options_.endpoint, " cannot be read: ", answer.error));
  }
  // https://huggingface.co/docs/hub/api: the same 401 for what is private and what is not there.
  const std::string error_code = header("x-error-code"), words = header("x-error-message");
  const std::string says =
      absl::StrCat(options_.endpoint, " answers ", answer.code, words.empty() ? "" : ": ", words);
  if (error_code == "GatedRepo") {
    return absl::PermissionDeniedError(absl::StrCat(
        says,
        "; the model is gated: accept its terms on its page, and set HF_TOKEN to a token of "
        "that account"));
  }
  if (answer.code == 401 || answer.code == 403) {
    return absl::PermissionDeniedError(absl::StrCat(
        says, options_.token.empty()
                  ? "; there is no such model, or it is private: check the name, or set HF_TOKEN"
                  : "; the token (HF_TOKEN, or of `hf auth login`) does not open it: check the "
                    "name and the token"));
  }
  if (error_code == "RevisionNotFound") return NotFound(says + "; check what is behind the @");
  if (answer.code == 404) return NotFound(says + "; check the name");
  return Unavailable(says);
}

// ---- What is asked

absl::StatusOr<std::string> HubClient::Get(const std::string& path) {
  std::string body;
  Transfer transfer;
  transfer.body = &body;
  Answer answer;
  BERTRAND_RETURN_IF_ERROR(Try(options_.endpoint + path, &transfer, &answer));
  return body;
}

absl::StatusOr<HubFile> HubClient::Head(const std::string& path) {
  HubFile file;
  std::string url = options_.endpoint + path, plain_etag;
  for (int redirects = 0; redirects <= kRedirectsMax; ++redirects) {
    Transfer transfer;
    transfer.head = true;
    Answer answer;
    BERTRAND_RETURN_IF_ERROR(Try(url, &transfer, &answer));
    const auto header = [&answer](const char* name) { return answer.headers[name]; };
    const bool moved = answer.code / 100 == 3;
    if (const std::string commit = header("x-repo-commit"); !commit.empty()) file.commit = commit;
    if (const std::string etag = header("x-linked-etag"); !etag.empty()) file.etag = etag;
    if (const std::string etag = header("etag"); !etag.empty()) plain_etag = etag;
    const std::string size = header(moved ? "x-linked-size" : "content-length");
    if (!absl::SimpleAtoi(size, &file.size_bytes)) file.size_bytes = -1;
    const std::string location = header("location");
    // A model that was renamed, say. Storage elsewhere is for Download.
    const bool within = location.starts_with('/') && !location.starts_with("//");
    if (moved && within) {
      const size_t host = options_.endpoint.find("://");
      url = options_.endpoint.substr(
                0, options_.endpoint.find('/', host == std::string::npos ? 0 : host + 3)) +
            location;
      continue;
    }
    if (file.etag.empty()) file.etag = plain_etag;
    if (file.etag.starts_with("W/")) file.etag = file.etag.substr(2);
    std::erase(file.etag, '"');
    return file;
  }
  return Unavailable(options_.endpoint + " redirects in circles");
}

absl::Status HubClient::Download(const std::string& path, const std::string& partial_path,
                                 int64_t size_bytes, const Progress& progress) {
  const int file = open(partial_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return Unavailable(absl::StrCat(partial_path, ": ", strerror(errno)));
  Transfer transfer;
  transfer.file = file;
  transfer.first_byte = lseek(file, 0, SEEK_END);
  transfer.size_bytes_max = size_bytes;
  transfer.progress = &progress;
  Answer answer;
  absl::Status status = Try(options_.endpoint + path, &transfer, &answer);
  if (status.ok() && fsync(file) != 0) status = Unavailable(strerror(errno));
  if (!answer.write_error.empty()) status = Annotate(status, partial_path);
  close(file);
  return status;
}

}  // namespace bertrand
