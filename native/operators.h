// The operators of domain evm as a graph has them: their names and types, what their inputs have to look like, and how
// the kernels are called. A host (onnxruntime, a page) brings two classes: `Attributes` of a node, and `Call`, one run of
// it. See ort_library.cpp and wasm_module.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "conv.h"
#include "lookup.h"
#include "norm.h"
#include "ort_api.h"
#include "scan.h"
#include "sizes.h"

namespace operators {

using Shape = std::vector<int64_t>;

constexpr int kRow = 0;  // the type of an input that is that of the output: mostly what the graph computes in

// ES2D without the weights of its first projection, which are input `x_proj`; the inputs from `dt_proj` on are alike in
// all forms of it.
template <class Call>
evm::EfficientScan2D scan_2d(Call& call, int64_t step, size_t x_proj, size_t dt_proj) {
  const Shape x = call.shape(0, "x", 4, "(B, H, W, D)");
  const Shape rank = call.shape(dt_proj, "dt_proj", 3, "(K, R, D)"), A = call.shape(dt_proj + 2, "A", 3, "(K, N, D)");
  const int64_t K = step * step, D = x[3], R = rank[1], N = A[1];
  call.expect(x_proj, "x_proj", {K, D, R + 2 * N});
  call.expect(dt_proj, "dt_proj", {K, R, D});
  call.expect(dt_proj + 1, "dt_bias", {K, D});
  call.expect(dt_proj + 2, "A", {K, N, D});
  call.expect(dt_proj + 3, "D", {K, D});
  evm::EfficientScan2D scan = {};
  scan.batch = x[0], scan.height = x[1], scan.width = x[2];
  scan.channels = D, scan.states = N, scan.rank = R, scan.step = step;
  scan.x = call.floats(0, true);
  scan.dt_proj = call.floats(dt_proj, true);
  scan.dt_bias = call.floats(dt_proj + 1, false);
  scan.A = call.floats(dt_proj + 2, false);
  scan.skip = call.floats(dt_proj + 3, false);
  return scan;
}

struct EfficientScan2D {
  static constexpr const char* kName = "EfficientScan2D";
  static constexpr size_t kInputs = 6, kRequired = 6, kTypeFrom = 0;
  static constexpr bool kLikeFirst = true;
  static int type(size_t input) { return input < 3 ? kRow : ORT_FLOAT; }  // x, x_proj, dt_proj

  template <class Attributes>
  explicit EfficientScan2D(const Attributes& attributes) : step(attributes.integer("step", 2, 1, evm::kMostSteps)) {}

  template <class Call>
  void compute(Call& call) const {
    evm::EfficientScan2D scan = scan_2d(call, step, 1, 2);
    scan.x_proj = call.floats(1, true);
    scan.y = call.output(call.shape(0));
    evm::run(scan, call.parallel);
    call.finish();
  }

  int64_t step;
};

// EfficientScan2D with x_proj on integers; float32 alone.
struct QuantizedEfficientScan2D {
  static constexpr const char* kName = "QuantizedEfficientScan2D";
  static constexpr size_t kInputs = 9, kRequired = 9, kTypeFrom = 0;
  static constexpr bool kLikeFirst = true;
  static int type(size_t input) { return input == 2 ? ORT_UINT8 : input == 3 ? ORT_INT8 : ORT_FLOAT; }

  template <class Attributes>
  explicit QuantizedEfficientScan2D(const Attributes& attributes) : step(EfficientScan2D(attributes).step) {}

  template <class Call>
  void compute(Call& call) const {
    evm::EfficientScan2D scan = scan_2d(call, step, 3, 5);
    call.expect(1, "x_scale", {});
    call.expect(2, "x_zero_point", {});
    call.expect(4, "x_proj_scale", {step * step, scan.rank + 2 * scan.states});
    evm::IntegerWeights integers = {};
    integers.rounding = {*call.floats(1, false), *static_cast<const uint8_t*>(call.data(2))};
    integers.W = static_cast<const int8_t*>(call.data(3));
    integers.scales = call.floats(4, false);
    scan.integers = &integers;
    scan.y = call.output(call.shape(0));
    evm::run(scan, call.parallel);
  }

  int64_t step;
};

struct OrderedScan {
  static constexpr const char* kName = "OrderedScan";
  static constexpr size_t kInputs = 8, kRequired = 8, kTypeFrom = 0;
  static constexpr bool kLikeFirst = false;
  static int type(size_t input) { return input < 3 ? kRow : input < 6 ? ORT_FLOAT : ORT_INT64; }

  template <class Attributes>
  explicit OrderedScan(const Attributes&) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape x = call.shape(0, "x", 3, "(B, T, D)"), order = call.shape(6, "order", 2, "(K, L)");
    const Shape dt_proj = call.shape(2, "dt_proj", 3, "(K, R, D)"), A = call.shape(4, "A", 3, "(K, N, D)");
    const Shape back = call.shape(7, "back", 2, "(M, T')");
    const int64_t K = order[0], D = x[2], R = dt_proj[1], N = A[1];
    call.expect(1, "x_proj", {K, D, R + 2 * N});
    call.expect(2, "dt_proj", {K, R, D});
    call.expect(3, "dt_bias", {K, D});
    call.expect(4, "A", {K, N, D});
    call.expect(5, "D", {K, D});
    evm::OrderedScan scan = {};
    scan.batch = x[0], scan.tokens = x[1], scan.channels = D;
    scan.groups = K, scan.length = order[1], scan.states = N, scan.rank = R;
    scan.summed = back[0], scan.results = back[1];
    scan.x = call.floats(0, true);
    scan.x_proj = call.floats(1, true);
    scan.dt_proj = call.floats(2, true);
    scan.dt_bias = call.floats(3, false);
    scan.A = call.floats(4, false);
    scan.skip = call.floats(5, false);
    scan.order = static_cast<const int64_t*>(call.data(6));
    scan.back = static_cast<const int64_t*>(call.data(7));
    scan.y = call.output({x[0], back[1], D});
    evm::run(scan, call.parallel);
    call.finish();
  }
};

struct CausalConv {
  static constexpr const char* kName = "CausalConv";
  static constexpr size_t kInputs = 4, kRequired = 4, kTypeFrom = 0;
  static constexpr bool kLikeFirst = false;
  static int type(size_t input) { return input < 3 ? kRow : ORT_INT64; }

  template <class Attributes>
  explicit CausalConv(const Attributes& attributes) : taps(attributes.integer("taps", 4)) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape x = call.shape(0, "x", 3, "(B, T, D)"), order = call.shape(3, "order", 2, "(K, L)");
    const int64_t K = order[0], L = order[1], D = x[2];
    call.expect(1, "weight", {K, taps, D});
    call.expect(2, "bias", {K, D});
    evm::CausalConv conv = {x[0], x[1], K, L, D, taps, nullptr, nullptr, nullptr, nullptr, nullptr};
    conv.x = call.floats(0, true);
    conv.weight = call.floats(1, true);
    conv.bias = call.floats(2, true);
    conv.order = static_cast<const int64_t*>(call.data(3));
    conv.y = call.output({x[0], K, L, D});
    evm::run(conv, call.parallel);
    call.finish();
  }

  int64_t taps;
};

struct SelectiveScan {
  static constexpr const char* kName = "SelectiveScan";
  static constexpr size_t kInputs = 7, kRequired = 5, kTypeFrom = 0;
  // onnxruntime's own code for shape inference does not expect that an optional input is absent.
  static constexpr bool kLikeFirst = false;
  static int type(size_t input) { return input != 2 && input < 5 ? kRow : ORT_FLOAT; }  // u, delta, B, C

  template <class Attributes>
  explicit SelectiveScan(const Attributes& attributes) : delta_softplus(attributes.integer("delta_softplus", 0) != 0) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape u = call.shape(0, "u", 4, "(B, K, L, D)"), A = call.shape(2, "A", 3, "(K, N, D)");
    const int64_t K = u[1], D = u[3], N = A[1];
    call.expect(1, "delta", u);
    call.expect(2, "A", {K, N, D});
    call.expect(3, "B", {u[0], K, u[2], N});
    call.expect(4, "C", {u[0], K, u[2], N});
    if (call.has(5)) call.expect(5, "D", {K, D});
    if (call.has(6)) call.expect(6, "delta_bias", {K, D});
    evm::SelectiveScan scan = {};
    scan.batch = u[0], scan.groups = K, scan.length = u[2];
    scan.channels = D, scan.states = N, scan.delta_softplus = delta_softplus;
    scan.u = call.floats(0, true);
    scan.delta = call.floats(1, true);
    scan.A = call.floats(2, false);
    scan.B = call.floats(3, true);
    scan.C = call.floats(4, true);
    scan.skip = call.has(5) ? call.floats(5, false) : nullptr;
    scan.delta_bias = call.has(6) ? call.floats(6, false) : nullptr;
    scan.y = call.output(u);
    evm::run(scan, call.parallel);
    call.finish();
  }

  bool delta_softplus;
};

struct GatedNorm {
  static constexpr const char* kName = "GatedNorm";
  static constexpr size_t kInputs = 4, kRequired = 4, kTypeFrom = 0;
  static constexpr bool kLikeFirst = true;
  static int type(size_t) { return kRow; }

  template <class Attributes>
  explicit GatedNorm(const Attributes& attributes) : epsilon(attributes.number("epsilon")) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape x = call.shape(0);
    if (x.empty()) call.fail("x", x, "(..., C)");
    const int64_t C = x.back();
    call.expect(1, "z", x);
    call.expect(2, "scale", {C});
    call.expect(3, "bias", {C});
    const int64_t rows = evm::count_numbers(Shape(x.begin(), x.end() - 1));
    evm::GatedNorm norm = {rows, C, epsilon, nullptr, nullptr, nullptr, nullptr, nullptr};
    norm.x = call.floats(0, true);
    norm.z = call.floats(1, true);
    norm.scale = call.floats(2, true);
    norm.bias = call.floats(3, true);
    norm.y = call.output(x);
    if (C > 0) evm::run(norm, call.parallel);
    call.finish();
  }

  float epsilon;
};

struct MeanOfNorm {
  static constexpr const char* kName = "MeanOfNorm";
  static constexpr size_t kInputs = 3, kRequired = 3, kTypeFrom = 0;
  static constexpr bool kLikeFirst = false;
  static int type(size_t) { return kRow; }

  template <class Attributes>
  explicit MeanOfNorm(const Attributes& attributes) : epsilon(attributes.number("epsilon")) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape x = call.shape(0, "x", 4, "(B, H, W, C)");
    if (x[1] * x[2] * x[3] == 0) call.fail("x", x, "(B, H, W, C) with tokens and channels");
    call.expect(1, "scale", {x[3]});
    call.expect(2, "bias", {x[3]});
    evm::MeanOfNorm norm = {x[0], x[1] * x[2], x[3], epsilon, nullptr, nullptr, nullptr, nullptr};
    norm.x = call.floats(0, true);
    norm.scale = call.floats(1, true);
    norm.bias = call.floats(2, true);
    norm.y = call.output({x[0], 1, 1, x[3]});
    evm::run(norm, call.parallel);
    call.finish();
  }

  float epsilon;
};

// T is the type of the table: float or uint8_t.
template <class T>
struct Lookup {
  static constexpr const char* kName = "Lookup";
  static constexpr size_t kInputs = 2, kRequired = 2, kTypeFrom = 1;
  static constexpr bool kLikeFirst = true;
  static int type(size_t input) { return input == 0 ? ORT_UINT8 : kRow; }

  template <class Attributes>
  explicit Lookup(const Attributes&) {}

  template <class Call>
  void compute(Call& call) const {
    const Shape x = call.shape(0);
    call.expect(1, "table", {256});
    evm::Lookup<T> lookup = {evm::count_numbers(x), nullptr, nullptr, nullptr};
    lookup.x = static_cast<const uint8_t*>(call.data(0));
    lookup.table = static_cast<const T*>(call.data(1));
    lookup.y = static_cast<T*>(call.raw_output(x));
    evm::run(lookup, call.parallel);
  }
};

}  // namespace operators
