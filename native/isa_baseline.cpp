// What every processor of the target has: SSE2 on x86-64, NEON on aarch64, vectors of 128 bits in WebAssembly.
#define EVM_NAMESPACE baseline
#define EVM_KERNELS kBaseline
#if defined(__aarch64__)
#define EVM_NAME "neon"
#elif defined(__wasm_simd128__)
#define EVM_NAME "simd128"
#else
#define EVM_NAME "baseline"
#endif
#include "kernel.inl"
