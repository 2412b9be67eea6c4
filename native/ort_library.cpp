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
#include "operators.h"
#include "ort_api.h"
#include "scan.h"
#include "sizes.h"

namespace {

using operators::Shape;
using operators::kRow;

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
    if (dims != expected) fail(name, dims, to_string(expected).c_str());
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

  [[noreturn]] void fail(const char* name, const Shape& got, const char* expected) const {
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

// The attributes of a node.
struct Attributes {
  const OrtKernelInfo* info;

  int64_t integer(const char* name, int64_t otherwise) const {
    int64_t value = otherwise;
    if (OrtStatus* status = api->KernelInfoGetAttribute_int64(info, name, &value)) {
      api->ReleaseStatus(status);  // not there
      return otherwise;
    }
    return value;
  }

  int64_t integer(const char* name, int64_t otherwise, int64_t least, int64_t most) const {
    const int64_t value = integer(name, otherwise);
    if (value < least || value > most)
      throw std::invalid_argument(std::string("evm: ") + name + " is " + std::to_string(value) + ", expected " +
                                  std::to_string(least) + " to " + std::to_string(most));
    return value;
  }

  float number(const char* name) const {
    float value;
    check(api->KernelInfoGetAttribute_float(info, name, &value));
    return value;
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
      return guarded([&] { *out = new Op(Attributes{info}); });
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
         {custom_op<operators::EfficientScan2D, ORT_FLOAT>(), custom_op<operators::EfficientScan2D, ORT_FLOAT16>(),
          custom_op<operators::QuantizedEfficientScan2D, ORT_FLOAT>(),
          custom_op<operators::OrderedScan, ORT_FLOAT>(), custom_op<operators::OrderedScan, ORT_FLOAT16>(),
          custom_op<operators::CausalConv, ORT_FLOAT>(), custom_op<operators::CausalConv, ORT_FLOAT16>(),
          custom_op<operators::SelectiveScan, ORT_FLOAT>(), custom_op<operators::SelectiveScan, ORT_FLOAT16>(),
          custom_op<operators::GatedNorm, ORT_FLOAT>(), custom_op<operators::GatedNorm, ORT_FLOAT16>(),
          custom_op<operators::MeanOfNorm, ORT_FLOAT>(), custom_op<operators::MeanOfNorm, ORT_FLOAT16>(),
          custom_op<operators::Lookup<float>, ORT_FLOAT>(), custom_op<operators::Lookup<uint8_t>, ORT_UINT8>()})
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
