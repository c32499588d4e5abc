// Attention over a stream of texts by their starts: no rows, no gathers, no mask.
//
// One head of one text is computed at a time. Its keys are laid out column by column and its values
// row by row, both padded to whole vectors; six queries are then multiplied with a tile of keys,
// and their weights with the tile's values. A text longer than a tile keeps the largest score and
// the sum so far, as FlashAttention does (Dao et al. 2022).
#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "vector.h"

namespace cloze::TARGET {
namespace {

constexpr int kRows = 6;
constexpr int64_t kTile = 512;
constexpr float kNever = -1e30f;

inline int64_t round_up(int64_t count) { return (count + kWidth - 1) / kWidth * kWidth; }

// Rows of a square of kWidth by kWidth become its columns. Unrolled, it never leaves the registers.
template <int step>
inline void transpose(Floats (&square)[kWidth]) {
  if constexpr (step < kWidth) {
    Ints low{}, high{};
    for (int lane = 0; lane < kWidth; lane++) {
      const bool second = (lane & step) != 0;
      low[lane] = second ? kWidth + (lane ^ step) : lane;
      high[lane] = second ? kWidth + lane : (lane ^ step);
    }
    CLOZE_UNROLL for (int row = 0; row < kWidth; row++) {
      if (row & step) continue;
      const Floats one = square[row], other = square[row + step];
#if defined(__clang__)
      Floats first, second;
      for (int lane = 0; lane < kWidth; lane++) {
        first[lane] = low[lane] < kWidth ? one[low[lane]] : other[low[lane] - kWidth];
        second[lane] = high[lane] < kWidth ? one[high[lane]] : other[high[lane] - kWidth];
      }
      square[row] = first;
      square[row + step] = second;
#else
      square[row] = __builtin_shuffle(one, other, low);
      square[row + step] = __builtin_shuffle(one, other, high);
#endif
    }
    transpose<2 * step>(square);
  }
}

// scores[rows, columns * kWidth] = queries[rows, size] by keys[size, ...].
template <int rows, int columns>
inline void score(const float* queries, int64_t ldq, const float* keys, int64_t ldk, float* scores, int64_t lds,
                  int64_t size) {
  Floats sums[rows][columns] = {};
  for (int64_t at = 0; at < size; at++) {
    Floats key[columns];
    CLOZE_UNROLL for (int column = 0; column < columns; column++) key[column] = load(keys + at * ldk + kWidth * column);
    CLOZE_UNROLL for (int row = 0; row < rows; row++) {
      const Floats query = fill(queries[row * ldq + at]);
      CLOZE_UNROLL for (int column = 0; column < columns; column++) sums[row][column] += query * key[column];
    }
  }
  CLOZE_UNROLL for (int row = 0; row < rows; row++)
    CLOZE_UNROLL for (int column = 0; column < columns; column++)
      store(scores + row * lds + kWidth * column, sums[row][column]);
}

// out[rows, columns * kWidth] += weights[rows, count] by values[count, ...].
template <int rows, int columns>
inline void mix(const float* weights, int64_t ldw, const float* values, int64_t ldv, float* out, int64_t ldo,
                int64_t count) {
  Floats sums[rows][columns];
  CLOZE_UNROLL for (int row = 0; row < rows; row++)
    CLOZE_UNROLL for (int column = 0; column < columns; column++) sums[row][column] = load(out + row * ldo + kWidth * column);
  for (int64_t at = 0; at < count; at++) {
    Floats value[columns];
    CLOZE_UNROLL for (int column = 0; column < columns; column++) value[column] = load(values + at * ldv + kWidth * column);
    CLOZE_UNROLL for (int row = 0; row < rows; row++) {
      const Floats weight = fill(weights[row * ldw + at]);
      CLOZE_UNROLL for (int column = 0; column < columns; column++) sums[row][column] += weight * value[column];
    }
  }
  CLOZE_UNROLL for (int row = 0; row < rows; row++)
    CLOZE_UNROLL for (int column = 0; column < columns; column++) store(out + row * ldo + kWidth * column, sums[row][column]);
}

template <int columns>
void score_rows(int64_t rows, const float* q, int64_t ldq, const float* k, int64_t ldk, float* s, int64_t lds,
                int64_t size) {
  switch (rows) {
    case 6: return score<6, columns>(q, ldq, k, ldk, s, lds, size);
    case 5: return score<5, columns>(q, ldq, k, ldk, s, lds, size);
    case 4: return score<4, columns>(q, ldq, k, ldk, s, lds, size);
    case 3: return score<3, columns>(q, ldq, k, ldk, s, lds, size);
    case 2: return score<2, columns>(q, ldq, k, ldk, s, lds, size);
    default: return score<1, columns>(q, ldq, k, ldk, s, lds, size);
  }
}
template <int columns>
void mix_rows(int64_t rows, const float* w, int64_t ldw, const float* v, int64_t ldv, float* o, int64_t ldo,
              int64_t count) {
  switch (rows) {
    case 6: return mix<6, columns>(w, ldw, v, ldv, o, ldo, count);
    case 5: return mix<5, columns>(w, ldw, v, ldv, o, ldo, count);
    case 4: return mix<4, columns>(w, ldw, v, ldv, o, ldo, count);
    case 3: return mix<3, columns>(w, ldw, v, ldv, o, ldo, count);
    case 2: return mix<2, columns>(w, ldw, v, ldv, o, ldo, count);
    default: return mix<1, columns>(w, ldw, v, ldv, o, ldo, count);
  }
}

// A block of so many columns, then of what is left over: `run(columns, at)`, columns as a constant.
template <class Run>
inline void spread_columns(int64_t padded, Run&& run) {
  int64_t at = 0;
  for (; at + kColumns * kWidth <= padded; at += kColumns * kWidth) run(std::integral_constant<int, kColumns>(), at);
  switch ((padded - at) / kWidth) {
    case 3: return run(std::integral_constant<int, 3>(), at);
    case 2: return run(std::integral_constant<int, 2>(), at);
    case 1: return run(std::integral_constant<int, 1>(), at);
    default: return;
  }
}

// What one head of one text needs of memory, and where in it.
struct Room {
  float *keys, *values, *scores, *queries, *mixed;
  int64_t padded, wide;  // tokens and head size, in whole vectors
};

struct Block {
  int64_t first, rows;  // of queries
  int64_t low, high;    // keys that any of them sees
};

class Head {
 public:
  Head(const Attention& work, int64_t text, int64_t head)
      : work_(work),
        size_(work.size),
        start_(work.starts[text]),
        length_(work.starts[text + 1] - work.starts[text]),
        column_(head * work.size),
        out_stride_(work.heads * work.size),
        distance_(work.distance == nullptr ? nullptr
                                           : work.distance + head * (2 * work.reach + 1) + work.reach) {}

  void compute() {
    if (length_ <= 0 || !find_room()) return;
    lay_out_keys();
    lay_out_values();
    for (int64_t first = 0; first < length_; first += kRows) {
      Block block{first, std::min<int64_t>(kRows, length_ - first), 0, length_};
      if (work_.window >= 0) {
        block.low = std::max<int64_t>(0, first - work_.window);
        block.high = std::min(length_, first + block.rows + work_.window);
      }
      attend(block);
    }
  }

 private:
  bool find_room() {
    room_.padded = round_up(length_);
    room_.wide = round_up(size_);
    const int64_t tile = std::min(room_.padded, kTile);
    const int64_t count = size_ * room_.padded + length_ * room_.wide + kRows * (tile + size_ + room_.wide) + 64;
    room_.keys = find_scratch(static_cast<size_t>(count));
    if (room_.keys == nullptr) return false;
    room_.values = room_.keys + size_ * room_.padded;
    room_.scores = room_.values + length_ * room_.wide;
    room_.mixed = room_.scores + kRows * tile;
    room_.queries = room_.mixed + kRows * room_.wide;
    return true;
  }

  // The numbers of a token's head from `at` on, and those of the bias, zeros after them.
  Floats read(const float* row, int64_t at) const {
    const int64_t left = size_ - at;
    return left >= kWidth ? load(row + at) : load_some(row + at, left);
  }
  Floats read_bias(const float* bias, int64_t at) const { return bias == nullptr ? Floats{} : read(bias + column_, at); }
  const float* find_row(const float* from, int64_t token) const {
    return from + (start_ + token) * work_.stride + column_;
  }

  void lay_out_keys() {
    for (int64_t at = 0; at < size_; at += kWidth) {
      const Floats bias = read_bias(work_.k_bias, at);
      const int64_t columns = std::min<int64_t>(kWidth, size_ - at);
      for (int64_t token = 0; token < length_; token += kWidth) {
        const int64_t last = length_ - 1;
        Floats square[kWidth];
        // Behind the last token it is read again: what comes of it is never seen.
        CLOZE_UNROLL for (int row = 0; row < kWidth; row++)
          square[row] = read(find_row(work_.k, std::min(token + row, last)), at) + bias;
        transpose<1>(square);
        CLOZE_UNROLL for (int column = 0; column < kWidth; column++)
          if (column < columns) store(room_.keys + (at + column) * room_.padded + token, square[column]);
      }
    }
  }

  void lay_out_values() {
    for (int64_t at = 0; at < room_.wide; at += kWidth) {
      const Floats bias = read_bias(work_.v_bias, at);
      for (int64_t token = 0; token < length_; token++)
        store(room_.values + token * room_.wide + at, read(find_row(work_.v, token), at) + bias);
    }
  }

  void attend(const Block& block) {
    for (int64_t at = 0; at < size_; at += kWidth) {
      const Floats bias = read_bias(work_.q_bias, at);
      const int64_t left = size_ - at;
      for (int64_t row = 0; row < block.rows; row++) {
        const Floats query = (read(find_row(work_.q, block.first + row), at) + bias) * work_.scale;
        if (left >= kWidth) store(room_.queries + row * size_ + at, query);
        else store_some(room_.queries + row * size_ + at, query, left);
      }
    }
    std::fill(room_.mixed, room_.mixed + block.rows * room_.wide, 0.0f);
    float most[kRows], sum[kRows];
    std::fill(most, most + kRows, kNever);
    std::fill(sum, sum + kRows, 0.0f);
    for (int64_t low = block.low / kWidth * kWidth; low < block.high; low += kTile)
      take_tile(block, low, std::min(low + kTile, block.high), most, sum);
    for (int64_t row = 0; row < block.rows; row++) write(block.first + row, row, 1.0f / sum[row]);
  }

  // The keys from `low` to before `high`, of which all scores are computed in whole vectors.
  void take_tile(const Block& block, int64_t low, int64_t high, float* most, float* sum) {
    const int64_t padded = round_up(high - low), lds = padded;
    spread_columns(padded, [&](auto columns, int64_t at) {
      score_rows<columns>(block.rows, room_.queries, size_, room_.keys + low + at, room_.padded, room_.scores + at, lds,
                          size_);
    });
    for (int64_t row = 0; row < block.rows; row++)
      weigh(block.first + row, room_.scores + row * lds, low, high, most[row], sum[row], room_.mixed + row * room_.wide);
    spread_columns(room_.wide, [&](auto columns, int64_t at) {
      mix_rows<columns>(block.rows, room_.scores, lds, room_.values + low * room_.wide + at, room_.wide,
                        room_.mixed + at, room_.wide, high - low);
    });
  }

  // Of the keys so far away, and those after it.
  Floats read_distance(int64_t away) const {
    if (away >= -work_.reach && away + kWidth - 1 <= work_.reach) return load(distance_ + away);
    Floats found{};
    for (int lane = 0; lane < kWidth; lane++)
      found[lane] = distance_[std::clamp<int64_t>(away + lane, -work_.reach, work_.reach)];
    return found;
  }

  // Only those from `from` to before `to` are seen.
  static Floats hide(Floats scores, int64_t from, int64_t to) {
    const auto low = static_cast<int32_t>(std::clamp<int64_t>(from, 0, kWidth));
    const auto high = static_cast<int32_t>(std::clamp<int64_t>(to, 0, kWidth));
    const Ints lane = count_up();
    return ((lane >= low) & (lane < high)) ? scores : fill(kNever);
  }

  // Scores of one query become weights; what was summed before is scaled to the new largest.
  void weigh(int64_t query, float* scores, int64_t low, int64_t high, float& most, float& sum, float* mixed) {
    int64_t from = low, to = high;
    if (work_.window >= 0) {
      from = std::max(low, query - work_.window);
      to = std::min(high, query + work_.window + 1);
    }
    const int64_t padded = round_up(high - low);
    Floats found = fill(most);
    for (int64_t at = 0; at < padded; at += kWidth) {
      const int64_t key = low + at;
      Floats here = load(scores + at);
      const bool whole = key >= from && key + kWidth <= to;
      if (distance_ != nullptr) here = here + read_distance(key - query);
      if (!whole) here = hide(here, from - key, to - key);
      if (!whole || distance_ != nullptr) store(scores + at, here);
      found = largest(found, here);
    }
    const float before = most;
    most = find_largest(found);
    // Where nothing of the tile is seen, nothing is added.
    const Floats base = fill(most), never = fill(kNever);
    Floats total{};
    for (int64_t at = 0; at < padded; at += kWidth) {
      const Floats here = load(scores + at);
      const Floats weight = here == never ? Floats{} : exponential_of_negative(here - base);
      store(scores + at, weight);
      total = total + weight;
    }
    if (sum != 0.0f && before != most) {
      const Floats factor = exponential(fill(before - most));
      sum *= factor[0];
      for (int64_t at = 0; at < room_.wide; at += kWidth) store(mixed + at, load(mixed + at) * factor);
    }
    sum += sum_up(total);
  }

  void write(int64_t token, int64_t row, float inverse) const {
    const int64_t place = (start_ + token) * out_stride_ + column_;
    for (int64_t at = 0; at < size_; at += kWidth) {
      const Floats numbers = load(room_.mixed + row * room_.wide + at) * inverse;
      const int64_t some = std::min<int64_t>(kWidth, size_ - at);
      if (work_.half != nullptr) {
        write_some(work_.half + place + at, round_half(numbers), some);
      } else if (some == kWidth) {
        store(work_.out + place + at, numbers);
      } else {
        store_some(work_.out + place + at, numbers, some);
      }
    }
  }

  const Attention& work_;
  const int64_t size_, start_, length_, column_, out_stride_;
  const float* distance_;
  Room room_{};
};

}  // namespace

void attend(const Attention& work, int64_t text, int64_t head) { Head(work, text, head).compute(); }

}  // namespace cloze::TARGET
