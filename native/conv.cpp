// The causal convolution as units of work over batch, group and tokens.

#include "conv.h"

#include <algorithm>

#include "sizes.h"

namespace evm {
namespace {

constexpr int64_t kTokens = 64;  // of one unit: enough to pay for the hand-over, few enough to share out

void check(const CausalConv& c) {
  count_numbers({c.batch, c.tokens, c.channels});
  count_numbers({c.batch, c.groups, c.length, c.channels});
  count_numbers({c.groups, c.taps, c.channels});
  for (int64_t i = 0; i < count_numbers({c.groups, c.length}); ++i)
    if (c.order[i] < 0 || c.order[i] >= c.tokens)
      refuse("evm: the order of a convolution names a token that is not there");
}

}  // namespace

void run(const CausalConv& c, const Parallel& parallel) {
  check(c);
  const int64_t pieces = (c.length + kTokens - 1) / kTokens;
  parallel(c.batch * c.groups * pieces, [&](int64_t index) {
    const int64_t sequence = index / pieces, k = sequence % c.groups, first = index % pieces * kTokens;
    ConvolvedSequence s = {};
    s.x = c.x + sequence / c.groups * c.tokens * c.channels;
    s.weight = c.weight + k * c.taps * c.channels;
    s.bias = c.bias + k * c.channels;
    s.order = c.order + k * c.length;
    s.y = c.y + sequence * c.length * c.channels;
    s.channels = c.channels, s.taps = c.taps;
    kernels().convolve(s, first, std::min(kTokens, c.length - first));
  });
}

}  // namespace evm
