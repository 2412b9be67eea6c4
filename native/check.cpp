// Runs one operator on a case from a file, so that a build for another processor can be held against the reference
// under emulation: evm_check CASE RESULT. The case is int64 numbers (operator 0 or 1, the dimensions in the order of
// c_api.h, for SelectiveScan whether D and delta_bias are there), then the float32 tensors; the result is y, then the
// name of the instruction set. Operators 2 and 3 are the normalisations of norm.h, for epsilon = 1e-5; 4 is
// the lookup of a count of numbers, which are floats here, in a table of floats and in one of bytes: y is both results.
// 5 is OrderedScan, with the order and its inverse as floats; 6 is CausalConv, with its order as floats.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "c_api.h"
#include "lookup.h"
#include "norm.h"
#include "scan.h"
#include "sizes.h"

namespace {

class Reader {
 public:
  explicit Reader(std::FILE* file) : file_(file) {}

  int64_t number() {
    int64_t value = 0;
    complete = std::fread(&value, sizeof value, 1, file_) == 1 && complete;
    return value;
  }

  const float* floats(std::initializer_list<int64_t> sizes) {
    tensors_.emplace_back(static_cast<size_t>(evm::count_numbers(sizes)));
    std::vector<float>& tensor = tensors_.back();
    complete = std::fread(tensor.data(), sizeof(float), tensor.size(), file_) == tensor.size() && complete;
    return tensor.data();
  }

  bool complete = true;

 private:
  std::FILE* file_;
  std::vector<std::vector<float>> tensors_;
};

int selective_scan(Reader& in, std::vector<float>& y) {
  evm_selective_scan_args a = {};
  for (int64_t* dim : {&a.batch, &a.groups, &a.length, &a.channels, &a.states, &a.delta_softplus, &a.threads})
    *dim = in.number();
  const bool has_D = in.number() != 0, has_bias = in.number() != 0;
  const int64_t tokens = evm::count_numbers({a.batch, a.groups, a.length});
  a.u = in.floats({tokens, a.channels});
  a.delta = in.floats({tokens, a.channels});
  a.A = in.floats({a.groups, a.states, a.channels});
  a.B = in.floats({tokens, a.states});
  a.C = in.floats({tokens, a.states});
  a.D = has_D ? in.floats({a.groups, a.channels}) : nullptr;
  a.delta_bias = has_bias ? in.floats({a.groups, a.channels}) : nullptr;
  y.resize(static_cast<size_t>(evm::count_numbers({tokens, a.channels})));
  a.y = y.data();
  return in.complete ? evm_selective_scan_f32(&a) : -1;
}

int efficient_scan_2d(Reader& in, std::vector<float>& y) {
  evm_efficient_scan_2d_args a = {};
  for (int64_t* dim : {&a.batch, &a.height, &a.width, &a.channels, &a.states, &a.rank, &a.step, &a.threads})
    *dim = in.number();
  const int64_t groups = evm::count_numbers({a.step, a.step});
  const int64_t columns = evm::count_numbers({a.rank}) + evm::count_numbers({2, a.states});
  const int64_t pixels = evm::count_numbers({a.batch, a.height, a.width});
  a.x = in.floats({pixels, a.channels});
  a.x_proj = in.floats({groups, a.channels, columns});
  a.dt_proj = in.floats({groups, a.rank, a.channels});
  a.dt_bias = in.floats({groups, a.channels});
  a.A = in.floats({groups, a.states, a.channels});
  a.D = in.floats({groups, a.channels});
  y.resize(static_cast<size_t>(evm::count_numbers({pixels, a.channels})));
  a.y = y.data();
  return in.complete ? evm_efficient_scan_2d_f32(&a) : -1;
}

int ordered_scan(Reader& in, std::vector<float>& y) {
  evm_ordered_scan_args a = {};
  for (int64_t* dim : {&a.batch, &a.tokens, &a.groups, &a.length, &a.channels, &a.states, &a.rank, &a.summed,
                       &a.results, &a.threads})
    *dim = in.number();
  const int64_t columns = evm::count_numbers({a.rank}) + evm::count_numbers({2, a.states});
  a.x = in.floats({a.batch, a.tokens, a.channels});
  a.x_proj = in.floats({a.groups, a.channels, columns});
  a.dt_proj = in.floats({a.groups, a.rank, a.channels});
  a.dt_bias = in.floats({a.groups, a.channels});
  a.A = in.floats({a.groups, a.states, a.channels});
  a.D = in.floats({a.groups, a.channels});
  const int64_t scanned = evm::count_numbers({a.groups, a.length}), added = evm::count_numbers({a.summed, a.results});
  const float *order = in.floats({scanned}), *back = in.floats({added});
  const std::vector<int64_t> orders(order, order + scanned), backs(back, back + added);
  a.order = orders.data(), a.back = backs.data();
  y.resize(static_cast<size_t>(evm::count_numbers({a.batch, a.results, a.channels})));
  a.y = y.data();
  return in.complete ? evm_ordered_scan_f32(&a) : -1;
}

int causal_conv(Reader& in, std::vector<float>& y) {
  evm_causal_conv_args a = {};
  for (int64_t* dim : {&a.batch, &a.tokens, &a.groups, &a.length, &a.channels, &a.taps, &a.threads}) *dim = in.number();
  a.x = in.floats({a.batch, a.tokens, a.channels});
  a.weight = in.floats({a.groups, a.taps, a.channels});
  a.bias = in.floats({a.groups, a.channels});
  const int64_t count = evm::count_numbers({a.groups, a.length});
  const float* order = in.floats({count});
  const std::vector<int64_t> orders(order, order + count);
  a.order = orders.data();
  y.resize(static_cast<size_t>(evm::count_numbers({a.batch, count, a.channels})));
  a.y = y.data();
  return in.complete ? evm_causal_conv_f32(&a) : -1;
}

void on_this_thread(int64_t count, const evm::Task& task) {
  for (int64_t i = 0; i < count; ++i) task(i);
}

int gated_norm(Reader& in, std::vector<float>& y) {
  evm::GatedNorm norm = {};
  norm.rows = in.number(), norm.channels = in.number(), norm.epsilon = 1e-5f;
  norm.x = in.floats({norm.rows, norm.channels});
  norm.z = in.floats({norm.rows, norm.channels});
  norm.scale = in.floats({norm.channels});
  norm.bias = in.floats({norm.channels});
  y.resize(static_cast<size_t>(evm::count_numbers({norm.rows, norm.channels})));
  norm.y = y.data();
  if (in.complete) evm::run(norm, on_this_thread);
  return in.complete ? 0 : -1;
}

int mean_of_norm(Reader& in, std::vector<float>& y) {
  evm::MeanOfNorm norm = {};
  norm.batch = in.number(), norm.tokens = in.number(), norm.channels = in.number(), norm.epsilon = 1e-5f;
  norm.x = in.floats({norm.batch, norm.tokens, norm.channels});
  norm.scale = in.floats({norm.channels});
  norm.bias = in.floats({norm.channels});
  y.resize(static_cast<size_t>(evm::count_numbers({norm.batch, norm.channels})));
  norm.y = y.data();
  if (in.complete) evm::run(norm, on_this_thread);
  return in.complete ? 0 : -1;
}

int lookup(Reader& in, std::vector<float>& y) {
  const int64_t count = in.number();
  const float *numbers = in.floats({count}), *floats = in.floats({256}), *entries = in.floats({256});
  const std::vector<uint8_t> x(numbers, numbers + count), bytes(entries, entries + 256);
  std::vector<uint8_t> found(static_cast<size_t>(count));
  y.resize(static_cast<size_t>(count));
  evm::run(evm::Lookup<float>{count, x.data(), floats, y.data()}, on_this_thread);
  evm::run(evm::Lookup<uint8_t>{count, x.data(), bytes.data(), found.data()}, on_this_thread);
  y.insert(y.end(), found.begin(), found.end());
  return in.complete ? 0 : -1;
}

// Every float16 there is, to float32 and back. NaN only has to stay NaN.
bool halves_survive() {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    uint16_t back[17], many[17];
    float value[17];
    for (uint16_t& one : many) one = half;
    evm::kernels().to_float(many, value, 17);
    evm::kernels().to_half(value, back, 17);
    const bool nan = (half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0;
    for (const uint16_t one : back)
      if (nan ? (one & 0x7c00) != 0x7c00 || (one & 0x3ff) == 0 : one != half) return false;
  }
  return true;
}

// y of the operator and the case in the file; what it returned.
int run_case(Reader& in, std::vector<float>& y) {
  constexpr int (*kOperators[])(Reader&, std::vector<float>&) = {selective_scan, efficient_scan_2d, gated_norm,
                                                                 mean_of_norm, lookup, ordered_scan,
                                                                 causal_conv};
  const uint64_t op = static_cast<uint64_t>(in.number());
  try {
    return op < 7 ? kOperators[op](in, y) : -1;
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), -1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: evm_check CASE RESULT\n");
    return 2;
  }
  std::FILE* file = std::fopen(argv[1], "rb");
  if (!file) return std::perror(argv[1]), 2;
  Reader in(file);
  std::vector<float> y;
  const int error = run_case(in, y);
  std::fclose(file);
  if (error != 0) return std::fprintf(stderr, "the operator returned %d\n", error), 1;
  if (!halves_survive()) return std::fprintf(stderr, "a float16 does not survive float32\n"), 1;
  std::FILE* result = std::fopen(argv[2], "wb");
  if (!result) return std::perror(argv[2]), 2;
  const char* isa = evm_isa();
  const bool written = std::fwrite(y.data(), sizeof(float), y.size(), result) == y.size() &&
                       std::fwrite(isa, 1, std::strlen(isa), result) == std::strlen(isa);
  return std::fclose(result) == 0 && written ? 0 : 2;
}
