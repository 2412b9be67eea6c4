// Sizes that come from outside, from a graph or a caller of the C interface, and their products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace evm {

// What every file here refuses arguments with: std::invalid_argument, or the page's own error in a browser.
#if defined(__wasm__)
extern "C" __attribute__((import_module("page"), import_name("refuse"))) [[noreturn]] void evm_refuse(const char* why);
[[noreturn]] inline void refuse(const char* why) { evm_refuse(why); }
#else
[[noreturn]] inline void refuse(const char* why) { throw std::invalid_argument(why); }
#endif

// Numbers that a tensor may have: its bytes, and a sum of a few such counts, are still a size_t and int64.
constexpr int64_t kMostNumbers = int64_t{1} << (sizeof(size_t) > 4 ? 58 : 28);
// `step` of the scans of a map: its square is the number of groups, which a body writes down one by one.
constexpr int64_t kMostSteps = 64;
// Channels of the scan on integers: the sums of their products, of uint8 and int8, fit int32.
constexpr int64_t kMostIntegerChannels = 1 << 16;

// The product. Refuses a negative size, and where the product is larger than kMostNumbers
// after all zeros were replaced by ones: so the product of some of the sizes is no larger either.
template <class Sizes>
int64_t count_numbers(const Sizes& sizes) {
  int64_t count = 1;
  bool none = false;
  for (const int64_t size : sizes) {
    const int64_t factor = size == 0 ? 1 : size;
    none = none || size == 0;
    if (size < 0 || factor > kMostNumbers / count)
      refuse(sizeof(size_t) > 4 ? "evm: sizes that are negative, or more than 2^58 numbers"
                                : "evm: sizes that are negative, or more than 2^28 numbers");
    count *= factor;
  }
  return none ? 0 : count;
}

inline int64_t count_numbers(std::initializer_list<int64_t> sizes) {
  return count_numbers<std::initializer_list<int64_t>>(sizes);
}

}  // namespace evm
