// What each operator does with what it is given: it checks the sizes before it reads a number, and
// spreads its rows or heads over the session's own threads.
#pragma once

#include "tensors.h"

namespace cloze {
namespace {

enum class Form { kPlain, kHalf, kBytes };

// The outputs in which the next product takes the rows; false where there is no room for them.
bool write_following(KernelContext* context, size_t index, Form form, const int64_t* shape, int rank,
                     const float* smooth, Following& following) {
  if (form == Form::kHalf) {
    following.half = write<Bfloat16>(context, index, shape, rank);
    return following.half != nullptr;
  }
  if (form == Form::kPlain) return true;
  int64_t of_steps[kMostDimensions];
  std::copy(shape, shape + rank, of_steps);
  of_steps[rank - 1] = 2;
  following.bytes = write<uint8_t>(context, index, shape, rank);
  following.steps = write<float>(context, index + 1, of_steps, rank);
  following.smooth = smooth;
  return following.bytes != nullptr && following.steps != nullptr;
}

// What AddNorm has beside y, from that input on: bias?, residual?, gamma, beta?, smooth?
template <Form form>
Status* read_norm(const Kernel& kernel, KernelContext* context, size_t from, const int64_t* shape, int rank,
                  int64_t count, AddNorm& work) {
  bool ok = true;
  work.epsilon = kernel.epsilon;
  work.bias = read_vector<float>(context, from, work.columns, ok);
  work.residual = read_vector<float>(context, from + 1, count, ok);
  work.gamma = read_vector<float>(context, from + 2, work.columns, ok);
  work.beta = read_vector<float>(context, from + 3, work.columns, ok);
  const float* smooth = read_vector<float>(context, from + 4, work.columns, ok);
  if (!ok || work.gamma == nullptr) return refuse("ai.cloze.AddNorm: an input is not of the size of y's rows");
  work.out = write<float>(context, 0, shape, rank);
  const bool written = write_following(context, 1, form, shape, rank, smooth, work.following);
  return count == 0 || (work.out != nullptr && written) ? nullptr : no_memory();
}

// What Gelu has beside y, from that input on: bias?, smooth?
template <Form form>
Status* read_gelu(const Kernel& kernel, KernelContext* context, size_t from, const int64_t* shape, int rank,
                  int64_t count, Gelu& work) {
  bool ok = true;
  work.kind = kernel.approximate != 0 ? GeluKind::kTanh : GeluKind::kErf;
  work.bias = read_vector<float>(context, from, work.columns, ok);
  const float* smooth = read_vector<float>(context, from + 1, work.columns, ok);
  if (!ok) return refuse("ai.cloze.Gelu: an input is not of the size of y's rows");
  if (form == Form::kPlain) work.out = write<float>(context, 0, shape, rank);
  const bool written = write_following(context, 0, form, shape, rank, smooth, work.following);
  return count == 0 || (written && (form != Form::kPlain || work.out != nullptr)) ? nullptr : no_memory();
}

// AddNorm(y, bias?, residual?, gamma, beta?, smooth?)
template <Form form>
Status* compute_add_norm(const Kernel& kernel, KernelContext* context) {
  const auto y = read<float>(context, 0);
  if (!y.there() || y.columns() <= 0) return refuse("ai.cloze.AddNorm: y has no columns");
  AddNorm work{};
  work.columns = y.columns();
  work.y = y.data;
  if (Status* failed = read_norm<form>(kernel, context, 1, y.shape, y.rank, y.count, work)) return failed;
  return y.rows() == 0 ? nullptr : spread_rows(context, work, y.rows(), table->add_norm);
}

// Gelu(y, bias?, smooth?)
template <Form form>
Status* compute_gelu(const Kernel& kernel, KernelContext* context) {
  const auto y = read<float>(context, 0);
  if (!y.there() || y.columns() <= 0) return refuse("ai.cloze.Gelu: y has no columns");
  Gelu work{};
  work.columns = y.columns();
  work.y = y.data;
  if (Status* failed = read_gelu<form>(kernel, context, 1, y.shape, y.rank, y.count, work)) return failed;
  return y.rows() == 0 ? nullptr : spread_rows(context, work, y.rows(), table->gelu);
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

// Texts and heads, one after another, in runs of about equal cost; of `whole` texts where there are
// enough of them, so that a run has all heads of its rows.
struct Parts {
  static constexpr int kMost = 96;
  static constexpr int64_t kManyTexts = 8;
  int64_t ends[kMost + 1] = {};
  int count = 0;
  bool whole;

  Parts(const Attention& work, int64_t texts) : whole(texts >= kManyTexts) {
    double total = 0;
    for (int64_t text = 0; text < texts; text++) total += cost(work, text) * static_cast<double>(work.heads);
    const double wanted = total < 40000.0 ? 1.0 : std::clamp(total / 20000.0, 2.0, static_cast<double>(kMost));
    double sum = 0;
    for (int64_t text = 0; text < texts; text++)
      for (int64_t head = 0; head < work.heads; head++) {
        sum += cost(work, text);
        if (whole && head + 1 < work.heads) continue;
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

// Attention(q, k?, v?, bias?, starts, distance?, smooth?); without k and v the columns
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
  const auto starts = read<int64_t>(context, 4);
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
  work.q_bias = read_vector<float>(context, 3, 3 * width, ok);
  if (work.q_bias != nullptr) {
    work.k_bias = work.q_bias + width;
    work.v_bias = work.q_bias + 2 * width;
  }
  work.starts = starts.data;
  const auto distance = read<float>(context, 5);
  if (distance.given) {
    ok = ok && distance.there() && distance.rank == 2 && distance.shape[0] == kernel.heads && distance.columns() % 2 == 1;
    work.distance = distance.data;
    work.reach = (distance.columns() - 1) / 2;
  }
  const float* smooth = read_vector<float>(context, 6, width, ok);
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
  const Quantize rows{width, work.out, following};
  const bool later = form == Form::kBytes && !parts.whole;
  Status* failed = spread(context, parts.count, true, [&](int64_t part) {
    const int64_t first = parts.ends[part], last = parts.ends[part + 1];
    for (int64_t at = first; at < last; at++) table->attend(work, at / work.heads, at % work.heads);
    if (form == Form::kBytes && parts.whole)
      table->quantize(rows, work.starts[first / work.heads], work.starts[last / work.heads]);
  });
  return failed == nullptr && later ? spread_rows(context, rows, tokens, table->quantize) : failed;
}

}  // namespace
}  // namespace cloze
