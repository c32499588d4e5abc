// Products in bfloat16 on processors with units for them (AVX-512 BF16: vdpbf16ps), which add two
// products to a float at once. The one place with intrinsics: compilers have no vectors of pairs.
//
// The weights [K, N] come in panels of 64 columns, two rows of K side by side: [panels, K / 2, 64,
// 2], as the exporter writes them, so that none is copied. Sums go along K in one order whatever
// the number of rows is.
#include <immintrin.h>

#include <algorithm>

#include "kernels.h"
#include "vector.h"

namespace cloze::TARGET {
namespace {

constexpr int kRows = 6;
constexpr int kPanel = 64;

template <int rows>
inline void multiply(const Bfloat16* a, int64_t inner, const Bfloat16* panel, __m512 (&sums)[rows][4]) {
  for (int row = 0; row < rows; row++)
    for (int part = 0; part < 4; part++) sums[row][part] = _mm512_setzero_ps();
  for (int64_t k = 0; k < inner; k += 2) {
    __m512bh weights[4];
    for (int part = 0; part < 4; part++)
      weights[part] = (__m512bh)_mm512_loadu_si512(panel + k * kPanel + 32 * part);
    for (int row = 0; row < rows; row++) {
      int32_t pair;
      std::memcpy(&pair, a + row * inner + k, sizeof pair);
      const __m512bh numbers = (__m512bh)_mm512_set1_epi32(pair);
      for (int part = 0; part < 4; part++) sums[row][part] = _mm512_dpbf16_ps(sums[row][part], numbers, weights[part]);
    }
  }
}

template <int rows>
void block(const Product& work, int64_t first, int64_t panel) {
  __m512 sums[rows][4];
  multiply<rows>(work.a + first * work.inner, work.inner, work.weights + panel * work.inner * kPanel, sums);
  for (int part = 0; part < 4; part++) {
    const int64_t column = panel * kPanel + 16 * part, left = std::min<int64_t>(16, work.columns - column);
    if (left <= 0) break;
    const Floats bias = work.bias == nullptr ? Floats{} : load_some(work.bias + column, left);
    for (int row = 0; row < rows; row++) {
      Floats numbers = (Floats)sums[row][part] + bias;
      const int64_t place = (first + row) * work.columns + column;
      if (work.out != nullptr) {
        store_some(work.out + place, numbers, left);
        continue;
      }
      if (work.activation == Activation::kGeluErf) numbers = gelu_erf(numbers);
      if (work.activation == Activation::kGeluTanh) numbers = gelu_tanh(numbers);
      const Halves halves = round_half(numbers);
      std::memcpy(work.half + place, &halves, static_cast<size_t>(left) * 2);
    }
  }
}

}  // namespace

void multiply_half(const Product& work, int64_t first, int64_t last, int64_t panel) {
  for (int64_t row = first; row < last; row += kRows) switch (std::min<int64_t>(kRows, last - row)) {
      case 6: block<6>(work, row, panel); break;
      case 5: block<5>(work, row, panel); break;
      case 4: block<4>(work, row, panel); break;
      case 3: block<3>(work, row, panel); break;
      case 2: block<2>(work, row, panel); break;
      default: block<1>(work, row, panel);
    }
}

}  // namespace cloze::TARGET
