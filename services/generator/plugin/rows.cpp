// The CPU's LoRA product of one linear layer, in place: y[row] += B (A x[row]) for the rows of each slot.
//
// Rows come in blocks of one slot each (rows.py), so a slot's matrices are read once a block; a row
// that is in no block is never touched.  Weights and activations are bfloat16, sums are float32, and a
// row of y is rounded once.
//
// A, "down":  [slots, slices, max_rank, inputs], as vLLM fills it.
// B, "up":    [slots, pairs, outputs, 2], ranks in pairs beside each other, all slices in one row, so
//             that sixteen outputs take one instruction a pair of ranks (layers.py packs it).

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kMaxBlockRows = 8;
constexpr int64_t kMaxRank = 512;
// Less than this is done before a second thread has begun, which still spins after the base's product (the share of an
// engine sees to that, chassis/resources.py): products (x by A, low by B) of one call, about 3 us.
constexpr int64_t kProductsWorthThreads = 1 << 18;

using Half = uint16_t;  // the bits of a bfloat16

float widen(Half half) {
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Half narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<Half>(bits >> 16 | 0x40);  // stays not a number
  return static_cast<Half>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);                   // ties to even
}

}  // namespace

extern "C" {

// What a layer is, for as long as it lives; the arrays belong to the caller.
struct Layer {
  const Half* down;
  const Half* up;
  const int32_t* ranks;   // [slots, slices]: ranks in use, 0 where a slot adapts nothing
  const int64_t* widths;  // [slices]: outputs of each slice
  int64_t slices;
  int64_t inputs;
  int64_t outputs;
  int64_t max_rank;
};

}  // extern "C"

namespace {

struct Block {
  const Layer* layer;
  int64_t slot;
  int64_t rows;
  const Half* x[kMaxBlockRows];
  Half* y[kMaxBlockRows];

  const Half* down(int64_t slice) const {
    return layer->down + (slot * layer->slices + slice) * layer->max_rank * layer->inputs;
  }
  const Half* up() const { return layer->up + slot * ((layer->max_rank + 1) / 2) * layer->outputs * 2; }
  int64_t rank(int64_t slice) const { return layer->ranks[slot * layer->slices + slice]; }
};

// The same on any processor.
void add_plain(const Block& block) {
  const Layer& layer = *block.layer;
  int64_t first = 0;
  for (int64_t slice = 0; slice < layer.slices; first += layer.widths[slice++]) {
    const int64_t rank = block.rank(slice);
    const Half* down = block.down(slice);
    for (int64_t row = 0; rank && row < block.rows; ++row) {
      float low[kMaxRank + 1] = {};
      for (int64_t r = 0; r < rank; ++r) {
        float sum = 0;
        for (int64_t i = 0; i < layer.inputs; ++i) sum += widen(block.x[row][i]) * widen(down[r * layer.inputs + i]);
        low[r] = widen(narrow(sum));
      }
      for (int64_t out = 0; out < layer.widths[slice]; ++out) {
        float sum = 0;
        for (int64_t pair = 0; pair < (rank + 1) / 2; ++pair) {
          const Half* up = block.up() + (pair * layer.outputs + first + out) * 2;
          sum += low[2 * pair] * widen(up[0]) + low[2 * pair + 1] * widen(up[1]);
        }
        Half& target = block.y[row][first + out];
        target = narrow(widen(target) + sum);
      }
    }
  }
}

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")

inline __m512bh load32(const Half* at) { return (__m512bh)_mm512_loadu_si512(at); }

// The sums of sixteen vectors, each in its own lane: four halvings of all at once instead of sixteen of one.
inline __m512 sums_of(const __m512* vectors) {
  __m512 pairs[8], quads[4];
  for (int i = 0; i < 8; ++i)
    pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(vectors[2 * i], vectors[2 * i + 1]),
                             _mm512_unpackhi_ps(vectors[2 * i], vectors[2 * i + 1]));
  for (int i = 0; i < 4; ++i) {
    const __m512d even = _mm512_castps_pd(pairs[2 * i]), odd = _mm512_castps_pd(pairs[2 * i + 1]);
    quads[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(even, odd)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd)));
  }
  // A quarter of a vector holds the partial sums of four vectors; the quarters are summed across.
  const __m512 first = _mm512_add_ps(_mm512_shuffle_f32x4(quads[0], quads[1], 0x88),
                                     _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd));
  const __m512 second = _mm512_add_ps(_mm512_shuffle_f32x4(quads[2], quads[3], 0x88),
                                      _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(first, second, 0x88), _mm512_shuffle_f32x4(first, second, 0xdd));
}

// low[m, n] = x[m] . down[n] for M rows and N ranks: sixteen sums at most, which stay in registers beside what they
// are made of.
template <int M, int N>
inline void shrink_tile(const Half* const* x, const Half* down, int64_t inputs, float* low) {
  static_assert(M <= 4 && N <= 4);
  __m512 sums[16];
  for (int each = 0; each < 16; ++each) sums[each] = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 32 <= inputs; i += 32) {
    __m512bh a[N];
    for (int n = 0; n < N; ++n) a[n] = load32(down + n * inputs + i);
    for (int m = 0; m < M; ++m) {
      const __m512bh values = load32(x[m] + i);
      for (int n = 0; n < N; ++n) sums[m * 4 + n] = _mm512_dpbf16_ps(sums[m * 4 + n], values, a[n]);
    }
  }
  if (i < inputs) {
    const __mmask32 rest = (1u << (inputs - i)) - 1;
    for (int m = 0; m < M; ++m) {
      const __m512bh values = (__m512bh)_mm512_maskz_loadu_epi16(rest, x[m] + i);
      for (int n = 0; n < N; ++n) {
        const __m512bh a = (__m512bh)_mm512_maskz_loadu_epi16(rest, down + n * inputs + i);
        sums[m * 4 + n] = _mm512_dpbf16_ps(sums[m * 4 + n], values, a);
      }
    }
  }
  alignas(64) float found[16];
  _mm512_store_ps(found, sums_of(sums));
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) low[m * kMaxRank + n] = found[m * 4 + n];
}

template <int M>
inline void shrink(const Half* const* x, const Half* down, int64_t inputs, int64_t rank, float* low) {
  if constexpr (M > 4) {
    shrink<4>(x, down, inputs, rank, low);
    shrink<M - 4>(x + 4, down, inputs, rank, low + 4 * kMaxRank);
  } else {
    int64_t n = 0;
    for (; n + 4 <= rank; n += 4) shrink_tile<M, 4>(x, down + n * inputs, inputs, low + n);
    for (; n < rank; ++n) shrink_tile<M, 1>(x, down + n * inputs, inputs, low + n);
  }
}

inline __m512 widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m256i rounded(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }

// y[m, :16 V] += sum over pairs of low[m, pair] . up[pair, :16 V], for M rows.
template <int M, int V>
inline void expand_tile(Half* const* y, int64_t out, const uint32_t* low, const Half* up, int64_t outputs,
                        int64_t pairs) {
  __m512 sums[M][V];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) sums[m][v] = _mm512_setzero_ps();
  for (int64_t pair = 0; pair < pairs; ++pair) {
    __m512bh b[V];
    for (int v = 0; v < V; ++v) b[v] = load32(up + (pair * outputs + out) * 2 + 32 * v);
    for (int m = 0; m < M; ++m) {
      const __m512bh values = (__m512bh)_mm512_set1_epi32(low[m * (kMaxRank / 2) + pair]);
      for (int v = 0; v < V; ++v) sums[m][v] = _mm512_dpbf16_ps(sums[m][v], values, b[v]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) {
      __m256i* target = reinterpret_cast<__m256i*>(y[m] + out + 16 * v);
      _mm256_storeu_si256(target, rounded(_mm512_add_ps(widened(_mm256_loadu_si256(target)), sums[m][v])));
    }
}

// The same for the last outputs of a slice, fewer than sixteen.
template <int M>
inline void expand_rest(Half* const* y, int64_t out, const uint32_t* low, const Half* up, int64_t outputs,
                        int64_t pairs, int64_t left) {
  const __mmask16 mask = (1u << left) - 1;
  for (int m = 0; m < M; ++m) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const __m512bh b = (__m512bh)_mm512_maskz_loadu_epi32(mask, up + (pair * outputs + out) * 2);
      sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(low[m * (kMaxRank / 2) + pair]), b);
    }
    const __m512 before = widened(_mm256_maskz_loadu_epi16(mask, y[m] + out));
    _mm256_mask_storeu_epi16(y[m] + out, mask, rounded(_mm512_add_ps(before, sum)));
  }
}

// y[m, first:first + width] += sum over pairs of low[m, pair] . up[pair, :], for M rows.
template <int M>
inline void expand(Half* const* y, int64_t first, const uint32_t* low, const Half* up, int64_t outputs, int64_t width,
                   int64_t pairs) {
  const int64_t end = first + width;
  int64_t out = first;
  for (; out + 32 <= end; out += 32) expand_tile<M, 2>(y, out, low, up, outputs, pairs);
  for (; out + 16 <= end; out += 16) expand_tile<M, 1>(y, out, low, up, outputs, pairs);
  if (out < end) expand_rest<M>(y, out, low, up, outputs, pairs, end - out);
}

template <int M>
void add_rows(const Block& block, int64_t row) {
  const Layer& layer = *block.layer;
  // Left over ranks of the last pair stay zero.
  alignas(64) float low[M * kMaxRank];
  alignas(64) uint32_t pairs[M * kMaxRank / 2];
  int64_t first = 0;
  for (int64_t slice = 0; slice < layer.slices; first += layer.widths[slice++]) {
    const int64_t rank = block.rank(slice);
    if (!rank) continue;
    shrink<M>(block.x + row, block.down(slice), layer.inputs, rank, low);
    for (int m = 0; m < M; ++m) {
      for (int64_t r = 0; r < rank; r += 16) {
        const __mmask16 mask = rank - r >= 16 ? 0xffff : (1u << (rank - r)) - 1;
        const __m256i halves = rounded(_mm512_maskz_loadu_ps(mask, low + m * kMaxRank + r));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs + (m * kMaxRank + r) / 2), halves);
      }
    }
    expand<M>(block.y + row, first, pairs, block.up(), layer.outputs, layer.widths[slice], (rank + 1) / 2);
  }
}

void add_avx512(const Block& block) {
  int64_t row = 0;
  for (; row + 8 <= block.rows; row += 8) add_rows<8>(block, row);
  for (; row + 4 <= block.rows; row += 4) add_rows<4>(block, row);
  for (; row + 2 <= block.rows; row += 2) add_rows<2>(block, row);
  for (; row < block.rows; ++row) add_rows<1>(block, row);
}

#pragma GCC pop_options
bool has_avx512() { return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl"); }
#else
void add_avx512(const Block& block) { add_plain(block); }
bool has_avx512() { return false; }
#endif

}  // namespace

extern "C" {

int64_t trivium_max_block_rows() { return kMaxBlockRows; }
int64_t trivium_max_rank() { return kMaxRank; }

// y: [*, outputs], x: [*, inputs], strides in elements; order: [rows in blocks]; blocks: [count, 3] of
// (slot, first, last + 1) into order, each of at most kMaxBlockRows rows, no row twice.
void trivium_add_rows(const Layer* layer, Half* y, int64_t y_stride, const Half* x, int64_t x_stride,
                      const int32_t* order, const int32_t* blocks, int64_t count, int32_t plain) {
  const bool fast = !plain && has_avx512();
  const int64_t rows = count ? blocks[3 * count - 1] - blocks[1] : 0;
  const bool many = rows * layer->max_rank * (layer->inputs + layer->outputs) >= kProductsWorthThreads;
#pragma omp parallel for schedule(static) if (many && count > 1)
  for (int64_t index = 0; index < count; ++index) {
    Block block{layer, blocks[3 * index], blocks[3 * index + 2] - blocks[3 * index + 1], {}, {}};
    for (int64_t i = 0; i < block.rows; ++i) {
      const int64_t row = order[blocks[3 * index + 1] + i];
      block.x[i] = x + row * x_stride;
      block.y[i] = y + row * y_stride;
    }
    fast ? add_avx512(block) : add_plain(block);
  }
}

}  // extern "C"
