// Compiled with AVX-512 F, DQ, VL and BW (every server processor that has AVX-512 at all, and Zen 4 on).
#if defined(__x86_64__) || defined(_M_X64)
#ifndef __AVX512DQ__
#error "compile this file with -mavx512f -mavx512dq -mavx512vl -mavx512bw"
#endif
#define EVM_NAMESPACE avx512
#define EVM_KERNELS kAvx512
#define EVM_NAME "avx512"
#include "kernel.inl"
#endif
