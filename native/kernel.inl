// The kernels, compiled once per instruction set. The including file defines EVM_NAMESPACE, EVM_KERNELS (the name of
// the table) and EVM_NAME. No function of the standard library is used, for the reason given in vec.h.

#if defined(__x86_64__) || defined(_M_X64)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC warns of its own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif

#include "conv.h"
#include "norm.h"
#include "scan.h"

namespace evm {
namespace EVM_NAMESPACE {

#include "vec.h"

// Denormal numbers count as zero while this lives. A state that decays without input would otherwise become denormal,
// where every operation is a hundred times slower, for the sake of values below 1e-38. (Without fused multiplication
// it may come to rest just above.)
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#else
  FlushDenormals() {}  // not known here how: only slower
#endif
};

// The places of consecutive tokens.
class Walk {
 public:
  Walk(const Tokens& tokens, int64_t first)
      : tokens_(tokens),
        token_(first),
        row_(tokens.places ? 0 : first / tokens.inner),
        column_(tokens.places ? 0 : first % tokens.inner) {}

  // Offset of the token in floats, or -1 for padding and past the end; then steps to the next token.
  int64_t next() {
    if (tokens_.places) return token_ < tokens_.length ? tokens_.places[token_++] : -1;
    const bool valid = row_ < tokens_.outer_valid && column_ < tokens_.inner_valid;
    int64_t offset = valid ? row_ * tokens_.outer_stride + column_ * tokens_.inner_stride : -1;
    if (++column_ == tokens_.inner) column_ = 0, ++row_;
    return offset;
  }

 private:
  const Tokens& tokens_;
  int64_t token_, row_, column_;
};

// ---- projection: a small matrix product whose left rows lie anywhere ----

// kRows tokens times V vectors of columns.
template <int kRows, int V>
static void project_tile(const float* const* x, const float* W, int64_t channels, int64_t width, float* const* out) {
  F sum[kRows][V] = {};
  for (int64_t d = 0; d < channels; ++d, W += width) {
    F w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = load(W + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const F s = splat(x[i][d]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] = fma(s, w[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out[i] + v * kLanes, sum[i][v]);
}

// As many sums as fit the registers: 32 of them with AVX-512 and NEON, 16 otherwise.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

static void project(const Projection& p, int64_t first, int count) {
  Walk walk(p.tokens, first);
  for (int row = 0; row < count; row += kTileRows) {
    const float* x[kTileRows];
    float* out[kTileRows];
    for (int i = 0; i < kTileRows; ++i) {
      const bool there = row + i < count;  // rows past the end repeat the first, and write the same to the same place
      const int64_t place = there ? walk.next() : 0;
      x[i] = !there ? x[0] : place < 0 ? p.zeros : p.x + place;
      out[i] = there ? p.out + (first + row + i) * p.width : out[0];
    }
    const float* W = p.W;
    for (int64_t left = p.columns; left > 0; left -= 3 * kLanes, W += 3 * kLanes) {
      if (left > 2 * kLanes) {
        project_tile<kTileRows, 3>(x, W, p.channels, p.width, out);
      } else if (left > kLanes) {
        project_tile<kTileRows, 2>(x, W, p.channels, p.width, out);
      } else {
        project_tile<kTileRows, 1>(x, W, p.channels, p.width, out);
      }
      for (float*& o : out) o += 3 * kLanes;
    }
  }
}

#include "integers.inl"

// ---- scan ----

struct Block {
  alignas(64) float delta[kBlock * kLanes];  // (token, channel)
  alignas(64) float input[kBlock * kLanes];  // delta * u
  alignas(64) float y[kBlock * kLanes];
};

// S states of kLanes channels over the tokens of a block: h <- 2^(a * delta) * h + B * delta * u; y += C * h.
template <int S, Reach reach>
static void scan_states(const float* a, float* h, const float* delta, const float* input, float* __restrict y,
                        const float* B, const float* C, int64_t ldbc, int tokens) {
  F state[S];
#pragma GCC unroll 16
  for (int n = 0; n < S; ++n) state[n] = load(h + n * kLanes);
  for (int t = 0; t < tokens; ++t, B += ldbc, C += ldbc) {
    F d = load(delta + t * kLanes), du = load(input + t * kLanes), sum = load(y + t * kLanes);
#pragma GCC unroll 16
    for (int n = 0; n < S; ++n) {
      state[n] = advance<reach>(load(a + n * kLanes) * d, state[n], du, splat(B[n]));
      sum = fma(state[n], splat(C[n]), sum);
    }
    store(y + t * kLanes, sum);
  }
#pragma GCC unroll 16
  for (int n = 0; n < S; ++n) store(h + n * kLanes, state[n]);
}

using ScanStates = decltype(&scan_states<1, Reach::kAny>);

// States that are taken together, so that they, with what they need, stay in registers.
#if defined(__wasm__)
constexpr int kStates = 4;
#else
constexpr int kStates = 8;
#endif

template <Reach reach>
static ScanStates scan_states_for(int64_t states) {
  static constexpr ScanStates table[] = {
      scan_states<1, reach>, scan_states<2, reach>, scan_states<3, reach>, scan_states<4, reach>,
#if !defined(__wasm__)
      scan_states<5, reach>, scan_states<6, reach>, scan_states<7, reach>, scan_states<8, reach>,
#endif
  };
  static_assert(sizeof(table) / sizeof(*table) == kStates, "one entry for each count");
  return table[(states < kStates ? states : kStates) - 1];
}

// What a unit keeps in its scratch for each kLanes channels: A * log2(e), the states, dt_proj; a row of kLanes each.
struct Held {
  float *a, *h, *dt_proj;
};

EVM_INLINE Held held_at(const Unit& unit, int channel) {
  float* p = unit.scratch + channel * (2 * unit.states + unit.rank);
  return {p, p + unit.states * kLanes, p + 2 * unit.states * kLanes};
}

static void prepare(const Unit& unit) {
  const float most = 3.0e38f;  // an infinite A would make a NaN of delta = 0
  for (int c = 0; c < unit.count; c += kLanes) {
    const Held held = held_at(unit, c);
    for (int64_t n = 0; n < unit.states; ++n) {
      const F a = load(unit.A + n * unit.channels + c, unit.count - c) * 1.44269504f;
      store(held.a + n * kLanes, min(splat(most), max(splat(-most), a)));
      store(held.h + n * kLanes, F{});
    }
    for (int64_t r = 0; r < unit.rank; ++r)
      store(held.dt_proj + r * kLanes, load(unit.dt_proj + r * unit.channels + c, unit.count - c));
  }
}

// Where a block of tokens lies: what it reads, and where y goes.
struct Places {
  int64_t read[kBlock], write[kBlock];

  void step(Walk& reads, Walk* writes) {
    for (int t = 0; t < kBlock; ++t) read[t] = reads.next();
    for (int t = 0; t < kBlock; ++t) write[t] = writes ? writes->next() : read[t];
  }
};

// The first rows of dt, B and C of a block, which lie `stride` apart.
struct ProjectedRows {
  const float *dt, *B, *C;
  int64_t stride;
};

// Those of the tokens from `first` on. Rows that lie anywhere are copied, one after another, to the end of the scratch.
static ProjectedRows find_projected_rows(const Unit& unit, int64_t first, int tokens) {
  const int64_t at = first * unit.ldbc;
  if (!unit.rows) return {unit.dt + (unit.dt ? at : 0), unit.B + at, unit.C + at, unit.ldbc};
  const int64_t stride = unit.rank + 2 * unit.states;
  float* const copy = unit.scratch + stride * kUnit;
  for (int t = 0; t < tokens; ++t) {
    const float* row = unit.dt + unit.rows[first + t];
    for (int64_t i = 0; i < stride; ++i) copy[t * stride + i] = row[i];
  }
  return {copy, copy + unit.rank, copy + unit.rank + unit.states, stride};
}

// delta of the tokens of a block before the softplus: what is given, or dt times dt_proj, plus the bias.
static void fill_delta(const Unit& unit, const float* dt_proj, const ProjectedRows& rows, int64_t first, int tokens,
                       int c, float* delta) {
  const int count = unit.count - c;
  const F bias = unit.bias ? load(unit.bias + c, count) : F{};
  if (unit.delta) {
    const float* given = unit.delta + first * unit.channels + c;
    for (int t = 0; t < tokens; ++t) {
      __builtin_prefetch(given + (t + kBlock) * unit.channels);
      store(delta + t * kLanes, bias + load(given + t * unit.channels, count));
    }
    return;
  }
  constexpr int kTogether = 4;  // sums that do not wait for each other
  static_assert(kBlock % kTogether == 0, "the last ones may be written past the end");
  for (int t = 0; t < tokens; t += kTogether) {
    F sum[kTogether] = {bias, bias, bias, bias};
    const float* dt[kTogether];
    for (int i = 0; i < kTogether; ++i) dt[i] = rows.dt + (t + i < tokens ? t + i : tokens - 1) * rows.stride;
    for (int64_t r = 0; r < unit.rank; ++r) {
      const F w = load(dt_proj + r * kLanes);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) sum[i] = fma(w, splat(dt[i][r]), sum[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) store(delta + (t + i) * kLanes, sum[i]);
  }
}

// softplus of delta where it is wanted. Returns the largest delta of each channel, infinite where one is negative.
static F finish_delta(bool wanted, int tokens, float* delta) {
  F most = {};
  for (int t = 0; wanted && t < tokens; ++t) {
    const F value = softplus(load(delta + t * kLanes));
    store(delta + t * kLanes, value);
    most = max(most, value);
  }
  for (int t = 0; !wanted && t < tokens; ++t) {
    const F value = load(delta + t * kLanes);
    most = max(most, value < 0.0f ? splat(__builtin_inff()) : value);
  }
  return most;
}

// delta * u and D * u for kLanes channels from c on. Tokens lie too far apart for the processor to foresee, so that
// those of the next block are asked for here.
static void fill_input(const Unit& unit, const Places& now, const Places& next, int tokens, int c, Block& block) {
  const int count = unit.count - c;
  const F skip = unit.skip ? load(unit.skip + c, count) : F{};
  const float *u = unit.u + c, *y = unit.y + c;
  for (int t = 0; t < tokens; ++t) {
    if (next.read[t] >= 0) {
      __builtin_prefetch(u + next.read[t]);
      __builtin_prefetch(y + (next.write[t] < 0 ? 0 : next.write[t]), 1);
    }
    const F input = now.read[t] < 0 ? F{} : load(u + now.read[t], count);
    store(block.input + t * kLanes, load(block.delta + t * kLanes) * input);
    store(block.y + t * kLanes, skip * input);
  }
}

// The cheapest form of 2^(a * delta) that holds for `count` states and these largest deltas. None of the cheaper ones
// holds for a positive A.
EVM_INLINE ScanStates choose(const float* a, F delta, int64_t count) {
  F most = {};
  for (int64_t n = 0; n < (count < kStates ? count : kStates); ++n) {
    const F value = load(a + n * kLanes);
    most = max(most, value > 0.0f ? splat(__builtin_inff()) : -value);
  }
  const F reach = most * delta;
  if (all_at_most(reach, 1.0f)) return scan_states_for<Reach::kUnit>(count);
  if (all_at_most(reach, 2.0f)) return scan_states_for<Reach::kTwo>(count);
  if (kLanes == 16 || all_at_most(reach, 126.0f)) return scan_states_for<Reach::kNormal>(count);
  return scan_states_for<Reach::kAny>(count);
}

static void scan(const Unit& unit) {
  FlushDenormals flush;
  prepare(unit);
  Block block;
  Places places[2];
  Walk reads(unit.tokens, 0), results(unit.results ? *unit.results : unit.tokens, 0);
  Walk* const writes = unit.results ? &results : nullptr;
  places[0].step(reads, writes);
  for (int64_t first = 0; first < unit.tokens.length; first += kBlock) {
    const Places& now = places[first / kBlock % 2];
    Places& next = places[(first / kBlock + 1) % 2];
    next.step(reads, writes);
    const int64_t left = unit.tokens.length - first;
    const int tokens = static_cast<int>(left < kBlock ? left : kBlock);
    const ProjectedRows rows = find_projected_rows(unit, first, tokens);
    for (int c = 0; c < unit.count; c += kLanes) {
      const Held held = held_at(unit, c);
      fill_delta(unit, held.dt_proj, rows, first, tokens, c, block.delta);
      const F delta = finish_delta(unit.softplus, tokens, block.delta);
      fill_input(unit, now, next, tokens, c, block);
      for (int64_t n = 0; n < unit.states; n += kStates) {
        const float* a = held.a + n * kLanes;
        const ScanStates run = choose(a, delta, unit.states - n);
        run(a, held.h + n * kLanes, block.delta, block.input, block.y, rows.B + n, rows.C + n, rows.stride, tokens);
      }
      for (int t = 0; t < tokens; ++t) {
        if (now.write[t] < 0) continue;
        float* const y = unit.y + now.write[t] + c;
        const F value = load(block.y + t * kLanes);
        store(y, writes ? load(y, unit.count - c) + value : value, unit.count - c);
      }
    }
  }
}

// ---- normalisations ----

#include "norm.inl"
#include "conv.inl"
#include "lookup.inl"

// ---- float16 ----

static void to_float(const uint16_t* half, float* out, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= count; i += 16)
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + i))));
#elif defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
#endif
  for (; i < count; ++i) {
#if defined(__aarch64__)
    __fp16 value;
    __builtin_memcpy(&value, half + i, 2);
    out[i] = static_cast<float>(value);
#else
    const uint32_t sign = static_cast<uint32_t>(half[i] & 0x8000) << 16, rest = half[i] & 0x7fff;
    uint32_t bits;
    if (rest >= 0x7c00) {
      bits = 0x7f800000 | (rest & 0x3ff) << 13;  // infinity, NaN
    } else if (rest >= 0x400) {
      bits = (rest + 0x1c000) << 13;
    } else {  // zero and denormal: rest * 2^-24
      const float value = static_cast<float>(rest) * 5.9604644775390625e-8f;
      __builtin_memcpy(&bits, &value, 4);
    }
    bits |= sign;
    __builtin_memcpy(out + i, &bits, 4);
#endif
  }
}

static void to_half(const float* in, uint16_t* half, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= count; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(half + i), _mm512_cvtps_ph(_mm512_loadu_ps(in + i), 0));
#elif defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), 0));
#endif
  for (; i < count; ++i) {
#if defined(__aarch64__)
    const __fp16 value = static_cast<__fp16>(in[i]);
    __builtin_memcpy(half + i, &value, 2);
#else
    uint32_t bits;
    __builtin_memcpy(&bits, in + i, 4);
    const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t value;
    if (rest > 0x7f800000) {
      value = 0x7e00;  // NaN
    } else if (rest >= 0x47800000) {
      value = 0x7c00;  // 65536 and more; what rounds up to it overflows by itself below
    } else if (rest >= 0x38800000) {
      value = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    } else {  // denormal: the addition rounds to a multiple of 2^-24, which is its lowest bit
      float sum;
      __builtin_memcpy(&sum, &rest, 4);
      sum += 0.5f;
      __builtin_memcpy(&value, &sum, 4);
      value -= 0x3f000000;
    }
    half[i] = static_cast<uint16_t>(sign | value);
#endif
  }
}

}  // namespace EVM_NAMESPACE

#if defined(__AVX2__)
#define EVM_INTEGERS(project) EVM_NAMESPACE::quantise_row, EVM_NAMESPACE::project
#else
#define EVM_INTEGERS(project) nullptr, nullptr
#endif
#define EVM_TABLE(name, project_integers)                                                                         \
  {name,                                                                                                          \
   EVM_NAMESPACE::project,                                                                                        \
   EVM_NAMESPACE::round_tokens,                                                                                   \
   EVM_INTEGERS(project_integers),                                                                                \
   EVM_NAMESPACE::scan,                                                                                           \
   EVM_NAMESPACE::convolve,                                                                                       \
   EVM_NAMESPACE::gated_norm,                                                                                     \
   EVM_NAMESPACE::sum_of_norm,                                                                                    \
   EVM_NAMESPACE::look_up_floats,                                                                                 \
   EVM_NAMESPACE::look_up_bytes,                                                                                  \
   EVM_NAMESPACE::to_float,                                                                                       \
   EVM_NAMESPACE::to_half}

const Kernels EVM_KERNELS = EVM_TABLE(EVM_NAME, project_pairs);
#if defined(__AVX512F__)
const Kernels kAvx512Vnni = EVM_TABLE("avx512vnni", project_fours);
#endif

}  // namespace evm
