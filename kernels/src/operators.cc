// The kernels as operators of ONNX Runtime, in the domain ai.cloze: what each tells of itself, and
// the library's own functions.
#include <new>

#include "multiply.h"

namespace cloze {
namespace {

// An operator as ONNX Runtime asks of it. The C structure comes first, so that a pointer to one is
// a pointer to the other.
struct Operator {
  CustomOp base;
  const char* name;
  size_t inputs, outputs;
  uint32_t required;  // a bit for each input
  ElementType in[10], out[3];
};

template <Status* (*compute)(const Kernel&, KernelContext*)>
Operator make(const char* name, std::initializer_list<ElementType> in, uint32_t required,
              std::initializer_list<ElementType> out) {
  Operator found{};
  found.name = name;
  found.inputs = in.size();
  found.outputs = out.size();
  found.required = required;
  std::copy(in.begin(), in.end(), found.in);
  std::copy(out.begin(), out.end(), found.out);
  CustomOp& base = found.base;
  const auto of = [](const CustomOp* op) { return reinterpret_cast<const Operator*>(op); };
  (void)of;
#define OF(op) reinterpret_cast<const Operator*>(op)
  base.version = runtime::kApiVersion;
  base.get_name = [](const CustomOp* op) { return OF(op)->name; };
  base.get_execution_provider_type = [](const CustomOp*) -> const char* { return nullptr; };
  base.get_input_type = [](const CustomOp* op, size_t at) { return OF(op)->in[at]; };
  base.get_input_type_count = [](const CustomOp* op) { return OF(op)->inputs; };
  base.get_output_type = [](const CustomOp* op, size_t at) { return OF(op)->out[at]; };
  base.get_output_type_count = [](const CustomOp* op) { return OF(op)->outputs; };
  base.get_input_characteristic = [](const CustomOp* op, size_t at) {
    return (OF(op)->required >> at) & 1u ? runtime::kRequired : runtime::kOptional;
  };
  base.get_output_characteristic = [](const CustomOp*, size_t) { return runtime::kRequired; };
  base.get_input_memory_type = [](const CustomOp*, size_t) { return 0; };
  base.get_variadic_input_min_arity = [](const CustomOp*) { return 0; };
  base.get_variadic_input_homogeneity = [](const CustomOp*) { return 0; };
  base.get_variadic_output_min_arity = [](const CustomOp*) { return 0; };
  base.get_variadic_output_homogeneity = [](const CustomOp*) { return 0; };
  base.get_start_version = [](const CustomOp*) { return 1; };
  base.get_end_version = [](const CustomOp*) { return INT32_MAX; };
  base.get_may_inplace = [](int**, int**) -> size_t { return 0; };
  base.release_may_inplace = [](int*, int*) {};
  base.get_alias_map = [](int**, int**) -> size_t { return 0; };
  base.release_alias_map = [](int*, int*) {};
  base.kernel_destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  base.kernel_compute_v2 = [](void* kernel, KernelContext* context) {
    return compute(*static_cast<const Kernel*>(kernel), context);
  };
  base.create_kernel_v2 = [](const CustomOp*, const void*, const KernelInfo* info, void** out) -> Status* {
    auto* kernel = new (std::nothrow) Kernel;
    if (kernel == nullptr) return no_memory();
    api.read(info, "num_heads", &kernel->heads);
    api.read(info, "scale", &kernel->scale);
    api.read(info, "window", &kernel->window);
    api.read(info, "epsilon", &kernel->epsilon);
    api.read(info, "approximate", &kernel->approximate);
    api.read(info, "columns", &kernel->columns);
    *out = kernel;
    return nullptr;
  };
#undef OF
  return found;
}

Operator* list_operators(size_t* count) {
  constexpr ElementType f = runtime::kFloat, b = runtime::kUint8, h = runtime::kBfloat16, i = runtime::kInt64,
                        c = runtime::kInt8, n = runtime::kInt32;
  // Bits of the inputs that must be there.
  constexpr uint32_t norm = 0b1001, first = 0b1, attention = 0b10001, product = 0b11, bytes = 0b11111;
  static Operator all[] = {
      make<compute_add_norm<Form::kPlain>>("AddNorm", {f, f, f, f, f, f}, norm, {f}),
      make<compute_add_norm<Form::kHalf>>("AddNormHalf", {f, f, f, f, f, f}, norm, {f, h}),
      make<compute_add_norm<Form::kBytes>>("AddNormBytes", {f, f, f, f, f, f}, norm, {f, b, f}),
      make<compute_gelu<Form::kPlain>>("Gelu", {f, f, f}, first, {f}),
      make<compute_gelu<Form::kHalf>>("GeluHalf", {f, f, f}, first, {h}),
      make<compute_gelu<Form::kBytes>>("GeluBytes", {f, f, f}, first, {b, f}),
      make<compute_quantize>("Quantize", {f, f}, first, {b, f}),
      make<compute_product<After::kNothing>>("Product", {f, f}, product, {f}),
      make<compute_product<After::kGelu>>("ProductGelu", {f, f, f}, product, {f}),
      make<compute_product<After::kNorm>>("ProductNorm", {f, f, f, f, f, f}, product | 1 << 4, {f}),
      make<compute_half<After::kNothing>>("ProductHalf", {h, h}, product, {f}),
      make<compute_half<After::kGelu>>("ProductGeluHalf", {h, h, f}, product, {h}),
      make<compute_half<After::kNorm>>("ProductNormHalf", {h, h, f, f, f, f}, product | 1 << 4, {f, h}),
      make<compute_bytes<After::kNothing>>("ProductBytes", {b, f, c, f, n}, bytes, {f}),
      make<compute_bytes<After::kGelu>>("ProductGeluBytes", {b, f, c, f, n, f, f}, bytes, {b, f}),
      make<compute_bytes<After::kNorm>>("ProductNormBytes", {b, f, c, f, n, f, f, f, f, f}, bytes | 1 << 7, {f, b, f}),
      make<compute_attention<Form::kPlain>>("Attention", {f, f, f, f, i, f, f}, attention, {f}),
      make<compute_attention<Form::kHalf>>("AttentionHalf", {f, f, f, f, i, f, f}, attention, {h}),
      make<compute_attention<Form::kBytes>>("AttentionBytes", {f, f, f, f, i, f, f}, attention, {b, f}),
  };
  *count = sizeof all / sizeof *all;
  return all;
}

}  // namespace
}  // namespace cloze

#define CLOZE_EXPORT extern "C" __attribute__((visibility("default")))

// What of the library's interface changes with it; the project's Python refuses any other.
CLOZE_EXPORT int cloze_version() { return 2; }

// The instruction set whose kernels run from now on: the best there is, or the one that is named.
// Null where this processor has none of them.
CLOZE_EXPORT const char* cloze_choose(const char* wanted) {
  cloze::table = cloze::choose_table(wanted);
  return cloze::table == nullptr ? nullptr : cloze::table->name;
}

// Whether products in bfloat16 run here.
CLOZE_EXPORT int cloze_has_half() { return cloze::table != nullptr && cloze::table->multiply_half != nullptr; }

// What ONNX Runtime calls when the library is registered with a session's options.
CLOZE_EXPORT cloze::runtime::Status* RegisterCustomOps(cloze::runtime::SessionOptions* options,
                                                       const cloze::runtime::ApiBase* base) {
  using namespace cloze;
  static runtime::Domain* domain = nullptr;
  api = runtime::Api(base->get_api(runtime::kApiVersion));
  if (table == nullptr) table = choose_table();
  if (!api.there()) return nullptr;
  if (table == nullptr)
    return api.fail(runtime::kFail, "ai.cloze: this processor has none of the instruction sets of the kernels");
  if (domain == nullptr) {
    if (Status* failed = api.create_domain("ai.cloze", &domain)) return failed;
    size_t count = 0;
    Operator* all = list_operators(&count);
    for (size_t at = 0; at < count; at++)
      if (Status* failed = api.add(domain, &all[at].base)) return failed;
  }
  return api.add(options, domain);
}
