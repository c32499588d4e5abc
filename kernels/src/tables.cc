// Which instruction sets this library has, and which of them this processor has.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

#define CLOZE_TABLE(name, target, multiply)                    \
  namespace cloze::target {                                    \
  void add_norm(const AddNorm&, int64_t, int64_t);             \
  void gelu(const Gelu&, int64_t, int64_t);                    \
  void quantize(const Quantize&, int64_t, int64_t);            \
  void attend(const Attention&, int64_t, int64_t);             \
  }                                                            \
  namespace {                                                  \
  constexpr cloze::Table k_##name{#target,                   \
                                    cloze::target::add_norm,   \
                                    cloze::target::gelu,       \
                                    cloze::target::quantize,   \
                                    cloze::target::attend,     \
                                    multiply};                 \
  }

#if defined(__x86_64__)
namespace cloze::avx512_bf16 {
void multiply_half(const Product&, int64_t, int64_t, int64_t);
}
CLOZE_TABLE(avx512, avx512, nullptr)
CLOZE_TABLE(avx512_bf16, avx512, cloze::avx512_bf16::multiply_half)
CLOZE_TABLE(avx2, avx2, nullptr)
#elif defined(__aarch64__)
CLOZE_TABLE(neon, neon, nullptr)
#endif

namespace cloze {
namespace {

struct Scratch {
  float* memory = nullptr;
  size_t count = 0;
  ~Scratch() { std::free(memory); }
};

bool is(const char* wanted, const Table& table) {
  return wanted == nullptr || wanted[0] == 0 || std::strcmp(wanted, table.name) == 0;
}

}  // namespace

const Table* choose_table(const char* wanted) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && is(wanted, k_avx512)) return __builtin_cpu_supports("avx512bf16") ? &k_avx512_bf16 : &k_avx512;
  if (avx2 && is(wanted, k_avx2)) return &k_avx2;
#elif defined(__aarch64__)
  if (is(wanted, k_neon)) return &k_neon;
#endif
  return nullptr;
}

float* find_scratch(size_t count, int slot) {
  static thread_local Scratch slots[2];
  Scratch& found = slots[slot];
  if (count > found.count) {
    std::free(found.memory);
    const size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    found.memory = static_cast<float*>(std::aligned_alloc(64, bytes));
    found.count = found.memory == nullptr ? 0 : count;
  }
  return found.memory;
}

}  // namespace cloze
