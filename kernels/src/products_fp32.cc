// Products in single precision: what MLAS does in ONNX Runtime, but with the rows still near when
// they are finished, and in one order along `inner` whatever the number of rows is.
#include "panels.h"

namespace cloze::TARGET {
namespace {

#if defined(__AVX512F__)
constexpr int kRows = 6, kBeside = 4;
#else
constexpr int kRows = 6, kBeside = 2;
#endif

struct Singles {
  const Product& work;

  template <int rows>
  void multiply(int64_t row, int64_t panel, float* out) const {
    for (int64_t column = 0; column < kPanel; column += kBeside * kWidth)
      multiply_beside<rows>(row, panel, column, out);
  }

  // Some columns of a panel, as many as the sums of which fit into the registers.
  template <int rows>
  void multiply_beside(int64_t row, int64_t panel, int64_t column, float* out) const {
    const float* a = work.a + row * work.inner;
    const float* weights = work.weights + panel * work.inner * kPanel + column;
    Floats sums[rows][kBeside];
    CLOZE_UNROLL for (int at = 0; at < rows; at++)
      CLOZE_UNROLL for (int part = 0; part < kBeside; part++) sums[at][part] = Floats{};
    for (int64_t k = 0; k < work.inner; k++) {
      Floats columns[kBeside];
      CLOZE_UNROLL for (int part = 0; part < kBeside; part++) columns[part] = load(weights + k * kPanel + kWidth * part);
      CLOZE_UNROLL for (int at = 0; at < rows; at++) {
        const Floats number = fill(a[at * work.inner + k]);
        CLOZE_UNROLL for (int part = 0; part < kBeside; part++) sums[at][part] += number * columns[part];
      }
    }
    CLOZE_UNROLL for (int part = 0; part < kBeside; part++)
      CLOZE_UNROLL for (int at = 0; at < rows; at++)
        store_part(out, work.columns, at, panel * kPanel + column + kWidth * part, sums[at][part]);
  }
};

}  // namespace

void multiply(const Product& work, const Part& part, float* out) {
  spread_part<kRows>(Singles{work}, work.columns, part, out);
}

}  // namespace cloze::TARGET
