#include "runtime.hpp"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "ort_table.hpp"

#ifndef EVM_ONNXRUNTIME
#define EVM_ONNXRUNTIME ""
#endif
#ifndef EVM_OPERATORS
#define EVM_OPERATORS ""
#endif

namespace evm {
namespace {

constexpr int kFloat = 1, kUint8 = 2, kInt32 = 6, kInt64 = 7, kErrorsOnly = 3, kArena = 1, kDefaultMemory = 0;
constexpr size_t kMostValues = size_t{1} << 28;
constexpr const char* kInterface = "@INTERFACE@";

template <class Number>
std::vector<float> floats(const void* data, size_t count) {
  const auto* values = static_cast<const Number*>(data);
  std::vector<float> found(count);
  for (size_t i = 0; i < count; ++i) found[i] = static_cast<float>(values[i]);
  return found;
}

using Copy = std::vector<float> (*)(const void*, size_t);
const std::map<int, Copy> kCopies = {
    {kFloat, floats<float>}, {kUint8, floats<uint8_t>}, {kInt32, floats<int32_t>}, {kInt64, floats<int64_t>}};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_file(const std::string& path) {
  struct stat facts;
  return !path.empty() && ::stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode);
}

std::string beside_program(const char* name) {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0 || length == static_cast<ssize_t>(sizeof path)) return "";
  const std::string program(path, static_cast<size_t>(length));
  return program.substr(0, program.rfind('/') + 1) + name;
}

const ort::ApiBase* load(const std::string& named) {
  ::setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // else it writes an identifier into the home folder
  const std::string said = named.empty() ? variable("ONNXRUNTIME_LIBRARY") : named;
  std::vector<std::string> places = {said};
  if (said.empty()) places = {EVM_ONNXRUNTIME, "libonnxruntime.so.1", "libonnxruntime.so"};
  std::string why;
  for (const std::string& place : places) {
    if (place.empty()) continue;
    if (void* library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) {  // never closed: it has threads
      void* entry = ::dlsym(library, "OrtGetApiBase");
      if (!entry) throw Error(place + " is not onnxruntime");
      return reinterpret_cast<const ort::ApiBase* (*)()>(entry)();
    }
    why = ::dlerror();
  }
  throw Error("onnxruntime is not found (" + why + "): set ONNXRUNTIME_LIBRARY to libonnxruntime.so's path");
}

void check_interface(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(path + ", the operator library, does not load: " + ::dlerror());
  const auto interface = reinterpret_cast<const char* (*)()>(::dlsym(library, "evm_interface"));
  const bool ours = interface && std::string(interface()) == kInterface;
  ::dlclose(library);
  if (!ours)
    throw Error(path + " is not the operator library of this package (" + kInterface +
                "): take the one in its lib/, or build its native/");
}

}  // namespace

std::string operators_of(const Options& options) {
  if (options.portable) return "";
  const std::string said = options.operators.empty() ? variable("EVM_OPS_LIBRARY") : options.operators;
  if (!said.empty()) {
    if (!is_file(said)) throw Error(said + ", the operator library, is not a file");
    return said;
  }
  for (const std::string& place : {beside_program("libevm_ops.so"), std::string(EVM_OPERATORS)})
    if (is_file(place)) return place;
  return "";
}

struct Session::Handles {
  const ort::Api* api = nullptr;
  ort::Env* env = nullptr;
  ort::SessionOptions* options = nullptr;
  ort::Session* session = nullptr;
  ort::MemoryInfo* memory = nullptr;
  std::string version;

  ~Handles() {
    if (memory) api->ReleaseMemoryInfo(memory);
    if (session) api->ReleaseSession(session);
    if (options) api->ReleaseSessionOptions(options);
    if (env) api->ReleaseEnv(env);
  }

  void check(ort::Status* status) const {
    if (!status) return;
    const std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw Error("onnxruntime: " + message);
  }
};

Session::Session(const Bytes& model, const Options& options, const std::string& operators)
    : handles_(std::make_unique<Handles>()) {
  Handles& h = *handles_;
  const ort::ApiBase* base = load(options.onnxruntime);
  h.version = base->GetVersionString();
  h.api = base->GetApi(ort::kVersion);
  if (!h.api) throw Error("onnxruntime " + h.version + " is too old: 1.17 or newer is needed");
  h.check(h.api->CreateEnv(kErrorsOnly, "evm", &h.env));
  h.check(h.api->DisableTelemetryEvents(h.env));
  h.check(h.api->CreateSessionOptions(&h.options));
  h.check(h.api->SetIntraOpNumThreads(h.options, options.threads));
  void* library = nullptr;
  if (!operators.empty()) {
    check_interface(operators);
    h.check(h.api->RegisterCustomOpsLibrary(h.options, operators.c_str(), &library));
  }
  h.check(h.api->CreateSessionFromArray(h.env, model.data(), model.size(), h.options, &h.session));
  h.check(h.api->CreateCpuMemoryInfo(kArena, kDefaultMemory, &h.memory));
}

Session::~Session() = default;

const std::string& Session::version() const { return handles_->version; }

std::vector<Output> Session::run(const std::vector<Tensor>& inputs, const std::vector<std::string>& outputs) {
  const Handles& h = *handles_;
  const auto release = [&](ort::Value* value) { if (value) h.api->ReleaseValue(value); };
  using Owned = std::unique_ptr<ort::Value, decltype(release)>;
  std::vector<Owned> given;
  std::vector<const ort::Value*> values;
  std::vector<const char*> input_names, names;
  for (const Tensor& input : inputs) {
    ort::Value* made = nullptr;
    h.check(h.api->CreateTensorWithDataAsOrtValue(h.memory, const_cast<void*>(input.data), input.bytes,
                                                  input.shape.data(), input.shape.size(),
                                                  input.uint8 ? kUint8 : kFloat, &made));
    given.emplace_back(made, release);
    values.push_back(made);
    input_names.push_back(input.name.c_str());
  }
  for (const std::string& name : outputs) names.push_back(name.c_str());
  std::vector<ort::Value*> raw(outputs.size(), nullptr);
  ort::Status* status = h.api->Run(h.session, nullptr, input_names.data(), values.data(), values.size(), names.data(),
                                    names.size(), raw.data());
  std::vector<Owned> owned;
  for (ort::Value* value : raw) owned.emplace_back(value, release);
  h.check(status);
  std::vector<Output> found;
  for (ort::Value* value : raw) {
    ort::TensorInfo* made_info = nullptr;
    h.check(h.api->GetTensorTypeAndShape(value, &made_info));
    const auto release_info = [&](ort::TensorInfo* info) { h.api->ReleaseTensorTypeAndShapeInfo(info); };
    const std::unique_ptr<ort::TensorInfo, decltype(release_info)> info(made_info, release_info);
    int type = 0;
    size_t count = 0, rank = 0;
    h.check(h.api->GetTensorElementType(info.get(), &type));
    h.check(h.api->GetTensorShapeElementCount(info.get(), &count));
    h.check(h.api->GetDimensionsCount(info.get(), &rank));
    Output output;
    output.shape.resize(rank);
    h.check(h.api->GetDimensions(info.get(), output.shape.data(), rank));
    void* data = nullptr;
    h.check(h.api->GetTensorMutableData(value, &data));
    const auto copy = kCopies.find(type);
    if (copy == kCopies.end() || count > kMostValues) throw Error("an output of the model has another type");
    output.values = copy->second(data, count);
    found.push_back(std::move(output));
  }
  return found;
}

}  // namespace evm
