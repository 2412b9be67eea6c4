// The kernels of lookup.h: y[i] = table[x[i]]. Included by kernel.inl, once per instruction set. With AVX-512 the table
// is in registers; otherwise in the first-level cache, where single loads are as fast as gathers.

static void look_up_floats(const uint8_t* x, const float* table, float* y, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512F__)
  F parts[16];
#pragma GCC unroll 16
  for (int k = 0; k < 16; ++k) parts[k] = load(table + 16 * k);
  for (; i + 16 <= count; i += 16) {
    const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    F found[8];  // by the low five bits; the high three choose among them
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) found[k] = _mm512_permutex2var_ps(parts[2 * k], at, parts[2 * k + 1]);
#pragma GCC unroll 3
    for (int bit = 5; bit < 8; ++bit) {
      const __mmask16 set = _mm512_test_epi32_mask(at, _mm512_set1_epi32(1 << bit));
#pragma GCC unroll 4
      for (int k = 0; k < 128 >> bit; ++k) found[k] = _mm512_mask_blend_ps(set, found[2 * k], found[2 * k + 1]);
    }
    store(y + i, found[0]);
  }
#endif
  for (; i < count; ++i) y[i] = table[x[i]];
}

static void look_up_bytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512BW__)
  __m512i parts[4];  // of words of two entries
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) parts[k] = _mm512_loadu_si512(table + 64 * k);
  const __m512i one = _mm512_set1_epi16(1), half = _mm512_set1_epi16(128);
  for (; i + 32 <= count; i += 32) {
    const __m512i at = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)));
    const __m512i word = _mm512_srli_epi16(at, 1);
    const __m512i low = _mm512_permutex2var_epi16(parts[0], word, parts[1]);
    const __m512i high = _mm512_permutex2var_epi16(parts[2], word, parts[3]);
    const __m512i both = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(at, half), low, high);
    const __m512i odd = _mm512_slli_epi16(_mm512_and_si512(at, one), 3);  // in bits
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), _mm512_cvtepi16_epi8(_mm512_srlv_epi16(both, odd)));
  }
#endif
  for (; i < count; ++i) y[i] = table[x[i]];
}
