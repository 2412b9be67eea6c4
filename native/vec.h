// One float vector and the handful of operations on it that C++ operators do not give. Included by kernel.inl inside the
// namespace of an instruction set: nothing here may be shared between two of them, or the linker could keep the copy
// that the processor cannot run.

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Whether scale() takes any exponent, infinite ones too.
#if defined(__AVX512DQ__)
constexpr bool kScales = true;
#else
constexpr bool kScales = false;
#endif

typedef float F __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));

#define EVM_INLINE static inline __attribute__((always_inline))

EVM_INLINE F load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
EVM_INLINE void store(float* p, F v) { *reinterpret_cast<Unaligned*>(p) = v; }
#if defined(__AVX512F__)
EVM_INLINE F splat(float v) { return _mm512_set1_ps(v); }
#elif defined(__AVX2__)
EVM_INLINE F splat(float v) { return _mm256_set1_ps(v); }
#else
EVM_INLINE F splat(float v) { return F{v, v, v, v}; }
#endif

EVM_INLINE F load(const float* p, int count) {
  if (count >= kLanes) return load(p);
  F v = {};
  if (count > 0) __builtin_memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}

EVM_INLINE void store(float* p, F v, int count) {
  if (count >= kLanes) return store(p, v);
  if (count > 0) __builtin_memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
}

// Both return b where one of the two is NaN, so that a NaN in b is not lost.
#if defined(__AVX512F__)
EVM_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
EVM_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
#elif defined(__AVX2__)
EVM_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
EVM_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
#elif defined(__SSE2__)
EVM_INLINE F max(F a, F b) { return _mm_max_ps(a, b); }
EVM_INLINE F min(F a, F b) { return _mm_min_ps(a, b); }
#else
EVM_INLINE F max(F a, F b) { return a > b ? a : b; }
EVM_INLINE F min(F a, F b) { return a < b ? a : b; }
#endif

EVM_INLINE F abs(F v) { return (F)((I)v & 0x7fffffff); }

EVM_INLINE bool all_at_most(F v, float limit) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(v, splat(limit), _CMP_LE_OQ) == 0xffff;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(v, splat(limit), _CMP_LE_OQ)) == 0xff;
#else
  bool all = true;
  for (int i = 0; i < kLanes; ++i) all = all && v[i] <= limit;
  return all;
#endif
}

// Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
constexpr float kMagic = 12582912.0f;

// p * 2^n for the integer n in the low bits of t, which stays between -126 and 128 - (p >= 1 ? 1 : 0).
EVM_INLINE F scale(F p, F t) { return (F)((I)p + ((I)t << 23)); }

// How large |x| can be in 2^x: the smaller, the cheaper.
enum class Reach {
  kUnit,    // -1 <= x <= 0
  kNormal,  // -126 <= x <= 126
  kAny,     // anything; below -126 it counts as -126, where 2^x is 0 for every purpose of a decay
};

// 2^(a * d), relative error about 1e-7. Polynomials are minimax for (2^x - 1) / x, so that decays close to one, whose
// errors add up over many tokens, are as exact as float32 allows.
template <Reach reach>
EVM_INLINE F exp2_product(F a, F d) {
  if (reach == Reach::kUnit) {
    F x = a * d;
    F p = splat(0.0010003551f) * x + 0.0093375985f;
    p = p * x + 0.055404343f;
    p = p * x + 0.24021383f;
    p = p * x + 0.69314694f;
    return p * x + 1.0f;
  }
#if defined(__AVX512DQ__)
  F x = a * d;
  F f = _mm512_reduce_ps(x, 0);
  F n = x - f;
#else
  F x = a * d;
  if (reach == Reach::kAny) x = min(splat(128.0f), max(splat(-126.0f), x));
  F t = x + kMagic;
  F f = x - (t - kMagic);
#endif
  F p = splat(0.0013333538f) * f + 0.0096662454f;
  p = p * f + 0.055505004f;
  p = p * f + 0.24022351f;
  p = p * f + 0.69314712f;
  p = p * f + 1.0f;
#if defined(__AVX512DQ__)
  return _mm512_scalef_ps(p, n);
#else
  return scale(p, t);
#endif
}

// log(1 + exp(x)), accurate relative to the result also where it is tiny; zero below -87.3, where float32 has no more
// normal numbers.
EVM_INLINE F softplus(F x) {
  F z = max(splat(-87.3f), -abs(x));
  F t = z * 1.44269504f + kMagic;
  F n = t - kMagic;
  F r = z - n * 0.693145752f;  // ln 2 in two parts: the first has few bits, so that the product is exact
  r = r - n * 1.42860677e-6f;
  F p = splat(0.0083124777f) * r + 0.04189055f;
  p = p * r + 0.16667116f;
  p = p * r + 0.49999228f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  F e = scale(p, t);  // exp(-|x|), in [1e-38, 1]
  F q = splat(0.0052326880f) * e - 0.029505214f;
  q = q * e + 0.078225911f;
  q = q * e - 0.13663243f;
  q = q * e + 0.19106005f;
  q = q * e - 0.24842982f;
  q = q * e + 0.33319098f;
  q = q * e - 0.49999493f;
  q = q * e + 1.0f;
  e = x < -87.3f ? F{} : e;
  return e * q + max(F{}, x);
}
