// The part of onnxruntime's C interface that an operator library needs, declared by position. The tables are
// append-only by contract: an entry keeps its place for ever, so the places between those we use are only counted.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32) && !defined(_WIN64)
#error "32-bit Windows has another calling convention"
#endif

extern "C" {

constexpr uint32_t kOrtApiVersion = 17;  // 1.17: the first with KernelContext_ParallelFor

struct OrtStatus;
struct OrtValue;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtCustomOp;

enum OrtErrorCode : int { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum OrtElementType : int { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT64 = 7, ORT_FLOAT16 = 10 };
enum OrtCharacteristic : int { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

struct OrtApi {
  OrtStatus* (*CreateStatus)(int code, const char* message);  // 0
  void* skipped_1[25];
  OrtStatus* (*CreateCustomOpDomain)(const char* domain, OrtCustomOpDomain** out);                 // 26
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain, const OrtCustomOp* op);              // 27
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options, OrtCustomOpDomain* domain);          // 28
  void* skipped_29[22];
  OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** out);  // 51
  void* skipped_52[6];
  OrtStatus* (*SetTensorElementType)(OrtTensorTypeAndShapeInfo* info, int type);  // 58
  void* skipped_59[1];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info, int* out);  // 60
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info, size_t* out);                    // 61
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo* info, int64_t* values, size_t count);       // 62
  OrtStatus* (*GetSymbolicDimensions)(const OrtTensorTypeAndShapeInfo* info, const char** names, size_t);  // 63
  void* skipped_64[1];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue* value, OrtTensorTypeAndShapeInfo** out);  // 65
  void* skipped_66[19];
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo* info, const char* name, float* out);    // 85
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo* info, const char* name, int64_t* out);  // 86
  void* skipped_87[1];
  OrtStatus* (*KernelContext_GetInputCount)(const OrtKernelContext* context, size_t* out);                        // 88
  void* skipped_89[1];
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext* context, size_t index, const OrtValue** out);      // 90
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context, size_t index, const int64_t* dims, size_t rank,
                                        OrtValue** out);                                                         // 91
  void* skipped_92[1];
  void (*ReleaseStatus)(OrtStatus* status);  // 93
  void* skipped_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);  // 99
  void* skipped_100[1];
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain* domain);  // 101
  void* skipped_102[166];
  OrtStatus* (*ShapeInferContext_GetInputTypeShape)(const OrtShapeInferContext* context, size_t index,
                                                    OrtTensorTypeAndShapeInfo** out);  // 268, owned by the context
  void* skipped_269[1];
  OrtStatus* (*ShapeInferContext_SetOutputTypeShape)(const OrtShapeInferContext* context, size_t index,
                                                     const OrtTensorTypeAndShapeInfo* info);  // 270
  void* skipped_271[3];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext* context, void (*task)(void* data, size_t index),
                                          size_t count, size_t batches, void* data);  // 274
};

#define EVM_AT(entry, place) \
  static_assert(offsetof(OrtApi, entry) == (place) * sizeof(void*), #entry " is not at " #place)
EVM_AT(AddCustomOpDomain, 28);
EVM_AT(GetTensorMutableData, 51);
EVM_AT(SetTensorElementType, 58);
EVM_AT(GetTensorElementType, 60);
EVM_AT(GetSymbolicDimensions, 63);
EVM_AT(GetTensorTypeAndShape, 65);
EVM_AT(KernelInfoGetAttribute_int64, 86);
EVM_AT(KernelContext_GetInputCount, 88);
EVM_AT(KernelContext_GetOutput, 91);
EVM_AT(ReleaseStatus, 93);
EVM_AT(ReleaseTensorTypeAndShapeInfo, 99);
EVM_AT(ReleaseCustomOpDomain, 101);
EVM_AT(ShapeInferContext_GetInputTypeShape, 268);
EVM_AT(ShapeInferContext_SetOutputTypeShape, 270);
EVM_AT(KernelContext_ParallelFor, 274);
#undef EVM_AT

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);  // null where the runtime is older than `version`
  const char* (*GetVersionString)();
};

// What describes one operator for one set of types. `version` says how far down onnxruntime reads.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info);
  const char* (*GetName)(const OrtCustomOp* op);
  const char* (*GetExecutionProviderType)(const OrtCustomOp* op);
  int (*GetInputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp* op);
  int (*GetOutputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp* op);
  void (*KernelCompute)(void* kernel, OrtKernelContext* context);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp* op, size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp* op, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp* op, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp* op);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp* op);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp* op);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp* op);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** out);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext* context);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp* op, OrtShapeInferContext* context);
  int (*GetStartVersion)(const OrtCustomOp* op);
  int (*GetEndVersion)(const OrtCustomOp* op);
};

}  // extern "C"
