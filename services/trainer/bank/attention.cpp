// Causal attention of many short sequences in one call, forward and backward.
//
// q: [heads, rows, size], k and v: [key heads, rows, size], bfloat16 or float32, rows and heads at strides of their
// own; sums, softmax and probabilities are float32.  A unit of work is one sequence and one key head with the heads
// that share it, so nothing about a sequence depends on another, nor on the number of threads.

#include "lanes.h"

#include <cmath>
#include <cstdint>

extern "C" {

// Elements between heads and between rows of a tensor.
struct Strides {
  int64_t head;
  int64_t row;
};

struct Shape {
  const int64_t* bounds;     // [sequences + 1]: first row of each sequence, and the end
  const int32_t* sequences;  // which of them are attended here
  int64_t count;             // of those
  int64_t rows;              // of the tensors
  int64_t heads;
  int64_t key_heads;
  int64_t size;
  int64_t longest;           // of the sequences attended here
  float scale;
};

}  // extern "C"

namespace {

constexpr int64_t kBlock = 8;  // rows that share how many keys they look at

// e to the power of values at most 0, to one unit in the last place or two; Cephes' expf (S. Moshier).
INLINE Floats exponential(Floats x) {
  const Marks low = x < -87.0f;
  x = (Floats)((~(Words)low & (Words)x) | ((Words)low & (Words)splat(-87.0f)));
  const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Floats whole = (x * 1.44269504088896341f + magic) - magic;
  Floats r = x - whole * 0.693359375f;
  r = r + whole * 2.12194440e-4f;
  Floats y = splat(1.9875691500e-4f);
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const Marks power = (__builtin_convertvector(whole, Marks) + 127) << 23;
  const Floats found = y * (Floats)power;
  return (Floats)(~(Words)low & (Words)found);
}

// to [size, stride] = from [rows, size] transposed, in float32.
template <typename T>
INLINE void transpose(const T* from, int64_t row_stride, int64_t rows, int64_t size, float* to, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < size; i += kLanes) {
      const int64_t left = size - i < kLanes ? size - i : kLanes;
      const Floats values =
          left == kLanes ? load<true>(from + row * row_stride + i, 0) : load<false>(from + row * row_stride + i, left);
      for (int64_t lane = 0; lane < left; ++lane) to[(i + lane) * stride + row] = values[lane];
    }
}

template <typename T>
INLINE void widen_rows(const T* from, int64_t row_stride, int64_t rows, int64_t size, float* to) {
  for (int64_t row = 0; row < rows; ++row) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      store<true>(to + row * size + i, load<true>(from + row * row_stride + i, 0), 0);
    if (i < size) store<false>(to + row * size + i, load<false>(from + row * row_stride + i, size - i), size - i);
  }
}

template <typename T>
INLINE void narrow_rows(const float* from, int64_t rows, int64_t size, T* to, int64_t row_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      store<true>(to + row * row_stride + i, load<true>(from + row * size + i, 0), 0);
    if (i < size) store<false>(to + row * row_stride + i, load<false>(from + row * size + i, size - i), size - i);
  }
}

INLINE void clear(float* values, int64_t count) { std::memset(values, 0, count * sizeof(float)); }

// c [rows, width] += a [rows, count] . b [count, width], where row i needs only the first i + 1 of `count` (or, with
// Wide, only the first i + 1 columns of c).
template <bool Wide, typename B>
INLINE void causal_add(float* c, int64_t c_stride, const float* a, int64_t a_stride, const B* b, int64_t b_stride,
                       int64_t rows, int64_t count, int64_t width, float scale) {
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t some = rows - row < kBlock ? rows - row : kBlock;
    const int64_t seen = row + some;
    add<false, false>(c + row * c_stride, c_stride, a + row * a_stride, a_stride, 1, b, b_stride, some,
                      Wide ? count : seen, scale, Wide ? seen : width, 0, 0, Dropout{});
  }
}

INLINE int64_t padded(int64_t length) { return (length + kLanes - 1) / kLanes * kLanes; }

// Scratch of one thread, for sequences of up to `longest`.
struct Scratch {
  float* scores;     // [longest, padded]
  float* slopes;     // [longest, padded]
  float* turned;     // [size, padded]
  float* rows;       // [longest, size]
  float* of_query;   // [longest, size]
  float* of_key;     // [longest, size]
  float* of_value;   // [longest, size]
};

int64_t scratch_floats(const Shape& shape) {
  const int64_t wide = padded(shape.longest);
  return 2 * shape.longest * wide + shape.size * wide + 4 * shape.longest * shape.size;
}

Scratch scratch_at(const Shape& shape, float* at) {
  const int64_t wide = padded(shape.longest), square = shape.longest * wide, tall = shape.longest * shape.size;
  Scratch found;
  found.scores = at;
  found.slopes = at + square;
  found.turned = at + 2 * square;
  found.rows = found.turned + shape.size * wide;
  found.of_query = found.rows + tall;
  found.of_key = found.of_query + tall;
  found.of_value = found.of_key + tall;
  return found;
}

// Row of scores [wide] to probabilities, zero after the row's own place; returns the logarithm of their sum before.
INLINE float softmax(float* scores, int64_t row, int64_t wide) {
  const int64_t seen = row + 1;
  for (int64_t i = seen; i < wide; ++i) scores[i] = -INFINITY;
  Floats most = splat(-INFINITY);
  for (int64_t i = 0; i < seen; i += kLanes) {
    const Floats values = load<true>(scores + i, 0);
    const Marks more = values > most;
    most = (Floats)(((Words)more & (Words)values) | (~(Words)more & (Words)most));
  }
  float highest = most[0];
  for (int lane = 1; lane < kLanes; ++lane) highest = most[lane] > highest ? most[lane] : highest;
  Floats sums = {};
  for (int64_t i = 0; i < wide; i += kLanes) {
    const Floats values = exponential(load<true>(scores + i, 0) - highest);
    store<true>(scores + i, values, 0);
    if (i < seen) sums += values;
  }
  const float sum = sum_of(sums);
  for (int64_t i = 0; i < wide; i += kLanes) store<true>(scores + i, load<true>(scores + i, 0) / sum, 0);
  return highest + std::log(sum);
}

// Probabilities [length, wide] of one head's rows.
template <typename T>
INLINE void attend(const Shape& shape, const Scratch& scratch, const T* q, int64_t q_row, int64_t length,
                   int64_t wide) {
  widen_rows(q, q_row, length, shape.size, scratch.rows);
  clear(scratch.scores, length * wide);
  causal_add<true>(scratch.scores, wide, scratch.rows, shape.size, scratch.turned, wide, length, shape.size, wide,
                   shape.scale);
  for (int64_t row = 0; row < length; ++row) softmax(scratch.scores + row * wide, row, wide);
}

template <typename T>
INLINE void forward_unit(const Shape& shape, const Scratch& scratch, int64_t first, int64_t length, int64_t key_head,
                         const T* q, Strides qs, const T* k, const T* v, Strides ks, Strides vs, T* o) {
  const int64_t group = shape.heads / shape.key_heads, wide = padded(length);
  const T* keys = k + key_head * ks.head + first * ks.row;
  const T* values = v + key_head * vs.head + first * vs.row;
  transpose(keys, ks.row, length, shape.size, scratch.turned, wide);
  for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    attend(shape, scratch, q + head * qs.head + first * qs.row, qs.row, length, wide);
    clear(scratch.of_query, length * shape.size);
    causal_add<false>(scratch.of_query, shape.size, scratch.scores, wide, values, vs.row, length, length, shape.size,
                      1.0f);
    narrow_rows(scratch.of_query, length, shape.size, o + (first * shape.heads + head) * shape.size,
                shape.heads * shape.size);
  }
}

template <typename T>
INLINE void backward_unit(const Shape& shape, const Scratch& scratch, int64_t first, int64_t length, int64_t key_head,
                          const T* q, Strides qs, const T* k, const T* v, Strides ks, Strides vs, const T* g, T* dq,
                          T* dk, T* dv) {
  const int64_t group = shape.heads / shape.key_heads, wide = padded(length), size = shape.size;
  const T* keys = k + key_head * ks.head + first * ks.row;
  const T* values = v + key_head * vs.head + first * vs.row;
  clear(scratch.of_key, length * size);
  clear(scratch.of_value, length * size);
  for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    const T* queries = q + head * qs.head + first * qs.row;
    const int64_t g_row = shape.heads * size;
    const T* incoming = g + (first * shape.heads + head) * size;
    transpose(keys, ks.row, length, size, scratch.turned, wide);
    attend(shape, scratch, queries, qs.row, length, wide);
    // dV += P^T dO; dP = dO V^T.
    add<false, false>(scratch.of_value, size, scratch.scores, 1, wide, incoming, g_row, length, length, 1.0f, size, 0,
                      0, Dropout{});
    transpose(values, vs.row, length, size, scratch.turned, wide);
    widen_rows(incoming, g_row, length, size, scratch.rows);
    clear(scratch.slopes, length * wide);
    causal_add<true>(scratch.slopes, wide, scratch.rows, size, scratch.turned, wide, length, size, wide, 1.0f);
    // dS = P (dP - the sum of P dP over the row), zero where P is.
    for (int64_t row = 0; row < length; ++row) {
      float* chances = scratch.scores + row * wide;
      float* slopes = scratch.slopes + row * wide;
      Floats sums = {};
      for (int64_t i = 0; i <= row; i += kLanes) sums += load<true>(chances + i, 0) * load<true>(slopes + i, 0);
      const float mean = sum_of(sums);
      for (int64_t i = 0; i < wide; i += kLanes)
        store<true>(slopes + i, load<true>(chances + i, 0) * (load<true>(slopes + i, 0) - mean) * shape.scale, 0);
    }
    clear(scratch.of_query, length * size);
    causal_add<false>(scratch.of_query, size, scratch.slopes, wide, keys, ks.row, length, length, size, 1.0f);
    narrow_rows(scratch.of_query, length, size, dq + (first * shape.heads + head) * size, g_row);
    add<false, false>(scratch.of_key, size, scratch.slopes, 1, wide, queries, qs.row, length, length, 1.0f, size, 0, 0,
                      Dropout{});
  }
  const int64_t at = (first * shape.key_heads + key_head) * size, row = shape.key_heads * size;
  narrow_rows(scratch.of_key, length, size, dk + at, row);
  narrow_rows(scratch.of_value, length, size, dv + at, row);
}

#define ENTRY(T)                                                                                                    \
  CLONED void forward_of(const Shape& shape, const Scratch& scratch, int64_t first, int64_t length, int64_t key_head, \
                         const T* q, Strides qs, const T* k, const T* v, Strides ks, Strides vs, T* o) {            \
    forward_unit(shape, scratch, first, length, key_head, q, qs, k, v, ks, vs, o);                                  \
  }                                                                                                                 \
  CLONED void backward_of(const Shape& shape, const Scratch& scratch, int64_t first, int64_t length,                \
                          int64_t key_head, const T* q, Strides qs, const T* k, const T* v, Strides ks, Strides vs, \
                          const T* g, T* dq, T* dk, T* dv) {                                                        \
    backward_unit(shape, scratch, first, length, key_head, q, qs, k, v, ks, vs, g, dq, dk, dv);                     \
  }
ENTRY(Half)
ENTRY(float)
#undef ENTRY

// Calls `unit(scratch, first, length, key head)` for every unit of work, shared between threads.
template <typename F>
void for_each(const Shape& shape, const F& unit) {
  const int64_t units = shape.count * shape.key_heads;
#pragma omp parallel if (units > 1)
  {
    float* floats = new float[scratch_floats(shape)]();
    const Scratch scratch = scratch_at(shape, floats);
#pragma omp for schedule(dynamic, 1)
    for (int64_t each = 0; each < units; ++each) {
      const int32_t sequence = shape.sequences[each / shape.key_heads];
      const int64_t first = shape.bounds[sequence], length = shape.bounds[sequence + 1] - first;
      unit(scratch, first, length, each % shape.key_heads);
    }
    delete[] floats;
  }
}

template <typename T>
void forward_all(const Shape& shape, const T* q, Strides qs, const T* k, Strides ks, const T* v, Strides vs, T* o) {
  for_each(shape, [&](const Scratch& scratch, int64_t first, int64_t length, int64_t key_head) {
    forward_of(shape, scratch, first, length, key_head, q, qs, k, v, ks, vs, o);
  });
}

template <typename T>
void backward_all(const Shape& shape, const T* q, Strides qs, const T* k, Strides ks, const T* v, Strides vs,
                  const T* g, T* dq, T* dk, T* dv) {
  for_each(shape, [&](const Scratch& scratch, int64_t first, int64_t length, int64_t key_head) {
    backward_of(shape, scratch, first, length, key_head, q, qs, k, v, ks, vs, g, dq, dk, dv);
  });
}

}  // namespace

extern "C" {

// o: [rows, heads, size], of the sequences of `shape` only.
void trivium_bank_attend(const Shape* shape, const void* q, Strides qs, const void* k, Strides ks, const void* v,
                         Strides vs, void* o, int32_t half) {
  if (half)
    forward_all(*shape, static_cast<const Half*>(q), qs, static_cast<const Half*>(k), ks, static_cast<const Half*>(v),
                vs, static_cast<Half*>(o));
  else
    forward_all(*shape, static_cast<const float*>(q), qs, static_cast<const float*>(k), ks,
                static_cast<const float*>(v), vs, static_cast<float*>(o));
}

// g: [rows, heads, size], the gradient of o; dq like it, dk and dv: [rows, key heads, size].
void trivium_bank_attend_back(const Shape* shape, const void* q, Strides qs, const void* k, Strides ks, const void* v,
                              Strides vs, const void* g, void* dq, void* dk, void* dv, int32_t half) {
  if (half)
    backward_all(*shape, static_cast<const Half*>(q), qs, static_cast<const Half*>(k), ks,
                 static_cast<const Half*>(v), vs, static_cast<const Half*>(g), static_cast<Half*>(dq),
                 static_cast<Half*>(dk), static_cast<Half*>(dv));
  else
    backward_all(*shape, static_cast<const float*>(q), qs, static_cast<const float*>(k), ks,
                 static_cast<const float*>(v), vs, static_cast<const float*>(g), static_cast<float*>(dq),
                 static_cast<float*>(dk), static_cast<float*>(dv));
}

}  // extern "C"
