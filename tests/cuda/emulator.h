// CUDA's names on a CPU, for the kernels as they are: the threads of a block are coroutines that change places only where they
// wait for each other, in an order that the test chooses. Shared memory starts as NaN. Every buffer ends, or begins, at
// a page that may not be touched.
#pragma once

#include <math.h>
#include <string.h>

#define __global__
#define __host__
#define __device__
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define EVM_INLINE static inline
#define EVM_INLINE_MEMBER inline
#define EVM_SHARED_MEMORY(name) float* name = emulated::shared

struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulated {

struct Index {
  int x;
};
extern float* shared;
extern Index thread, block;

void wait_for_block();
float exchange(float value, int mask);  // within a warp
float rounding(float x, float y);       // of the exponential of x, y: as far off as the hardware may be

}  // namespace emulated

#define threadIdx emulated::thread
#define blockIdx emulated::block

inline void __syncthreads() { emulated::wait_for_block(); }
inline float __shfl_xor_sync(unsigned, float value, int mask) { return emulated::exchange(value, mask); }
inline int __float_as_int(float x) {
  int y;
  memcpy(&y, &x, 4);
  return y;
}
inline float __int_as_float(int x) {
  float y;
  memcpy(&y, &x, 4);
  return y;
}

inline float flushed(float x) { return fabsf(x) < 1.17549435e-38f ? 0.0f : x; }
inline float exp2_fast(float x) { return emulated::rounding(x, flushed(exp2f(x))); }
inline float reciprocal(float x) { return 1.0f / x; }
inline float half_to_float(unsigned short x) {
  _Float16 y;
  memcpy(&y, &x, 2);
  return static_cast<float>(y);
}
inline unsigned short float_to_half(float x) {
  const _Float16 y = static_cast<_Float16>(x);
  unsigned short z;
  memcpy(&z, &y, 2);
  return z;
}
