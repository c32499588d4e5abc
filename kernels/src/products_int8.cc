// Products of bytes, which are exact: the same sums in any order. Compiled once with the units that
// add four of them at once (AVX-512 VNNI), and once for processors without, which widen them first.
// By intrinsics: compilers have no vectors of fours.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "panels.h"

namespace cloze::TARGET {
namespace {

#if defined(__AVX512F__)
constexpr int kRows = 6, kBeside = 4;
#else
constexpr int kRows = 4, kBeside = 2;
#endif

// To each sum, the products of the four bytes of a lane: unsigned ones by signed ones.
inline Ints add_products(Ints sum, Ints bytes, Ints weights) {
#if defined(__AVX512VNNI__)
  typedef int32_t Fours __attribute__((vector_size(64)));
  return (Ints)__builtin_ia32_vpdpbusd_v16si((Fours)sum, (Fours)bytes, (Fours)weights);
#elif defined(__AVX512BW__) || defined(__AVX2__)
  typedef int16_t Shorts __attribute__((vector_size(kBytes)));
  const Ints odd = (Ints)(((Shorts)weights) >> 8), even = (Ints)(((Shorts)weights << 8) >> 8);
  const Ints low = bytes & 0x00ff00ff, high = (Ints)((Bits)bytes >> 8) & 0x00ff00ff;
#if defined(__AVX512BW__)
  return sum + (Ints)_mm512_madd_epi16((__m512i)low, (__m512i)even) +
         (Ints)_mm512_madd_epi16((__m512i)high, (__m512i)odd);
#else
  return sum + (Ints)_mm256_madd_epi16((__m256i)low, (__m256i)even) +
         (Ints)_mm256_madd_epi16((__m256i)high, (__m256i)odd);
#endif
#else
  for (int shift = 0; shift < 32; shift += 8)
    sum = sum + ((bytes >> shift) & 0xff) * ((Ints)((Bits)weights << (24 - shift)) >> 24);
  return sum;
#endif
}

// A graph may bring any number.
inline int32_t read_zero(float zero) { return zero >= 0.0f && zero <= 255.0f ? static_cast<int32_t>(zero) : 0; }

struct Bytes {
  const ProductBytes& work;

  template <int rows>
  void multiply(int64_t row, int64_t panel, float* out) const {
    for (int64_t column = 0; column < kPanel; column += kBeside * kWidth)
      multiply_beside<rows>(row, panel, column, out);
  }

  // Some columns of a panel, as many as the sums of which fit into the registers.
  template <int rows>
  void multiply_beside(int64_t row, int64_t panel, int64_t column, float* out) const {
    const uint8_t* a = work.a + row * work.inner;
    const int8_t* weights = work.weights + panel * work.inner * kPanel + 4 * column;
    Ints sums[rows][kBeside];
    CLOZE_UNROLL for (int at = 0; at < rows; at++)
      CLOZE_UNROLL for (int part = 0; part < kBeside; part++) sums[at][part] = Ints{};
    for (int64_t k = 0; k < work.inner; k += 4) {
      Ints columns[kBeside];
      CLOZE_UNROLL for (int part = 0; part < kBeside; part++)
        std::memcpy(&columns[part], weights + k * kPanel + kBytes * part, kBytes);
      CLOZE_UNROLL for (int at = 0; at < rows; at++) {
        int32_t four;
        std::memcpy(&four, a + at * work.inner + k, sizeof four);
        const Ints bytes = four - Ints{};
        CLOZE_UNROLL for (int part = 0; part < kBeside; part++)
          sums[at][part] = add_products(sums[at][part], bytes, columns[part]);
      }
    }
    CLOZE_UNROLL for (int part = 0; part < kBeside; part++) {
      const int64_t place = panel * kPanel + column + kWidth * part, left = work.columns - place;
      if (left <= 0) break;
      const Floats scales = load_part(work.scales, work.columns, place);
      Ints total{};
      std::memcpy(&total, work.sums + place, left >= kWidth ? kBytes : static_cast<size_t>(left) * 4);
      CLOZE_UNROLL for (int at = 0; at < rows; at++) {
        const float* steps = work.steps + 2 * (row + at);
        const Ints whole = sums[at][part] - total * read_zero(steps[1]);
        const Floats numbers = __builtin_convertvector(whole, Floats) * (scales * steps[0]);
        store_part(out, work.columns, at, place, numbers);
      }
    }
  }
};

}  // namespace

void multiply_bytes(const ProductBytes& work, const Part& part, float* out) {
  spread_part<kRows>(Bytes{work}, work.columns, part, out);
}

}  // namespace cloze::TARGET
