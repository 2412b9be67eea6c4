// Which kernels this processor runs.

#include <atomic>
#include <cstring>

#include "scan.h"

namespace evm {
namespace {

// The supported ones, best first. Returns how many there are.
int supported(const Kernels* (&list)[3]) {
  int count = 0;
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (avx512) list[count++] = &kAvx512;
  if (avx2) list[count++] = &kAvx2;  // every processor with AVX2 has F16C
#endif
  list[count++] = &kBaseline;
  return count;
}

std::atomic<const Kernels*> selected{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* current = selected.load(std::memory_order_relaxed);
  if (!current) {
    const Kernels* list[3];
    supported(list);
    current = list[0];
    selected.store(current, std::memory_order_relaxed);
  }
  return *current;
}

bool select_kernels(const char* name) {
  const Kernels* list[3];
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
