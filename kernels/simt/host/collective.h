#pragma once

// What all lanes of a warp, or all threads of a block, do together: each arrives and lets the next
// one run; the last performs the operation for all and goes on.

#include "kernels/simt/host/context.h"

namespace bertrand::simt::emulator {

// `arguments`: one pointer a lane, to what it brought and will take away, on its own stack.
using Perform = void (*)(void* const* arguments, int immediate, const Site& site);

// Lanes meet in the same operation (by address), immediate and site, or the collective is
// divergent.
struct Operation {
  const char* name;
  Perform perform;
};

void Collective(const Operation& operation, int immediate, void* argument, const Site& site);
void BlockBarrier(const Site& site);
void WaitForEarlierKernels();

// The operations. Arguments: WordArgument, MatrixArgument, MmaArgument; none for kSyncWarp.
struct WordArgument {
  uint32_t in, out;
  int lane;  // kShuffle: the lane asked for
};
struct MatrixArgument {
  const char* row;
  const char* bounds_begin;
  size_t bounds_bytes;
  uint32_t* registers;
};
struct MmaArgument {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

extern const Operation kSyncWarp, kShuffleXor, kShuffleDown, kShuffleUp, kShuffle, kBallot;
// Immediate: the number of matrices.
extern const Operation kLoadMatrix, kLoadMatrixTransposed;
extern const Operation kMmaHalf, kMmaBFloat16;

// cp.async. `valid_bytes` of `bytes` are read, the rest is zero.
void StartCopy(const char* to, const char* to_begin, size_t to_bytes, const char* from,
               const char* from_begin, size_t from_bytes, int bytes, int valid_bytes,
               const Site& site);
void CommitCopies();
void WaitForCopies(uint32_t in_flight);

}  // namespace bertrand::simt::emulator
