// Sixteen floats at a time, on any processor, and small matrix products made of them.
//
// Every sum runs in an order that follows from the sizes of its operands alone.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__x86_64__)
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONED
#endif
#define INLINE inline __attribute__((always_inline))

using Half = uint16_t;  // the bits of a bfloat16
constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Marks __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

INLINE Floats splat(float value) { return (Floats){} + value; }

INLINE Floats widen(Halves halves) { return (Floats)(__builtin_convertvector(halves, Words) << 16); }

// To nearest, ties to even; what is not a number stays one.
INLINE Halves narrow(Floats values) {
  const Words bits = (Words)values;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words kept = (bits >> 16) | 0x40u;
  const Marks odd = (bits & 0x7fffffffu) > 0x7f800000u;
  return __builtin_convertvector(((Words)odd & kept) | (~(Words)odd & rounded), Halves);
}

// Sixteen elements, or with `Full` false the `count` that are left, the rest zeros.
template <bool Full>
INLINE Floats load(const float* at, int64_t count) {
  Floats found = {};
  std::memcpy(&found, at, Full ? sizeof found : count * sizeof(float));
  return found;
}

template <bool Full>
INLINE Floats load(const Half* at, int64_t count) {
  Halves found = {};
  std::memcpy(&found, at, Full ? sizeof found : count * sizeof(Half));
  return widen(found);
}

template <bool Full>
INLINE void store(float* at, Floats values, int64_t count) {
  std::memcpy(at, &values, Full ? sizeof values : count * sizeof(float));
}

template <bool Full>
INLINE void store(Half* at, Floats values, int64_t count) {
  const Halves halves = narrow(values);
  std::memcpy(at, &halves, Full ? sizeof halves : count * sizeof(Half));
}

INLINE float sum_of(Floats values) {
  float sum = 0;
  for (int width = kLanes / 2; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) values[i] += values[i + width];
  sum = values[0];
  return sum;
}

// What dropout keeps: a counter through a mixing function of 32 bits with two keys, the same as passes.py draws.
struct Dropout {
  uint32_t first_key;
  uint32_t second_key;
  uint32_t threshold;  // an element is kept when its number is below; 0: nothing is dropped
  float scale;         // of what is kept
};

INLINE Words mixed(Words bits) {
  bits ^= bits >> 16;
  bits *= 0x7feb352du;
  bits ^= bits >> 15;
  bits *= 0x846ca68bu;
  return bits ^ (bits >> 16);
}

INLINE Floats kept(const Dropout& dropout, int64_t index) {
  Words lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  const Words counters = lanes + static_cast<uint32_t>(index);
  const Words numbers = mixed(mixed(counters ^ dropout.first_key) + dropout.second_key);
  const Marks below = numbers < dropout.threshold;
  return (Floats)((Words)below & (Words)splat(dropout.scale));
}

// sums[m][n] += x[m] . w[n] over sixteen columns or the rest of them.
template <int M, int N, bool D, bool Full, typename T>
INLINE void dot_step(Floats (&sums)[M][N], const T* x, int64_t inputs, const float* w, int64_t row, int64_t i,
                     const Dropout& dropout) {
  Floats weights[N];
  for (int n = 0; n < N; ++n) weights[n] = load<Full>(w + n * inputs + i, inputs - i);
  for (int m = 0; m < M; ++m) {
    Floats values = load<Full>(x + m * inputs + i, inputs - i);
    if (D) values *= kept(dropout, (row + m) * inputs + i);
    for (int n = 0; n < N; ++n) sums[m][n] += values * weights[n];
  }
}

// low[m][n] = x[m] . w[n] for M rows and N ranks; `row` is the first one's number in its segment, for dropout.
template <int M, int N, bool D, typename T>
INLINE void dot_tile(const T* x, int64_t inputs, const float* w, int64_t row, const Dropout& dropout, float* low,
                     int64_t rank) {
  Floats sums[M][N] = {};
  int64_t i = 0;
  for (; i + kLanes <= inputs; i += kLanes) dot_step<M, N, D, true>(sums, x, inputs, w, row, i, dropout);
  if (i < inputs) dot_step<M, N, D, false>(sums, x, inputs, w, row, i, dropout);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) low[m * rank + n] = sum_of(sums[m][n]);
}

template <int M, bool D, typename T>
INLINE void dot_rows(const T* x, int64_t inputs, const float* w, int64_t rank, int64_t row, const Dropout& dropout,
                     float* low) {
  int64_t n = 0;
  for (; n + 4 <= rank; n += 4) dot_tile<M, 4, D>(x, inputs, w + n * inputs, row, dropout, low + n, rank);
  for (; n < rank; ++n) dot_tile<M, 1, D>(x, inputs, w + n * inputs, row, dropout, low + n, rank);
}

// low [rows, rank] = x [rows, inputs] . w [rank, inputs]; `row` is the first row's number in its segment.
template <bool D, typename T>
INLINE void dot(const T* x, int64_t rows, int64_t inputs, const float* w, int64_t rank, int64_t row,
                const Dropout& dropout, float* low) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) dot_rows<4, D>(x + m * inputs, inputs, w, rank, row + m, dropout, low + m * rank);
  for (; m < rows; ++m) dot_rows<1, D>(x + m * inputs, inputs, w, rank, row + m, dropout, low + m * rank);
}

// c[i][:16 V] += scale * sum over k of a[i, k] * b[k][:16 V], for I rows.  Dropout is of `b` where `DB`, of what is
// added to `c` where `DC`; `row` and `column` are where b (or c) begins in its segment.
template <int I, int V, bool Full, bool DB, bool DC, typename C, typename B>
INLINE void add_tile(C* c, int64_t c_stride, const float* a, int64_t a_i, int64_t a_k, const B* b, int64_t b_stride,
                     int64_t count, float scale, int64_t left, int64_t row, int64_t column, const Dropout& dropout) {
  Floats sums[I][V] = {};
  for (int64_t k = 0; k < count; ++k) {
    Floats values[V];
    for (int v = 0; v < V; ++v) {
      values[v] = load<Full>(b + k * b_stride + v * kLanes, left);
      if (DB) values[v] *= kept(dropout, (row + k) * b_stride + column + v * kLanes);
    }
    for (int i = 0; i < I; ++i)
      for (int v = 0; v < V; ++v) sums[i][v] += a[i * a_i + k * a_k] * values[v];
  }
  for (int i = 0; i < I; ++i)
    for (int v = 0; v < V; ++v) {
      C* target = c + i * c_stride + v * kLanes;
      Floats added = sums[i][v] * scale;
      if (DC) added *= kept(dropout, (row + i) * c_stride + column + v * kLanes);
      store<Full>(target, load<Full>(target, left) + added, left);
    }
}

template <int I, bool DB, bool DC, typename C, typename B>
INLINE void add_rows(C* c, int64_t c_stride, const float* a, int64_t a_i, int64_t a_k, const B* b, int64_t b_stride,
                     int64_t count, float scale, int64_t width, int64_t row, int64_t column, const Dropout& dropout) {
  int64_t n = 0;
  for (; n + 2 * kLanes <= width; n += 2 * kLanes)
    add_tile<I, 2, true, DB, DC>(c + n, c_stride, a, a_i, a_k, b + n, b_stride, count, scale, 0, row, column + n,
                                 dropout);
  for (; n + kLanes <= width; n += kLanes)
    add_tile<I, 1, true, DB, DC>(c + n, c_stride, a, a_i, a_k, b + n, b_stride, count, scale, 0, row, column + n,
                                 dropout);
  if (n < width)
    add_tile<I, 1, false, DB, DC>(c + n, c_stride, a, a_i, a_k, b + n, b_stride, count, scale, width - n, row,
                                  column + n, dropout);
}

// c [rows, width] += scale * a [rows, count] . b [count, width].
template <bool DB, bool DC, typename C, typename B>
INLINE void add(C* c, int64_t c_stride, const float* a, int64_t a_i, int64_t a_k, const B* b, int64_t b_stride,
                int64_t rows, int64_t count, float scale, int64_t width, int64_t row, int64_t column,
                const Dropout& dropout) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8)
    add_rows<8, DB, DC>(c + i * c_stride, c_stride, a + i * a_i, a_i, a_k, b, b_stride, count, scale, width,
                        DC ? row + i : row, column, dropout);
  for (; i + 4 <= rows; i += 4)
    add_rows<4, DB, DC>(c + i * c_stride, c_stride, a + i * a_i, a_i, a_k, b, b_stride, count, scale, width,
                        DC ? row + i : row, column, dropout);
  for (; i < rows; ++i)
    add_rows<1, DB, DC>(c + i * c_stride, c_stride, a + i * a_i, a_i, a_k, b, b_stride, count, scale, width,
                        DC ? row + i : row, column, dropout);
}

}  // namespace
