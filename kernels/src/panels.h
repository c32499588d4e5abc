// What products have in common: which rows and panels come one after another, and where they go.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "vector.h"

namespace cloze::TARGET {

// A vector of a row's columns, of which there may be fewer.
inline void store_part(float* out, int64_t columns, int64_t row, int64_t column, Floats numbers) {
  const int64_t left = columns - column;
  if (left >= kWidth) store(out + row * columns + column, numbers);
  else if (left > 0) store_some(out + row * columns + column, numbers, left);
}
inline Floats load_part(const float* from, int64_t columns, int64_t column) {
  const int64_t left = columns - column;
  return left >= kWidth ? load(from + column) : load_some(from + column, std::max<int64_t>(left, 0));
}

// So many rows at once, by a constant; the last ones are fewer.
template <int most, class Multiply>
inline void take_rows(const Multiply& work, int64_t rows, int64_t row, int64_t panel, float* out) {
  if constexpr (most > 1) {
    if (rows < most) return take_rows<most - 1>(work, rows, row, panel, out);
  }
  work.template multiply<most>(row, panel, out);
}

// Panel by panel, since the weights of one stay near while all rows pass them.
template <int most, class Multiply>
inline void spread_part(const Multiply& work, int64_t columns, const Part& part, float* out) {
  for (int64_t panel = part.panel; panel < part.end; panel++)
    for (int64_t row = part.first; row < part.last; row += most)
      take_rows<most>(work, part.last - row, row, panel, out + (row - part.first) * columns);
}

}  // namespace cloze::TARGET
