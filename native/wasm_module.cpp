// The operators as a WebAssembly module for a page, which calls them for the nodes at which a graph was cut. No standard
// library is linked: memory is taken from the end of what is there, and given back by the page, call after call.
#if defined(__wasm__)

#include <new>

#include "operators.h"

#define EVM_PAGE(name) extern "C" __attribute__((export_name(#name)))

namespace {

extern "C" char __heap_base;
constexpr uintptr_t kAlignment = 64, kPage = 65536;
uintptr_t top = reinterpret_cast<uintptr_t>(&__heap_base);
uintptr_t last = 0;  // what was taken last: it alone can be given back by itself

void* take(size_t bytes) {
  const uintptr_t start = (top + kAlignment - 1) / kAlignment * kAlignment;
  const uintptr_t there = __builtin_wasm_memory_size(0) * kPage;
  if (start < top || bytes > UINTPTR_MAX - kPage - start) evm::refuse("evm: there is not enough memory");
  if (start + bytes > there && __builtin_wasm_memory_grow(0, (start + bytes - there + kPage - 1) / kPage) == SIZE_MAX)
    evm::refuse("evm: there is not enough memory");
  top = start + bytes;
  last = start;
  return reinterpret_cast<void*>(start);
}

void give_back(void* start) {
  if (start && reinterpret_cast<uintptr_t>(start) == last) top = last, last = 0;
}

// A message, cut off where it is too long.
class Message {
 public:
  Message& operator<<(const char* text) {
    while (*text && length_ + 1 < sizeof text_) text_[length_++] = *text++;
    return *this;
  }

  Message& operator<<(int64_t number) {
    char digits[21], *first = digits + 20;
    *first = 0;
    const bool negative = number < 0;
    do {
      const int64_t digit = number % 10;
      *--first = static_cast<char>('0' + (negative ? -digit : digit));
    } while (number /= 10);
    if (negative) *--first = '-';
    return *this << first;
  }

  Message& operator<<(const operators::Shape& shape) {
    *this << "(";
    for (size_t i = 0; i < shape.size(); ++i) *this << (i ? ", " : "") << shape[i];
    return *this << ")";
  }

  [[noreturn]] void refuse() const { evm::refuse(text_); }

 private:
  char text_[256] = {};
  size_t length_ = 0;
};

// As the page writes it (kernels.mjs); data is null where an optional input was left out.
struct Tensor {
  int32_t type, rank;
  void* data;
  int32_t dims[8];
};

// In the order in which the operator's row has them.
struct Attributes {
  mutable const double* next;

  int64_t integer(const char*, int64_t) const { return static_cast<int64_t>(*next++); }
  float number(const char*) const { return static_cast<float>(*next++); }

  int64_t integer(const char* name, int64_t otherwise, int64_t least, int64_t most) const {
    const int64_t value = integer(name, otherwise);
    if (value < least || value > most)
      (Message() << "evm: " << name << " is " << value << ", expected " << least << " to " << most).refuse();
    return value;
  }
};

class Call {
 public:
  Call(const char* op, const Tensor* inputs, size_t count, Tensor* result)
      : parallel([](int64_t tasks, const evm::Task& task) {
          for (int64_t i = 0; i < tasks; ++i) task(i);
        }),
        op_(op), inputs_(inputs), count_(count), result_(result) {}

  bool has(size_t index) const { return index < count_ && inputs_[index].data; }

  operators::Shape shape(size_t index) const {
    const operators::Shape dims(inputs_[index].dims, inputs_[index].dims + inputs_[index].rank);
    evm::count_numbers(dims);
    return dims;
  }

  operators::Shape shape(size_t index, const char* name, size_t rank, const char* layout) const {
    operators::Shape dims = shape(index);
    if (dims.size() != rank) fail(name, dims, layout);
    return dims;
  }

  void expect(size_t index, const char* name, const operators::Shape& expected) const {
    const operators::Shape dims = shape(index);
    if (dims != expected) fail(name, dims, expected);
  }

  const void* data(size_t index) const { return inputs_[index].data; }
  const float* floats(size_t index, bool) const { return static_cast<const float*>(data(index)); }

  float* output(const operators::Shape& dims) {
    result_->type = ORT_FLOAT;
    result_->rank = static_cast<int32_t>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) result_->dims[i] = static_cast<int32_t>(dims[i]);
    result_->data = take(static_cast<size_t>(evm::count_numbers(dims)) * sizeof(float));
    return static_cast<float*>(result_->data);
  }

  void finish() {}

  template <class Expected>
  [[noreturn]] void fail(const char* name, const operators::Shape& got, const Expected& expected) const {
    (Message() << "evm::" << op_ << ": " << name << " has shape " << got << ", expected " << expected).refuse();
  }

  const evm::Parallel parallel;

 private:
  const char* op_;
  const Tensor* inputs_;
  size_t count_;
  Tensor* result_;
};

template <class Op>
void run(const Tensor* inputs, size_t count, const double* attributes, Tensor* result) {
  if (count < Op::kRequired || count > Op::kInputs) (Message() << "evm::" << Op::kName << ": inputs are missing").refuse();
  for (size_t i = 0; i < count; ++i) {
    const int type = Op::type(i) == operators::kRow ? ORT_FLOAT : Op::type(i);
    if (inputs[i].data ? inputs[i].type != type : i < Op::kRequired)
      (Message() << "evm::" << Op::kName << ": input " << static_cast<int64_t>(i) << " is of another type").refuse();
  }
  Call call(Op::kName, inputs, count, result);
  Op(Attributes{attributes}).compute(call);
}

}  // namespace

void* operator new(size_t bytes) { return take(bytes); }
void* operator new[](size_t bytes) { return take(bytes); }
void operator delete(void* start) noexcept { give_back(start); }
void operator delete[](void* start) noexcept { give_back(start); }
void operator delete(void* start, size_t) noexcept { give_back(start); }
void operator delete[](void* start, size_t) noexcept { give_back(start); }

// What the containers call where they would throw.
void std::__libcpp_verbose_abort(const char*, ...) noexcept { evm::refuse("evm: a size that cannot be"); }

// What the compiler calls to compare shapes.
extern "C" int memcmp(const void* one, const void* other, size_t count) {
  const unsigned char *a = static_cast<const unsigned char*>(one), *b = static_cast<const unsigned char*>(other);
  for (size_t i = 0; i < count; ++i)
    if (a[i] != b[i]) return a[i] - b[i];
  return 0;
}

// Bytes for the page: weights first, then what a run needs.
EVM_PAGE(take) void* evm_take(size_t bytes) { return take(bytes); }
EVM_PAGE(mark) uintptr_t evm_mark() { return top; }

// Gives back all that was taken since `mark`.
EVM_PAGE(release) void evm_release(uintptr_t mark) { top = mark, last = 0; }

#define EVM_OPERATOR(Op)                                                                                        \
  EVM_PAGE(Op) void evm_##Op(const Tensor* inputs, size_t count, const double* attributes, Tensor* result) {    \
    run<operators::Op>(inputs, count, attributes, result);                                                      \
  }
EVM_OPERATOR(EfficientScan2D)
EVM_OPERATOR(QuantizedEfficientScan2D)
EVM_OPERATOR(OrderedScan)
EVM_OPERATOR(SelectiveScan)
EVM_OPERATOR(CausalConv)
EVM_OPERATOR(GatedNorm)
EVM_OPERATOR(MeanOfNorm)

#endif
