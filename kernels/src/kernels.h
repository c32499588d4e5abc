// The computing itself, without ONNX Runtime: what each kernel is given, and a table of them for
// each instruction set. Every row (of AddNorm, Gelu, Quantize) and every text (of Attention) is
// computed by itself in an order that depends on its own length alone, so that its numbers are the
// same to the last bit whoever shares the batch and however many threads there are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cloze {

using Bfloat16 = uint16_t;

// What follows a kernel is a product; its input may be wanted in another form, from the same row:
// `half` in bfloat16, or `bytes` after each column was multiplied by `smooth` [columns], where there
// is one. Each may be null. A row's numbers are its step, `steps[2 * row]`, by how far each byte is
// from the row's zero, `steps[2 * row + 1]`.
struct Following {
  Bfloat16* half = nullptr;
  uint8_t* bytes = nullptr;
  float* steps = nullptr;
  const float* smooth = nullptr;
};

// norm(y + bias + residual): layer normalisation of each row (Ba et al. 2016). `y` begins with the
// row `first` of the others.
struct AddNorm {
  int64_t columns;
  float epsilon;
  const float* y;
  int64_t first;
  const float* bias;
  const float* residual;
  const float* gamma;
  const float* beta;
  float* out;
  Following following;
};

enum class GeluKind { kErf, kTanh };

// gelu(y + bias): exact, by the error function, or by its approximation with tanh (Hendrycks and
// Gimpel 2016). `y` begins with the row `first` of the others.
struct Gelu {
  int64_t columns;
  GeluKind kind;
  const float* y;
  int64_t first;
  const float* bias;
  float* out;  // null where only what follows is wanted
  Following following;
};

struct Quantize {
  int64_t columns;
  const float* x;
  Following following;
};

// softmax(scale * q k^T + distance) v over the tokens of each text, head by head. q, k and v are
// rows of `stride` numbers, of which a head's are `size` from column head * size on; biases are
// added before. A token sees those at most `window` from it; below 0, all. `distance` [heads,
// 2 * reach + 1] is added by how far the key stands from the query, further ones than `reach` as
// those at it.
struct Attention {
  int64_t heads;
  int64_t size;
  float scale;
  int64_t window;
  const float* q;
  const float* k;
  const float* v;
  int64_t stride;
  const float* q_bias;
  const float* k_bias;
  const float* v_bias;
  const float* distance;
  int64_t reach;
  const int64_t* starts;  // [texts + 1], rising
  float* out;             // [tokens, heads * size]
  Bfloat16* half;         // instead of out
};

// The columns of weights lie in panels beside each other, the last one filled with zeros.
constexpr int64_t kPanel = 64;

// a [rows, inner] by weights [inner, columns].
struct Product {
  int64_t inner;
  int64_t columns;
  const float* a;
  const float* weights;  // [panels, inner, kPanel, 1]
};

// The same in bfloat16, to floats.
struct ProductHalf {
  int64_t inner;
  int64_t columns;
  const Bfloat16* a;
  const Bfloat16* weights;  // [panels, inner / 2, kPanel, 2]
};

// The same of bytes, to floats: those of `a` as Following has them, those of the weights from -127 to 127 with
// a scale for each column. `sums` [columns] are the sums of the weights in a column.
struct ProductBytes {
  int64_t inner;
  int64_t columns;
  const uint8_t* a;
  const float* steps;     // [rows, 2]
  const int8_t* weights;  // [panels, inner / 4, kPanel, 4]
  const float* scales;    // [columns]
  const int32_t* sums;    // [columns]
};

// Which part of a product: rows from `first` to before `last`, and panels likewise.
struct Part {
  int64_t first, last;
  int64_t panel, end;
};

// One instruction set's kernels. Rows are those from `first` to before `last`; the attention is
// that of one head of one text.
struct Table {
  const char* name;
  void (*add_norm)(const AddNorm&, int64_t first, int64_t last);
  void (*gelu)(const Gelu&, int64_t first, int64_t last);
  void (*quantize)(const Quantize&, int64_t first, int64_t last);
  void (*attend)(const Attention&, int64_t text, int64_t head);
  // `out` begins with the row that the part begins with. That of halves is null without units for it.
  void (*multiply)(const Product&, const Part&, float* out);
  void (*multiply_half)(const ProductHalf&, const Part&, float* out);
  void (*multiply_bytes)(const ProductBytes&, const Part&, float* out);
};

// The best table for this processor; null where there is none. `wanted` names another one that it
// has, too: null, "avx512", "avx2", "neon".
const Table* choose_table(const char* wanted = nullptr);

// Memory of this thread, aligned to 64 bytes, good until its next call for that slot; null where
// there is none.
float* find_scratch(size_t count, int slot = 0);

}  // namespace cloze
