// Products in bfloat16 on processors with units for them (AVX-512 BF16: vdpbf16ps), which add two
// products to a float at once. By intrinsics: compilers have no vectors of pairs.
//
// Sums go along `inner` in one order whatever the number of rows is.
#include <immintrin.h>

#include "panels.h"

namespace cloze::TARGET {
namespace {

constexpr int kRows = 6;
constexpr int kParts = kPanel / 16;

struct Halves16 {
  const ProductHalf& work;

  template <int rows>
  void multiply(int64_t row, int64_t panel, float* out) const {
    const Bfloat16* a = work.a + row * work.inner;
    const Bfloat16* weights = work.weights + panel * work.inner * kPanel;
    __m512 sums[rows][kParts];
    CLOZE_UNROLL for (int at = 0; at < rows; at++)
      CLOZE_UNROLL for (int part = 0; part < kParts; part++) sums[at][part] = _mm512_setzero_ps();
    for (int64_t k = 0; k < work.inner; k += 2) {
      __m512bh columns[kParts];
      CLOZE_UNROLL for (int part = 0; part < kParts; part++)
        columns[part] = (__m512bh)_mm512_loadu_si512(weights + k * kPanel + 32 * part);
      CLOZE_UNROLL for (int at = 0; at < rows; at++) {
        int32_t pair;
        std::memcpy(&pair, a + at * work.inner + k, sizeof pair);
        const __m512bh numbers = (__m512bh)_mm512_set1_epi32(pair);
        CLOZE_UNROLL for (int part = 0; part < kParts; part++)
          sums[at][part] = _mm512_dpbf16_ps(sums[at][part], numbers, columns[part]);
      }
    }
    CLOZE_UNROLL for (int part = 0; part < kParts; part++)
      CLOZE_UNROLL for (int at = 0; at < rows; at++)
        store_part(out, work.columns, at, panel * kPanel + 16 * part, (Floats)sums[at][part]);
  }
};

}  // namespace

void multiply_half(const ProductHalf& work, const Part& part, float* out) {
  spread_part<kRows>(Halves16{work}, work.columns, part, out);
}

}  // namespace cloze::TARGET
