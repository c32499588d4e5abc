// The computing itself, without ONNX Runtime: what each kernel is given, and a table of them for
// each instruction set. Every row (of AddNorm, Gelu, Quantize) and every text (of Attention) is
// computed by itself in an order that depends on its own length alone, so that its numbers are the
// same to the last bit whoever shares the batch and however many threads there are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cloze {

using Bfloat16 = uint16_t;

// A row of integers' products is scaled by `row_scale`, where there is one: [rows].
// What follows a kernel is a product; its input may be wanted in another form, from the same row:
// `half` in bfloat16, or `bytes` (zero point 128) with a `scale` for each row, after each column
// was multiplied by `smooth` [columns], where there is one. Each may be null.
struct Following {
  Bfloat16* half = nullptr;
  uint8_t* bytes = nullptr;
  float* scale = nullptr;
  const float* smooth = nullptr;
};

// norm(y * row_scale + bias + residual): layer normalisation of each row (Ba et al. 2016).
struct AddNorm {
  int64_t columns;
  float epsilon;
  const float* y;
  const float* row_scale;
  const float* bias;
  const float* residual;
  const float* gamma;
  const float* beta;
  float* out;
  Following following;
};

enum class GeluKind { kErf, kTanh };

// gelu(y * row_scale + bias): exact, by the error function, or by its approximation with tanh
// (Hendrycks and Gimpel 2016).
struct Gelu {
  int64_t columns;
  GeluKind kind;
  const float* y;
  const float* row_scale;
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
// added, and rows scaled, before. A token sees those at most `window` from it; below 0, all.
// `distance` [heads, 2 * reach + 1] is added by how far the key stands from the query, further
// ones than `reach` as those at it.
struct Attention {
  int64_t heads;
  int64_t size;
  float scale;
  int64_t window;
  const float* q;
  const float* k;
  const float* v;
  int64_t stride;
  const float* row_scale;
  const float* q_bias;
  const float* k_bias;
  const float* v_bias;
  const float* distance;
  int64_t reach;
  const int64_t* starts;  // [texts + 1], rising
  float* out;             // [tokens, heads * size]
  Bfloat16* half;         // instead of out
};

enum class Activation { kNone, kGeluErf, kGeluTanh };

// a [rows, inner] by weights [inner, columns], in bfloat16, and a bias added to the floats; in
// `out`, or in `half` after the activation.
struct Product {
  int64_t inner;
  int64_t columns;
  Activation activation;
  const Bfloat16* a;
  const Bfloat16* weights;  // [panels, inner / 2, 64, 2]
  const float* bias;
  float* out;
  Bfloat16* half;
};

// One instruction set's kernels. Rows are those from `first` to before `last`; the attention is
// that of one head of one text.
struct Table {
  const char* name;
  void (*add_norm)(const AddNorm&, int64_t first, int64_t last);
  void (*gelu)(const Gelu&, int64_t first, int64_t last);
  void (*quantize)(const Quantize&, int64_t first, int64_t last);
  void (*attend)(const Attention&, int64_t text, int64_t head);
  // Rows from `first` to before `last`, of one panel of columns; null without units for it.
  void (*multiply_half)(const Product&, int64_t first, int64_t last, int64_t panel);
};

// The best table for this processor; null where there is none. `wanted` names another one that it
// has, too: null, "avx512", "avx2", "neon".
const Table* choose_table(const char* wanted = nullptr);

// Memory of this thread, aligned to 64 bytes, good until its next call for that slot; null where
// there is none.
float* find_scratch(size_t count, int slot = 0);

}  // namespace cloze
