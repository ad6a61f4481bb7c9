#include <algorithm>
#include <cstring>

#include "kernels/simt/host/async.h"
#include "kernels/simt/host/block.h"
#include "kernels/simt/host/checks.h"
#include "kernels/simt/host/collective.h"

namespace bertrand::simt::emulator {
namespace {

constexpr int kWarpgroup = 4, kAtoms = 256, kRowsOfA = 64;

struct AtomRead {
  uint32_t id = 0;  // the latest that has ended
  uint32_t in_flight = 0;
};

struct Products {
  AtomRead reads[kAtoms][kMaxWarps];
  // What each warpgroup's first warp has done that its others have not yet.
  std::vector<ProductKey> keys[kMaxWarps / kWarpgroup];
  bool used = false;
};
Products products;

struct Arguments {
  float* accumulators = nullptr;
  const uint32_t* a = nullptr;
  ProductKey key;
};

// A descriptor's fields (PTX ISA, matrix descriptor).
struct Descriptor {
  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        base_offset(bits >> 49 & 7),
        swizzle(bits >> 62) {}
  size_t start, leading, stride;  // bytes; leading: from 64 columns to the next (rows of b);
  uint64_t base_offset, swizzle;  // stride: from eight rows to the next

  // Where 16-byte chunk `chunk` of `row` lies in shared memory.
  size_t Place(int row, int chunk) const {
    const size_t place =
        start + static_cast<size_t>(row / 8) * stride + static_cast<size_t>(row % 8) * 128 +
        static_cast<size_t>(chunk / 8) * leading + static_cast<size_t>(chunk % 8) * 16;
    return place ^ ((place >> 7 & 7) << 4);
  }
};

// An operand in shared memory: [rows][16], or, of b as rows, [16][columns].
struct Matrix {
  Descriptor descriptor;
  int rows, chunks;
};
Matrix MatrixOfA(const ProductKey& key) { return {Descriptor(key.a), kRowsOfA, 2}; }
Matrix MatrixOfB(const ProductKey& key) {
  if (key.rows_of_b) return {Descriptor(key.b), 16, key.columns / 8};
  return {Descriptor(key.b), key.columns, 2};
}

// The atoms that an operand lies in, each once.
template <typename Use>
void ForAtoms(const Matrix& operand, Use use) {
  for (int chunk = 0; chunk < operand.chunks; chunk += 8) {
    size_t last = kAtoms;
    for (int row = 0; row < operand.rows; ++row) {
      const size_t atom = operand.descriptor.Place(row, chunk) / kAtomBytes;
      if (atom != last) use(products.reads[atom][context.warp_index]);
      last = atom;
    }
  }
}

// Readers of a chunk are from now on in `products.reads`; those who are known already move there.
void MarkReaders(size_t place) {
  uint32_t* readers = arena.readers + (context.shared_base + place - arena.base) / 2;
  if (AllEqual<8>(readers, kAsyncReaders)) return;
  for (int i = 0; i < 8; ++i) {
    const uint32_t id = readers[i];
    if (id != kAsyncReaders && id >= context.first_shared) {
      if (IsOfSeveralWarps(id)) continue;  // stays: only SyncThreads orders it
      AtomRead& read = products.reads[place / kAtomBytes][WarpOf(id)];
      read.id = std::max(read.id, id);
    }
    readers[i] = kAsyncReaders;
  }
}

void CheckChunk(size_t place, const Site& site) {
  const Bounds bounds{context.shared_base, context.shared_bytes};
  const char* address = context.shared_base + place;
  const Access access{address, bounds, 16, true, site};
  const size_t at = static_cast<size_t>(address - arena.base);
  if (!Reaches<16>(address, bounds) || !AllInitialised<16>(arena.states + at)) RefuseLoad(access);
  const uint32_t* writers = arena.writers + at / 2;
  const uint32_t writer = writers[0] & ~kAtomic;
  const bool alike = AllEqual<8>(writers, writers[0]);
  if (!alike || !IsOrdered(writer)) CheckWriters(access, true);
  for (int i = 0; i < (alike ? 1 : 8); ++i) {
    const uint32_t id = writers[i] & ~kAtomic;
    if (id < block.first_id || WarpOf(id) >= kMaxWarps) continue;
    if (id >= block.warps[WarpOf(id)].products.store_fence) {
      Violate(site,
              "Wgmma reads byte %zu of shared memory, which warp %d has written by an "
              "ordinary store without FenceAsync",
              place, WarpOf(id));
    }
  }
  MarkReaders(place);
}

void CheckOperand(uint64_t bits, const char* name, const Matrix& operand, const Site& site) {
  const Descriptor& descriptor = operand.descriptor;
  if (descriptor.swizzle != 1 || descriptor.base_offset != 0 || descriptor.stride == 0) {
    Violate(site, "operand %s is not of a tile with 128-byte swizzle: descriptor %016llx", name,
            static_cast<unsigned long long>(bits));
  }
  for (int row = 0; row < operand.rows; ++row) {
    for (int chunk = 0; chunk < operand.chunks; ++chunk) {
      CheckChunk(descriptor.Place(row, chunk), site);
    }
  }
  ForAtoms(operand, [](AtomRead& read) { ++read.in_flight; });
}

// All four warps of a warpgroup do the same in the same order.
void CheckWarpgroup(const ProductKey& key, const Site& site) {
  auto& keys = products.keys[context.warp_index / kWarpgroup];
  const size_t nth = context.warp->products.count++;
  if (nth == keys.size()) keys.push_back(key);
  if (!(keys[nth] == key)) {
    Violate(site, "divergent warpgroup: product %zu of warp %d is not its neighbours'", nth,
            context.warp_index);
  }
}

Accumulators& AccumulatorsOf(void* const* arguments, const Site& site) {
  auto& sets = context.warp->products.accumulators;
  const Arguments& first = *static_cast<const Arguments*>(arguments[0]);
  for (Accumulators& set : sets) {
    if (set.lanes[0] != first.accumulators) continue;
    if (set.columns != first.key.columns) {
      Violate(site, "accumulators in flight are used with another width");
    }
    return set;
  }
  Accumulators& set = sets.emplace_back();
  set.columns = first.key.columns;
  for (int lane = 0; lane < kLanes; ++lane) {
    set.lanes[lane] = static_cast<const Arguments*>(arguments[lane])->accumulators;
  }
  set.values.assign(static_cast<size_t>(16 * set.columns), 0.0f);
  return set;
}

// Calls use(a register, its place in values [16][columns]).
template <typename Use>
void ForRegisters(const Accumulators& set, Use use) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int v = 0; v < set.columns / 2; ++v) {
      const int row = lane / 4 + v % 4 / 2 * 8, column = v / 4 * 8 + lane % 4 * 2 + v % 2;
      use(set.lanes[lane][v], row * set.columns + column);
    }
  }
}

// While products are in flight the registers hold NaNs with all bits set.
void CheckPoison(const Accumulators& set, const Site& site) {
  ForRegisters(set, [&](const float& value, int) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (bits != 0xffffffffu) {
      Violate(site, "accumulators were written between Wgmma and WgmmaWait");
    }
  });
}

// A warp's part: its 16 rows of a, if they are there, and a quarter of b, which the warpgroup reads
// once.
void CountProduct(const ProductKey& key) {
  const int steps = key.columns / 8;
  context.counters.mma += steps;  // the same products as so many of Mma
  context.counters.wgmma += steps;
  const int rows = (key.registers_of_a ? 0 : 16) + key.columns / 4;
  if (block.options.count_requests) CountSharedBytes(rows * 16 * 2);
}

void PerformStart(void* const* arguments, int, const Site& site) {
  const Arguments& first = *static_cast<const Arguments*>(arguments[0]);
  for (int lane = 1; lane < kLanes; ++lane) {
    if (!(static_cast<const Arguments*>(arguments[lane])->key == first.key)) {
      Violate(site, "lane %d of the warp brings other operands than lane 0", lane);
    }
  }
  WarpProducts& mine = context.warp->products;
  if (!mine.fenced) Violate(site, "Wgmma without WgmmaFence since the last WgmmaCommit");
  if ((context.warp_index / kWarpgroup + 1) * kWarpgroup > block.num_warps) {
    Violate(site, "Wgmma in a warpgroup of fewer than four warps");
  }
  products.used = true;
  CheckWarpgroup(first.key, site);
  const uint32_t id = context.mine;
  context.mine = context.warp->first_id + kSeveralLanes;
  if (!first.key.registers_of_a) CheckOperand(first.key.a, "a", MatrixOfA(first.key), site);
  CheckOperand(first.key.b, "b", MatrixOfB(first.key), site);
  context.mine = id;
  Accumulators& set = AccumulatorsOf(arguments, site);
  if (set.in_flight++ == 0) {
    ForRegisters(set, [&](float& value, int place) {
      if (first.key.accumulate) set.values[static_cast<size_t>(place)] = value;
      std::memset(&value, 0xff, sizeof(value));
    });
  } else {
    CheckPoison(set, site);
  }
  Product& product = mine.in_flight.emplace_back(Product{mine.group, first.key, set.lanes[0]});
  for (int lane = 0; lane < kLanes && first.key.registers_of_a; ++lane) {
    product.registers[lane] = static_cast<const Arguments*>(arguments[lane])->a;
    std::memcpy(product.a[lane], product.registers[lane], sizeof(product.a[lane]));
  }
  CountProduct(first.key);
}

void ReadRow(const Descriptor& operand, int row, uint16_t (&values)[16]) {
  for (int chunk = 0; chunk < 2; ++chunk) {
    std::memcpy(values + chunk * 8, context.shared_base + operand.Place(row, chunk), 16);
  }
}

// The warp's 16 rows, from shared memory or from the lanes' registers, which must be as they were.
void ReadA(const Product& product, uint16_t (&rows)[16][16], const Site& site) {
  if (!product.key.registers_of_a) {
    const int first_row = context.warp_index % kWarpgroup * 16;
    for (int row = 0; row < 16; ++row)
      ReadRow(Descriptor(product.key.a), first_row + row, rows[row]);
    return;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t(&words)[4] = product.a[lane];
    if (std::memcmp(words, product.registers[lane], sizeof(words)) != 0) {
      Violate(site, "registers of a were written between Wgmma and WgmmaWait");
    }
    for (int i = 0; i < 4; ++i) {
      std::memcpy(&rows[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8], &words[i], 4);
    }
  }
}

// [columns][16], whichever way it lies.
void ReadB(const ProductKey& key, uint16_t (&columns)[256][16]) {
  const Descriptor b(key.b);
  if (!key.rows_of_b) {
    for (int column = 0; column < key.columns; ++column) ReadRow(b, column, columns[column]);
    return;
  }
  for (int k = 0; k < 16; ++k) {
    for (int chunk = 0; chunk < key.columns / 8; ++chunk) {
      uint16_t values[8];
      std::memcpy(values, context.shared_base + b.Place(k, chunk), sizeof(values));
      for (int i = 0; i < 8; ++i) columns[chunk * 8 + i][k] = values[i];
    }
  }
}

// The product is done, and what it read is free.
void Finish(const Product& product, const Site& site) {
  auto& sets = context.warp->products.accumulators;
  const auto set = std::find_if(sets.begin(), sets.end(), [&](const Accumulators& other) {
    return other.lanes[0] == product.accumulators;
  });
  static uint16_t rows_of_a[16][16], rows_of_b[256][16];
  ReadA(product, rows_of_a, site);
  ReadB(product.key, rows_of_b);
  if (!product.key.accumulate) std::fill(set->values.begin(), set->values.end(), 0.0f);
  MultiplyTiles(product.key.bfloat16, rows_of_a, rows_of_b, set->columns, set->values.data());
  const uint32_t id = context.warp->first_id + kSeveralLanes;
  const auto end = [id](AtomRead& read) {
    --read.in_flight;
    read.id = id;
  };
  if (!product.key.registers_of_a) ForAtoms(MatrixOfA(product.key), end);
  ForAtoms(MatrixOfB(product.key), end);
  if (--set->in_flight > 0) return;
  CheckPoison(*set, site);
  ForRegisters(*set,
               [&](float& value, int place) { value = set->values[static_cast<size_t>(place)]; });
  sets.erase(set);
}

void PerformWait(void* const*, int in_flight, const Site& site) {
  WarpProducts& mine = context.warp->products;
  size_t done = 0;
  for (; done < mine.in_flight.size(); ++done) {
    const Product& product = mine.in_flight[done];
    if (product.group + static_cast<uint32_t>(in_flight) >= mine.group) break;
    Finish(product, site);
  }
  mine.in_flight.erase(mine.in_flight.begin(),
                       mine.in_flight.begin() + static_cast<ptrdiff_t>(done));
}

void PerformFence(void* const*, int, const Site&) { context.warp->products.fenced = true; }

void PerformCommit(void* const*, int, const Site&) {
  ++context.warp->products.group;
  context.warp->products.fenced = false;
}

const Operation kStart = {"Wgmma", PerformStart};
const Operation kFence = {"WgmmaFence", PerformFence};
const Operation kCommit = {"WgmmaCommit", PerformCommit};
const Operation kWait = {"WgmmaWait", PerformWait};

}  // namespace

void ProductFence(const Site& site) { Collective(kFence, 0, nullptr, site); }
void CommitProducts(const Site& site) { Collective(kCommit, 0, nullptr, site); }
void WaitForProducts(int in_flight, const Site& site) {
  Collective(kWait, in_flight, nullptr, site);
}
void StartProduct(float* accumulators, const uint32_t* a, const ProductKey& key, const Site& site) {
  Arguments argument{accumulators, a, key};
  Collective(kStart, 0, &argument, site);
}

void ResetProducts() {
  if (!products.used) return;
  for (auto& keys : products.keys) keys.clear();
  for (auto& reads : products.reads) std::fill(std::begin(reads), std::end(reads), AtomRead());
  // What was marked is not another block's.
  std::fill_n(arena.readers + (context.shared_base - arena.base) / 2, kAtoms * kAtomBytes / 2, 0u);
  products.used = false;
}

void CheckWarpEnd() {
  const size_t in_flight = context.warp->products.in_flight.size();
  if (in_flight > 0) {
    Violate({}, "warp %d returns with %zu products in flight", context.warp_index, in_flight);
  }
}

void CheckProductsEnd() {
  if (!products.used) return;
  for (int warp = 0; warp < block.num_warps; ++warp) {
    const size_t count = block.warps[warp].products.count;
    const size_t expected = products.keys[warp / kWarpgroup].size();
    if (count != expected) {
      Violate({}, "divergent warpgroup: warp %d has done %zu products, a neighbour %zu", warp,
              count, expected);
    }
  }
}

void CheckTileReaders(const Access& access) {
  products.used = true;
  const size_t place = static_cast<size_t>(access.address - context.shared_base);
  for (size_t atom = place / kAtomBytes; atom * kAtomBytes < place + access.bytes; ++atom) {
    for (int warp = 0; warp < block.num_warps; ++warp) {
      const AtomRead& read = products.reads[atom][warp];
      if (read.in_flight > 0) {
        Violate(access.site,
                "write to byte %zu of shared memory, which a Wgmma of warp %d reads that has not "
                "been waited for",
                place, warp);
      }
      if (read.id != 0 && !IsOrdered(read.id)) {
        Violate(access.site,
                "race in shared memory: a Wgmma of warp %d read byte %zu and this thread writes "
                "it, and nothing orders the two",
                warp, place);
      }
    }
  }
}

void AddTileReader(const char* address) {
  products.used = true;
  AtomRead& read = products.reads[static_cast<size_t>(address - context.shared_base) / kAtomBytes]
                                 [context.warp_index];
  read.id = context.warp->first_id + kSeveralLanes;
}

}  // namespace bertrand::simt::emulator
