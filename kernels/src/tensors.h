// What ONNX Runtime gives an operator, read with its sizes, and the threads that it lends.
#pragma once

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

}  // namespace
}  // namespace cloze
