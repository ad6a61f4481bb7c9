#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <tuple>

#include "kernels/simt/host/block.h"

namespace bertrand::simt::emulator {
namespace {

constexpr uint64_t kSectorBytes = 32, kBankBytes = 4, kBanks = 32;

struct LaneAccess {
  uint64_t address;
  uint32_t bytes;
};

SiteCount& CountOf(const Site& site, AccessKind kind) {
  for (SiteCount& count : block.sites) {
    if (count.site == site && count.kind == kind) return count;
  }
  return block.sites.emplace_back(SiteCount{site, kind, 0, 0, 0});
}

int64_t Distinct(std::vector<uint64_t>& values) {
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

void CountGlobalRequest(const Site& site, AccessKind kind,
                        const std::vector<LaneAccess>& accesses) {
  std::vector<uint64_t> sectors, words;
  int64_t bytes = 0;
  for (const LaneAccess& access : accesses) {
    bytes += access.bytes;
    const uint64_t end = access.address + access.bytes;
    for (uint64_t at = access.address / kSectorBytes; at * kSectorBytes < end; ++at) {
      sectors.push_back(at);
    }
    for (uint64_t at = access.address; at < end; at += 2) words.push_back(at / 2);
  }
  const int64_t touched = Distinct(sectors);
  const bool load = kind == AccessKind::kGlobalLoad;
  Counters& counters = context.counters;
  if (load) {
    for (int64_t i = 0; i < touched; ++i) {
      counters.block_sectors += block.loaded_sectors.insert(sectors[static_cast<size_t>(i)]).second;
    }
  }
  (load ? counters.load_requests : counters.store_requests) += 1;
  (load ? counters.load_sectors : counters.store_sectors) += touched;
  (load ? counters.load_bytes : counters.store_bytes) += bytes;
  SiteCount& count = CountOf(site, kind);
  count.requests += 1;
  count.passes += touched;
  count.ideal += (Distinct(words) * 2 + static_cast<int64_t>(kSectorBytes) - 1) /
                 static_cast<int64_t>(kSectorBytes);
}

// Lanes of 4 bytes or less are served at once, of 8 by half warps, of 16 by quarters; within that a
// bank gives one word a pass, to all who want it.
void CountSharedRequests(const Site& site, bool store, const std::vector<LaneAccess>& accesses) {
  if (accesses.empty()) return;
  const int bytes = static_cast<int>(accesses.front().bytes);
  const size_t together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  for (size_t first = 0; first < accesses.size(); first += together) {
    uint64_t addresses[32];
    const size_t count = std::min(together, accesses.size() - first);
    for (size_t i = 0; i < count; ++i) addresses[i] = accesses[first + i].address;
    CountSharedRequest(site, store, addresses, static_cast<int>(count), bytes);
  }
}

struct RequestKey {
  std::string_view file;
  int line;
  AccessKind kind;
  uint32_t bytes;
  int nth;  // of this place in the source, between two collectives
  auto operator<=>(const RequestKey&) const = default;
};

struct Request {
  Site site;
  std::vector<LaneAccess> accesses;
};

}  // namespace

void CountSharedRequest(const Site& site, bool store, const uint64_t* addresses, int num_lanes,
                        int bytes) {
  std::vector<uint64_t> words;
  for (int i = 0; i < num_lanes; ++i) {
    const uint64_t end = addresses[i] + static_cast<uint64_t>(bytes);
    for (uint64_t at = addresses[i] / kBankBytes; at * kBankBytes < end; ++at) words.push_back(at);
  }
  const int64_t distinct = Distinct(words);
  int64_t of_bank[kBanks] = {};
  for (int64_t i = 0; i < distinct; ++i) ++of_bank[words[static_cast<size_t>(i)] % kBanks];
  const int64_t wavefronts = *std::max_element(of_bank, of_bank + kBanks);
  context.counters.shared_requests += 1;
  context.counters.shared_wavefronts += wavefronts;
  context.counters.shared_ideal += 1;
  SiteCount& count = CountOf(site, store ? AccessKind::kSharedStore : AccessKind::kSharedLoad);
  count.requests += 1;
  count.passes += wavefronts;
  count.ideal += 1;
}

void CountSharedBytes(int64_t bytes) {
  const int64_t requests =
      (bytes + kBankBytes * kBanks - 1) / static_cast<int64_t>(kBankBytes * kBanks);
  context.counters.shared_requests += requests;
  context.counters.shared_wavefronts += requests;
  context.counters.shared_ideal += requests;
}

void CountTileRow(const char* from, int64_t bytes) {
  const auto begin = reinterpret_cast<uint64_t>(from);
  Counters& counters = context.counters;
  const int64_t before = counters.load_sectors;
  for (uint64_t at = begin / kSectorBytes; at * kSectorBytes < begin + static_cast<uint64_t>(bytes);
       ++at) {
    ++counters.load_sectors;
    counters.block_sectors += block.loaded_sectors.insert(at).second;
  }
  counters.load_bytes += bytes;
  // Whole warps' loads of 16 bytes a lane are 16 sectors; rows are 4.
  counters.load_requests += counters.load_sectors / 16 - before / 16;
}

void CountRequests(int warp_index) {
  std::map<RequestKey, Request> requests;
  for (int lane = 0; lane < kLanes; ++lane) {
    std::vector<LoggedAccess>& log = block.threads[warp_index * kLanes + lane].log;
    std::map<std::tuple<std::string_view, int, AccessKind, uint32_t>, int> seen;
    for (const LoggedAccess& access : log) {
      const int nth = seen[{access.site.file, access.site.line, access.kind, access.bytes}]++;
      Request& request =
          requests[{access.site.file, access.site.line, access.kind, access.bytes, nth}];
      request.site = access.site;
      request.accesses.push_back({access.address, access.bytes});
    }
    log.clear();
  }
  for (const auto& [key, request] : requests) {
    if (key.kind == AccessKind::kGlobalLoad || key.kind == AccessKind::kGlobalStore) {
      CountGlobalRequest(request.site, key.kind, request.accesses);
    } else {
      CountSharedRequests(request.site, key.kind == AccessKind::kSharedStore, request.accesses);
    }
  }
}

Counters& Counters::operator+=(const Counters& other) {
  // All members are int64_t.
  static_assert(sizeof(Counters) % sizeof(int64_t) == 0);
  constexpr size_t kCount = sizeof(Counters) / sizeof(int64_t);
  int64_t sums[kCount], addends[kCount];
  std::memcpy(sums, this, sizeof(sums));
  std::memcpy(addends, &other, sizeof(addends));
  for (size_t i = 0; i < kCount; ++i) sums[i] += addends[i];
  std::memcpy(this, sums, sizeof(sums));
  return *this;
}

LaunchReport& LaunchReport::operator+=(const LaunchReport& other) {
  counters += other.counters;
  type = other.type;
  threads = other.threads;
  shared_bytes = other.shared_bytes;
  for (const SiteCount& added : other.sites) {
    const auto known = std::find_if(sites.begin(), sites.end(), [&added](const SiteCount& count) {
      return count.site == added.site && count.kind == added.kind;
    });
    if (known == sites.end()) {
      sites.push_back(added);
      continue;
    }
    known->requests += added.requests;
    known->passes += added.passes;
    known->ideal += added.ideal;
  }
  return *this;
}

}  // namespace bertrand::simt::emulator
