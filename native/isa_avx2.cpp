// Compiled with AVX2, FMA and F16C.
#if defined(__x86_64__) || defined(_M_X64)
#ifndef __AVX2__
#error "compile this file with -mavx2 -mfma -mf16c"
#endif
#define EVM_NAMESPACE avx2
#define EVM_KERNELS kAvx2
#define EVM_NAME "avx2"
#include "kernel.inl"
#endif
