#include "server/hub.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kProgressInterval = std::chrono::seconds(3);
constexpr uint64_t kSmallFileBytesMax = 100'000'000;
constexpr int64_t kMegabyte = 1'000'000;

// Read where they are there, whatever the family (models/tokenizer/load.h, sentence_modules.h,
// models/encoder/float8_inputs.h).
constexpr const char* kSmallFiles[] = {
    "config.json",           "config_sentence_transformers.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",           "added_tokens.json",
    "bertrand-fp8.json"};
// Read where there is no tokenizer.json.
constexpr const char* kVocabularies[] = {"vocab.txt", "vocab.json", "merges.txt", "spiece.model",
                                         "sentencepiece.bpe.model"};

absl::Status FileError(const fs::path& path, const std::string& what) {
  return Unavailable(absl::StrCat(path.string(), ": ", what));
}

bool IsSaneName(const std::string& name) {
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

absl::Status MakeFolders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  return error ? FileError(path, error.message()) : absl::OkStatus();
}

// Appears whole or not at all.
absl::Status WriteFile(const fs::path& path, const std::string& text) {
  BERTRAND_RETURN_IF_ERROR(MakeFolders(path.parent_path()));
  const fs::path partial = absl::StrCat(path.string(), ".", getpid(), ".incomplete");
  std::ofstream file(partial);
  file << text;
  file.close();
  std::error_code error;
  if (file) fs::rename(partial, path, error);
  return file && !error ? absl::OkStatus() : FileError(path, "cannot be written");
}

absl::StatusOr<std::string> Sha256Of(const fs::path& path) {
  BERTRAND_ASSIGN_OR_RETURN(const File file, File::Open(path.string()));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::string piece(1 << 20, '\0');
  for (uint64_t offset = 0; offset < file.size_bytes(); offset += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), file.size_bytes() - offset));
    BERTRAND_RETURN_IF_ERROR(file.ReadAt(offset, piece.data(), piece.size()));
    EVP_DigestUpdate(context.get(), piece.data(), piece.size());
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  return std::string(
      absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), size)));
}

bool IsSha256(const std::string& etag) {
  return etag.size() == 64 && std::all_of(etag.begin(), etag.end(),
                                          [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

// Waits until no other process downloads the same.
class FileLock {
 public:
  explicit FileLock(const fs::path& path)
      : descriptor_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    while (descriptor_ >= 0 && flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }

 private:
  const int descriptor_;
};

// ---- Which files

absl::StatusOr<Json> ReadJson(const fs::path& path) {
  BERTRAND_ASSIGN_OR_RETURN(const std::string text,
                            ReadTextFile(path.string(), kSmallFileBytesMax));
  return Json::Parse(text, path.string());
}

std::string MemberString(const Json& json, const char* name) {
  const Json* member = json.FindNonNull(name);
  const std::string* text = member == nullptr ? nullptr : member->as_string();
  return text == nullptr ? "" : *text;
}

// The checkpoint's folder, and those of its sentence-transformers modules.
std::set<std::string> FoldersOf(const Json& modules) {
  std::set<std::string> folders = {""};
  for (const Json& module : modules.elements()) folders.insert(MemberString(module, "path"));
  return folders;
}

using Names = std::set<std::string>;

std::vector<std::string> SmallFiles(const Names& names, const std::string& folder) {
  std::vector<std::string> chosen;
  const auto choose = [&](const std::string& name) {
    const std::string file = folder.empty() ? name : JoinPath(folder, name);
    if (names.contains(file)) chosen.push_back(file);
    return names.contains(file);
  };
  for (const char* name : kSmallFiles) choose(name);
  const bool has_tokenizer =
      names.contains(folder.empty() ? "tokenizer.json" : JoinPath(folder, "tokenizer.json"));
  for (const char* name : kVocabularies) {
    if (!has_tokenizer) choose(name);
  }
  // sentence_bert_config.json and its sisters, one for each family.
  const std::string prefix = folder.empty() ? "sentence_" : JoinPath(folder, "sentence_");
  for (auto it = names.lower_bound(prefix); it != names.end() && it->starts_with(prefix); ++it) {
    if (it->ends_with("_config.json") && it->find('/', prefix.size()) == std::string::npos) {
      chosen.push_back(*it);
    }
  }
  return chosen;
}

// The weights' file, or the index of their shards, in WeightFiles' order; empty: none.
std::string WeightsOf(const Names& names, const std::string& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json"}) {
    std::string file = folder.empty() ? name : JoinPath(folder, name);
    if (names.contains(file)) return file;
  }
  return "";
}

absl::StatusOr<Names> ShardsOf(const fs::path& index_path, const std::string& folder) {
  BERTRAND_ASSIGN_OR_RETURN(const Json index, ReadJson(index_path));
  Names shards;
  const Json* weight_map = index.FindNonNull("weight_map");
  if (weight_map == nullptr) return shards;  // what is wrong with it, the loader says
  for (const auto& [tensor, shard] : weight_map->members()) {
    if (const std::string* name = shard.as_string(); name != nullptr && StaysInside(*name)) {
      shards.insert(folder.empty() ? *name : JoinPath(folder, *name));
    }
  }
  return shards;
}

absl::Status NoWeights(const HubModel& model, const Names& names) {
  std::string has;
  for (const char* name : {"tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "rust_model.ot",
                           "model.onnx", "onnx/model.onnx"}) {
    if (names.contains(name)) absl::StrAppend(&has, has.empty() ? "; it has " : ", ", name);
  }
  return NotFound(absl::StrCat(model.id, " has neither model.safetensors nor pytorch_model.bin",
                               has, has.empty() ? "" : ", which are not read"));
}

std::string Megabytes(int64_t num_bytes) {
  return num_bytes < 10 * kMegabyte ? absl::StrCat((num_bytes + 999) / 1000, " kB")
                                    : absl::StrCat(num_bytes / kMegabyte, " MB");
}

}  // namespace

HubRepository::HubRepository(fs::path cache_folder, HubModel model)
    : cache_(std::move(cache_folder)),
      folder_(cache_ / absl::StrCat("models--", absl::StrReplaceAll(model.id, {{"/", "--"}}))),
      model_(std::move(model)) {}

std::string HubRepository::CachedCommit() const {
  std::ifstream ref(folder_ / "refs" / model_.revision);
  if (!ref) return model_.revision;
  std::string commit(std::istreambuf_iterator<char>(ref), {});
  absl::StripAsciiWhitespace(&commit);
  return commit;
}

fs::path HubRepository::Snapshot(const std::string& commit) const {
  return folder_ / "snapshots" / commit;
}

bool HubRepository::IsComplete(const std::string& commit) const {
  return PathExists((folder_ / ".bertrand" / commit).string());
}

absl::StatusOr<HubRepository::Listing> HubRepository::List(const HubModel& model,
                                                           HubClient* client) {
  const std::string path =
      absl::StrCat("/api/models/", model.id, "/revision/", UrlEncoded(model.revision));
  BERTRAND_ASSIGN_OR_RETURN(const std::string text, client->Get(path));
  BERTRAND_ASSIGN_OR_RETURN(const Json json, Json::Parse(text, "the hub's answer to " + path));
  Listing listing{.commit = MemberString(json, "sha")};
  const Json* siblings = json.FindNonNull("siblings");
  if (!IsSaneName(listing.commit) || siblings == nullptr || !siblings->is_array()) {
    return Unavailable(absl::StrCat("the hub's answer to ", path, " is not a list of files"));
  }
  for (const Json& sibling : siblings->elements()) {
    const std::string name = MemberString(sibling, "rfilename");
    if (!name.empty() && StaysInside(name)) listing.files.push_back(name);
  }
  return listing;
}

absl::Status HubRepository::Download(const Listing& listing, HubClient* client, const HubLog& log) {
  const Names names(listing.files.begin(), listing.files.end());
  const fs::path snapshot = Snapshot(listing.commit);
  const auto fetch = [&](const auto& files) {
    for (const std::string& file : files) {
      BERTRAND_RETURN_IF_ERROR(Fetch(file, listing.commit, client, log));
    }
    return absl::OkStatus();
  };
  std::set<std::string> folders = {""};
  if (names.contains("modules.json")) {
    BERTRAND_RETURN_IF_ERROR(fetch(Names{"modules.json"}));
    BERTRAND_ASSIGN_OR_RETURN(const Json modules, ReadJson(snapshot / "modules.json"));
    folders = FoldersOf(modules);
  }
  const bool has_weights = std::any_of(folders.begin(), folders.end(), [&](const auto& folder) {
    return !WeightsOf(names, folder).empty();
  });
  if (!has_weights) return NoWeights(model_, names);
  for (const std::string& folder : folders) {
    BERTRAND_RETURN_IF_ERROR(fetch(SmallFiles(names, folder)));
    const std::string weights = WeightsOf(names, folder);
    if (weights.empty()) continue;
    BERTRAND_RETURN_IF_ERROR(fetch(Names{weights}));
    if (!weights.ends_with(".index.json")) continue;
    BERTRAND_ASSIGN_OR_RETURN(const Names shards, ShardsOf(snapshot / weights, folder));
    BERTRAND_RETURN_IF_ERROR(fetch(shards));
  }
  if (model_.revision != listing.commit) {
    BERTRAND_RETURN_IF_ERROR(WriteFile(folder_ / "refs" / model_.revision, listing.commit));
  }
  return WriteFile(folder_ / ".bertrand" / listing.commit, "");
}

absl::Status HubRepository::Fetch(const std::string& file, const std::string& commit,
                                  HubClient* client, const HubLog& log) {
  const fs::path pointer = Snapshot(commit) / file;
  std::error_code error;
  if (fs::exists(pointer, error)) return absl::OkStatus();
  const std::string path =
      absl::StrCat("/", model_.id, "/resolve/", UrlEncoded(commit), "/", UrlEncoded(file, "/"));
  BERTRAND_ASSIGN_OR_RETURN(const HubFile info, client->Head(path));
  if (!IsSaneName(info.etag)) {
    return Unavailable(absl::StrCat("the hub's answer for ", path, " has no usable ETag"));
  }
  BERTRAND_RETURN_IF_ERROR(FetchBlob(file, path, info, client, log));

  BERTRAND_RETURN_IF_ERROR(MakeFolders(pointer.parent_path()));
  const fs::path blob = folder_ / "blobs" / info.etag;
  const fs::path partial = absl::StrCat(pointer.string(), ".", getpid(), ".incomplete");
  fs::remove(partial, error);
  fs::create_symlink(fs::relative(blob, pointer.parent_path()), partial, error);
  if (!error) fs::rename(partial, pointer, error);
  return error ? FileError(pointer, error.message()) : absl::OkStatus();
}

absl::Status HubRepository::FetchBlob(const std::string& file, const std::string& path,
                                      const HubFile& info, HubClient* client, const HubLog& log) {
  const fs::path blob = folder_ / "blobs" / info.etag, partial = blob.string() + ".incomplete";
  const fs::path locks = cache_ / ".locks" / folder_.filename();
  BERTRAND_RETURN_IF_ERROR(MakeFolders(blob.parent_path()));
  BERTRAND_RETURN_IF_ERROR(MakeFolders(locks));
  const FileLock lock(locks / (info.etag + ".lock"));
  std::error_code error;
  if (fs::exists(blob, error)) return absl::OkStatus();

  // What is half there is only used where its sum will tell whether it was right.
  const bool has_sum = IsSha256(info.etag);
  auto there = static_cast<int64_t>(fs::file_size(partial, error));
  if (!error && (!has_sum || (info.size_bytes >= 0 && there > info.size_bytes))) {
    fs::remove(partial, error);
  }
  const std::string name = absl::StrCat(model_.id, ": ", file);
  const std::string of_all = info.size_bytes < 0 ? "" : " of " + Megabytes(info.size_bytes);
  log(absl::StrCat("downloading ", name, info.size_bytes < 0 ? "" : ", ",
                   info.size_bytes < 0 ? "" : Megabytes(info.size_bytes)));
  auto said = Clock::now();
  there = static_cast<int64_t>(fs::file_size(partial, error));
  if (error || there != info.size_bytes) {
    BERTRAND_RETURN_IF_ERROR(
        Annotate(client->Download(path, partial.string(), info.size_bytes,
                                  [&](int64_t num_bytes) {
                                    if (Clock::now() - said < kProgressInterval) return;
                                    said = Clock::now();
                                    log(absl::StrCat(name, ": ", Megabytes(num_bytes), of_all));
                                  }),
                 file));
  }
  there = static_cast<int64_t>(fs::file_size(partial, error));
  std::string wrong;
  if (info.size_bytes >= 0 && there != info.size_bytes) {
    wrong = absl::StrCat("has ", there, " bytes, expected ", info.size_bytes);
  } else if (has_sum) {
    BERTRAND_ASSIGN_OR_RETURN(const std::string sum, Sha256Of(partial));
    if (sum != info.etag) wrong = absl::StrCat("has the sha256 ", sum, ", expected ", info.etag);
  }
  if (!wrong.empty()) {
    fs::remove(partial, error);
    return Unavailable(
        absl::StrCat(file, " was damaged on the way and is removed: it ", wrong, "; start again"));
  }
  fs::rename(partial, blob, error);
  return error ? FileError(blob, error.message()) : absl::OkStatus();
}

}  // namespace bertrand
