// For benchmarks only: the selective scan as one writes it down, a thread for each channel, one token after the other.
// EVM_HALF and EVM_N as in scan.cu; arguments of evm_selective_scan with D, delta_bias and softplus.

#if EVM_HALF
typedef unsigned short Element;
static __device__ float to_float(Element x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}
static __device__ Element to_element(float x) {
  Element y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#else
typedef float Element;
static __device__ float to_float(Element x) { return x; }
static __device__ Element to_element(float x) { return x; }
#endif

extern "C" __global__ void sequential_scan(const Element* __restrict__ u, const Element* __restrict__ delta,
                                           const float* __restrict__ A, const Element* __restrict__ B,
                                           const Element* __restrict__ C, const float* __restrict__ skip,
                                           const float* __restrict__ bias, int K, int L, int D,
                                           Element* __restrict__ y) {
  const int tiles = (D + blockDim.x - 1) / blockDim.x, d = blockIdx.x % tiles * blockDim.x + threadIdx.x;
  const long long sequence = blockIdx.x / tiles, k = sequence % K;
  if (d >= D) return;
  float a[EVM_N], h[EVM_N] = {};
  for (int n = 0; n < EVM_N; ++n) a[n] = A[(k * EVM_N + n) * D + d];
  for (int l = 0; l < L; ++l) {
    const long long token = sequence * L + l;
    const float x = to_float(delta[token * D + d]) + bias[k * D + d], input = to_float(u[token * D + d]);
    const float step = x > 20.0f ? x : log1pf(expf(x));
    float sum = skip[k * D + d] * input;
#pragma unroll
    for (int n = 0; n < EVM_N; ++n) {
      h[n] = expf(step * a[n]) * h[n] + step * input * to_float(B[token * EVM_N + n]);
      sum += to_float(C[token * EVM_N + n]) * h[n];
    }
    y[token * D + d] = to_element(sum);
  }
}
