#include "models/checkpoint/zip_archive.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/status.h"
#include "models/checkpoint/pickle.h"

namespace bertrand {
namespace {

constexpr uint32_t kEntrySignature = 0x04034b50;
constexpr uint32_t kDirectorySignature = 0x02014b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocatorSignature = 0x07064b50;
constexpr uint64_t kEntryBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                   kLocatorBytes = 20;
constexpr uint64_t kCommentBytesMax = 65535;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kIn64 = std::numeric_limits<uint32_t>::max();  // "see the zip64 field"

// Little-endian integers from a record whose length was checked.
template <typename T>
T At(std::string_view record, size_t offset) {
  T value;
  BERTRAND_CHECK(offset + sizeof value <= record.size(), "zip record");
  std::memcpy(&value, record.data() + offset, sizeof value);
  return value;
}

// Fills `bytes` from an offset.
absl::Status ReadBytes(const File& file, uint64_t offset, std::string* bytes) {
  return file.ReadAt(offset, bytes->data(), bytes->size());
}

// Where the central directory lies.
struct Directory {
  uint64_t offset = 0, size = 0, num_entries = 0;
};

absl::StatusOr<Directory> ReadEnd64(const File& file, uint64_t end_offset) {
  if (end_offset < kLocatorBytes) return InvalidArgument("zip64 locator is missing");
  std::string locator(kLocatorBytes, '\0');
  BERTRAND_RETURN_IF_ERROR(ReadBytes(file, end_offset - kLocatorBytes, &locator));
  const auto offset = At<uint64_t>(locator, 8);
  if (At<uint32_t>(locator, 0) != kLocatorSignature || offset > file.size_bytes() ||
      file.size_bytes() - offset < kEnd64Bytes) {
    return InvalidArgument("zip64 locator is missing or damaged");
  }
  std::string end(kEnd64Bytes, '\0');
  BERTRAND_RETURN_IF_ERROR(ReadBytes(file, offset, &end));
  if (At<uint32_t>(end, 0) != kEnd64Signature) {
    return InvalidArgument("zip64 end of the central directory is damaged");
  }
  return Directory{.offset = At<uint64_t>(end, 48),
                   .size = At<uint64_t>(end, 40),
                   .num_entries = At<uint64_t>(end, 32)};
}

absl::StatusOr<Directory> FindDirectory(const File& file) {
  const uint64_t size = std::min(file.size_bytes(), kEndBytes + kCommentBytesMax);
  const uint64_t begin = file.size_bytes() - size;
  std::string tail(size, '\0');
  BERTRAND_RETURN_IF_ERROR(ReadBytes(file, begin, &tail));
  for (uint64_t at = size < kEndBytes ? 0 : size - kEndBytes + 1; at-- > 0;) {
    const std::string_view end = std::string_view(tail).substr(at);
    if (At<uint32_t>(end, 0) != kEndSignature) continue;
    if (At<uint16_t>(end, 4) != 0 || At<uint16_t>(end, 6) != 0) {
      return InvalidArgument("is a zip archive of several disks, which is not read");
    }
    Directory directory{.offset = At<uint32_t>(end, 16),
                        .size = At<uint32_t>(end, 12),
                        .num_entries = At<uint16_t>(end, 10)};
    if (directory.offset == kIn64 || directory.size == kIn64 || directory.num_entries == 0xffff) {
      BERTRAND_ASSIGN_OR_RETURN(directory, ReadEnd64(file, begin + at));
    }
    if (directory.offset > begin + at || directory.size > begin + at - directory.offset) {
      return InvalidArgument("central directory of " + std::to_string(directory.size) +
                             " bytes at byte " + std::to_string(directory.offset) +
                             " does not fit into " + std::to_string(file.size_bytes()) +
                             " bytes: it is damaged");
    }
    return directory;
  }
  return InvalidArgument("is a zip archive without its end: it is truncated");
}

// Sizes and offset that do not fit 32 bits are in an extra field, those alone, in this order.
absl::Status ReadZip64Extra(std::string_view extra, uint64_t* stored_bytes, ZipEntry* entry) {
  while (extra.size() >= 4) {
    const auto id = At<uint16_t>(extra, 0), size = At<uint16_t>(extra, 2);
    extra.remove_prefix(4);
    if (size > extra.size()) break;
    std::string_view field = extra.substr(0, size);
    extra.remove_prefix(size);
    if (id != kZip64Extra) continue;
    for (uint64_t* value : {&entry->size_bytes, stored_bytes, &entry->header_offset}) {
      if (*value != kIn64) continue;
      if (field.size() < 8) return InvalidArgument("its zip64 field is too short");
      *value = At<uint64_t>(field, 0);
      field.remove_prefix(8);
    }
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

// The first entry of `rest`, which is shortened by it.
absl::StatusOr<ZipEntry> ReadEntry(std::string_view* rest) {
  if (rest->size() < kDirectoryBytes || At<uint32_t>(*rest, 0) != kDirectorySignature) {
    return InvalidArgument("central directory is damaged");
  }
  const std::string_view record = *rest;
  const auto flags = At<uint16_t>(record, 8), method = At<uint16_t>(record, 10);
  const uint64_t name_bytes = At<uint16_t>(record, 28), extra_bytes = At<uint16_t>(record, 30),
                 comment_bytes = At<uint16_t>(record, 32);
  const uint64_t record_bytes = kDirectoryBytes + name_bytes + extra_bytes + comment_bytes;
  if (record.size() < record_bytes) return InvalidArgument("central directory is cut");
  rest->remove_prefix(record_bytes);
  ZipEntry entry;
  entry.name = record.substr(kDirectoryBytes, name_bytes);
  entry.crc32 = At<uint32_t>(record, 16);
  uint64_t stored_bytes = At<uint32_t>(record, 20);
  entry.size_bytes = At<uint32_t>(record, 24);
  entry.header_offset = At<uint32_t>(record, 42);
  const std::string what = "zip entry \"" + Printable(entry.name) + "\"";
  absl::Status status = ReadZip64Extra(record.substr(kDirectoryBytes + name_bytes, extra_bytes),
                                       &stored_bytes, &entry);
  if (!status.ok()) return Annotate(status, what);
  if ((flags & 1) != 0) return InvalidArgument(what + " is encrypted");
  if (method != 0) {
    return InvalidArgument(what + " is compressed (method " + std::to_string(method) +
                           "), expected it stored, as torch.save does");
  }
  if (stored_bytes != entry.size_bytes) {
    return InvalidArgument(what + " is stored in " + std::to_string(stored_bytes) +
                           " bytes, expected " + std::to_string(entry.size_bytes));
  }
  return entry;
}

// Where the entry's bytes begin: its own header may have other extra fields (torch aligns by them).
absl::Status Locate(const File& file, uint64_t directory_offset, ZipEntry* entry) {
  const absl::Status damaged = InvalidArgument(
      "zip entry \"" + Printable(entry->name) + "\" at byte " +
      std::to_string(entry->header_offset) + " with " + std::to_string(entry->size_bytes) +
      " bytes is damaged, or does not fit before the central directory at byte " +
      std::to_string(directory_offset));
  if (entry->header_offset > directory_offset ||
      directory_offset - entry->header_offset < kEntryBytes) {
    return damaged;
  }
  std::string record(kEntryBytes, '\0');
  BERTRAND_RETURN_IF_ERROR(ReadBytes(file, entry->header_offset, &record));
  if (At<uint32_t>(record, 0) != kEntrySignature) return damaged;
  entry->begin =
      entry->header_offset + kEntryBytes + At<uint16_t>(record, 26) + At<uint16_t>(record, 28);
  if (entry->begin > directory_offset || directory_offset - entry->begin < entry->size_bytes) {
    return damaged;
  }
  return absl::OkStatus();
}

absl::Status CheckNoOverlap(const std::vector<ZipEntry>& entries) {
  std::vector<const ZipEntry*> sorted;
  sorted.reserve(entries.size());
  for (const ZipEntry& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const ZipEntry* a, const ZipEntry* b) {
    return a->header_offset < b->header_offset;
  });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->begin + sorted[i - 1]->size_bytes > sorted[i]->header_offset) {
      return InvalidArgument("zip entries \"" + Printable(sorted[i - 1]->name) + "\" and \"" +
                             Printable(sorted[i]->name) + "\" overlap");
    }
  }
  return absl::OkStatus();
}

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value & 1) != 0 ? value >> 1 ^ 0xedb88320 : value >> 1;
    table[i] = value;
  }
  return table;
}

}  // namespace

absl::StatusOr<ZipArchive> ZipArchive::Read(const File& file) {
  BERTRAND_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(file));
  if (directory.size > kDirectoryBytesMax) {
    return InvalidArgument("central directory has " + std::to_string(directory.size) +
                           " bytes, expected at most " + std::to_string(kDirectoryBytesMax));
  }
  std::string records(directory.size, '\0');
  BERTRAND_RETURN_IF_ERROR(ReadBytes(file, directory.offset, &records));
  ZipArchive archive;
  std::string_view rest = records;
  while (!rest.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(ZipEntry entry, ReadEntry(&rest));
    BERTRAND_RETURN_IF_ERROR(Locate(file, directory.offset, &entry));
    archive.entries_.push_back(std::move(entry));
  }
  if (archive.entries_.size() != directory.num_entries) {
    return InvalidArgument("central directory has " + std::to_string(archive.entries_.size()) +
                           " entries, expected " + std::to_string(directory.num_entries));
  }
  BERTRAND_RETURN_IF_ERROR(CheckNoOverlap(archive.entries_));
  const auto& entries = archive.entries_;
  std::vector<uint32_t>& by_name = archive.by_name_;
  by_name.resize(entries.size());
  std::iota(by_name.begin(), by_name.end(), 0);
  std::sort(by_name.begin(), by_name.end(),
            [&](uint32_t a, uint32_t b) { return entries[a].name < entries[b].name; });
  for (size_t i = 1; i < by_name.size(); ++i) {
    if (entries[by_name[i - 1]].name == entries[by_name[i]].name) {
      return InvalidArgument("has two zip entries \"" + Printable(entries[by_name[i]].name) + "\"");
    }
  }
  return archive;
}

const ZipEntry* ZipArchive::Find(std::string_view name) const {
  const auto it =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [this](uint32_t i, std::string_view key) { return entries_[i].name < key; });
  return it != by_name_.end() && entries_[*it].name == name ? &entries_[*it] : nullptr;
}

absl::StatusOr<uint32_t> Crc32(const File& file, uint64_t begin, uint64_t size) {
  static constexpr std::array<uint32_t, 256> kTable = MakeCrcTable();
  constexpr uint64_t kChunkBytes = 64 * 1024;
  uint32_t crc = ~uint32_t{0};
  std::vector<uint8_t> chunk(std::min(size, kChunkBytes));
  while (size > 0) {
    const size_t count = std::min<uint64_t>(size, chunk.size());
    BERTRAND_RETURN_IF_ERROR(file.ReadAt(begin, chunk.data(), count));
    for (size_t i = 0; i < count; ++i) crc = crc >> 8 ^ kTable[(crc ^ chunk[i]) & 0xff];
    begin += count;
    size -= count;
  }
  return ~crc;
}

}  // namespace bertrand
