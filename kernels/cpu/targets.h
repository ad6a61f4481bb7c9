#pragma once

// Included before hwy/foreach_target.h by every file that is compiled once per instruction set.
//
// Left out: SSE4, which gives float kernels nothing over SSSE3 (the baseline); SVE and RVV, whose
// vectors have no compile-time size and cannot be kept in the arrays of accumulators used here
// (arm64 runs NEON).

#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
