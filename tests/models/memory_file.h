#pragma once

// A file in memory that can be opened by a path, for tests that write thousands: on a disk, cutting
// and writing a file again waits for the disk each time.

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "kernels/status.h"

namespace bertrand {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("bertrand-test", MFD_CLOEXEC)) {
    BERTRAND_CHECK(descriptor_ >= 0, "memfd_create");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // Replaces what is in the file; the result is its path.
  std::string Write(const std::string& bytes) const {
    BERTRAND_CHECK(ftruncate(descriptor_, 0) == 0, "ftruncate");
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written =
          pwrite(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
      BERTRAND_CHECK(written > 0, "pwrite");
      done += static_cast<size_t>(written);
    }
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  const int descriptor_;
};

}  // namespace bertrand
