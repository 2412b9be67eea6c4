// The normalisations as units of work over rows.

#include "norm.h"

#include <algorithm>
#include <vector>

namespace evm {
namespace {

constexpr int64_t kRows = 128;  // of one unit: enough to pay for the hand-over, few enough to share out

int64_t pieces_of(int64_t rows) { return (rows + kRows - 1) / kRows; }

}  // namespace

void run(const GatedNorm& norm, const Parallel& parallel) {
  parallel(pieces_of(norm.rows), [&](int64_t piece) {
    const int64_t first = piece * kRows;
    kernels().gated_norm(norm, first, std::min(kRows, norm.rows - first));
  });
}

void run(const MeanOfNorm& norm, const Parallel& parallel) {
  const int64_t pieces = pieces_of(norm.tokens), C = norm.channels;
  std::vector<float> sums(static_cast<size_t>(norm.batch * pieces * C), 0.0f);
  parallel(norm.batch * pieces, [&](int64_t index) {
    const int64_t first = index % pieces * kRows, image = index / pieces;
    const float* x = norm.x + (image * norm.tokens + first) * C;
    kernels().sum_of_norm(norm, x, std::min(kRows, norm.tokens - first), sums.data() + index * C);
  });
  for (int64_t image = 0; image < norm.batch; ++image) {
    float* total = sums.data() + image * pieces * C;  // of the first piece, to which the others are added in order
    for (int64_t piece = 1; piece < pieces; ++piece)
      for (int64_t c = 0; c < C; ++c) total[c] += total[piece * C + c];
    for (int64_t c = 0; c < C; ++c)
      norm.y[image * C + c] = total[c] / static_cast<float>(norm.tokens) * norm.scale[c] + norm.bias[c];
  }
}

}  // namespace evm
