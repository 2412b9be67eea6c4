// Three operators, each one kernel: y[l] = C[l] h[l] + D u[l], h[l] = exp(delta[l] A) h[l-1] + delta[l] B[l] u[l].
// One of them is compiled at a time, for the tile that evm_deploy/cuda/plan.py chose (the EVM_ defines); LaunchPlan
// there gives the arguments. No workspace, and no order among blocks.
//
// A block takes EVM_CHANNELS channels of one sequence and walks over its tokens segment by segment:
//   rows   dt, B and C of the tokens, which all channels share: copied, or projected from x;
//   pairs  delta and u of every token and channel, side by side;
//   scan   a thread owns EVM_STATES states of one channel over one of EVM_CHUNKS chunks of the segment. With more than
//          one chunk the scan runs twice: from a zero state, to know how each chunk ends; then from the true state.
// EVM_GROUPS neighbouring threads share a channel and add up their part of y.
//
// A warp is always one chunk: its lanes are 32 / EVM_GROUPS consecutive channels of each group. So B and C are read by
// all lanes of a group at one address, pairs at consecutive addresses, and the states at the ends of chunks are kept
// one word per lane: no bank conflicts in the scan.

#include "element.cuh"

namespace {

#ifdef EVM_SELECTIVE_SCAN
#define EVM_RANK 0
#else
#define EVM_SKIP 1
#define EVM_BIAS 1
#define EVM_SOFTPLUS 1
#endif

constexpr int kStates = EVM_N, kOwn = EVM_STATES, kGroups = EVM_GROUPS, kChannels = EVM_CHANNELS, kChunks = EVM_CHUNKS;
constexpr int kTokens = EVM_TOKENS, kVector = EVM_VECTOR, kRank = EVM_RANK, kSlice = EVM_SLICE;
constexpr int kWidth = 32 / kGroups;            // channels of a warp
constexpr int kLanes = kChannels * kGroups;     // threads of a chunk
constexpr int kThreads = kLanes * kChunks;
constexpr int kResident = kThreads < 512 ? 512 / kThreads : 1;  // blocks on a multiprocessor: 128 registers
constexpr int kSegment = kChunks * kTokens;
constexpr int kProjected = EVM_PROJECTED;       // tokens whose rows are held at once: some segments
constexpr int kPadded = kGroups * kOwn;         // N, with states that stay zero

__host__ __device__ constexpr int up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
__host__ __device__ constexpr int larger(int a, int b) { return a > b ? a : b; }

// A row: dt | B | C, each from a multiple of four floats on where it is more than two, the gaps zero.
constexpr int kB = up(kRank, 4), kC = kB + kPadded, kRow = up(kC + kPadded, 4);

// Shared memory, in floats. What the projection reads lies where the pairs will be.
constexpr int kReadStride = kSlice + 4;  // not a multiple of 32: threads of a warp read up to 8 rows at once
constexpr int kPairs = larger(2 * kSegment * kChannels, kRank ? kProjected * kReadStride + kSlice * kRow : 0);
constexpr int kRowsAt = kPairs, kPlacesAt = kRowsAt + kProjected * kRow;
constexpr int kEndsAt = kPlacesAt + (kRank ? kProjected : 0);
constexpr int kSumsAt = kEndsAt + (kChunks > 1 ? (kChunks + 1) * kOwn * kLanes : 0);  // of all chunks but the last
constexpr int kShared = kSumsAt + (kChunks - 1) * kLanes;

static_assert(kShared * 4 == EVM_SHARED, "plan.py computes another size of shared memory");
static_assert(32 % kGroups == 0 && kChannels % kWidth == 0, "a warp is one chunk");
static_assert(kTokens % kGroups == 0 && kChannels % kVector == 0 && kPadded >= kStates, "the tile does not fit");
static_assert(kProjected % kSegment == 0 && (kRank == 0 || kProjected % 4 == 0), "rows are held for whole segments");

// log(1 + exp(x)), accurate relative to the result also where it is tiny: 2 atanh(e / (2 + e)) with e = exp(-|x|), and
// the part of |x| log2(e) that float32 loses is put back.
EVM_INLINE float softplus(float x) {
  const float size = fabsf(x) > 200.0f ? 200.0f : fabsf(x);
  const float z = size * 1.44269502f;
  const float lost = fmaf(size, 1.92596303e-8f, fmaf(size, 1.44269502f, -z));
  float e = exp2_fast(-z);
  e = fmaf(-e * lost, 0.693147181f, e);
  const float s = e * reciprocal(2.0f + e), w = s * s;
  float p = fmaf(w, 0.281614542f, 0.279643446f);
  p = fmaf(p, w, 0.400246501f);
  p = fmaf(p, w, 0.666663229f);
  p = fmaf(p, w, 2.0f);
  return fmaf(s, p, x > 0.0f ? x : 0.0f);
}

#ifdef EVM_SELECTIVE_SCAN

typedef Element Result;

// Of one sequence, from the block's first channel on; B and C are not cut into tiles.
struct Source {
  const Element *u, *delta, *B, *C;
  int L, D;

  EVM_INLINE_MEMBER int place(const float*, int l) const { return l < L ? l : -1; }
  EVM_INLINE_MEMBER int result(const float* shared, int l) const { return place(shared, l); }
  EVM_INLINE_MEMBER float without_place(int) const { return 0.0f; }

  EVM_INLINE_MEMBER void rows(float* shared, int first) const {
    constexpr int kSome = kStates % 4 == 0 ? 4 : 1, kOfRow = 2 * kPadded / kSome;
    for (int i = threadIdx.x; i < kProjected * kOfRow; i += kThreads) {
      const int t = i / kOfRow, column = i % kOfRow * kSome, n = column % kPadded;
      float value[kSome] = {};
      if (first + t < L && n < kStates) load<kSome>(value, (column < kPadded ? B : C) + (first + t) * kStates + n);
#pragma unroll
      for (int j = 0; j < kSome; ++j) shared[kRowsAt + t * kRow + kB + column + j] = value[j];
    }
  }

  EVM_INLINE_MEMBER void add_delta(float* sum, const float*, int l, int c) const {
    float value[kVector];
    load<kVector>(value, delta + l * D + c);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum[j] += value[j];
  }
};

#else

#ifdef EVM_EFFICIENT_SCAN_2D

typedef Element Result;

// Rows and columns start at k % step and k / step; odd groups run column by column. Padding has no place.
struct Places {
  static constexpr int kStep = EVM_STEP;
  static constexpr bool kInPlace = true;  // the result of a token lies where the token does
  int height, width, k;

  EVM_INLINE_MEMBER int find(int l) const {
    const int high = (height + kStep - 1) / kStep, wide = (width + kStep - 1) / kStep;
    const int i = k % kStep + kStep * (k % 2 ? l % high : l / wide);
    const int j = k / kStep + kStep * (k % 2 ? l / high : l % wide);
    return i < height && j < width ? i * width + j : -1;
  }
};

#else

typedef float Result;

struct Places {
  static constexpr bool kInPlace = false;  // results lie one after the other
  const long long* order;
  int tokens;

  EVM_INLINE_MEMBER int find(int l) const { return find_token(order, l, tokens); }
};

#endif

// Of one group of tokens of one image; u and dt_proj from the block's first channel on.
struct Source {
  const Element *u, *x, *x_proj, *dt_proj;
  int L, D;
  Places places;

  EVM_INLINE_MEMBER int place(const float* shared, int l) const {
    return __float_as_int(shared[kPlacesAt + l % kProjected]);
  }
  EVM_INLINE_MEMBER int result(const float* shared, int l) const {
    return Places::kInPlace ? place(shared, l) : l < L ? l : -1;
  }
  // Padding keeps the state; a token that an order names wrongly is seen in all that follow.
  EVM_INLINE_MEMBER float without_place(int l) const { return Places::kInPlace || l >= L ? 0.0f : make_nan(); }

  // Column of x_proj that lies at `j` of a row; -1 for a gap.
  static EVM_INLINE_MEMBER int column(int j) {
    if (j < kB) return j < kRank ? j : -1;
    if (j < kC) return j - kB < kStates ? kRank + j - kB : -1;
    return j - kC < kStates ? kRank + kStates + j - kC : -1;
  }

  // (tokens, D) x (D, row): a thread sums up 4 x 4 of the product, slice by slice of D.
  EVM_INLINE_MEMBER void rows(float* shared, int first) const {
    constexpr int kAcross = kRow / 4, kDown = kProjected / 4;
    float *read = shared, *weights = shared + kProjected * kReadStride;
    for (int t = threadIdx.x; t < kProjected; t += kThreads) {
      const int l = first + t;
      shared[kPlacesAt + t] = __int_as_float(l < L ? places.find(l) : -1);
    }
    for (int start = 0; start < kAcross * kDown; start += kThreads) {
      const int tile = start + threadIdx.x, j = tile % kAcross * 4, t = tile / kAcross;
      float sum[4][4] = {};
      for (int d = 0; d < D; d += kSlice) {
        __syncthreads();
        for (int i = threadIdx.x; i < kProjected * kSlice / kVector; i += kThreads) {
          const int token = i / (kSlice / kVector), c = i % (kSlice / kVector) * kVector;
          const int at = place(shared, token);
          float value[kVector] = {};
          if (at >= 0 && d + c < D) load<kVector>(value, x + at * D + d + c);
#pragma unroll
          for (int v = 0; v < kVector; ++v) read[token * kReadStride + c + v] = value[v];
        }
        for (int i = threadIdx.x; i < kSlice * kRow; i += kThreads) {
          const int c = d + i / kRow, from = column(i % kRow);
          weights[i] = c < D && from >= 0 ? to_float(x_proj[c * (kRank + 2 * kStates) + from]) : 0.0f;
        }
        __syncthreads();
        if (t < kDown) multiply(sum, read + t * kReadStride, weights + j);
      }
      if (t < kDown) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float4* to = reinterpret_cast<float4*>(shared + kRowsAt + (t + i * kDown) * kRow + j);
          *to = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
        }
      }
    }
    __syncthreads();
  }

  static EVM_INLINE_MEMBER void multiply(float (&sum)[4][4], const float* read, const float* weights) {
#pragma unroll 2
    for (int c = 0; c < kSlice; c += 4) {
      float a[4][4], b[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        load4(a[i], read + i * (kProjected / 4) * kReadStride + c);
        load4(b[i], weights + (c + i) * kRow);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int v = 0; v < 4; ++v)
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(a[i][v], b[v][j], sum[i][j]);
    }
  }

  EVM_INLINE_MEMBER void add_delta(float* sum, const float* row, int, int c) const {
#pragma unroll
    for (int r = 0; r < kRank; r += 4) {
      float dt[4];
      load4(dt, row + r);
#pragma unroll
      for (int i = 0; i < 4 && r + i < kRank; ++i) {
        float weight[kVector];
        load<kVector>(weight, dt_proj + (r + i) * D + c);
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum[j] = fmaf(dt[i], weight[j], sum[j]);
      }
    }
  }
};

#endif

// Pairs of the tokens from `first` on: delta of zero, which keeps a state as it is, after the last token.
EVM_INLINE void fill(const Source& source, float* shared, int first, const float* bias, int channels) {
  constexpr int kColumns = kChannels / kVector;
  const int c = threadIdx.x % kColumns * kVector;
  for (int t = threadIdx.x / kColumns; t < kSegment; t += kThreads / kColumns) {
    const int l = first + t, place = source.place(shared, l);
    float u[kVector], delta[kVector] = {};
#pragma unroll
    for (int j = 0; j < kVector; ++j) u[j] = source.without_place(l);
    if (place >= 0 && c < channels) load<kVector>(u, source.u + place * source.D + c);
    if (l < source.L && c < channels) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) delta[j] = bias[j];
      source.add_delta(delta, shared + kRowsAt + l % kProjected * kRow, l, c);
#if EVM_SOFTPLUS
#pragma unroll
      for (int j = 0; j < kVector; ++j) delta[j] = softplus(delta[j]);
#endif
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j)
      reinterpret_cast<float2*>(shared)[t * kChannels + c + j] = make_float2(delta[j], u[j]);
  }
}

// h <- 2^(delta a) h + delta u B
EVM_INLINE void advance(float (&h)[kOwn], const float (&a)[kOwn], float2 pair, const float* row) {
  float B[kOwn];
  load<kOwn>(B, row + kB);
  const float input = pair.x * pair.y;
#pragma unroll
  for (int n = 0; n < kOwn; ++n) h[n] = fmaf(exp2_fast(pair.x * a[n]), h[n], input * B[n]);
}

EVM_INLINE void scan(const Source& source, float* shared, const float* A, const float* skip, const float* biases,
                     Result* y, int channels) {
  const int lane = threadIdx.x % 32, group = lane / kWidth, chunk = threadIdx.x / kLanes;
  const int own = threadIdx.x % kLanes, c = own / 32 * kWidth + lane % kWidth;
  const float2* pairs = reinterpret_cast<const float2*>(shared) + chunk * kTokens * kChannels + c;

  float a[kOwn], h[kOwn];
#pragma unroll
  for (int n = 0; n < kOwn; ++n) {
    const int state = group * kOwn + n;
    const float value = c < channels && state < kStates ? A[state * source.D + c] * 1.44269502f : 0.0f;
    a[n] = value < -3.0e38f ? -3.0e38f : value > 3.0e38f ? 3.0e38f : value;  // infinite: NaN for a delta of 0
    h[n] = 0.0f;
  }
  const float through = EVM_SKIP && c < channels && group == 0 ? skip[c] : 0.0f;
  y += c;
  float bias[kVector] = {};
  const int filled = threadIdx.x % (kChannels / kVector) * kVector;
  if (EVM_BIAS && filled < channels) load<kVector>(bias, biases + filled);

  for (int first = 0; first < source.L; first += kSegment) {
    if (first % kProjected == 0) source.rows(shared, first);
    fill(source, shared, first, bias, channels);
    __syncthreads();
    const float* row = shared + kRowsAt + (first % kProjected + chunk * kTokens) * kRow + group * kOwn;

    if (kChunks > 1) {
      float* ends = shared + kEndsAt + own;
      float* sums = shared + kSumsAt + own;
      float* carry = ends + kChunks * kOwn * kLanes - kOwn * kLanes;  // two: one is read while the other is written
      const int odd = first / kSegment % 2;
      if (chunk < kChunks - 1) {
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < kOwn; ++n) h[n] = 0.0f;
#pragma unroll 4
        for (int t = 0; t < kTokens; ++t) {
          const float2 pair = pairs[t * kChannels];
          sum += pair.x;
          advance(h, a, pair, row + t * kRow);
        }
#pragma unroll
        for (int n = 0; n < kOwn; ++n) ends[(chunk * kOwn + n) * kLanes] = h[n];
        sums[chunk * kLanes] = sum;
      }
      __syncthreads();
#pragma unroll
      for (int n = 0; n < kOwn; ++n) h[n] = first == 0 ? 0.0f : carry[(odd * kOwn + n) * kLanes];
      for (int before = 0; before < chunk; ++before) {
        const float sum = sums[before * kLanes];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) h[n] = fmaf(exp2_fast(sum * a[n]), h[n], ends[(before * kOwn + n) * kLanes]);
      }
    }

#pragma unroll(kGroups < 4 ? 4 / kGroups : 1)
    for (int start = 0; start < kTokens; start += kGroups) {
      float part[kGroups];  // of y, for as many tokens as threads share a channel: each ends up with one of them
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        const int t = start + j;
        const float2 pair = pairs[t * kChannels];
        advance(h, a, pair, row + t * kRow);
        float C[kOwn];
        load<kOwn>(C, row + t * kRow + kC);
        part[j] = through * pair.y;
#pragma unroll
        for (int n = 0; n < kOwn; ++n) part[j] = fmaf(C[n], h[n], part[j]);
      }
#pragma unroll
      for (int s = kGroups / 2; s > 0; s /= 2) {
#pragma unroll
        for (int j = 0; j < s; ++j) {
          const bool upper = group & s;
          const float give = upper ? part[j] : part[j + s], keep = upper ? part[j + s] : part[j];
          part[j] = keep + __shfl_xor_sync(0xffffffffu, give, s * kWidth);
        }
      }
      const int result = source.result(shared, first + chunk * kTokens + start + group);
      if (result >= 0 && c < channels) store(y + result * source.D, part[0]);
    }

    if (kChunks > 1 && chunk == kChunks - 1) {
      float* carry = shared + kEndsAt + (kChunks - 1) * kOwn * kLanes + own;
      const int odd = (first / kSegment + 1) % 2;
#pragma unroll
      for (int n = 0; n < kOwn; ++n) carry[(odd * kOwn + n) * kLanes] = h[n];
    }
    __syncthreads();
  }
}

}  // namespace

#ifdef EVM_SELECTIVE_SCAN
extern "C" __global__ void __launch_bounds__(kThreads, kResident)
evm_selective_scan(const Element* __restrict__ u, const Element* __restrict__ delta, const float* __restrict__ A,
                   const Element* __restrict__ B, const Element* __restrict__ C,
#if EVM_SKIP
                   const float* __restrict__ skip,
#endif
#if EVM_BIAS
                   const float* __restrict__ bias,
#endif
                   int K, int L, int D, Element* __restrict__ y) {
#if !EVM_SKIP
  const float* skip = nullptr;
#endif
#if !EVM_BIAS
  const float* bias = nullptr;
#endif
  EVM_SHARED_MEMORY(shared);
  const int tiles = (D + kChannels - 1) / kChannels, sequence = blockIdx.x / tiles, k = sequence % K;
  const int c = blockIdx.x % tiles * kChannels;
  const long long token = static_cast<long long>(sequence) * L;
  const Source source = {u + token * D + c, delta + token * D + c, B + token * kStates, C + token * kStates, L, D};
  scan(source, shared, A + k * kStates * D + c, skip + k * D + c, bias + k * D + c, y + token * D + c, D - c);
}
#elif defined(EVM_EFFICIENT_SCAN_2D)
extern "C" __global__ void __launch_bounds__(kThreads, kResident)
evm_efficient_scan_2d(const Element* __restrict__ x, const Element* __restrict__ x_proj,
                      const Element* __restrict__ dt_proj, const float* __restrict__ dt_bias,
                      const float* __restrict__ A, const float* __restrict__ skip, int H, int W, int D,
                      Element* __restrict__ y) {
  EVM_SHARED_MEMORY(shared);
  constexpr int kStep = EVM_STEP, K = kStep * kStep;
  const int tiles = (D + kChannels - 1) / kChannels, sequence = blockIdx.x / tiles, k = sequence % K;
  const int c = blockIdx.x % tiles * kChannels, L = ((H + kStep - 1) / kStep) * ((W + kStep - 1) / kStep);
  const long long image = static_cast<long long>(sequence / K) * H * W * D;
  const Source source = {x + image + c, x + image, x_proj + k * D * (kRank + 2 * kStates),
                         dt_proj + k * kRank * D + c, L, D, {H, W, k}};
  scan(source, shared, A + k * kStates * D + c, skip + k * D + c, dt_bias + k * D + c, y + image + c, D - c);
}
#else
extern "C" __global__ void __launch_bounds__(kThreads, kResident)
evm_grouped_scan(const Element* __restrict__ x, const Element* __restrict__ x_proj,
                 const Element* __restrict__ dt_proj, const float* __restrict__ dt_bias, const float* __restrict__ A,
                 const float* __restrict__ skip, const long long* __restrict__ order, int T, int K, int L, int D,
                 float* __restrict__ y) {
  EVM_SHARED_MEMORY(shared);
  const int tiles = (D + kChannels - 1) / kChannels, sequence = blockIdx.x / tiles, k = sequence % K;
  const int c = blockIdx.x % tiles * kChannels;
  const long long image = static_cast<long long>(sequence / K) * T * D;
  const long long results = static_cast<long long>(sequence) * L;
  const Source source = {x + image + c, x + image, x_proj + k * D * (kRank + 2 * kStates),
                         dt_proj + k * kRank * D + c, L, D, {order + static_cast<long long>(k) * L, T}};
  scan(source, shared, A + k * kStates * D + c, skip + k * D + c, dt_bias + k * D + c, y + results * D + c, D - c);
}
#endif
