// The causal depthwise convolution of Mamba.
#pragma once

#include "scan.h"

namespace evm {

// evm::CausalConv: y[b,k,l,d] = SiLU(bias[k,d] + sum over j of weight[k,j,d] * x[b, order[k, l - taps + 1 + j], d]), without
// the terms before the first token.
struct CausalConv {
  int64_t batch, tokens, groups, length, channels, taps;
  const float* x;        // (batch, tokens, channels)
  const float* weight;   // (groups, taps, channels)
  const float* bias;     // (groups, channels)
  const int64_t* order;  // (groups, length)
  float* y;              // (batch, groups, length, channels)
};

// As the scans of scan.h.
void run(const CausalConv& conv, const Parallel& parallel);

// One sequence of it: pointers are at the first of its group, x at its image.
struct ConvolvedSequence {
  const float *x, *weight, *bias;
  const int64_t* order;
  float* y;
  int64_t channels, taps;
};

}  // namespace evm
