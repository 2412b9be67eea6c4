// What all kernels use: a few instructions, and elements of float32 or float16 (EVM_HALF).
#pragma once

#ifdef EVM_EMULATED
#include "emulator.h"  // the same source on a CPU, for the tests
#else
#define EVM_SHARED_MEMORY(name) extern __shared__ __align__(16) float name[]
#define EVM_INLINE static __device__ __forceinline__
#define EVM_INLINE_MEMBER __device__ __forceinline__

EVM_INLINE float exp2_fast(float x) {  // within two units in the last place; exact for 0
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

EVM_INLINE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

EVM_INLINE float half_to_float(unsigned short x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

EVM_INLINE unsigned short float_to_half(float x) {
  unsigned short y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#endif

namespace {

EVM_INLINE float to_float(float x) { return x; }
EVM_INLINE void store(float* p, float x) { *p = x; }
EVM_INLINE void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
EVM_INLINE void store4(float* to, const float* from) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}

#if EVM_HALF
typedef unsigned short Element;
EVM_INLINE float to_float(Element x) { return half_to_float(x); }
EVM_INLINE void store(Element* p, float x) { *p = float_to_half(x); }
EVM_INLINE void load4(float* to, const Element* from) {
  const uint2 v = *reinterpret_cast<const uint2*>(from);
  to[0] = half_to_float(static_cast<unsigned short>(v.x & 0xffff));
  to[1] = half_to_float(static_cast<unsigned short>(v.x >> 16));
  to[2] = half_to_float(static_cast<unsigned short>(v.y & 0xffff));
  to[3] = half_to_float(static_cast<unsigned short>(v.y >> 16));
}
EVM_INLINE void store4(Element* to, const float* from) {
  const unsigned low = float_to_half(from[0]) | static_cast<unsigned>(float_to_half(from[1])) << 16;
  const unsigned high = float_to_half(from[2]) | static_cast<unsigned>(float_to_half(from[3])) << 16;
  *reinterpret_cast<uint2*>(to) = make_uint2(low, high);
}
#else
typedef float Element;
#endif

// kCount floats: by fours where kCount allows, which is where `from` is aligned.
template <int kCount, typename T>
EVM_INLINE void load(float* to, const T* from) {
  if (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) load4(to + i, from + i);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = to_float(from[i]);
  }
}

// A token that an order names, of `tokens`; -1 where there is none of that number.
EVM_INLINE int find_token(const long long* order, int l, int tokens) {
  const long long at = order[l];
  return at >= 0 && at < tokens ? static_cast<int>(at) : -1;
}

EVM_INLINE float make_nan() { return __int_as_float(0x7fffffff); }

}  // namespace
