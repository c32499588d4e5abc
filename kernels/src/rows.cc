// The kernels that compute rows: norms, activations, and what the next product wants of them.
#include "kernels.h"
#include "vector.h"

namespace cloze::TARGET {
namespace {

// Where in a row a vector stands, and that it is whole: only the last one may be of fewer columns.
struct Whole {
  int64_t at;

  Floats load(const float* row) const { return TARGET::load(row + at); }
  template <class Number, class Vector>
  void store(Number* row, Vector numbers) const {
    std::memcpy(row + at, &numbers, sizeof numbers);
  }
  Floats clear(Floats numbers) const { return numbers; }
};
struct Rest {
  int64_t at, left;

  Floats load(const float* row) const { return load_some(row + at, left); }
  template <class Number, class Vector>
  void store(Number* row, Vector numbers) const {
    std::memcpy(row + at, &numbers, static_cast<size_t>(left) * sizeof(Number));
  }
  // Zeros behind the last column.
  Floats clear(Floats numbers) const { return count_up() < static_cast<int32_t>(left) ? numbers : Floats{}; }
};

template <class Take>
inline void each(int64_t columns, Take&& take) {
  int64_t at = 0;
  for (; at + kWidth <= columns; at += kWidth) take(Whole{at});
  if (at < columns) take(Rest{at, columns - at});
}

enum class Form { kPlain, kHalf, kBytes };

Form find_form(const Following& wanted) {
  if (wanted.bytes != nullptr) return Form::kBytes;
  return wanted.half != nullptr ? Form::kHalf : Form::kPlain;
}

// A row in the form that the next product wants. For bytes its least and largest number are found
// first; what is no number makes `odd` none either.
template <Form form>
struct Next {
  const Following& wanted;
  int64_t row, columns;
  float* room;
  Floats most{}, least{}, odd{};

  template <class Place>
  void take(Place place, Floats numbers) {
    if constexpr (form == Form::kHalf) place.store(wanted.half + row * columns, round_half(numbers));
    if constexpr (form == Form::kBytes) {
      if (wanted.smooth != nullptr) numbers = numbers * place.load(wanted.smooth);
      place.store(room, numbers);
      numbers = place.clear(numbers);
      most = largest(numbers, most);
      least = smallest(numbers, least);
      odd = odd + numbers * 0.0f;
    }
  }

  // The least number becomes 0 and the largest 255, or zero itself, where all numbers are on one
  // side of it. A row that holds what is no number gets a step that is none, so that its products
  // are none either.
  void finish() const {
    if constexpr (form == Form::kBytes) {
      const float low = -find_largest(-least), high = find_largest(most);
      const float step = (high - low > 1e-10f ? high - low : 1e-10f) / 255.0f + sum_up(odd);
      const float inverse = 1.0f / step, zero = std::nearbyint(-low * inverse);
      wanted.steps[2 * row] = step;
      wanted.steps[2 * row + 1] = zero == zero ? zero : 0.0f;
      uint8_t* bytes = wanted.bytes + row * columns;
      each(columns, [&](auto place) { place.store(bytes, round_byte(place.load(room) * inverse + zero)); });
    }
  }
};

template <Form form, bool biased, bool added>
void norm_rows(const AddNorm& work, int64_t first, int64_t last) {
  const int64_t columns = work.columns;
  float* room = find_scratch(2 * (static_cast<size_t>(columns) + kWidth));
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++) {
    const float* y = work.y + (row - work.first) * columns;
    const float* residual = added ? work.residual + row * columns : nullptr;
    Floats sum{};
    each(columns, [&](auto place) {
      Floats numbers = place.load(y);
      if constexpr (biased) numbers = numbers + place.load(work.bias);
      if constexpr (added) numbers = numbers + place.load(residual);
      place.store(room, numbers);
      sum = sum + numbers;
    });
    const float mean = sum_up(sum) / static_cast<float>(columns);
    Floats squares{};
    each(columns, [&](auto place) {
      const Floats apart = place.clear(place.load(room) - mean);
      squares = squares + apart * apart;
    });
    const float variance = sum_up(squares) / static_cast<float>(columns);
    const float inverse = 1.0f / std::sqrt(variance + work.epsilon);
    float* out = work.out + row * columns;
    Next<form> next{work.following, row, columns, room + columns + kWidth};
    each(columns, [&](auto place) {
      Floats numbers = (place.load(room) - mean) * inverse * place.load(work.gamma);
      if (work.beta != nullptr) numbers = numbers + place.load(work.beta);
      place.store(out, numbers);
      next.take(place, numbers);
    });
    next.finish();
  }
}

template <Form form>
void norm_rows(const AddNorm& work, int64_t first, int64_t last) {
  if (work.bias == nullptr)
    return work.residual == nullptr ? norm_rows<form, false, false>(work, first, last)
                                    : norm_rows<form, false, true>(work, first, last);
  return work.residual == nullptr ? norm_rows<form, true, false>(work, first, last)
                                  : norm_rows<form, true, true>(work, first, last);
}

template <Form form, GeluKind kind>
void gelu_rows(const Gelu& work, int64_t first, int64_t last) {
  const int64_t columns = work.columns;
  float* room = find_scratch(static_cast<size_t>(columns) + kWidth);
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++) {
    const float* y = work.y + (row - work.first) * columns;
    float* out = form == Form::kPlain ? work.out + row * columns : nullptr;
    Next<form> next{work.following, row, columns, room};
    each(columns, [&](auto place) {
      Floats numbers = place.load(y);
      if (work.bias != nullptr) numbers = numbers + place.load(work.bias);
      numbers = kind == GeluKind::kErf ? gelu_erf(numbers) : gelu_tanh(numbers);
      if constexpr (form == Form::kPlain) place.store(out, numbers);
      next.take(place, numbers);
    });
    next.finish();
  }
}

template <Form form>
void gelu_rows(const Gelu& work, int64_t first, int64_t last) {
  if (work.kind == GeluKind::kErf) gelu_rows<form, GeluKind::kErf>(work, first, last);
  else gelu_rows<form, GeluKind::kTanh>(work, first, last);
}

}  // namespace

void add_norm(const AddNorm& work, int64_t first, int64_t last) {
  switch (find_form(work.following)) {
    case Form::kPlain: return norm_rows<Form::kPlain>(work, first, last);
    case Form::kHalf: return norm_rows<Form::kHalf>(work, first, last);
    case Form::kBytes: return norm_rows<Form::kBytes>(work, first, last);
  }
}

void gelu(const Gelu& work, int64_t first, int64_t last) {
  switch (find_form(work.following)) {
    case Form::kPlain: return gelu_rows<Form::kPlain>(work, first, last);
    case Form::kHalf: return gelu_rows<Form::kHalf>(work, first, last);
    case Form::kBytes: return gelu_rows<Form::kBytes>(work, first, last);
  }
}

void quantize(const Quantize& work, int64_t first, int64_t last) {
  const int64_t columns = work.columns;
  float* room = find_scratch(static_cast<size_t>(columns) + kWidth);
  if (room == nullptr) return;
  for (int64_t row = first; row < last; row++) {
    Next<Form::kBytes> next{work.following, row, columns, room};
    const float* x = work.x + row * columns;
    each(columns, [&](auto place) { next.take(place, place.load(x)); });
    next.finish();
  }
}

}  // namespace cloze::TARGET
