// Lookups as units of work.

#include "lookup.h"

#include <algorithm>

namespace evm {
namespace {

constexpr int64_t kPiece = 1 << 14;  // of one unit: enough to pay for the hand-over, few enough to share out

template <class T, class Kernel>
void run_pieces(const Lookup<T>& lookup, Kernel kernel, const Parallel& parallel) {
  parallel((lookup.count + kPiece - 1) / kPiece, [&](int64_t piece) {
    const int64_t first = piece * kPiece;
    kernel(lookup.x + first, lookup.table, lookup.y + first, std::min(kPiece, lookup.count - first));
  });
}

}  // namespace

void run(const Lookup<float>& lookup, const Parallel& parallel) {
  run_pieces(lookup, kernels().look_up_floats, parallel);
}

void run(const Lookup<uint8_t>& lookup, const Parallel& parallel) {
  run_pieces(lookup, kernels().look_up_bytes, parallel);
}

}  // namespace evm
