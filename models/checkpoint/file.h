#pragma once

// Regular files of a checkpoint's folder, read with pread.
//
// Never mapped: a file that is cut while we read is an error here, and a SIGBUS there. Only regular
// files (through symbolic links: hub caches are made of them) are opened, and opening never waits,
// so a FIFO in a checkpoint's place is an error too.
//
// A File owns its descriptor, is movable, and thread-safe.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace bertrand {

class File {
 public:
  // NotFound when there is none; InvalidArgument when it is no regular file.
  static absl::StatusOr<File> Open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Exactly `size_bytes` bytes from `offset`; an error when the file ends before.
  absl::Status ReadAt(uint64_t offset, void* destination, size_t size_bytes) const;

 private:
  File(std::string path, int descriptor, uint64_t size_bytes);

  std::string path_;
  int descriptor_ = -1;
  uint64_t size_bytes_ = 0;
};

// The whole file; InvalidArgument when it is larger than `size_bytes_max`.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t size_bytes_max);

// True when something exists there, whatever it is.
bool PathExists(const std::string& path);

// folder + "/" + name; `folder` alone when name is empty.
std::string JoinPath(std::string_view folder, std::string_view name);

// True when `name` stays inside the folder it is joined to: relative, without "..", without NUL.
bool StaysInside(std::string_view name);

}  // namespace bertrand
