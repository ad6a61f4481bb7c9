#include <algorithm>
#include <numeric>

#include "tests/gpu/kernel_cases.h"

namespace bertrand::gpu::inline SIMT_TARGET {

int64_t CaseLoad::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), 0); }

std::vector<int32_t> CaseLoad::cu_seqlens() const {
  std::vector<int32_t> sums = {0};
  for (const int32_t length : lengths) sums.push_back(sums.back() + length);
  return sums;
}

std::string CaseLoad::ToString() const {
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  if (*least == *most) return std::to_string(sequences()) + " x " + std::to_string(*most);
  return std::to_string(sequences()) + " of " + std::to_string(*least) + " to " +
         std::to_string(*most) + ", " + std::to_string(tokens()) + " tokens";
}

CaseLoad SingleLoad(CaseSizes sizes) { return {"single", {sizes == CaseSizes::kTiny ? 9 : 128}}; }

CaseLoad SquadLoad(CaseSizes sizes) {
  if (sizes == CaseSizes::kTiny) return {"squad", {17, 17}};
  return {"squad", std::vector<int32_t>(32, 384)};
}

CaseLoad MixedLoad(CaseSizes sizes) {
  if (sizes == CaseSizes::kTiny) return {"mixed", {1, 40, 70}};
  CaseLoad load = {"mixed", {}};
  // As many of each length from 8 to 512 by doubling steps of a half, in an order of no pattern.
  const int32_t lengths[] = {8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
  int32_t left = 16384;
  for (size_t i = 0; left > 0; ++i) {
    load.lengths.push_back(std::min(left, lengths[i * 5 % std::size(lengths)]));
    left -= load.lengths.back();
  }
  return load;
}

std::vector<KernelCase> KernelCases(CaseSizes sizes) {
  std::vector<KernelCase> cases;
  AddRowCases(sizes, cases);
  AddMatrixCases(sizes, cases);
  return cases;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
