// One float vector and the handful of operations on it that C++ operators do not give. Included by kernel.inl inside
// the namespace of an instruction set: nothing here may be shared between two of them, or the linker could keep the
// copy that the processor cannot run.

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
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

// a * b + c, rounded once where the processor can.
#if defined(__AVX512F__)
EVM_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__FMA__)
EVM_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
#else
EVM_INLINE F fma(F a, F b, F c) { return a * b + c; }
#endif

EVM_INLINE float add_lanes(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(v);
#elif defined(__AVX2__)
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(sum) + _mm_cvtss_f32(_mm_shuffle_ps(sum, sum, 1));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

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

// p * 2^n for the integer n in the low bits of t.
EVM_INLINE F scale(F p, F t) { return (F)((I)p + ((I)t << 23)); }

// How large |x| can be in 2^x: the smaller, the cheaper.
enum class Reach {
  kUnit,    // -1 <= x <= 0
  kTwo,     // -2 <= x <= 0
  kNormal,  // -126 <= x <= 126
  kAny,     // anything: below -126 it may count as -126, where 2^x is 0 for every purpose of a decay
};

// 2^x - 1 for -1 <= x <= 0 or -2 <= x <= 0; relative error of the polynomials 4e-7 and 5e-7.
template <Reach reach>
EVM_INLINE F exp2_minus_1(F x) {
  F p;
  if (reach == Reach::kUnit) {
    p = fma(splat(0.0010003551f), x, splat(0.0093375985f));
    p = fma(p, x, splat(0.055404343f));
    p = fma(p, x, splat(0.24021383f));
    p = fma(p, x, splat(0.69314694f));
  } else {
    p = fma(splat(8.5508145e-5f), x, splat(0.0011920946f));
    p = fma(p, x, splat(0.0094751511f));
    p = fma(p, x, splat(0.055436477f));
    p = fma(p, x, splat(0.24021448f));
    p = fma(p, x, splat(0.69314682f));
  }
  return p * x;
}

// 2^x, relative error below 3e-7. The polynomials are minimax for (2^x - 1) / x rather than for 2^x: the errors of a
// decay close to one add up over many tokens.
template <Reach reach>
EVM_INLINE F exp2(F x) {
#if defined(__AVX512F__)  // scalef takes any exponent
  const F f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT);
  F p = fma(splat(0.0013333538f), f, splat(0.0096662454f));
  p = fma(p, f, splat(0.055505004f));
  p = fma(p, f, splat(0.24022351f));
  p = fma(p, f, splat(0.69314712f));
  return _mm512_scalef_ps(fma(p, f, splat(1.0f)), x - f);
#else
  if (reach == Reach::kAny) x = min(splat(128.0f), max(splat(-126.0f), x));
#if defined(__AVX2__)
  // In eighths: their power is looked up, which leaves less to the polynomial. The low three bits of t are the place in
  // the table, whose entries lack what the shift adds to them.
  const I table = {0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7};
  const F t = x + kMagic / 8;
  const F f = x - (t - kMagic / 8);
  const F power = (F)((I)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)t) + ((I)t << 20));
  F p = fma(splat(0.05550411f), f, splat(0.24025474f));
  p = fma(p, f, splat(0.69314718f));
  return fma(p, f, splat(1.0f)) * power;
#else
  const F t = x + kMagic;
  const F f = x - (t - kMagic);
  F p = fma(splat(0.0013333538f), f, splat(0.0096662454f));
  p = fma(p, f, splat(0.055505004f));
  p = fma(p, f, splat(0.24022351f));
  p = fma(p, f, splat(0.69314712f));
  return scale(fma(p, f, splat(1.0f)), t);
#endif
#endif
}

// The next state: 2^x * h + u * B. Where 2^x is close to one, h + (2^x - 1) * h costs less and does not round the
// decay, whose error would come back with every token.
template <Reach reach>
EVM_INLINE F advance(F x, F h, F u, F B) {
  if (reach == Reach::kUnit || reach == Reach::kTwo) return fma(exp2_minus_1<reach>(x), h, fma(u, B, h));
  return fma(u, B, exp2<reach>(x) * h);
}

// log(1 + exp(x)), accurate relative to the result also where it is tiny; zero below -87.3, where float32 has no more
// normal numbers. Polynomials by halves: a plain chain of sixteen would wait for itself.
EVM_INLINE F softplus(F x) {
  const F z = max(splat(-87.3f), -abs(x));
  const F t = fma(z, splat(1.44269504f), splat(kMagic));
  const F n = t - kMagic;
  // ln 2 in two parts: the first has few bits, so that its product with n is exact.
  const F r = fma(n, splat(-1.42860677e-6f), fma(n, splat(-0.693145752f), z)), r2 = r * r;
  F p = fma(fma(splat(0.0083124777f), r, splat(0.04189055f)), r2, fma(splat(0.16667116f), r, splat(0.49999228f)));
  p = fma(p, r2, r) + 1.0f;
  F e = scale(p, t);  // exp(-|x|), in [1e-38, 1]
  const F e2 = e * e, e4 = e2 * e2;
  const F q0 = fma(fma(splat(-0.24842982f), e, splat(0.33319098f)), e2, fma(splat(-0.49999493f), e, splat(1.0f)));
  const F q1 =
      fma(fma(splat(-0.029505214f), e, splat(0.078225911f)), e2, fma(splat(-0.13663243f), e, splat(0.19106005f)));
  const F q = fma(fma(splat(0.0052326880f), e4, q1), e4, q0);
  e = x < -87.3f ? F{} : e;
  return fma(e, q, max(F{}, x));
}
