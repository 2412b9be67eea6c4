// A function of one byte, written down for all 256 of them.
#pragma once

#include "scan.h"

namespace evm {

// evm::Lookup: y[i] = table[x[i]]. T is float or uint8_t.
template <class T>
struct Lookup {
  int64_t count;
  const uint8_t* x;  // (count)
  const T* table;    // (256)
  T* y;              // (count)
};

void run(const Lookup<float>& lookup, const Parallel& parallel);
void run(const Lookup<uint8_t>& lookup, const Parallel& parallel);

}  // namespace evm
