// The kernels that compute rows: norms, activations, and what the next product wants of them.
#include "kernels.h"
#include "vector.h"

namespace cloze::TARGET {
namespace {

// The columns from `column` on, as many as there are up to a vector's width.
inline Floats load_at(const float* row, int64_t column, int64_t columns) {
  const int64_t left = columns - column;
  return left >= kWidth ? load(row + column) : load_some(row + column, left);
}
inline void store_at(float* row, int64_t column, int64_t columns, Floats numbers) {
  const int64_t left = columns - column;
  if (left >= kWidth) store(row + column, numbers);
  else store_some(row + column, numbers, left);
}
inline void store_half(Bfloat16* row, int64_t column, int64_t columns, Floats numbers) {
  const Halves halves = round_half(numbers);
  const int64_t left = columns - column;
  std::memcpy(row + column, &halves, (left >= kWidth ? kWidth : static_cast<size_t>(left)) * 2);
}

// A row as bytes: its largest magnitude becomes 127. A row that holds what is no number gets a
// scale that is none, so that its products are none either.
void quantize_row(const float* row, int64_t columns, uint8_t* bytes, float* scale) {
  Floats most{}, odd{};
  for (int64_t at = 0; at < columns; at += kWidth) {
    const Floats numbers = load_at(row, at, columns);
    most = largest(most, magnitude(numbers));
    odd = odd + (numbers - numbers);
  }
  const float found = find_largest(most);
  const float of_row = (found > 1e-10f ? found : 1e-10f) + sum_up(odd);
  *scale = of_row;
  const Floats factor = fill(127.0f / of_row);
  for (int64_t at = 0; at < columns; at += kWidth) {
    const Quarters quarters = round_byte(load_at(row, at, columns) * factor);
    const int64_t left = columns - at;
    std::memcpy(bytes + at, &quarters, left >= kWidth ? kWidth : static_cast<size_t>(left));
  }
}

void follow(const Following& wanted, int64_t row_at, int64_t columns, const float* row, float* room) {
  if (wanted.bytes == nullptr) return;
  if (wanted.smooth != nullptr) {
    for (int64_t at = 0; at < columns; at += kWidth)
      store_at(room, at, columns, load_at(row, at, columns) * load_at(wanted.smooth, at, columns));
    row = room;
  }
  quantize_row(row, columns, wanted.bytes + row_at * columns, wanted.scale + row_at);
}

}  // namespace

void add_norm(const AddNorm& work, int64_t first, int64_t last) {
  const int64_t columns = work.columns;
  float* room = find_scratch(static_cast<size_t>(columns) + kWidth);
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++) {
    const float* y = work.y + row * columns;
    const float* residual = work.residual == nullptr ? nullptr : work.residual + row * columns;
    const Floats scale = fill(work.row_scale == nullptr ? 1.0f : work.row_scale[row]);
    Floats sum{};
    for (int64_t at = 0; at < columns; at += kWidth) {
      Floats numbers = load_at(y, at, columns) * scale;
      if (work.bias != nullptr) numbers = numbers + load_at(work.bias, at, columns);
      if (residual != nullptr) numbers = numbers + load_at(residual, at, columns);
      store_at(room, at, columns, numbers);
      sum = sum + numbers;
    }
    const float mean = sum_up(sum) / static_cast<float>(columns);
    Floats squares{};
    for (int64_t at = 0; at < columns; at += kWidth) {
      const int64_t left = columns - at;
      Floats apart = load_at(room, at, columns) - mean;
      if (left < kWidth) apart = count_up() < static_cast<int32_t>(left) ? apart : Floats{};
      squares = squares + apart * apart;
    }
    const float variance = sum_up(squares) / static_cast<float>(columns);
    const float inverse = 1.0f / std::sqrt(variance + work.epsilon);
    float* out = work.out + row * columns;
    for (int64_t at = 0; at < columns; at += kWidth) {
      Floats numbers = (load_at(room, at, columns) - mean) * inverse * load_at(work.gamma, at, columns);
      if (work.beta != nullptr) numbers = numbers + load_at(work.beta, at, columns);
      store_at(out, at, columns, numbers);
      if (work.following.half != nullptr)
        store_half(work.following.half + row * columns, at, columns, numbers);
    }
    follow(work.following, row, columns, out, room);
  }
}

template <GeluKind kind>
void gelu_rows(const Gelu& work, int64_t first, int64_t last) {
  const int64_t columns = work.columns;
  float* room = find_scratch(2 * (static_cast<size_t>(columns) + kWidth));
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++) {
    const float* y = work.y + row * columns;
    const Floats scale = fill(work.row_scale == nullptr ? 1.0f : work.row_scale[row]);
    float* out = work.out == nullptr ? room + columns + kWidth : work.out + row * columns;
    for (int64_t at = 0; at < columns; at += kWidth) {
      Floats numbers = load_at(y, at, columns) * scale;
      if (work.bias != nullptr) numbers = numbers + load_at(work.bias, at, columns);
      numbers = kind == GeluKind::kErf ? gelu_erf(numbers) : gelu_tanh(numbers);
      store_at(out, at, columns, numbers);
      if (work.following.half != nullptr)
        store_half(work.following.half + row * columns, at, columns, numbers);
    }
    follow(work.following, row, columns, out, room);
  }
}

void gelu(const Gelu& work, int64_t first, int64_t last) {
  if (work.kind == GeluKind::kErf) gelu_rows<GeluKind::kErf>(work, first, last);
  else gelu_rows<GeluKind::kTanh>(work, first, last);
}

void quantize(const Quantize& work, int64_t first, int64_t last) {
  float* room = find_scratch(static_cast<size_t>(work.columns) + kWidth);
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++)
    follow(work.following, row, work.columns, work.x + row * work.columns, room);
}

}  // namespace cloze::TARGET
