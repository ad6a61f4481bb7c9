#include "kernels/gemm/gemm_table.h"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <system_error>
#include <vector>

#include "kernels/gemm/hopper_tile.cuh"
#include "kernels/gemm/small_gemm_plan.h"
#include "kernels/status.h"

namespace bertrand::gpu {
namespace {

constexpr char kFormat[] = "bertrand-gemm 2";
constexpr uintmax_t kMaxFileBytes = 4 << 20;

// FNV-1a.
uint64_t Hash(std::string_view text, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char byte : text) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  return hash;
}

std::string Hex(uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

// Tile indices mean something else when the tiles change.
uint64_t TilesHash() {
  uint64_t hash = Hash("tiles");
  for (const GemmTile& tile : kGemmTiles) {
    hash = Hash({reinterpret_cast<const char*>(&tile), sizeof(tile)}, hash);
  }
  for (const int columns : kHopperTileColumns) {
    hash = Hash({reinterpret_cast<const char*>(&columns), sizeof(columns)}, hash);
  }
  return hash;
}

std::string OneLine(std::string text) {
  for (char& character : text) {
    if (static_cast<unsigned char>(character) < ' ') character = ' ';
  }
  return text;
}

std::string Header(const GemmTableOrigin& origin) {
  return std::string(kFormat) + " " + Hex(TilesHash()) + "\n" + OneLine(origin.device) + "\n" +
         OneLine(origin.library) + "\n";
}

std::string FormatEntry(const GemmKey& key, const GemmChoice& choice) {
  std::string line;
  for (const int64_t field :
       {key.m, key.n, key.k, static_cast<int64_t>(key.dtype), static_cast<int64_t>(key.activation),
        int64_t{key.bias}, int64_t{key.residual}, int64_t{key.float8},
        static_cast<int64_t>(choice.kind), int64_t{choice.tile}, int64_t{choice.splits}}) {
    line += std::to_string(field) + " ";
  }
  line += Hex(std::bit_cast<uint32_t>(choice.time_us));
  for (const uint64_t word : choice.algorithm) line += " " + Hex(word);
  return line + "\n";
}

// The words of one line, strictly: single spaces, nothing else.
class Fields {
 public:
  explicit Fields(std::string_view line) : rest_(line) {}

  // False, and false ever after, when the next word is not a number in [0, most].
  bool Next(uint64_t most, int base, uint64_t& value) {
    const size_t end = std::min(rest_.find(' '), rest_.size());
    const auto [stopped, error] = std::from_chars(rest_.data(), rest_.data() + end, value, base);
    good_ = good_ && error == std::errc() && stopped == rest_.data() + end && value <= most;
    at_end_ = end == rest_.size();
    rest_.remove_prefix(at_end_ ? end : end + 1);
    return good_;
  }
  bool at_end() const { return good_ && at_end_; }

 private:
  std::string_view rest_;
  bool good_ = true, at_end_ = false;
};

bool ParseEntry(std::string_view line, GemmKey& key, GemmChoice& choice) {
  Fields fields(line);
  uint64_t values[11];
  constexpr uint64_t kMost[11] = {kMaxGemmBucket,    INT32_MAX,     INT32_MAX, 2, 6, 1, 1, 1, 4,
                                  kNumGemmTiles - 1, kMaxGemmSplits};
  for (int i = 0; i < 11; ++i) {
    if (!fields.Next(kMost[i], 10, values[i])) return false;
  }
  uint64_t time = 0;
  if (!fields.Next(UINT32_MAX, 16, time)) return false;
  for (uint64_t& word : choice.algorithm) {
    if (!fields.Next(UINT64_MAX, 16, word)) return false;
  }
  key = {static_cast<int64_t>(values[0]),
         static_cast<int64_t>(values[1]),
         static_cast<int64_t>(values[2]),
         static_cast<DType>(values[3]),
         static_cast<Activation>(values[4]),
         values[5] == 1,
         values[6] == 1,
         values[7] == 1};
  choice.kind = static_cast<GemmChoice::Kind>(values[8]);
  choice.tile = static_cast<int>(values[9]);
  choice.splits = static_cast<int>(values[10]);
  choice.time_us = std::bit_cast<float>(static_cast<uint32_t>(time));
  if (choice.kind == GemmChoice::Kind::kHopper && choice.tile >= kNumHopperTiles) return false;
  return fields.at_end() && key.m > 0 && key.n > 0 && key.k > 0 && choice.splits > 0 &&
         std::isfinite(choice.time_us) && GemmBucket(key.m) == key.m;
}

}  // namespace

int64_t GemmBucket(int64_t m) {
  if (m <= 16) return 16;
  if (m <= 64) return m <= 32 ? 32 : 64;
  if (m >= kMaxGemmBucket) return kMaxGemmBucket;
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(m - 1)));
  const int64_t step = power < 4096 ? power / 8 : power / 2;
  return (m + step - 1) / step * step;
}

std::string ToString(const GemmKey& key) {
  constexpr const char* kActivations[] = {"",       ", gelu", ", tanh gelu", ", relu",
                                          ", silu", ", tanh", ", sigmoid"};
  return std::to_string(key.m) + " x " + std::to_string(key.n) + " x " + std::to_string(key.k) +
         (key.float8 ? " float8 to " : " ") + Name(key.dtype) + (key.bias ? ", bias" : "") +
         kActivations[static_cast<size_t>(key.activation)] + (key.residual ? ", residual" : "");
}

std::string KindName(GemmChoice::Kind kind) {
  constexpr const char* kNames[] = {"small_gemm", "float_gemm", "library", "hopper_gemm",
                                    "cuDNN's graph"};
  return kNames[static_cast<size_t>(kind)];
}

std::string ToString(const GemmChoice& choice) {
  std::string text = KindName(choice.kind);
  if (choice.kind == GemmChoice::Kind::kHopper) {
    text += " " + std::to_string(kHopperTileRows) + "x" +
            std::to_string(kHopperTileColumns[choice.tile]);
  }
  if (choice.kind == GemmChoice::Kind::kSmall) {
    const GemmTile& tile = kGemmTiles[choice.tile];
    text += " " + std::to_string(tile.m) + "x" + std::to_string(tile.n);
    if (choice.splits > 1) text += ", " + std::to_string(choice.splits) + " splits";
  }
  if (choice.time_us > 0) text += ", " + std::to_string(choice.time_us) + " us";
  return text;
}

std::string FormatGemmTable(const GemmTableOrigin& origin, const GemmTable& table) {
  std::string text = Header(origin);
  for (const auto& [key, choice] : table) text += FormatEntry(key, choice);
  return text + "checksum " + Hex(Hash(text)) + "\n";
}

std::optional<GemmTable> ParseGemmTable(std::string_view text, const GemmTableOrigin& origin) {
  constexpr size_t kChecksumLine = sizeof("checksum 0123456789abcdef\n") - 1;
  const std::string header = Header(origin);
  if (text.size() < header.size() + kChecksumLine || !text.starts_with(header)) return {};
  const std::string_view body = text.substr(0, text.size() - kChecksumLine);
  if (text.substr(body.size()) != "checksum " + Hex(Hash(body)) + "\n") return {};

  GemmTable table;
  std::string_view rest = body.substr(header.size());
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    GemmKey key;
    GemmChoice choice;
    if (end == rest.npos || !ParseEntry(rest.substr(0, end), key, choice)) return {};
    if (!table.emplace(key, choice).second) return {};
    rest.remove_prefix(end + 1);
  }
  return table;
}

std::optional<GemmTable> LoadGemmTable(const std::string& path, const GemmTableOrigin& origin) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<uintmax_t>(std::max<std::streamoff>(file.tellg(), 0));
  if (size > kMaxFileBytes) return {};
  std::string text(size, '\0');
  file.seekg(0);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) return {};
  return ParseGemmTable(text, origin);
}

absl::Status SaveGemmTable(const std::string& path, const GemmTableOrigin& origin,
                           const GemmTable& table) {
  std::error_code error;
  const std::filesystem::path target(path);
  if (target.has_parent_path()) std::filesystem::create_directories(target.parent_path(), error);
  // Not the process's number alone: servers in containers have the same one.
  const std::string beside =
      path + "." + std::to_string(getpid()) + "-" + std::to_string(std::random_device()());
  {
    std::ofstream file(beside, std::ios::binary | std::ios::trunc);
    file << FormatGemmTable(origin, table);
    file.close();
    if (!file) {
      const absl::Status status =
          Unavailable("cannot write " + beside + ": " + std::strerror(errno));
      std::filesystem::remove(beside, error);
      return status;
    }
  }
  std::filesystem::rename(beside, target, error);
  if (!error) return absl::OkStatus();
  const absl::Status status = Unavailable("cannot replace " + path + ": " + error.message());
  std::filesystem::remove(beside, error);
  return status;
}

std::string GemmTableName(const GemmTableOrigin& origin) {
  return "gemm-" + Hex(Hash(Header(origin))) + ".txt";
}

}  // namespace bertrand::gpu
