// The kernels as operators of ONNX Runtime, in the domain ai.cloze: each checks the sizes of what it
// is given before it reads a number, and spreads its rows or heads over the session's own threads.
#include <algorithm>
#include <new>

#include "kernels.h"
#include "runtime.h"

namespace cloze {
namespace {

using runtime::Api;
using runtime::Characteristic;
using runtime::CustomOp;
using runtime::ElementType;
using runtime::KernelContext;
using runtime::KernelInfo;
using runtime::Status;

Api api;
const Table* table = nullptr;

constexpr size_t kMostDimensions = 8;
// Rows that a task computes, and numbers below which a batch is not worth another thread.
constexpr int64_t kRowsAtOnce = 8;
constexpr int64_t kFewNumbers = 8192;
constexpr int64_t kRowsOfBlock = 192;

struct Kernel {
  int64_t heads = 0;
  float scale = 1.0f;
  int64_t window = -1;
  float epsilon = 1e-12f;
  int64_t approximate = 0;
  int64_t columns = 0;
};

// What a tensor is: its numbers, of `count`, in rows of `columns`. One that is given may be empty,
// and then has no data.
template <class Number>
struct Tensor {
  const Number* data = nullptr;
  int64_t shape[kMostDimensions] = {};
  int rank = 0;
  int64_t count = 0;
  bool given = false;

  bool there() const { return given && rank >= 0 && (data != nullptr || count == 0); }
  int64_t columns() const { return rank > 0 ? shape[rank - 1] : 0; }
  int64_t rows() const { return columns() > 0 ? count / columns() : 0; }
};

template <class Number>
Tensor<Number> read(const KernelContext* context, size_t index) {
  Tensor<Number> found;
  const runtime::Value* value = api.input(context, index);
  if (value == nullptr) return found;
  found.given = true;
  found.rank = api.shape(value, found.shape, kMostDimensions);
  if (found.rank < 0) return found;
  found.count = 1;
  for (int at = 0; at < found.rank; at++) found.count *= found.shape[at];
  found.data = static_cast<const Number*>(api.data(value));
  return found;
}

// An optional tensor of exactly so many numbers, or none at all: `ok` is false for any other.
template <class Number>
const Number* read_vector(const KernelContext* context, size_t index, int64_t count, bool& ok) {
  const Tensor<Number> found = read<Number>(context, index);
  if (!found.given) return nullptr;
  ok = ok && found.there() && found.count == count;
  return ok ? found.data : nullptr;
}

// An output of that shape; null where there is no memory for it, and where it is of no numbers.
template <class Number>
Number* write(KernelContext* context, size_t index, const int64_t* shape, int rank) {
  runtime::Value* value = api.output(context, index, shape, static_cast<size_t>(rank));
  return value == nullptr ? nullptr : static_cast<Number*>(api.data(value));
}

Status* refuse(const char* message) { return api.fail(runtime::kInvalidArgument, message); }
Status* no_memory() { return api.fail(runtime::kFail, "ai.cloze: there is no memory left for this batch"); }

// `run(task)` for each of so many tasks, on the session's threads where that is worth it.
template <class Run>
Status* spread(const KernelContext* context, int64_t tasks, bool worth, Run&& run) {
  if (tasks <= 1 || !worth) {
    for (int64_t task = 0; task < tasks; task++) run(task);
    return nullptr;
  }
  return api.parallel_for(
      context, [](void* data, size_t task) { (*static_cast<Run*>(data))(static_cast<int64_t>(task)); },
      static_cast<size_t>(tasks), &run);
}

template <class Work>
Status* spread_rows(const KernelContext* context, const Work& work, int64_t rows,
                    void (*compute)(const Work&, int64_t, int64_t)) {
  const int64_t tasks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  return spread(context, tasks, rows * work.columns > kFewNumbers, [&](int64_t task) {
    compute(work, task * kRowsAtOnce, std::min(rows, (task + 1) * kRowsAtOnce));
  });
}

enum class Form { kPlain, kHalf, kBytes };

// The outputs in which the next product takes the rows; false where there is no room for them.
bool write_following(KernelContext* context, size_t index, Form form, const int64_t* shape, int rank,
                     const float* smooth, Following& following) {
  if (form == Form::kHalf) {
    following.half = write<Bfloat16>(context, index, shape, rank);
    return following.half != nullptr;
  }
  if (form == Form::kPlain) return true;
  int64_t of_scales[kMostDimensions];
  std::copy(shape, shape + rank, of_scales);
  of_scales[rank - 1] = 1;
  following.bytes = write<uint8_t>(context, index, shape, rank);
  following.scale = write<float>(context, index + 1, of_scales, rank);
  following.smooth = smooth;
  return following.bytes != nullptr && following.scale != nullptr;
}

// AddNorm(y, row_scale?, bias?, residual?, gamma, beta?, smooth?)
template <Form form>
Status* compute_add_norm(const Kernel& kernel, KernelContext* context) {
  const auto y = read<float>(context, 0);
  if (!y.there() || y.columns() <= 0) return refuse("ai.cloze.AddNorm: y has no columns");
  const int64_t columns = y.columns(), rows = y.rows();
  bool ok = true;
  AddNorm work{};
  work.columns = columns;
  work.epsilon = kernel.epsilon;
  work.y = y.data;
  work.row_scale = read_vector<float>(context, 1, rows, ok);
  work.bias = read_vector<float>(context, 2, columns, ok);
  work.residual = read_vector<float>(context, 3, y.count, ok);
  work.gamma = read_vector<float>(context, 4, columns, ok);
  work.beta = read_vector<float>(context, 5, columns, ok);
  const float* smooth = read_vector<float>(context, 6, columns, ok);
  if (!ok || work.gamma == nullptr) return refuse("ai.cloze.AddNorm: an input is not of the size of y's rows");
  work.out = write<float>(context, 0, y.shape, y.rank);
  const bool written = write_following(context, 1, form, y.shape, y.rank, smooth, work.following);
  if (rows == 0) return nullptr;
  if (work.out == nullptr || !written) return no_memory();
  return spread_rows(context, work, rows, table->add_norm);
}

// Gelu(y, row_scale?, bias?, smooth?)
template <Form form>
Status* compute_gelu(const Kernel& kernel, KernelContext* context) {
  const auto y = read<float>(context, 0);
  if (!y.there() || y.columns() <= 0) return refuse("ai.cloze.Gelu: y has no columns");
  bool ok = true;
  Gelu work{};
  work.columns = y.columns();
  work.kind = kernel.approximate != 0 ? GeluKind::kTanh : GeluKind::kErf;
  work.y = y.data;
  work.row_scale = read_vector<float>(context, 1, y.rows(), ok);
  work.bias = read_vector<float>(context, 2, y.columns(), ok);
  const float* smooth = read_vector<float>(context, 3, y.columns(), ok);
  if (!ok) return refuse("ai.cloze.Gelu: an input is not of the size of y's rows");
  if (form == Form::kPlain) work.out = write<float>(context, 0, y.shape, y.rank);
  const bool written = write_following(context, 0, form, y.shape, y.rank, smooth, work.following);
  if (y.rows() == 0) return nullptr;
  if (!written || (form == Form::kPlain && work.out == nullptr)) return no_memory();
  return spread_rows(context, work, y.rows(), table->gelu);
}

// Quantize(x, smooth?)
Status* compute_quantize(const Kernel&, KernelContext* context) {
  const auto x = read<float>(context, 0);
  if (!x.there() || x.columns() <= 0) return refuse("ai.cloze.Quantize: x has no columns");
  bool ok = true;
  Quantize work{x.columns(), x.data, {}};
  const float* smooth = read_vector<float>(context, 1, x.columns(), ok);
  if (!ok) return refuse("ai.cloze.Quantize: smooth is not of the size of x's rows");
  const bool written = write_following(context, 0, Form::kBytes, x.shape, x.rank, smooth, work.following);
  if (x.rows() == 0) return nullptr;
  if (!written) return no_memory();
  return spread_rows(context, work, x.rows(), table->quantize);
}

// Texts and heads, one after another, in runs of about equal cost.
struct Parts {
  static constexpr int kMost = 96;
  int64_t ends[kMost + 1] = {};
  int count = 0;

  Parts(const Attention& work, int64_t texts) {
    double total = 0;
    for (int64_t text = 0; text < texts; text++) total += cost(work, text) * static_cast<double>(work.heads);
    const double wanted = total < 40000.0 ? 1.0 : std::clamp(total / 20000.0, 2.0, static_cast<double>(kMost));
    double sum = 0;
    for (int64_t text = 0; text < texts; text++)
      for (int64_t head = 0; head < work.heads; head++) {
        sum += cost(work, text);
        if (count < kMost - 1 && sum >= total * (count + 1) / wanted) ends[++count] = text * work.heads + head + 1;
      }
    if (ends[count] != texts * work.heads) ends[++count] = texts * work.heads;
  }
  static double cost(const Attention& work, int64_t text) {
    const auto length = static_cast<double>(work.starts[text + 1] - work.starts[text]);
    const double seen = work.window < 0 ? length : std::min(length, 2.0 * static_cast<double>(work.window) + 1);
    return length * (seen + 24.0);
  }
};

// Whether starts are those of texts one after another that make up the stream of so many tokens.
bool are_starts(const Tensor<int64_t>& starts, int64_t tokens) {
  if (!starts.there() || starts.rank != 1 || starts.count < 1) return false;
  if (starts.data[0] != 0 || starts.data[starts.count - 1] != tokens) return false;
  for (int64_t at = 1; at < starts.count; at++)
    if (starts.data[at] < starts.data[at - 1]) return false;
  return true;
}

// Attention(q, k?, v?, row_scale?, bias?, starts, distance?, smooth?); without k and v the columns
// of q are those of all three, one after another.
template <Form form>
Status* compute_attention(const Kernel& kernel, KernelContext* context) {
  const auto q = read<float>(context, 0), k = read<float>(context, 1), v = read<float>(context, 2);
  const bool apart = k.given && v.given;
  if (k.given != v.given) return refuse("ai.cloze.Attention: k and v go together");
  if (!q.there() || kernel.heads <= 0 || q.columns() <= 0) return refuse("ai.cloze.Attention: q has no columns");
  const int64_t width = apart ? q.columns() : q.columns() / 3, tokens = q.rows();
  if (width % kernel.heads != 0 || (!apart && width * 3 != q.columns()))
    return refuse("ai.cloze.Attention: the columns of q are not those of so many heads");
  if (apart && (k.count != q.count || v.count != q.count || k.columns() != width || v.columns() != width))
    return refuse("ai.cloze.Attention: k or v is not of the size of q");
  const auto starts = read<int64_t>(context, 5);
  if (!are_starts(starts, tokens)) return refuse("ai.cloze.Attention: starts are not those of the stream's texts");
  bool ok = true;
  Attention work{};
  work.heads = kernel.heads;
  work.size = width / kernel.heads;
  work.scale = kernel.scale;
  work.window = kernel.window;
  work.q = q.data;
  work.k = apart ? k.data : q.data + width;
  work.v = apart ? v.data : q.data + 2 * width;
  work.stride = apart ? width : 3 * width;
  work.row_scale = read_vector<float>(context, 3, tokens, ok);
  work.q_bias = read_vector<float>(context, 4, 3 * width, ok);
  if (work.q_bias != nullptr) {
    work.k_bias = work.q_bias + width;
    work.v_bias = work.q_bias + 2 * width;
  }
  work.starts = starts.data;
  const auto distance = read<float>(context, 6);
  if (distance.given) {
    ok = ok && distance.there() && distance.rank == 2 && distance.shape[0] == kernel.heads && distance.columns() % 2 == 1;
    work.distance = distance.data;
    work.reach = (distance.columns() - 1) / 2;
  }
  const float* smooth = read_vector<float>(context, 7, width, ok);
  if (!ok) return refuse("ai.cloze.Attention: an input is not of the size of q's rows");
  int64_t shape[kMostDimensions];
  std::copy(q.shape, q.shape + q.rank, shape);
  shape[q.rank - 1] = width;
  Following following;
  const bool written = write_following(context, form == Form::kPlain ? 1 : 0, form, shape, q.rank, smooth, following);
  work.half = following.half;
  if (form == Form::kPlain) work.out = write<float>(context, 0, shape, q.rank);
  if (form == Form::kBytes) work.out = find_scratch(static_cast<size_t>(tokens * width), 1);
  if (tokens == 0) return nullptr;
  if (!written || (work.out == nullptr && form != Form::kHalf)) return no_memory();
  const int64_t texts = starts.count - 1;
  const Parts parts(work, texts);
  Status* failed = spread(context, parts.count, true, [&](int64_t part) {
    for (int64_t at = parts.ends[part]; at < parts.ends[part + 1]; at++)
      table->attend(work, at / work.heads, at % work.heads);
  });
  if (failed != nullptr || form != Form::kBytes) return failed;
  const Quantize rows{width, work.out, following};
  return spread_rows(context, rows, tokens, table->quantize);
}

// ProductHalf(a, weights, bias?): floats, or after a Gelu halves again.
template <bool activated>
Status* compute_product(const Kernel& kernel, KernelContext* context) {
  if (table->multiply_half == nullptr)
    return refuse("ai.cloze.ProductHalf: this processor has no units for products in bfloat16");
  const auto a = read<Bfloat16>(context, 0), weights = read<Bfloat16>(context, 1);
  const int64_t inner = a.columns(), columns = kernel.columns, panels = (columns + 63) / 64, rows = a.rows();
  if (!a.there() || !weights.there() || columns <= 0 || inner % 2 != 0 || weights.rank != 4 ||
      weights.shape[0] != panels || weights.shape[1] * 2 != inner || weights.shape[2] != 64 || weights.shape[3] != 2)
    return refuse("ai.cloze.ProductHalf: the weights are not those of the columns of a");
  bool ok = true;
  Product work{};
  work.inner = inner;
  work.columns = columns;
  work.activation = kernel.approximate != 0 ? Activation::kGeluTanh : Activation::kGeluErf;
  work.a = a.data;
  work.weights = weights.data;
  work.bias = read_vector<float>(context, 2, columns, ok);
  if (!ok) return refuse("ai.cloze.ProductHalf: the bias is not of the size of the columns");
  int64_t shape[kMostDimensions];
  std::copy(a.shape, a.shape + a.rank, shape);
  shape[a.rank - 1] = columns;
  if (activated) work.half = write<Bfloat16>(context, 0, shape, a.rank);
  else work.out = write<float>(context, 0, shape, a.rank);
  if (rows == 0) return nullptr;
  if (work.half == nullptr && work.out == nullptr) return no_memory();
  const int64_t blocks = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
  return spread(context, panels * blocks, true, [&](int64_t task) {
    const int64_t first = task / panels * kRowsOfBlock;
    table->multiply_half(work, first, std::min(rows, first + kRowsOfBlock), task % panels);
  });
}

// An operator as ONNX Runtime asks of it. The C structure comes first, so that a pointer to one is
// a pointer to the other.
struct Operator {
  CustomOp base;
  const char* name;
  size_t inputs, outputs;
  uint32_t required;  // a bit for each input
  ElementType in[8], out[3];
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
  base.get_end_version = [](const CustomOp*) { return 1; };
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
  constexpr ElementType f = runtime::kFloat, b = runtime::kUint8, h = runtime::kBfloat16, i = runtime::kInt64;
  // Bits of the inputs that must be there.
  constexpr uint32_t norm = 0b10001, first = 0b1, attention = 0b100001, product = 0b11;
  static Operator all[] = {
      make<compute_add_norm<Form::kPlain>>("AddNorm", {f, f, f, f, f, f, f}, norm, {f}),
      make<compute_add_norm<Form::kHalf>>("AddNormHalf", {f, f, f, f, f, f, f}, norm, {f, h}),
      make<compute_add_norm<Form::kBytes>>("AddNormBytes", {f, f, f, f, f, f, f}, norm, {f, b, f}),
      make<compute_gelu<Form::kPlain>>("Gelu", {f, f, f, f}, first, {f}),
      make<compute_gelu<Form::kHalf>>("GeluHalf", {f, f, f, f}, first, {h}),
      make<compute_gelu<Form::kBytes>>("GeluBytes", {f, f, f, f}, first, {b, f}),
      make<compute_quantize>("Quantize", {f, f}, first, {b, f}),
      make<compute_product<false>>("ProductHalf", {h, h, f}, product, {f}),
      make<compute_product<true>>("ProductGeluHalf", {h, h, f}, product, {h}),
      make<compute_attention<Form::kPlain>>("Attention", {f, f, f, f, f, i, f, f}, attention, {f}),
      make<compute_attention<Form::kHalf>>("AttentionHalf", {f, f, f, f, f, i, f, f}, attention, {h}),
      make<compute_attention<Form::kBytes>>("AttentionBytes", {f, f, f, f, f, i, f, f}, attention, {b, f}),
  };
  *count = sizeof all / sizeof *all;
  return all;
}

}  // namespace
}  // namespace cloze

#define CLOZE_EXPORT extern "C" __attribute__((visibility("default")))

// What of the library's interface changes with it; the project's Python refuses any other.
CLOZE_EXPORT int cloze_version() { return 1; }

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
