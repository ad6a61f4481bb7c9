#pragma once

// The tile of hopper_attention.h: so many queries of one sequence and head, and keys at a time.
// Plain data.

namespace bertrand::gpu {

inline constexpr int kHopperAttentionRows = 128;

}  // namespace bertrand::gpu
