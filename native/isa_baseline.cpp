// What every processor of the target has: SSE2 on x86-64, NEON on aarch64.
#define EVM_NAMESPACE baseline
#define EVM_KERNELS kBaseline
#if defined(__aarch64__)
#define EVM_NAME "neon"
#else
#define EVM_NAME "baseline"
#endif
#include "kernel.inl"
