// The onnxruntime operator library: the scans and the normalisations of domain evm, for float and float16, and lookups.

#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api.h"
#include "conv.h"
#include "lookup.h"
#include "norm.h"
#include "ort_api.h"
#include "scan.h"
#include "sizes.h"

namespace {

using Shape = std::vector<int64_t>;

const OrtApi* api = nullptr;

// A call that failed; carries the runtime's own status to the boundary.
struct Failure {
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status) throw Failure{status};
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

// Nothing that is thrown may cross into onnxruntime.
template <class Body>
OrtStatus* guarded(const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::invalid_argument& error) {
    return api->CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return api->CreateStatus(ORT_FAIL, "evm: there is not enough memory");
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}

evm::Parallel on_runtime_threads(const OrtKernelContext* context) {
  return [context](int64_t count, const evm::Task& task) {
    struct Run {
      const evm::Task& task;
      std::mutex mutex;
      std::exception_ptr error;
    } run{task, {}, {}};
    auto one = [](void* data, size_t index) {
      Run& run = *static_cast<Run*>(data);
      try {
        run.task(static_cast<int64_t>(index));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(run.mutex);
        run.error = std::current_exception();
      }
    };
    check(api->KernelContext_ParallelFor(context, one, static_cast<size_t>(count), 0, &run));
    if (run.error) std::rethrow_exception(run.error);
  };
}

// One call of a kernel: its tensors as float32, whatever they are in the graph.
class Call {
 public:
  Call(OrtKernelContext* context, const char* op, bool half)
      : parallel(on_runtime_threads(context)), context_(context), op_(op), half_(half) {
    check(api->KernelContext_GetInputCount(context, &inputs_));
  }

  // False where an optional input was left out.
  bool has(size_t index) const { return index < inputs_ && value(index); }

  Shape shape(size_t index) const {
    OrtTensorTypeAndShapeInfo* info;
    check(api->GetTensorTypeAndShape(value(index), &info));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owner(
        info, api->ReleaseTensorTypeAndShapeInfo);
    size_t rank;
    check(api->GetDimensionsCount(info, &rank));
    Shape dims(rank);
    check(api->GetDimensions(info, dims.data(), rank));
    evm::count_numbers(dims);
    return dims;
  }

  Shape shape(size_t index, const char* name, size_t rank, const char* layout) const {
    Shape dims = shape(index);
    if (dims.size() != rank) fail(name, dims, layout);
    return dims;
  }

  void expect(size_t index, const char* name, const Shape& expected) const {
    const Shape dims = shape(index);
    if (dims != expected) fail(name, dims, to_string(expected));
  }

  const void* data(size_t index) const {
    void* data;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value(index)), &data));
    return data;
  }

  // The tensor as float32. `typed`: it has the type of x or u, and is not always float32.
  const float* floats(size_t index, bool typed) {
    const void* data = this->data(index);
    if (!half_ || !typed) return static_cast<const float*>(data);
    const int64_t count = evm::count_numbers(shape(index));
    float* out = buffer(count);
    const uint16_t* in = static_cast<const uint16_t*>(data);
    convert(count, [&](int64_t first, int64_t n) { evm::kernels().to_float(in + first, out + first, n); });
    return out;
  }

  void* raw_output(const Shape& dims) {
    OrtValue* value;
    check(api->KernelContext_GetOutput(context_, 0, dims.data(), dims.size(), &value));
    check(api->GetTensorMutableData(value, &result_));
    return result_;
  }

  float* output(const Shape& dims) {
    raw_output(dims);
    result_count_ = evm::count_numbers(dims);
    return half_ ? result_floats_ = buffer(result_count_) : static_cast<float*>(result_);
  }

  void finish() {
    if (!half_) return;
    uint16_t* out = static_cast<uint16_t*>(result_);
    convert(result_count_,
            [&](int64_t first, int64_t n) { evm::kernels().to_half(result_floats_ + first, out + first, n); });
  }

  [[noreturn]] void fail(const std::string& name, const Shape& got, const std::string& expected) const {
    throw std::invalid_argument(std::string("evm::") + op_ + ": " + name + " has shape " + to_string(got) +
                                ", expected " + expected);
  }

  const evm::Parallel parallel;

 private:
  const OrtValue* value(size_t index) const {
    const OrtValue* out;
    check(api->KernelContext_GetInput(context_, index, &out));
    return out;
  }

  float* buffer(int64_t count) {
    buffers_.emplace_back(new float[static_cast<size_t>(count)]);
    return buffers_.back().get();
  }

  template <class Body>
  void convert(int64_t count, const Body& body) const {
    constexpr int64_t kPiece = 1 << 15;
    parallel((count + kPiece - 1) / kPiece, [&](int64_t i) {
      const int64_t first = i * kPiece;
      body(first, count - first < kPiece ? count - first : kPiece);
    });
  }

  OrtKernelContext* context_;
  const char* op_;
  bool half_;
  size_t inputs_;
  void* result_ = nullptr;
  float* result_floats_ = nullptr;
  int64_t result_count_ = 0;
  std::vector<std::unique_ptr<float[]>> buffers_;
};

int64_t attribute(const OrtKernelInfo* info, const char* name, int64_t otherwise) {
  int64_t value = otherwise;
  if (OrtStatus* status = api->KernelInfoGetAttribute_int64(info, name, &value)) {
    api->ReleaseStatus(status);  // not there
    return otherwise;
  }
  return value;
}

constexpr int kRow = 0;  // the type of an input that is that of the output: mostly what the graph computes in

// ES2D without the weights of its first projection, which are input `x_proj`; the inputs from `dt_proj` on are alike in
// all forms of it.
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

  explicit EfficientScan2D(const OrtKernelInfo* info) : step(attribute(info, "step", 2)) {
    if (step < 1 || step > evm::kMostSteps)
      throw std::invalid_argument("evm::EfficientScan2D: step is " + std::to_string(step) + ", expected 1 to " +
                                  std::to_string(evm::kMostSteps));
  }

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

  explicit QuantizedEfficientScan2D(const OrtKernelInfo* info) : step(EfficientScan2D(info).step) {}

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

  explicit OrderedScan(const OrtKernelInfo*) {}

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

  explicit CausalConv(const OrtKernelInfo* info) : taps(attribute(info, "taps", 4)) {}

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

  explicit SelectiveScan(const OrtKernelInfo* info) : delta_softplus(attribute(info, "delta_softplus", 0) != 0) {}

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

float epsilon_of(const OrtKernelInfo* info) {
  float value;
  check(api->KernelInfoGetAttribute_float(info, "epsilon", &value));
  return value;
}

struct GatedNorm {
  static constexpr const char* kName = "GatedNorm";
  static constexpr size_t kInputs = 4, kRequired = 4, kTypeFrom = 0;
  static constexpr bool kLikeFirst = true;
  static int type(size_t) { return kRow; }

  explicit GatedNorm(const OrtKernelInfo* info) : epsilon(epsilon_of(info)) {}

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

  explicit MeanOfNorm(const OrtKernelInfo* info) : epsilon(epsilon_of(info)) {}

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

  explicit Lookup(const OrtKernelInfo*) {}

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

// The output has the shape of the first input. Only said where every dimension is known or named: the runtime would take an unnamed
// one for the number -1. The runtime asks the first of the operators of one name for all of them.
template <class Op>
OrtStatus* infer_shape(const OrtCustomOp*, OrtShapeInferContext* context) {
  return guarded([&] {
    OrtTensorTypeAndShapeInfo* info;
    check(api->ShapeInferContext_GetInputTypeShape(context, 0, &info));
    size_t rank;
    check(api->GetDimensionsCount(info, &rank));
    Shape dims(rank);
    std::vector<const char*> names(rank);
    check(api->GetDimensions(info, dims.data(), rank));
    check(api->GetSymbolicDimensions(info, names.data(), rank));
    for (size_t i = 0; i < rank; ++i)
      if (dims[i] < 0 && !(names[i] && *names[i])) return;
    if constexpr (Op::kTypeFrom != 0) {
      OrtTensorTypeAndShapeInfo* typed;
      int type;
      check(api->ShapeInferContext_GetInputTypeShape(context, Op::kTypeFrom, &typed));
      check(api->GetTensorElementType(typed, &type));
      check(api->SetTensorElementType(info, type));
    }
    check(api->ShapeInferContext_SetOutputTypeShape(context, 0, info));
  });
}

// The description of operator Op for one type of its rows.
template <class Op, int row>
const OrtCustomOp* custom_op() {
  static const OrtCustomOp op = [] {
    OrtCustomOp o = {};
    o.version = kOrtApiVersion;
    o.GetName = [](const OrtCustomOp*) { return Op::kName; };
    o.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    o.GetInputType = [](const OrtCustomOp*, size_t i) -> int {
      const int type = Op::type(i);
      return type != kRow ? type : row;
    };
    o.GetInputTypeCount = [](const OrtCustomOp*) { return Op::kInputs; };
    o.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return row; };
    o.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    o.KernelDestroy = [](void* kernel) { delete static_cast<Op*>(kernel); };
    o.GetInputCharacteristic = [](const OrtCustomOp*, size_t i) -> int {
      return i < Op::kRequired ? ORT_REQUIRED : ORT_OPTIONAL;
    };
    o.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) -> int { return ORT_REQUIRED; };
    o.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
    o.GetVariadicInputMinArity = o.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    o.GetVariadicInputHomogeneity = o.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
    o.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** out) {
      return guarded([&] { *out = new Op(info); });
    };
    o.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      return guarded([&] {
        Call call(context, Op::kName, row == ORT_FLOAT16);
        static_cast<const Op*>(kernel)->compute(call);
      });
    };
    if (Op::kLikeFirst) o.InferOutputShapeFn = infer_shape<Op>;
    o.GetStartVersion = [](const OrtCustomOp*) { return 1; };
    o.GetEndVersion = [](const OrtCustomOp*) { return INT32_MAX; };
    return o;
  }();
  return &op;
}

// Lives as long as the library: sessions refer to it. The runtimes of two versions in one process are not supported.
OrtCustomOpDomain* domain() {
  static OrtCustomOpDomain* const made = [] {
    OrtCustomOpDomain* d;
    check(api->CreateCustomOpDomain("evm", &d));
    for (const OrtCustomOp* op :
         {custom_op<EfficientScan2D, ORT_FLOAT>(), custom_op<EfficientScan2D, ORT_FLOAT16>(),
          custom_op<QuantizedEfficientScan2D, ORT_FLOAT>(),
          custom_op<OrderedScan, ORT_FLOAT>(), custom_op<OrderedScan, ORT_FLOAT16>(),
          custom_op<CausalConv, ORT_FLOAT>(), custom_op<CausalConv, ORT_FLOAT16>(),
          custom_op<SelectiveScan, ORT_FLOAT>(), custom_op<SelectiveScan, ORT_FLOAT16>(),
          custom_op<GatedNorm, ORT_FLOAT>(), custom_op<GatedNorm, ORT_FLOAT16>(),
          custom_op<MeanOfNorm, ORT_FLOAT>(), custom_op<MeanOfNorm, ORT_FLOAT16>(),
          custom_op<Lookup<float>, ORT_FLOAT>(), custom_op<Lookup<uint8_t>, ORT_UINT8>()})
      check(api->CustomOpDomain_Add(d, op));
    return d;
  }();
  return made;
}

}  // namespace

extern "C" EVM_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* found = base->GetApi(kOrtApiVersion);
  if (!found) {
    char message[128];  // what is not allocated cannot fail
    std::snprintf(message, sizeof message, "the evm operators need onnxruntime 1.17 or newer, this is %s",
                  base->GetVersionString());
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message);
  }
  api = found;
  return guarded([&] { check(api->AddCustomOpDomain(options, domain())); });
}
