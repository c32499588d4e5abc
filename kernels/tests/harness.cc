// The kernels without ONNX Runtime or Python, for sanitizers and for processors that are emulated:
// many shapes, each tensor in memory of exactly its size, several threads at once. Exit code 0 where
// all numbers are near those computed in double precision, and the same whichever thread computes.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "../src/kernels.h"

namespace {

using cloze::Bfloat16;
using Numbers = std::vector<float>;

std::atomic<int> wrong{0};

Numbers draw(std::mt19937& chance, int64_t count) {
  std::normal_distribution<float> normal(0.0f, 2.0f);
  Numbers found(static_cast<size_t>(count));
  for (float& each : found) each = normal(chance);
  return found;
}

void check(const Numbers& numbers) {
  for (const float each : numbers)
    if (!std::isfinite(each)) wrong++;
}

void compare(double wanted, float found) {
  if (!(std::fabs(wanted - static_cast<double>(found)) <= 1e-4 * (1.0 + std::fabs(wanted)))) wrong++;
}

double at(const float* numbers, int64_t place) { return numbers == nullptr ? 0.0 : static_cast<double>(numbers[place]); }

// Attention of one head of one text, as it is written down.
void check_attention(const cloze::Attention& work, int64_t text, int64_t head) {
  const int64_t start = work.starts[text], length = work.starts[text + 1] - start, column = head * work.size;
  for (int64_t i = 0; i < length; i++) {
    std::vector<double> weights(static_cast<size_t>(length), 0.0);
    double most = -1e30, total = 0.0;
    for (int64_t j = 0; j < length; j++) {
      if (work.window >= 0 && std::abs(i - j) > work.window) continue;
      double score = 0.0;
      for (int64_t k = 0; k < work.size; k++)
        score += (at(work.q, (start + i) * work.stride + column + k) + at(work.q_bias, column + k)) *
                 (at(work.k, (start + j) * work.stride + column + k) + at(work.k_bias, column + k));
      score *= static_cast<double>(work.scale);
      const int64_t away = std::clamp(j - i, -work.reach, work.reach);
      score += at(work.distance, head * (2 * work.reach + 1) + work.reach + away);
      weights[static_cast<size_t>(j)] = score;
      most = std::max(most, score);
    }
    for (int64_t j = 0; j < length; j++) {
      double& weight = weights[static_cast<size_t>(j)];
      weight = work.window >= 0 && std::abs(i - j) > work.window ? 0.0 : std::exp(weight - most);
      total += weight;
    }
    for (int64_t k = 0; k < work.size; k++) {
      double sum = 0.0;
      for (int64_t j = 0; j < length; j++)
        sum += weights[static_cast<size_t>(j)] *
               (at(work.v, (start + j) * work.stride + column + k) + at(work.v_bias, column + k));
      compare(sum / total, work.out[(start + i) * work.heads * work.size + column + k]);
    }
  }
}

void check_norm(const cloze::AddNorm& work, int64_t rows) {
  const auto columns = static_cast<double>(work.columns);
  for (int64_t row = 0; row < rows; row++) {
    std::vector<double> sums(static_cast<size_t>(work.columns));
    double mean = 0.0, variance = 0.0;
    for (int64_t k = 0; k < work.columns; k++) {
      const int64_t place = row * work.columns + k;
      sums[static_cast<size_t>(k)] = at(work.y, place) + at(work.bias, k) + at(work.residual, place);
      mean += sums[static_cast<size_t>(k)] / columns;
    }
    for (const double each : sums) variance += (each - mean) * (each - mean) / columns;
    const double inverse = 1.0 / std::sqrt(variance + static_cast<double>(work.epsilon));
    // Of a single column there is nothing but what rounding leaves.
    for (int64_t k = 0; k < work.columns && work.columns > 1; k++)
      compare((sums[static_cast<size_t>(k)] - mean) * inverse * at(work.gamma, k) + at(work.beta, k),
              work.out[row * work.columns + k]);
  }
}

void check_gelu(const cloze::Gelu& work, int64_t rows) {
  for (int64_t place = 0; place < rows * work.columns; place++) {
    const double x = at(work.y, place) + at(work.bias, place % work.columns);
    const double erf = std::erf(x / std::sqrt(2.0)), tanh = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    compare(x / 2 * (1 + (work.kind == cloze::GeluKind::kErf ? erf : tanh)), work.out[place]);
  }
}

void check_bytes(const cloze::Quantize& work, int64_t rows) {
  for (int64_t place = 0; place < rows * work.columns; place++) {
    const float* steps = work.following.steps + place / work.columns * 2;
    const float smooth = work.following.smooth == nullptr ? 1.0f : work.following.smooth[place % work.columns];
    const float back = (static_cast<float>(work.following.bytes[place]) - steps[1]) * steps[0];
    if (!(std::fabs(back - work.x[place] * smooth) <= 1.001f * steps[0])) wrong++;
  }
}

void try_attention(const cloze::Table& table, std::mt19937& chance, int64_t size, int64_t longest) {
  const int64_t heads = 1 + chance() % 3, width = heads * size;
  std::vector<int64_t> starts{0};
  for (int text = 0; text < 4; text++) starts.push_back(starts.back() + chance() % longest);
  const int64_t tokens = starts.back(), reach = chance() % 20;
  const Numbers whole = draw(chance, tokens * 3 * width), bias = draw(chance, 3 * width);
  const Numbers distance = draw(chance, heads * (2 * reach + 1));
  Numbers out(static_cast<size_t>(tokens * width)), again(out.size());
  std::vector<Bfloat16> half(out.size());
  cloze::Attention work{};
  work.heads = heads;
  work.size = size;
  work.scale = 0.2f;
  work.window = chance() % 2 ? -1 : static_cast<int64_t>(chance() % 40);
  work.q = whole.data();
  work.k = whole.data() + width;
  work.v = whole.data() + 2 * width;
  work.stride = 3 * width;
  work.q_bias = chance() % 2 ? bias.data() : nullptr;
  work.k_bias = work.q_bias == nullptr ? nullptr : work.q_bias + width;
  work.v_bias = work.q_bias == nullptr ? nullptr : work.q_bias + 2 * width;
  work.distance = chance() % 2 ? distance.data() : nullptr;
  work.reach = reach;
  work.starts = starts.data();
  work.out = out.data();
  cloze::Attention other = work;
  other.out = again.data();
  std::thread beside([&] {
    for (int64_t at = 4 * heads - 1; at >= 0; at--) table.attend(other, at / heads, at % heads);
  });
  for (int64_t at = 0; at < 4 * heads; at++) table.attend(work, at / heads, at % heads);
  beside.join();
  check(out);
  if (out != again) wrong++;
  for (int64_t at = 0; at < 4 * heads && tokens < 200; at++) check_attention(work, at / heads, at % heads);
  work.half = half.data();
  for (int64_t at = 0; at < 4 * heads; at++) table.attend(work, at / heads, at % heads);
}

void try_rows(const cloze::Table& table, std::mt19937& chance, int64_t columns) {
  const int64_t rows = chance() % 20;
  const Numbers y = draw(chance, rows * columns), residual = draw(chance, rows * columns);
  const Numbers row = draw(chance, columns);
  Numbers out(y.size()), steps(2 * static_cast<size_t>(rows));
  std::vector<uint8_t> bytes(y.size());
  std::vector<Bfloat16> half(y.size());
  const auto maybe = [&](const Numbers& numbers) { return chance() % 2 ? numbers.data() : nullptr; };
  for (int turn = 0; turn < 3; turn++) {
    cloze::Following following{};
    if (turn == 1) following.half = half.data();
    if (turn == 2) {
      following.bytes = bytes.data();
      following.steps = steps.data();
      following.smooth = maybe(row);
    }
    const cloze::AddNorm norm{columns,    1e-6f,      y.data(),   0, maybe(row), maybe(residual),
                              row.data(), maybe(row), out.data(), following};
    table.add_norm(norm, 0, rows);
    check(out);
    check_norm(norm, rows);
    const auto kind = chance() % 2 ? cloze::GeluKind::kErf : cloze::GeluKind::kTanh;
    const cloze::Gelu gelu{columns, kind, y.data(), 0, maybe(row), turn == 0 ? out.data() : nullptr, following};
    table.gelu(gelu, 0, rows);
    check(out);
    if (gelu.out != nullptr) check_gelu(gelu, rows);
  }
  cloze::Following following{nullptr, bytes.data(), steps.data(), maybe(row)};
  const cloze::Quantize quantize{columns, y.data(), following};
  table.quantize(quantize, 0, rows);
  check(steps);
  check_bytes(quantize, rows);
}

// All numbers are 1, so that each sum is as large as there are of them.
void try_products(const cloze::Table& table, std::mt19937& chance, int64_t inner, int64_t columns) {
  const int64_t rows = chance() % 20, panels = (columns + 63) / 64;
  const auto size = static_cast<size_t>(rows * inner), of_weights = static_cast<size_t>(panels * inner * 64);
  Numbers out(static_cast<size_t>(rows * columns)), again(out.size());
  const auto check_sums = [&] {
    for (const float each : out)
      if (std::fabs(each - static_cast<float>(inner)) > 1e-2f) wrong++;
    check(out);
    std::fill(out.begin(), out.end(), 0.0f);
  };
  const cloze::Part part{0, rows, 0, panels};
  const Numbers a(size, 1.0f), weights(of_weights, 1.0f);
  const cloze::Product single{inner, columns, a.data(), weights.data()};
  std::thread beside([&] { table.multiply(single, part, again.data()); });
  table.multiply(single, part, out.data());
  beside.join();
  if (out != again) wrong++;
  check_sums();
  if (inner % 2 == 0 && table.multiply_half != nullptr) {
    const std::vector<Bfloat16> half(size, 0x3f80), halves(of_weights, 0x3f80);
    table.multiply_half(cloze::ProductHalf{inner, columns, half.data(), halves.data()}, part, out.data());
    check_sums();
  }
  if (inner % 4 == 0) {
    const std::vector<uint8_t> bytes(size, 8);
    const std::vector<int8_t> signed_bytes(of_weights, 2);
    Numbers steps(2 * static_cast<size_t>(rows), 4.0f);
    for (size_t row = 0; row < steps.size(); row += 2) steps[row] = 0.25f;
    const Numbers scales(static_cast<size_t>(columns), 0.5f);
    const std::vector<int32_t> sums(static_cast<size_t>(columns), static_cast<int32_t>(2 * inner));
    const cloze::ProductBytes work{inner,         columns,       bytes.data(), steps.data(), signed_bytes.data(),
                                   scales.data(), sums.data()};
    table.multiply_bytes(work, part, out.data());
    check_sums();
  }
}

}  // namespace

int main() {
  int tried = 0;
  for (const char* name : {"avx512", "avx512-plain", "avx2", "neon"}) {
    const cloze::Table* table = cloze::choose_table(name);
    if (table == nullptr) continue;
    tried++;
    std::mt19937 chance(7);
    for (const int64_t size : {1, 3, 8, 15, 16, 17, 32, 64, 65, 128})
      for (int turn = 0; turn < 6; turn++) try_attention(*table, chance, size, turn < 5 ? 40 : 1300);
    for (const int64_t columns : {1, 2, 7, 8, 15, 16, 17, 64, 65, 384, 1001})
      for (int turn = 0; turn < 4; turn++) try_rows(*table, chance, columns);
    for (const int64_t columns : {1, 15, 16, 63, 64, 65, 200})
      for (const int64_t inner : {1, 2, 4, 6, 64}) try_products(*table, chance, inner, columns);
    std::printf("%s: %d wrong\n", name, wrong.load());
  }
  return tried > 0 && wrong == 0 ? 0 : 1;
}
