// Mamba's causal depthwise convolution with its SiLU, of tokens in given orders: y[l] = silu(bias + sum over j of
// weight[j] x[order[l - taps + 1 + j]]), without the terms before the first token.
//
// A thread takes EVM_VECTOR channels of one of EVM_RUNS runs of consecutive tokens of a group, and holds the last taps
// of them. Neighbouring threads take neighbouring channels.

#include "element.cuh"

namespace {

constexpr int kTaps = EVM_TAPS, kVector = EVM_VECTOR, kRuns = EVM_RUNS, kThreads = EVM_THREADS;

// Zeros before the first token; NaN for one that the order names wrongly.
EVM_INLINE void read_token(float (&value)[kVector], const Element* x, const long long* order, int l, int T, int D) {
  const int at = l < 0 ? -1 : find_token(order, l, T);
#pragma unroll
  for (int v = 0; v < kVector; ++v) value[v] = l < 0 ? 0.0f : make_nan();
  if (at >= 0) load<kVector>(value, x + at * D);
}

EVM_INLINE float silu(float x) { return x * reciprocal(1.0f + exp2_fast(x * -1.44269502f)); }

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
evm_causal_conv(const Element* __restrict__ x, const Element* __restrict__ weight, const Element* __restrict__ bias,
                const long long* __restrict__ order, int T, int K, int L, int D, Element* __restrict__ y) {
  const int columns = D / kVector, lanes = columns * kRuns, tiles = (lanes + kThreads - 1) / kThreads;
  const int sequence = blockIdx.x / tiles, k = sequence % K, lane = blockIdx.x % tiles * kThreads + threadIdx.x;
  if (lane >= lanes) return;
  const int c = lane % columns * kVector, length = (L + kRuns - 1) / kRuns, first = lane / columns * length;
  const int end = first + length < L ? first + length : L;
  x += static_cast<long long>(sequence / K) * T * D + c;
  y += static_cast<long long>(sequence) * L * D + c;
  order += static_cast<long long>(k) * L;

  float weights[kTaps][kVector], biases[kVector], tokens[kTaps][kVector];
  load<kVector>(biases, bias + k * D + c);
#pragma unroll
  for (int j = 0; j < kTaps; ++j) {
    load<kVector>(weights[j], weight + (k * kTaps + j) * D + c);
    if (j > 0 && first < end) read_token(tokens[j], x, order, first - kTaps + j, T, D);
  }
  for (int l = first; l < end; ++l) {
#pragma unroll
    for (int j = 1; j < kTaps; ++j)
#pragma unroll
      for (int v = 0; v < kVector; ++v) tokens[j - 1][v] = tokens[j][v];
    read_token(tokens[kTaps - 1], x, order, l, T, D);
    float sum[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      sum[v] = biases[v];
#pragma unroll
      for (int j = 0; j < kTaps; ++j) sum[v] = fmaf(weights[j][v], tokens[j][v], sum[v]);
      sum[v] = silu(sum[v]);
    }
    if (kVector == 4) {
      store4(y + l * D, sum);
    } else {
#pragma unroll
      for (int v = 0; v < kVector; ++v) store(y + l * D + v, sum[v]);
    }
  }
}
