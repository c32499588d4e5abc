// The operators that are products, each with what comes after it.
#pragma once

#include <atomic>
#include <thread>

#include "compute.h"

namespace cloze {
namespace {

// Rows of a product that a task computes whole, at most and at least; and the fewest for which rows
// are spread rather than panels. Products of fewer multiplications are not worth another thread.
constexpr int64_t kMostRows = 48, kLeastRows = 12, kManyRows = 96;
constexpr int64_t kFewProducts = 1 << 20;
// Sums of bytes stay within 32 bits up to here.
constexpr int64_t kMostInner = 1 << 15;

// What a product becomes before anything is written: floats as they are, or by one more kernel.
enum class After { kNothing, kGelu, kNorm };

// So many rows that each thread has about as many tasks, of about the same size. What is computed of
// a row does not depend on it.
inline int64_t choose_block(int64_t rows) {
  static const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t most = std::clamp(rows / (2 * cores), kLeastRows, kMostRows);
  const int64_t tasks = (rows + most - 1) / most, even = (tasks + cores - 1) / cores * cores;
  return ((rows + even - 1) / even + 5) / 6 * 6;
}

// The product's rows, then what comes after them: `finish(y, first, last)`, y from the row `first`
// on. Where there are many rows a task has some of them whole, so that they are still near when they
// are finished; where there are few, a task has a panel of columns, whose weights are read once.
// `out` is where the product itself goes, null where only what comes after is wanted.
template <class Work, class Finish>
Status* multiply(const KernelContext* context, const Work& work, int64_t rows,
                 void (*compute)(const Work&, const Part&, float*), float* out, Finish&& finish) {
  const int64_t columns = work.columns, panels = (columns + kPanel - 1) / kPanel;
  if (rows < kManyRows) {
    float* y = out != nullptr ? out : find_scratch(static_cast<size_t>(rows * columns), 1);
    if (y == nullptr) return no_memory();
    Status* failed = spread(context, panels, rows * work.inner * columns > kFewProducts, [&](int64_t panel) {
      compute(work, Part{0, rows, panel, panel + 1}, y);
    });
    if (failed != nullptr) return failed;
    const int64_t tasks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    return spread(context, tasks, rows * columns > kFewNumbers, [&](int64_t task) {
      const int64_t first = task * kRowsAtOnce;
      finish(y + first * columns, first, std::min(rows, first + kRowsAtOnce));
    });
  }
  const int64_t block = choose_block(rows);
  std::atomic<bool> full{false};
  Status* failed = spread(context, (rows + block - 1) / block, true, [&](int64_t task) {
    const int64_t first = task * block, last = std::min(rows, first + block);
    float* y = out != nullptr ? out + first * columns : find_scratch(static_cast<size_t>(block * columns), 1);
    if (y == nullptr) {
      full = true;
      return;
    }
    compute(work, Part{first, last, 0, panels}, y);
    finish(y, first, last);
  });
  return failed == nullptr && full ? no_memory() : failed;
}

// A product of rows of that shape, with what comes after it from the input `from` on.
template <After after, Form form, class Work>
Status* finish_product(const Kernel& kernel, KernelContext* context, const Work& work, const int64_t* shape, int rank,
                       int64_t rows, size_t from, void (*compute)(const Work&, const Part&, float*)) {
  const int64_t count = rows * work.columns;
  if constexpr (after == After::kNothing) {
    float* out = write<float>(context, 0, shape, rank);
    if (rows == 0) return nullptr;
    if (out == nullptr) return no_memory();
    return multiply(context, work, rows, compute, out, [](const float*, int64_t, int64_t) {});
  } else if constexpr (after == After::kGelu) {
    Gelu gelu{};
    gelu.columns = work.columns;
    if (Status* failed = read_gelu<form>(kernel, context, from, shape, rank, count, gelu)) return failed;
    if (rows == 0) return nullptr;
    return multiply(context, work, rows, compute, nullptr, [&](const float* y, int64_t first, int64_t last) {
      Gelu mine = gelu;
      mine.y = y;
      mine.first = first;
      table->gelu(mine, first, last);
    });
  } else {
    AddNorm norm{};
    norm.columns = work.columns;
    if (Status* failed = read_norm<form>(kernel, context, from, shape, rank, count, norm)) return failed;
    if (rows == 0) return nullptr;
    return multiply(context, work, rows, compute, nullptr, [&](const float* y, int64_t first, int64_t last) {
      AddNorm mine = norm;
      mine.y = y;
      mine.first = first;
      table->add_norm(mine, first, last);
    });
  }
}

// Whether these are the panels of so many columns, with that many of `inner` side by side.
template <class Number>
bool are_panels(const Tensor<Number>& weights, int64_t inner, int64_t columns, int64_t beside) {
  return weights.there() && columns > 0 && inner > 0 && inner % beside == 0 && weights.rank == 4 &&
         weights.shape[0] == (columns + kPanel - 1) / kPanel && weights.shape[1] == inner / beside &&
         weights.shape[2] == kPanel && weights.shape[3] == beside;
}

// Product(a, weights), ProductGelu(..., bias?), ProductNorm(..., what AddNorm has).
template <After after>
Status* compute_product(const Kernel& kernel, KernelContext* context) {
  const auto a = read<float>(context, 0), weights = read<float>(context, 1);
  if (!a.there() || !are_panels(weights, a.columns(), kernel.columns, 1))
    return refuse("ai.cloze.Product: the weights are not those of the columns of a");
  int64_t shape[kMostDimensions];
  std::copy(a.shape, a.shape + a.rank, shape);
  shape[a.rank - 1] = kernel.columns;
  const Product work{a.columns(), kernel.columns, a.data, weights.data};
  return finish_product<after, Form::kPlain>(kernel, context, work, shape, a.rank, a.rows(), 2, table->multiply);
}

// ProductHalf(a, weights), ProductGeluHalf(..., bias?), ProductNormHalf(..., what AddNorm has).
template <After after>
Status* compute_half(const Kernel& kernel, KernelContext* context) {
  if (table->multiply_half == nullptr)
    return refuse("ai.cloze.ProductHalf: this processor has no units for products in bfloat16");
  const auto a = read<Bfloat16>(context, 0), weights = read<Bfloat16>(context, 1);
  if (!a.there() || !are_panels(weights, a.columns(), kernel.columns, 2))
    return refuse("ai.cloze.ProductHalf: the weights are not those of the columns of a");
  int64_t shape[kMostDimensions];
  std::copy(a.shape, a.shape + a.rank, shape);
  shape[a.rank - 1] = kernel.columns;
  const ProductHalf work{a.columns(), kernel.columns, a.data, weights.data};
  return finish_product<after, Form::kHalf>(kernel, context, work, shape, a.rank, a.rows(), 2, table->multiply_half);
}

// ProductBytes(a, steps, weights, scales, sums), ProductGeluBytes(..., bias?, smooth?),
// ProductNormBytes(..., what AddNorm has).
template <After after>
Status* compute_bytes(const Kernel& kernel, KernelContext* context) {
  const auto a = read<uint8_t>(context, 0);
  const auto weights = read<int8_t>(context, 2);
  const int64_t inner = a.columns(), columns = kernel.columns, rows = a.rows();
  if (!a.there() || inner > kMostInner || !are_panels(weights, inner, columns, 4))
    return refuse("ai.cloze.ProductBytes: the weights are not those of the columns of a");
  bool ok = true;
  ProductBytes work{inner, columns, a.data, nullptr, weights.data, nullptr, nullptr};
  work.steps = read_vector<float>(context, 1, 2 * rows, ok);
  work.scales = read_vector<float>(context, 3, columns, ok);
  work.sums = read_vector<int32_t>(context, 4, columns, ok);
  if (!ok || work.scales == nullptr || work.sums == nullptr || (rows > 0 && work.steps == nullptr))
    return refuse("ai.cloze.ProductBytes: an input is not of the size of the rows or columns");
  int64_t shape[kMostDimensions];
  std::copy(a.shape, a.shape + a.rank, shape);
  shape[a.rank - 1] = columns;
  return finish_product<after, Form::kBytes>(kernel, context, work, shape, a.rank, rows, 5, table->multiply_bytes);
}

}  // namespace
}  // namespace cloze
