// The adapters' arithmetic in a joint pass, and AdamW: low-rank products of many segments in one call a layer.
//
// Weights, sums and gradients are float32; hidden states are bfloat16 or float32 and are rounded once.  Every sum runs
// in an order that follows from its segment's rows and its layer's widths alone: never from how work is shared
// between threads, nor from which other segments there are.
//
// A, "down": [rank, inputs].  B transposed, "up": [rank, outputs].  Both lie in their slot's vector at `offset`.

#include <cmath>
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

constexpr int64_t kRows = 32;       // rows of a task
constexpr int64_t kColumns = 256;   // columns of a task, where sums run over rows
constexpr int64_t kMaxRank = 512;
constexpr int64_t kNormBlock = 1 << 14;  // squares that are summed before sums are summed
constexpr int64_t kStepBlock = 1 << 16;

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

extern "C" {

// Where a layer lies in a slot's vectors.  rank 0: the slot does not adapt it.
struct Place {
  int64_t offset;
  int32_t rank;
  float scale;
};

// A segment of a pass that has a slot; the arrays belong to the caller.
struct Member {
  const float* weights;
  float* gradient;      // null: the segment does not train
  const Place* places;  // [layers]
  int64_t first;        // row
  int64_t last;         // row after its last
  uint64_t seed;        // of dropout; 0: nothing is dropped
  uint32_t threshold;
  float scale;
};

// A linear layer in a pass.
struct Layer {
  int64_t index;
  int64_t inputs;
  int64_t outputs;
  const Member* members;
  int64_t count;
};

}  // extern "C"

namespace {

// splitmix64, to make two keys of a seed and a layer.
uint64_t spread(uint64_t value) {
  value += 0x9e3779b97f4a7c15ull;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

Dropout dropout_of(const Member& member, int64_t layer) {
  if (!member.seed) return {};
  const uint64_t key = spread(member.seed + static_cast<uint64_t>(layer));
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), member.threshold, member.scale};
}

struct Part {
  const Member* member;
  const float* down;
  const float* up;
  int64_t rank;
  float scale;
  int64_t low;  // offset of its rows in the low-rank buffer
  Dropout dropout;
};

Part part_of(const Layer& layer, int64_t index, const int64_t* lows) {
  const Member& member = layer.members[index];
  const Place& place = member.places[layer.index];
  const float* down = member.weights + place.offset;
  return {&member,      down, down + place.rank * layer.inputs, place.rank, place.scale, lows[index],
          dropout_of(member, layer.index)};
}

template <bool D, typename T>
INLINE void forward_rows(const Layer& layer, const Part& part, int64_t first, int64_t rows, const T* x, T* y,
                         float* low) {
  const int64_t row = part.member->first + first;
  float* mine = low + part.low + first * part.rank;
  dot<D>(x + row * layer.inputs, rows, layer.inputs, part.down, part.rank, first, part.dropout, mine);
  add<false, false>(y + row * layer.outputs, layer.outputs, mine, part.rank, 1, part.up, layer.outputs, rows,
                    part.rank, part.scale, layer.outputs, 0, 0, part.dropout);
}

// Gradient of the low-rank rows, and with it of x.
template <bool D, typename T>
INLINE void backward_rows(const Layer& layer, const Part& part, int64_t first, int64_t rows, const T* g, T* dx,
                          float* low) {
  const int64_t row = part.member->first + first;
  float* mine = low + part.low + first * part.rank;
  dot<false>(g + row * layer.outputs, rows, layer.outputs, part.up, part.rank, first, part.dropout, mine);
  add<false, D>(dx + row * layer.inputs, layer.inputs, mine, part.rank, 1, part.down, layer.inputs, rows, part.rank,
                part.scale, layer.inputs, first, 0, part.dropout);
}

// Gradient of columns [column, column + width) of A, or of B.
template <bool D, typename T>
INLINE void backward_columns(float* target, const Part& part, int64_t stride, int64_t column, int64_t width,
                             const T* values, const float* low) {
  const Member& member = *part.member;
  add<D, false>(target + column, stride, low + part.low, 1, part.rank, values + member.first * stride + column, stride,
                part.rank, member.last - member.first, part.scale, width, 0, column, part.dropout);
}

#define ENTRY(name, T)                                                                                             \
  CLONED void forward_##name(const Layer& layer, const Part& part, int64_t first, int64_t rows, const T* x, T* y,  \
                             float* low) {                                                                         \
    if (part.dropout.threshold) forward_rows<true>(layer, part, first, rows, x, y, low);                           \
    else forward_rows<false>(layer, part, first, rows, x, y, low);                                                 \
  }                                                                                                                \
  CLONED void rows_##name(const Layer& layer, const Part& part, int64_t first, int64_t rows, const T* g, T* dx,    \
                          float* low) {                                                                            \
    if (part.dropout.threshold) backward_rows<true>(layer, part, first, rows, g, dx, low);                         \
    else backward_rows<false>(layer, part, first, rows, g, dx, low);                                               \
  }                                                                                                                \
  CLONED void columns_##name(float* target, const Part& part, bool dropped, int64_t stride, int64_t column,        \
                             int64_t width, const T* values, const float* low) {                                   \
    if (dropped) backward_columns<true>(target, part, stride, column, width, values, low);                         \
    else backward_columns<false>(target, part, stride, column, width, values, low);                                \
  }
ENTRY(half, Half)
ENTRY(float, float)
#undef ENTRY

void forward_task(const Layer& l, const Part& p, int64_t f, int64_t r, const Half* x, Half* y, float* w) {
  forward_half(l, p, f, r, x, y, w);
}
void forward_task(const Layer& l, const Part& p, int64_t f, int64_t r, const float* x, float* y, float* w) {
  forward_float(l, p, f, r, x, y, w);
}
void rows_task(const Layer& l, const Part& p, int64_t f, int64_t r, const Half* g, Half* dx, float* w) {
  rows_half(l, p, f, r, g, dx, w);
}
void rows_task(const Layer& l, const Part& p, int64_t f, int64_t r, const float* g, float* dx, float* w) {
  rows_float(l, p, f, r, g, dx, w);
}
void columns_task(float* t, const Part& p, bool d, int64_t s, int64_t c, int64_t w, const Half* v, const float* low) {
  columns_half(t, p, d, s, c, w, v, low);
}
void columns_task(float* t, const Part& p, bool d, int64_t s, int64_t c, int64_t w, const float* v, const float* low) {
  columns_float(t, p, d, s, c, w, v, low);
}

int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// One unit of work: a block of rows, or of columns, of one segment.
struct Task {
  int32_t member;
  int32_t kind;  // 0: rows; 1: columns of A; 2: columns of B
  int64_t first;
};

// Rows of each adapted segment, `kRows` at a time.  Returns how many; `tasks` null only counts.
int64_t row_tasks(const Layer& layer, bool trains, Task* tasks) {
  int64_t found = 0;
  for (int64_t index = 0; index < layer.count; ++index) {
    const Member& member = layer.members[index];
    if (!member.places[layer.index].rank || (trains && !member.gradient)) continue;
    for (int64_t first = 0; first < member.last - member.first; first += kRows, ++found)
      if (tasks) tasks[found] = {static_cast<int32_t>(index), 0, first};
  }
  return found;
}

int64_t column_tasks(const Layer& layer, Task* tasks) {
  int64_t found = 0;
  for (int64_t index = 0; index < layer.count; ++index) {
    const Member& member = layer.members[index];
    if (!member.places[layer.index].rank || !member.gradient) continue;
    for (int32_t kind = 1; kind <= 2; ++kind)
      for (int64_t first = 0; first < (kind == 1 ? layer.inputs : layer.outputs); first += kColumns, ++found)
        if (tasks) tasks[found] = {static_cast<int32_t>(index), kind, first};
  }
  return found;
}

void low_offsets(const Layer& layer, int64_t* lows) {
  int64_t offset = 0;
  for (int64_t index = 0; index < layer.count; ++index) {
    const Member& member = layer.members[index];
    lows[index] = offset;
    offset += (member.last - member.first) * member.places[layer.index].rank;
  }
}

template <typename T>
void forward_layer(const Layer& layer, const T* x, T* y, float* low) {
  int64_t* lows = new int64_t[layer.count];
  low_offsets(layer, lows);
  const int64_t count = row_tasks(layer, false, nullptr);
  Task* tasks = new Task[count];
  row_tasks(layer, false, tasks);
#pragma omp parallel for schedule(dynamic, 1) if (count > 1)
  for (int64_t each = 0; each < count; ++each) {
    const Part part = part_of(layer, tasks[each].member, lows);
    const int64_t rows = least(kRows, part.member->last - part.member->first - tasks[each].first);
    forward_task(layer, part, tasks[each].first, rows, x, y, low);
  }
  delete[] tasks;
  delete[] lows;
}

template <typename T>
void backward_layer(const Layer& layer, const T* x, const T* g, const float* low, float* low_gradient, T* dx) {
  int64_t* lows = new int64_t[layer.count];
  low_offsets(layer, lows);
  const int64_t row_count = row_tasks(layer, true, nullptr), column_count = column_tasks(layer, nullptr);
  Task* tasks = new Task[row_count + column_count];
  row_tasks(layer, true, tasks);
  column_tasks(layer, tasks + row_count);
#pragma omp parallel if (row_count + column_count > 2)
  {
#pragma omp for schedule(dynamic, 1)
    for (int64_t each = 0; each < row_count; ++each) {
      const Part part = part_of(layer, tasks[each].member, lows);
      const int64_t rows = least(kRows, part.member->last - part.member->first - tasks[each].first);
      rows_task(layer, part, tasks[each].first, rows, g, dx, low_gradient);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t each = row_count; each < row_count + column_count; ++each) {
      const Task& task = tasks[each];
      const Part part = part_of(layer, task.member, lows);
      float* down = part.member->gradient + (part.down - part.member->weights);
      if (task.kind == 1) {
        const int64_t width = least(kColumns, layer.inputs - task.first);
        columns_task(down, part, part.dropout.threshold != 0, layer.inputs, task.first, width, x, low_gradient);
      } else {
        const int64_t width = least(kColumns, layer.outputs - task.first);
        columns_task(down + part.rank * layer.inputs, part, false, layer.outputs, task.first, width, g, low);
      }
    }
  }
  delete[] tasks;
  delete[] lows;
}

CLONED double squares(const float* values, int64_t count) {
  Floats sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes)
    for (int v = 0; v < 4; ++v) {
      const Floats each = load<true>(values + i + v * kLanes, kLanes);
      sums[v] += each * each;
    }
  for (; i + kLanes <= count; i += kLanes) {
    const Floats each = load<true>(values + i, kLanes);
    sums[0] += each * each;
  }
  if (i < count) {
    const Floats each = load<false>(values + i, count - i);
    sums[0] += each * each;
  }
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace

extern "C" {

// One optimizer step; names as in torch.optim.AdamW.
struct Step {
  float clip;        // factor of the gradient
  float decay;       // factor of the weights
  float beta1;
  float beta2;
  float step_size;   // learning rate over the first bias correction
  float root_bias2;  // square root of the second
  float epsilon;
};

}  // extern "C"

namespace {

INLINE Floats root(Floats values) {
  for (int i = 0; i < kLanes; ++i) values[i] = __builtin_sqrtf(values[i]);
  return values;
}

template <bool Full>
INLINE void step_lanes(const Step& step, float* w, float* g, float* m, float* v, int64_t left) {
  const Floats gradient = load<Full>(g, left) * step.clip;
  const Floats before = load<Full>(m, left);
  const Floats first = before + (gradient - before) * (1.0f - step.beta1);
  const Floats second = load<Full>(v, left) * step.beta2 + gradient * gradient * (1.0f - step.beta2);
  const Floats divisor = root(second) / step.root_bias2 + step.epsilon;
  store<Full>(w, load<Full>(w, left) * step.decay - first / divisor * step.step_size, left);
  store<Full>(m, first, left);
  store<Full>(v, second, left);
  store<Full>(g, (Floats){}, left);
}

CLONED void step_block(const Step& step, float* w, float* g, float* m, float* v, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) step_lanes<true>(step, w + i, g + i, m + i, v + i, 0);
  if (i < count) step_lanes<false>(step, w + i, g + i, m + i, v + i, count - i);
}

}  // namespace

extern "C" {

int64_t trivium_bank_max_rank() { return kMaxRank; }
int64_t trivium_bank_member_bytes() { return sizeof(Member); }

// y [rows, outputs] += scale * dropped(x) A^T B^T for the rows of each member; x: [rows, inputs].  `low`, one after
// another for each member [its rows, rank], is what backward needs.  half: x and y are bfloat16, else float32.
void trivium_bank_forward(const Layer* layer, const void* x, void* y, float* low, int32_t half) {
  if (half) forward_layer(*layer, static_cast<const Half*>(x), static_cast<Half*>(y), low);
  else forward_layer(*layer, static_cast<const float*>(x), static_cast<float*>(y), low);
}

// dx [rows, inputs] += the gradient through the adapters, of g [rows, outputs]; A's and B's are added to each member's
// gradient.  `low` is forward's; `low_gradient` has its size and is overwritten.
void trivium_bank_backward(const Layer* layer, const void* x, const void* g, const float* low, float* low_gradient,
                           void* dx, int32_t half) {
  if (half)
    backward_layer(*layer, static_cast<const Half*>(x), static_cast<const Half*>(g), low, low_gradient,
                   static_cast<Half*>(dx));
  else
    backward_layer(*layer, static_cast<const float*>(x), static_cast<const float*>(g), low, low_gradient,
                   static_cast<float*>(dx));
}

// The Euclidean norm of `gradient` [count].
double trivium_bank_norm(const float* gradient, int64_t count) {
  const int64_t parts = blocks(count, kNormBlock);
  double* sums = new double[parts];
#pragma omp parallel for schedule(static) if (parts > 4)
  for (int64_t each = 0; each < parts; ++each)
    sums[each] = squares(gradient + each * kNormBlock, least(kNormBlock, count - each * kNormBlock));
  double sum = 0;
  for (int64_t each = 0; each < parts; ++each) sum += sums[each];
  delete[] sums;
  return std::sqrt(sum);
}

// One pass over weights, both moments and the gradient, all [count]; leaves zeros in the gradient.
void trivium_bank_step(const Step* step, float* weights, float* gradient, float* first, float* second, int64_t count) {
  const int64_t parts = blocks(count, kStepBlock);
#pragma omp parallel for schedule(static) if (parts > 1)
  for (int64_t each = 0; each < parts; ++each) {
    const int64_t at = each * kStepBlock;
    step_block(*step, weights + at, gradient + at, first + at, second + at, least(kStepBlock, count - at));
  }
}

}  // extern "C"
