// Vectors of floats by the compiler's own extension, as wide as the instruction set that this file
// is compiled for. Chosen over a library of SIMD since nothing but a compiler has to be there.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cloze::TARGET {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
constexpr int kColumns = 4;  // vectors beside each other in a block of 6 rows
#elif defined(__AVX2__)
constexpr int kWidth = 8;
constexpr int kColumns = 2;
#else
constexpr int kWidth = 4;
constexpr int kColumns = 4;
#endif
constexpr int kBytes = kWidth * 4;

#if defined(__clang__)
#define CLOZE_UNROLL _Pragma("unroll")
#else
#define CLOZE_UNROLL _Pragma("GCC unroll 16")
#endif

typedef float Floats __attribute__((vector_size(kBytes)));
typedef int32_t Ints __attribute__((vector_size(kBytes)));
typedef uint32_t Bits __attribute__((vector_size(kBytes)));
typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));
typedef uint8_t Quarters __attribute__((vector_size(kBytes / 4)));

inline Floats load(const float* from) {
  Floats found;
  std::memcpy(&found, from, sizeof found);
  return found;
}
inline void store(float* to, Floats numbers) { std::memcpy(to, &numbers, sizeof numbers); }
inline Floats fill(float number) { return number - Floats{}; }
inline Floats load_some(const float* from, int64_t count) {
  Floats found{};
  std::memcpy(&found, from, static_cast<size_t>(count) * sizeof(float));
  return found;
}
inline void store_some(float* to, Floats numbers, int64_t count) {
  std::memcpy(to, &numbers, static_cast<size_t>(count) * sizeof(float));
}
// Where one of them is no number, `other`. By hand: which compilers do not see to be one instruction.
inline Floats largest(Floats one, Floats other) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)one, (__m512)other);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)one, (__m256)other);
#else
  return one > other ? one : other;
#endif
}
inline Floats smallest(Floats one, Floats other) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps((__m512)one, (__m512)other);
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps((__m256)one, (__m256)other);
#else
  return one < other ? one : other;
#endif
}
// What is not a number stays so.
inline Floats bound(Floats x, float low, float high) { return smallest(fill(high), largest(fill(low), x)); }
inline Floats magnitude(Floats numbers) { return (Floats)((Bits)numbers & 0x7fffffffu); }
// The first `left` of a vector's numbers, or all: a copy of a size that is known is one instruction.
template <class Number, class Vector>
inline void write_some(Number* to, Vector numbers, int64_t left) {
  if (left >= kWidth) std::memcpy(to, &numbers, sizeof numbers);
  else std::memcpy(to, &numbers, static_cast<size_t>(left) * sizeof(Number));
}
inline Ints count_up() {
  Ints found{};
  for (int place = 0; place < kWidth; place++) found[place] = place;
  return found;
}

// Each number becomes the one `step` places from it, and that one this.
template <int step>
inline Floats swap(Floats numbers) {
#if defined(__clang__)
  Floats found;
  for (int lane = 0; lane < kWidth; lane++) found[lane] = numbers[lane ^ step];
  return found;
#else
  return __builtin_shuffle(numbers, count_up() ^ step);
#endif
}

// In halves, so that the order is the same for each width.
template <int step = kWidth / 2>
inline float sum_up(Floats numbers) {
  if constexpr (step == 0) return numbers[0];
  else return sum_up<step / 2>(numbers + swap<step>(numbers));
}
template <int step = kWidth / 2>
inline float find_largest(Floats numbers) {
  if constexpr (step == 0) return numbers[0];
  else return find_largest<step / 2>(largest(numbers, swap<step>(numbers)));
}

// Added, a float's lowest bits are the nearest whole number (below 2^22, to even).
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

// e to the x, to two units in the last place, of x from -87.3 to 88. Coefficients: Cephes' expf (Moshier).
inline Floats exponential_within(Floats x) {
  const Floats shifted = x * 1.44269504f + kRound;
  const Floats whole = shifted - kRound;
  Floats rest = x - whole * 0.693359375f;
  rest = rest + whole * 2.12194440e-4f;
  Floats sum = fill(1.9875691500e-4f);
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * (rest * rest) + (rest + 1.0f);
  const Ints power = ((Ints)shifted - (Ints)fill(kRound) + 127) << 23;
  return sum * (Floats)power;
}

// Beyond, what is there.
inline Floats exponential(Floats x) { return exponential_within(bound(x, -87.3f, 88.0f)); }
inline Floats exponential_of_negative(Floats x) {
  return exponential_within(largest(fill(-87.3f), x));
}

// The error function, as quotient of polynomials over -4 to 4 (those of Eigen and XLA).
inline Floats error_function(Floats x) {
  x = bound(x, -4.0f, 4.0f);
  const Floats square = x * x;
  Floats above = fill(-2.72614225801306e-10f);
  above = above * square + 2.77068142495902e-08f;
  above = above * square + -2.10102402082508e-06f;
  above = above * square + -5.69250639462346e-05f;
  above = above * square + -7.34990630326855e-04f;
  above = above * square + -2.95459980854025e-03f;
  above = above * square + -1.60960333262415e-02f;
  Floats below = fill(-1.45660718464996e-05f);
  below = below * square + -2.13374055278905e-04f;
  below = below * square + -1.68282697438203e-03f;
  below = below * square + -7.37332916720468e-03f;
  below = below * square + -1.42647390514189e-02f;
  return x * above / below;
}

inline Floats gelu_erf(Floats x) {
  const Floats half = x * 0.5f;
  return half * error_function(x * 0.70710678118654752f) + half;
}

// x / (1 + e^-2y), which is half of x times (1 + tanh(y)).
inline Floats gelu_tanh(Floats x) {
  const Floats inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return x / (1.0f + exponential(bound(-2.0f * inner, -80.0f, 80.0f)));
}

inline Halves round_half(Floats numbers) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)numbers);
#else
  const Bits bits = (Bits)numbers;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  // What is not a number stays so, whatever rounding would carry.
  const Bits kept = numbers == numbers ? rounded : (bits >> 16) | 0x40u;
  return __builtin_convertvector(kept, Halves);
#endif
}

// The nearest whole number from 0 to 255.
inline Quarters round_byte(Floats numbers) {
  const Bits bits = (Bits)(bound(numbers, 0.0f, 255.0f) + kRound);
  return __builtin_convertvector(bits & 0xffu, Quarters);
}

}  // namespace cloze::TARGET
