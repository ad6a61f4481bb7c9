#pragma once

// Threads of a block as fibres: a stack each, and a switch of a dozen instructions (swapcontext
// makes a system call and takes 50 times as long). Nothing unwinds through a fibre, no destructor
// runs when one is abandoned: kernels have none.

#include "kernels/simt/host/block.h"

namespace bertrand::simt::emulator {

inline constexpr size_t kStackBytes = size_t{256} << 10;

// Makes the thread begin with `entry`, which must not return, when it is next switched to.
// Its stack is made at the first use and kept. `index`: its place in the block.
void PrepareFibre(Thread& thread, int index, void (*entry)());

// Goes on with `to`; returns when somebody switches to `from` again.
void SwitchFibre(Thread& from, Thread& to);
// What an entry calls before all else.
void EnterFibre();
// Like SwitchFibre, but `from` is over.
[[noreturn]] void LeaveFibre(Thread& from, Thread& to);
// The fibre was left in the middle (a violation): its stack must be fit for use again.
void AbandonFibre(Thread& thread);

}  // namespace bertrand::simt::emulator
