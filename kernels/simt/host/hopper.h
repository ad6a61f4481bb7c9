#pragma once

// The emulator's half of kernels/simt/hopper.h. Included by it alone; the contract is there.

#include "kernels/simt/host/async.h"
#include "kernels/simt/host/intrinsics.h"

namespace bertrand::simt::inline SIMT_TARGET {

struct PhaseBarrier {
  uint64_t bits;
};

struct TileMap {
  emulator::TileSource source;
};

inline void InitBarrier(const Shared<PhaseBarrier>& barrier, int arrivals, Site site = SIMT_HERE) {
  emulator::InitBarrier(barrier.address(), arrivals, site);
}
inline void ArriveAtBarrier(const Shared<PhaseBarrier>& barrier, Site site = SIMT_HERE) {
  emulator::Arrive(barrier.address(), 0, site);
}
inline void ArriveExpecting(const Shared<PhaseBarrier>& barrier, int bytes, Site site = SIMT_HERE) {
  emulator::Arrive(barrier.address(), bytes, site);
}
inline void WaitForPhase(const Shared<PhaseBarrier>& barrier, int parity, Site site = SIMT_HERE) {
  emulator::WaitForPhase(barrier.address(), parity, site);
}

template <typename T>
inline void LoadTile(const Shared<T>& to, const TileMap& map, const Shared<PhaseBarrier>& barrier,
                     int column, int row, Site site = SIMT_HERE) {
  static_assert(sizeof(T) == 2);
  emulator::LoadTile(to.address(), to.bounds(), map.source, barrier.address(), {column, -1, row},
                     site);
}
template <typename T>
inline void LoadTile(const Shared<T>& to, const TileMap& map, const Shared<PhaseBarrier>& barrier,
                     int column, int plane, int row, Site site = SIMT_HERE) {
  static_assert(sizeof(T) == 2);
  emulator::LoadTile(to.address(), to.bounds(), map.source, barrier.address(), {column, plane, row},
                     site);
}

template <int kN>
struct WgmmaC {
  float v[kN / 2];
};

// A matrix descriptor as the hardware reads it.
struct WgmmaOperand {
  uint64_t bits;
  WgmmaOperand AtK(int k) const { return {bits + static_cast<uint64_t>(k * 2 >> 4)}; }
};

struct WgmmaRows {
  uint64_t bits;
  WgmmaRows AtRow(int row) const {
    return {bits + static_cast<uint64_t>(row * kTileRowBytes >> 4)};
  }
};

template <typename T>
inline WgmmaOperand MakeOperand(const Shared<T>& tile) {
  const auto address = static_cast<uint64_t>(tile.address() - emulator::context.shared_base);
  return {(address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
          uint64_t{1} << 62};
}
template <typename T>
inline WgmmaRows MakeRowsOperand(const Shared<T>& tile, int rows) {
  const auto address = static_cast<uint64_t>(tile.address() - emulator::context.shared_base);
  return {(address & 0x3ffff) >> 4 | static_cast<uint64_t>(rows * kTileRowBytes >> 4) << 16 |
          uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62};
}

inline void FenceAsync(Site site = SIMT_HERE) { emulator::FenceAsync(site); }
inline void WgmmaFence(Site site = SIMT_HERE) { emulator::ProductFence(site); }
template <typename T, int kN>
inline void Wgmma(WgmmaC<kN>& c, WgmmaOperand a, WgmmaOperand b, bool accumulate,
                  Site site = SIMT_HERE) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  emulator::StartProduct(
      c.v, nullptr,
      {a.bits, b.bits, kN, std::is_same_v<T, BFloat16>, accumulate, false, false, site}, site);
}
template <typename T, int kN>
inline void Wgmma(WgmmaC<kN>& c, const uint32_t (&a)[4], WgmmaRows b, bool accumulate,
                  Site site = SIMT_HERE) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  emulator::StartProduct(
      c.v, a, {0, b.bits, kN, std::is_same_v<T, BFloat16>, accumulate, true, true, site}, site);
}
inline void WgmmaCommit(Site site = SIMT_HERE) { emulator::CommitProducts(site); }
template <int kInFlight, int kN>
inline void WgmmaWait(WgmmaC<kN>&, Site site = SIMT_HERE) {
  emulator::WaitForProducts(kInFlight, site);
}

template <int kCount>
inline void ReleaseRegisters(Site site = SIMT_HERE) {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  emulator::ReleaseRegisters(kCount, site);
}
template <int kCount>
inline void ClaimRegisters(Site site = SIMT_HERE) {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  emulator::ClaimRegisters(kCount, site);
}

}  // namespace bertrand::simt::inline SIMT_TARGET
