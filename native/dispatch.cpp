// Which kernels this processor runs.

#include <atomic>
#include <cstring>

#include "scan.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#endif

namespace evm {
namespace {

#if defined(__x86_64__) || defined(_M_X64)
// By hand: the compilers' own functions for this need a run-time library that some toolchains lack.
struct Processor {
  bool avx2 = false, avx512 = false, vnni = false;

  Processor() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    constexpr unsigned kFma = 1u << 12, kXsave = 1u << 27, kF16c = 1u << 29;
    if ((c & (kFma | kXsave | kF16c)) != (kFma | kXsave | kF16c)) return;
    unsigned saved, unused;  // the registers that the operating system keeps over a switch of threads
    __asm__("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    constexpr unsigned kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
    avx2 = (saved & 0x06) == 0x06 && (b & kAvx2) != 0;
    avx512 = avx2 && (saved & 0xe6) == 0xe6 && (b & kAvx512) == kAvx512;
    vnni = avx512 && (c & 1u << 11) != 0;
  }
};
#endif

// The supported ones, best first. Returns how many there are.
int supported(const Kernels* (&list)[4]) {
  int count = 0;
#if defined(__x86_64__) || defined(_M_X64)
  static const Processor processor;
  if (processor.vnni) list[count++] = &kAvx512Vnni;
  if (processor.avx512) list[count++] = &kAvx512;
  if (processor.avx2) list[count++] = &kAvx2;
#endif
  list[count++] = &kBaseline;
  return count;
}

std::atomic<const Kernels*> selected{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* current = selected.load(std::memory_order_relaxed);
  if (!current) {
    const Kernels* list[4];
    supported(list);
    current = list[0];
    selected.store(current, std::memory_order_relaxed);
  }
  return *current;
}

bool select_kernels(const char* name) {
  const Kernels* list[4];
  const int count = supported(list);
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(name, list[i]->name) == 0) {
      selected.store(list[i], std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace evm
