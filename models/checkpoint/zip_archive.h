#pragma once

// The table of contents of a zip archive whose entries are stored, not compressed: what torch.save
// writes (PKWARE's APPNOTE.TXT; zip64 too). The archive is untrusted.
//
// Names and sizes are the central directory's; each entry's own header is read only for where its
// bytes begin. Refused: compressed or encrypted entries, several disks, duplicate names, entries
// that overlap or reach into the directory. Memory is in proportion to the directory.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/file.h"

namespace bertrand {

struct ZipEntry {
  std::string name;
  uint64_t header_offset = 0;
  uint64_t size_bytes = 0;
  uint32_t crc32 = 0;
  uint64_t begin = 0;  // its bytes, in the file
};

class ZipArchive {
 public:
  static constexpr uint64_t kDirectoryBytesMax = 100'000'000;

  // Errors do not name the file; the caller does.
  static absl::StatusOr<ZipArchive> Read(const File& file);

  // In the order of the directory.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  // Null when there is none.
  const ZipEntry* Find(std::string_view name) const;

 private:
  std::vector<ZipEntry> entries_;
  std::vector<uint32_t> by_name_;
};

// The checksum of zip archives over [begin, begin + size) of a file.
absl::StatusOr<uint32_t> Crc32(const File& file, uint64_t begin, uint64_t size);

}  // namespace bertrand
