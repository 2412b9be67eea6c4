// The library as a C program, or ctypes, calls it. Shapes are those of scan.h.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define EVM_EXPORT __declspec(dllexport)
#else
#define EVM_EXPORT __attribute__((visibility("default")))
#endif

extern "C" {

enum evm_result { EVM_OK = 0, EVM_BAD_ARGUMENT = 1, EVM_OUT_OF_MEMORY = 2 };

// "evm_ops interface N". N is raised with every change of what stands here, or of the operators of onnxruntime: who loads
// the library refuses it with another N than its own (`INTERFACE` in evm_deploy/scan/native.py).
EVM_EXPORT const char* evm_interface(void);

// "avx512vnni", "avx512", "avx2" or "baseline" on x86-64, "neon" on aarch64: what the calls below use.
EVM_EXPORT const char* evm_isa(void);

// Uses the named one from now on, in the whole process. 0, or 1 where this processor has it not.
EVM_EXPORT int evm_set_isa(const char* name);

struct evm_selective_scan_args {
  int64_t batch, groups, length, channels, states, delta_softplus, threads;
  const float *u, *delta, *A, *B, *C, *D, *delta_bias;  // D and delta_bias may be null
  float* y;
};
EVM_EXPORT int evm_selective_scan_f32(const evm_selective_scan_args* args);

struct evm_efficient_scan_2d_args {
  int64_t batch, height, width, channels, states, rank, step, threads;
  const float *x, *x_proj, *dt_proj, *dt_bias, *A, *D;
  float* y;
};
EVM_EXPORT int evm_efficient_scan_2d_f32(const evm_efficient_scan_2d_args* args);

struct evm_ordered_scan_args {
  int64_t batch, tokens, groups, length, channels, states, rank, summed, results, threads;
  const float *x, *x_proj, *dt_proj, *dt_bias, *A, *D;
  const int64_t *order, *back;
  float* y;
};
EVM_EXPORT int evm_ordered_scan_f32(const evm_ordered_scan_args* args);

struct evm_causal_conv_args {
  int64_t batch, tokens, groups, length, channels, taps, threads;
  const float *x, *weight, *bias;
  const int64_t* order;
  float* y;
};
EVM_EXPORT int evm_causal_conv_f32(const evm_causal_conv_args* args);
}
