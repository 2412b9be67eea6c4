// The part of onnxruntime's C interface that is used here, declared by position. The table is append-only by contract:
// an entry keeps its place for ever, so the places between those we use are only counted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace evm::ort {

constexpr uint32_t kVersion = 17;  // 1.17: the first that our operators run in

struct Status;
struct Env;
struct Session;
struct SessionOptions;
struct RunOptions;
struct Value;
struct MemoryInfo;
struct TensorInfo;

struct Api {
  void* skipped_0[2];
  const char* (*GetErrorMessage)(const Status*);                        // 2
  Status* (*CreateEnv)(int level, const char* name, Env** out);         // 3
  void* skipped_4[2];
  Status* (*DisableTelemetryEvents)(const Env*);  // 6
  void* skipped_7[1];
  Status* (*CreateSessionFromArray)(const Env*, const void* data, size_t size, const SessionOptions*, Session**);  // 8
  Status* (*Run)(Session*, const RunOptions*, const char* const* input_names, const Value* const* inputs,
                 size_t input_count, const char* const* output_names, size_t output_count, Value** outputs);  // 9
  Status* (*CreateSessionOptions)(SessionOptions** out);                                                       // 10
  void* skipped_11[13];
  Status* (*SetIntraOpNumThreads)(SessionOptions*, int threads);  // 24
  void* skipped_25[4];
  Status* (*RegisterCustomOpsLibrary)(SessionOptions*, const char* path, void** handle);  // 29
  void* skipped_30[19];
  Status* (*CreateTensorWithDataAsOrtValue)(const MemoryInfo*, void* data, size_t bytes, const int64_t* shape,
                                            size_t rank, int type, Value** out);  // 49
  void* skipped_50[1];
  Status* (*GetTensorMutableData)(Value*, void** out);  // 51
  void* skipped_52[8];
  Status* (*GetTensorElementType)(const TensorInfo*, int* out);  // 60
  Status* (*GetDimensionsCount)(const TensorInfo*, size_t* out);                    // 61
  Status* (*GetDimensions)(const TensorInfo*, int64_t* lengths, size_t count);      // 62
  void* skipped_63[1];
  Status* (*GetTensorShapeElementCount)(const TensorInfo*, size_t* out);  // 64
  Status* (*GetTensorTypeAndShape)(const Value*, TensorInfo** out);       // 65
  void* skipped_66[3];
  Status* (*CreateCpuMemoryInfo)(int allocator, int type, MemoryInfo** out);  // 69
  void* skipped_70[22];
  void (*ReleaseEnv)(Env*);                 // 92
  void (*ReleaseStatus)(Status*);           // 93
  void (*ReleaseMemoryInfo)(MemoryInfo*);   // 94
  void (*ReleaseSession)(Session*);         // 95
  void (*ReleaseValue)(Value*);             // 96
  void* skipped_97[2];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorInfo*);  // 99
  void (*ReleaseSessionOptions)(SessionOptions*);      // 100
};

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);  // null where the runtime is older than `version`
  const char* (*GetVersionString)();
};

#define EVM_AT(entry, place) static_assert(offsetof(Api, entry) == (place) * sizeof(void*), #entry " moved")
EVM_AT(CreateSessionFromArray, 8);
EVM_AT(SetIntraOpNumThreads, 24);
EVM_AT(RegisterCustomOpsLibrary, 29);
EVM_AT(CreateTensorWithDataAsOrtValue, 49);
EVM_AT(GetTensorElementType, 60);
EVM_AT(GetDimensions, 62);
EVM_AT(GetTensorTypeAndShape, 65);
EVM_AT(CreateCpuMemoryInfo, 69);
EVM_AT(ReleaseEnv, 92);
EVM_AT(ReleaseSessionOptions, 100);
#undef EVM_AT

}  // namespace evm::ort
