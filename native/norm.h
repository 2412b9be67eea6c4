// LayerNormalization over the last axis with what follows it, in one pass over memory. All arithmetic is float32.
#pragma once

#include "scan.h"

namespace evm {

// evm::GatedNorm: y = LayerNorm(x) * SiLU(z), row by row.
struct GatedNorm {
  int64_t rows, channels;
  float epsilon;
  const float* x;      // (rows, channels)
  const float* z;      // (rows, channels)
  const float* scale;  // (channels)
  const float* bias;   // (channels)
  float* y;            // (rows, channels)
};

// evm::MeanOfNorm: the mean over the tokens of LayerNorm(x).
struct MeanOfNorm {
  int64_t batch, tokens, channels;
  float epsilon;
  const float* x;      // (batch, tokens, channels)
  const float* scale;  // (channels)
  const float* bias;   // (channels)
  float* y;            // (batch, channels)
};

// The results do not depend on how `parallel` spreads the tasks. Throws std::bad_alloc.
void run(const GatedNorm& norm, const Parallel& parallel);
void run(const MeanOfNorm& norm, const Parallel& parallel);

}  // namespace evm
