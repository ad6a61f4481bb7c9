#include "kernels/simt/host/fibre.h"

#include <sys/mman.h>

#include "kernels/status.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void bertrand_simt_switch(void** save, void* load);

// Saves what a call must preserve on the stack, stores the stack pointer, loads the other one and
// restores. The jump is not a `ret`: the processor's stack of return addresses would mispredict it.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl bertrand_simt_switch
.hidden bertrand_simt_switch
.type bertrand_simt_switch, @function
bertrand_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size bertrand_simt_switch, . - bertrand_simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl bertrand_simt_switch
.hidden bertrand_simt_switch
.type bertrand_simt_switch, %function
bertrand_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  br x30
.size bertrand_simt_switch, . - bertrand_simt_switch
)");
#else
#error "the emulator's fibres need a switch for this processor"
#endif

namespace bertrand::simt::emulator {
namespace {

constexpr size_t kGuardBytes = 4096;

char* NewStack() {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  BERTRAND_CHECK(memory != MAP_FAILED, "no memory for a fibre's stack");
  BERTRAND_CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0, "no guard page");
  return static_cast<char*>(memory) + kGuardBytes;
}

}  // namespace

void PrepareFibre(Thread& thread, int index, void (*entry)()) {
  if (thread.stack == nullptr) thread.stack = NewStack();
  // Stacks lie whole pages apart; tops at the same place in a page would share the sets of the
  // first-level cache.
  char* top = thread.stack + kStackBytes - static_cast<size_t>(index % 8) * 512 - 64;
#if defined(__x86_64__)
  // Six registers, the entry, and a return address that ends a debugger's backtrace.
  void** stack = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 8; ++i) stack[i] = nullptr;
  stack[6] = reinterpret_cast<void*>(entry);
#else
  void** stack = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) stack[i] = nullptr;
  stack[11] = reinterpret_cast<void*>(entry);
#endif
  thread.stack_pointer = stack;
  thread.fake_stack = nullptr;
}

#if defined(__SANITIZE_ADDRESS__)
namespace {
// Emulate's own stack: known once it has switched to the first fibre.
void* main_stack = nullptr;
size_t main_stack_bytes = 0;

void StartSwitch(void** fake_stack, const Thread& to) {
  const bool to_main = to.stack == nullptr;
  __sanitizer_start_switch_fiber(fake_stack, to_main ? main_stack : to.stack,
                                 to_main ? main_stack_bytes : kStackBytes);
}

void FinishSwitch(void* fake_stack) {
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (main_stack == nullptr) {
    main_stack = const_cast<void*>(bottom);
    main_stack_bytes = bytes;
  }
}
}  // namespace
#endif

void SwitchFibre(Thread& from, Thread& to) {
#if defined(__SANITIZE_ADDRESS__)
  if (from.stack == nullptr) main_stack = nullptr;
  StartSwitch(&from.fake_stack, to);
#endif
  bertrand_simt_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  FinishSwitch(from.fake_stack);
#endif
}

void EnterFibre() {
#if defined(__SANITIZE_ADDRESS__)
  FinishSwitch(nullptr);
#endif
}

void LeaveFibre(Thread& from, Thread& to) {
#if defined(__SANITIZE_ADDRESS__)
  // The frames that never return have red zones in the stack's first page.
  __asan_unpoison_memory_region(from.stack + kStackBytes - 8192, 8192);
  StartSwitch(nullptr, to);
#endif
  bertrand_simt_switch(&from.stack_pointer, to.stack_pointer);
  __builtin_unreachable();
}

void AbandonFibre(Thread& thread) {
#if defined(__SANITIZE_ADDRESS__)
  if (thread.stack != nullptr) __asan_unpoison_memory_region(thread.stack, kStackBytes);
#else
  (void)thread;
#endif
}

}  // namespace bertrand::simt::emulator
