// Which instruction sets this library has, and which of them this processor has.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

#define CLOZE_DECLARE(target)                                    \
  namespace cloze::target {                                      \
  void add_norm(const AddNorm&, int64_t, int64_t);               \
  void gelu(const Gelu&, int64_t, int64_t);                      \
  void quantize(const Quantize&, int64_t, int64_t);              \
  void attend(const Attention&, int64_t, int64_t);               \
  void multiply(const Product&, const Part&, float*);            \
  void multiply_half(const ProductHalf&, const Part&, float*);   \
  void multiply_bytes(const ProductBytes&, const Part&, float*); \
  }

// Without products in bfloat16, which only some processors have units for.
#define CLOZE_TABLE(target)                                                       \
  CLOZE_DECLARE(target)                                                           \
  namespace cloze::target {                                                       \
  constexpr Table table{#target,  add_norm, gelu,   quantize,                     \
                        attend,  multiply, nullptr, multiply_bytes};              \
  }

#if defined(__x86_64__)
CLOZE_TABLE(avx512)
CLOZE_TABLE(avx2)
CLOZE_DECLARE(avx512_vnni)
CLOZE_DECLARE(avx512_bf16)
#elif defined(__aarch64__)
CLOZE_TABLE(neon)
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

#if defined(__x86_64__)
// What the processor has beyond the rest of the instruction set.
Table choose_units() {
  Table found = avx512::table;
  if (__builtin_cpu_supports("avx512vnni")) found.multiply_bytes = avx512_vnni::multiply_bytes;
  if (__builtin_cpu_supports("avx512bf16")) {
    found.add_norm = avx512_bf16::add_norm;
    found.gelu = avx512_bf16::gelu;
    found.attend = avx512_bf16::attend;
    found.multiply_half = avx512_bf16::multiply_half;
  }
  return found;
}
#endif

}  // namespace

const Table* choose_table(const char* wanted) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const Table best = choose_units();
  if (has_avx512 && is(wanted, best)) return &best;
  // The rest of AVX-512 by its own, for processors and tests without these units.
  if (has_avx512 && wanted != nullptr && std::strcmp(wanted, "avx512-plain") == 0) return &avx512::table;
  if (has_avx2 && is(wanted, avx2::table)) return &avx2::table;
#elif defined(__aarch64__)
  if (is(wanted, neon::table)) return &neon::table;
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
