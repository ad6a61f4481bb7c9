#include "models/checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// Linux transfers at most this much in one call, and says so only by a short count.
constexpr size_t kReadBytesMax = size_t{1} << 30;

}  // namespace

File::File(std::string path, int descriptor, uint64_t size_bytes)
    : path_(std::move(path)), descriptor_(descriptor), size_bytes_(size_bytes) {}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_bytes_(other.size_bytes_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<File> File::Open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO without a writer would wait for one. It does nothing to regular
  // files.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int error = errno;
    const std::string message = path + ": " + std::strerror(error);
    return error == ENOENT || error == ENOTDIR ? NotFound(message) : InvalidArgument(message);
  }
  struct stat info {};
  if (fstat(descriptor, &info) != 0) {
    const int error = errno;
    close(descriptor);
    return InvalidArgument(path + ": " + std::strerror(error));
  }
  if (!S_ISREG(info.st_mode)) {
    close(descriptor);
    const char* kind = S_ISDIR(info.st_mode)    ? "a directory"
                       : S_ISFIFO(info.st_mode) ? "a FIFO"
                                                : "a device or socket";
    return InvalidArgument(path + " is " + kind + ", expected a regular file");
  }
  return File(path, descriptor, static_cast<uint64_t>(info.st_size));
}

absl::Status File::ReadAt(uint64_t offset, void* destination, size_t size_bytes) const {
  size_t done = 0;
  while (done < size_bytes) {
    const size_t want = std::min(size_bytes - done, kReadBytesMax);
    const ssize_t got = pread(descriptor_, static_cast<char*>(destination) + done, want,
                              static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Unavailable(path_ + ": reading at byte " + std::to_string(offset + done) + ": " +
                         std::strerror(errno));
    }
    if (got == 0) {
      return InvalidArgument(path_ + " ends at byte " + std::to_string(offset + done) +
                             ", expected " + std::to_string(offset + size_bytes) +
                             " bytes: it was cut while it was read");
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t size_bytes_max) {
  BERTRAND_ASSIGN_OR_RETURN(const File file, File::Open(path));
  if (file.size_bytes() > size_bytes_max) {
    return InvalidArgument(path + " has " + std::to_string(file.size_bytes()) +
                           " bytes, expected at most " + std::to_string(size_bytes_max));
  }
  std::string text(file.size_bytes(), '\0');
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(0, text.data(), text.size()));
  return text;
}

bool PathExists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (name.empty()) return path;
  if (!path.empty() && path.back() != '/') path += '/';
  path += name;
  return path;
}

bool StaysInside(std::string_view name) {
  if (name.starts_with('/') || name.find('\0') != std::string_view::npos) return false;
  while (!name.empty()) {
    const size_t slash = name.find('/');
    if (name.substr(0, slash) == "..") return false;
    if (slash == std::string_view::npos) break;
    name.remove_prefix(slash + 1);
  }
  return true;
}

}  // namespace bertrand
