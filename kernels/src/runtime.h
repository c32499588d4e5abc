// What of ONNX Runtime's C API the operators use, declared anew: no wheel brings its headers.
//
// The API is a table of functions that only ever grows at its end (onnxruntime_c_api.h: "functions
// are never removed, only added"), so a function is its place in the table. tests/kernels holds
// these places against the header that Debian ships (libonnxruntime-dev). Version 21 is the least
// that has all of them and that every runtime of pyproject.toml's range serves.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cloze::runtime {

constexpr uint32_t kApiVersion = 21;

struct Status;
struct Value;
struct KernelContext;
struct KernelInfo;
struct TensorInfo;
struct Domain;
struct SessionOptions;

enum ElementType : int { kUndefined = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7, kBfloat16 = 16 };
enum Characteristic : int { kRequired = 0, kOptional = 1 };
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2, kInvalidGraph = 10 };

// Places in OrtApi.
enum Place : int {
  kCreateStatus = 0,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseTensorTypeAndShapeInfo = 99,
  kKernelContextParallelFor = 274,
};

struct ApiBase {
  const void* (*get_api)(uint32_t version);
  const char* (*get_version_string)();
};

// One table of functions; `call<Signature>(place)` is the function there.
class Api {
 public:
  explicit Api(const void* table = nullptr) : table_(static_cast<void* const*>(table)) {}
  bool there() const { return table_ != nullptr; }

  Status* fail(ErrorCode code, const char* message) const {
    return at<Status*(int, const char*)>(kCreateStatus)(code, message);
  }
  void release(Status* status) const { at<void(Status*)>(kReleaseStatus)(status); }
  bool read(const KernelInfo* info, const char* name, float* out) const {
    return took(at<Status*(const KernelInfo*, const char*, float*)>(kKernelInfoGetAttributeFloat)(info, name, out));
  }
  bool read(const KernelInfo* info, const char* name, int64_t* out) const {
    return took(at<Status*(const KernelInfo*, const char*, int64_t*)>(kKernelInfoGetAttributeInt64)(info, name, out));
  }
  const Value* input(const KernelContext* context, size_t index) const {
    const Value* value = nullptr;
    const bool there = took(
        at<Status*(const KernelContext*, size_t, const Value**)>(kKernelContextGetInput)(context, index, &value));
    return there ? value : nullptr;
  }
  Value* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank) const {
    Value* value = nullptr;
    const bool there = took(at<Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)>(
        kKernelContextGetOutput)(context, index, shape, rank, &value));
    return there ? value : nullptr;
  }
  void* data(const Value* value) const {
    void* found = nullptr;
    took(at<Status*(const Value*, void**)>(kGetTensorMutableData)(value, &found));
    return found;
  }
  // The dimensions of a tensor, at most `most` of them; -1 where there are more.
  int shape(const Value* value, int64_t* out, size_t most) const {
    TensorInfo* info = nullptr;
    size_t rank = 0;
    int found = -1;
    if (!took(at<Status*(const Value*, TensorInfo**)>(kGetTensorTypeAndShape)(value, &info))) return -1;
    if (took(at<Status*(const TensorInfo*, size_t*)>(kGetDimensionsCount)(info, &rank)) && rank <= most &&
        took(at<Status*(const TensorInfo*, int64_t*, size_t)>(kGetDimensions)(info, out, rank)))
      found = static_cast<int>(rank);
    at<void(TensorInfo*)>(kReleaseTensorTypeAndShapeInfo)(info);
    return found;
  }
  Status* parallel_for(const KernelContext* context, void (*run)(void*, size_t), size_t count, void* data) const {
    return at<Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(
        kKernelContextParallelFor)(context, run, count, 0, data);
  }
  Status* create_domain(const char* name, Domain** out) const {
    return at<Status*(const char*, Domain**)>(kCreateCustomOpDomain)(name, out);
  }
  Status* add(Domain* domain, const void* operation) const {
    return at<Status*(Domain*, const void*)>(kCustomOpDomainAdd)(domain, operation);
  }
  Status* add(SessionOptions* options, Domain* domain) const {
    return at<Status*(SessionOptions*, Domain*)>(kAddCustomOpDomain)(options, domain);
  }

 private:
  template <class Signature>
  Signature* at(Place place) const {
    return reinterpret_cast<Signature*>(table_[place]);
  }
  bool took(Status* status) const {
    if (status == nullptr) return true;
    release(status);
    return false;
  }
  void* const* table_;
};

// OrtCustomOp, of version 21: what an operator tells of itself, in ONNX Runtime's order.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const void* api, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_execution_provider_type)(const CustomOp*);
  ElementType (*get_input_type)(const CustomOp*, size_t);
  size_t (*get_input_type_count)(const CustomOp*);
  ElementType (*get_output_type)(const CustomOp*, size_t);
  size_t (*get_output_type_count)(const CustomOp*);
  void (*kernel_compute)(void*, KernelContext*);
  void (*kernel_destroy)(void*);
  Characteristic (*get_input_characteristic)(const CustomOp*, size_t);
  Characteristic (*get_output_characteristic)(const CustomOp*, size_t);
  int (*get_input_memory_type)(const CustomOp*, size_t);
  int (*get_variadic_input_min_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_min_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const void* api, const KernelInfo*, void**);
  Status* (*kernel_compute_v2)(void*, KernelContext*);
  Status* (*infer_output_shape)(const CustomOp*, void*);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
  size_t (*get_may_inplace)(int**, int**);
  void (*release_may_inplace)(int*, int*);
  size_t (*get_alias_map)(int**, int**);
  void (*release_alias_map)(int*, int*);
};

}  // namespace cloze::runtime
