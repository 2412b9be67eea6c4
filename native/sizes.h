// Sizes that come from outside, from a graph or a caller of the C interface, and their products.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace evm {

// Numbers that a tensor may have: its bytes, and a sum of a few such counts, are still int64.
constexpr int64_t kMostNumbers = int64_t{1} << 58;
// `step` of the scans of a map: its square is the number of groups, which a body writes down one by one.
constexpr int64_t kMostSteps = 64;
// Channels of the scan on integers: the sums of their products, of uint8 and int8, fit int32.
constexpr int64_t kMostIntegerChannels = 1 << 16;

// The product. Throws std::invalid_argument for a negative size, and where the product is larger than kMostNumbers
// after all zeros were replaced by ones: so the product of some of the sizes is no larger either.
template <class Sizes>
int64_t count_numbers(const Sizes& sizes) {
  int64_t count = 1;
  bool none = false;
  for (const int64_t size : sizes) {
    none = none || size == 0;
    if (size < 0 || __builtin_mul_overflow(count, size == 0 ? 1 : size, &count) || count > kMostNumbers)
      throw std::invalid_argument("evm: sizes that are negative, or more than 2^58 numbers");
  }
  return none ? 0 : count;
}

inline int64_t count_numbers(std::initializer_list<int64_t> sizes) {
  return count_numbers<std::initializer_list<int64_t>>(sizes);
}

}  // namespace evm
