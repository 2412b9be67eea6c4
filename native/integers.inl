// The first projection of the scan on integers: uint8 tokens times int8 weights, summed in int32. Included by
// kernel.inl. Without AVX2 it is done in floats that hold the integers, for which only round_tokens is needed.

// round(x / scale), ties to even, within [low, high]: what QuantizeLinear gives, less its zero point.
EVM_INLINE F rounded(F x, F scale, F low, F high) {
  return min(high, max(low, x / scale)) + kMagic - kMagic;
}

static void round_tokens(const float* x, const Rounding& r, float* out, int64_t count) {
  const F scale = splat(r.scale), low = splat(r.low()), high = splat(r.high());
  for (int64_t i = 0; i < count; i += kLanes) {
    const int left = static_cast<int>(count - i < kLanes ? count - i : kLanes);
    store(out + i, rounded(load(x + i, left), scale, low, high), left);
  }
}

#if defined(__AVX2__)

// One row of `channels` tokens' numbers as bytes, zero point added; the row is padded to fours.
static void quantise_row(const float* x, const Rounding& r, uint8_t* out, int64_t channels) {
  const F scale = splat(r.scale), low = splat(r.low()), high = splat(r.high());
  for (int64_t i = 0; i < channels; i += kLanes) {
    const int count = static_cast<int>(channels - i);
    alignas(64) int32_t numbers[kLanes];
    const F value = rounded(load(x + i, count), scale, low, high) + static_cast<float>(r.zero);
#if defined(__AVX512F__)
    if (count >= kLanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(value)));
      continue;
    }
    _mm512_store_si512(numbers, _mm512_cvtps_epi32(value));
#else
    _mm256_store_si256(reinterpret_cast<__m256i*>(numbers), _mm256_cvtps_epi32(value));
#endif
    for (int j = 0; j < kLanes && j < count; ++j) out[i + j] = static_cast<uint8_t>(numbers[j]);
  }
}

EVM_INLINE int32_t four_bytes(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return four;
}

// Where the tokens of a tile lie, and where their results go.
struct Rows {
  const uint8_t* x[8];
  float* out[8];
};

// Fills `rows` with `wanted` tokens from the walk; those past `count` repeat the first.
static void next_rows(const IntegerProjection& p, Walk& walk, int64_t first, int row, int count, int wanted, Rows& rows) {
  for (int i = 0; i < wanted; ++i) {
    const bool there = row + i < count;
    const int64_t place = there ? walk.next() : 0;
    rows.x[i] = !there ? rows.x[0] : place < 0 ? p.padding : p.x + place / p.channels * p.row;
    rows.out[i] = there ? p.out + (first + row + i) * p.width : rows.out[0];
  }
}

// kRows tokens times 8 columns, products of 16 bits added in pairs to 32: exact, which maddubs is not.
template <int kRows>
static void multiply_pairs(const Rows& rows, const int8_t* W, int64_t row, int64_t width, const int32_t* shift,
                           const float* scale, int64_t column) {
  __m256i low[kRows] = {}, high[kRows] = {};
  for (int64_t d = 0; d < row; d += 4, W += 4 * width) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(W));
    const __m256i w0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w));
    const __m256i w1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(w, 1));
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const __m128i four = _mm_cvtepu8_epi16(_mm_cvtsi32_si128(four_bytes(rows.x[i] + d)));
      const __m256i x = _mm256_broadcastq_epi64(four);
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(x, w0));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(x, w1));
    }
  }
  for (int i = 0; i < kRows; ++i) {
    const __m256i pairs = _mm256_hadd_epi32(low[i], high[i]);  // columns 0 1 4 5 2 3 6 7
    const __m256i sums = _mm256_permutevar8x32_epi32(pairs, _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7));
    const __m256i exact = _mm256_sub_epi32(sums, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(shift)));
    _mm256_storeu_ps(rows.out[i] + column, _mm256_mul_ps(_mm256_cvtepi32_ps(exact), _mm256_loadu_ps(scale)));
  }
}

static void project_pairs(const IntegerProjection& p, int64_t first, int count) {
  Walk walk(p.tokens, first);
  Rows rows;
  for (int row = 0; row < count; row += 4) {
    next_rows(p, walk, first, row, count, 4, rows);
    for (int64_t c = 0; c < p.columns; c += 8)
      multiply_pairs<4>(rows, p.W + 4 * c, p.row, p.width, p.shift + c, p.scale + c, c);
  }
}

#if defined(__AVX512F__)

// kRows tokens times V vectors of 16 columns, four products at a time.
template <int kRows, int V>
__attribute__((target("avx512vnni"))) static void multiply_fours(const Rows& rows, const int8_t* W, int64_t row,
                                                                 int64_t width, const int32_t* shift,
                                                                 const float* scale, int64_t column) {
  __m512i sum[kRows][V];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[i][v] = _mm512_setzero_si512();
  for (int64_t d = 0; d < row; d += 4, W += 4 * width) {
    __m512i w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(W + 64 * v);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m512i x = _mm512_set1_epi32(four_bytes(rows.x[i] + d));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], x, w[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m512i exact = _mm512_sub_epi32(sum[i][v], _mm512_loadu_si512(shift + 16 * v));
      _mm512_storeu_ps(rows.out[i] + column + 16 * v,
                       _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_loadu_ps(scale + 16 * v)));
    }
}

static void project_fours(const IntegerProjection& p, int64_t first, int count) {
  Walk walk(p.tokens, first);
  Rows rows;
  for (int row = 0; row < count; row += 8) {
    next_rows(p, walk, first, row, count, 8, rows);
    for (int64_t c = 0; c < p.columns; c += 48) {
      const int64_t left = p.columns - c;
      const auto multiply = left > 32 ? multiply_fours<8, 3> : left > 16 ? multiply_fours<8, 2> : multiply_fours<8, 1>;
      multiply(rows, p.W + 4 * c, p.row, p.width, p.shift + c, p.scale + c, c);
    }
  }
}

#endif
#endif
