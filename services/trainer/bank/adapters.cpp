// The adapters' arithmetic in a joint pass, and AdamW: low-rank products of many segments in one call a layer.
//
// Weights, sums and gradients are float32; hidden states are bfloat16 or float32 and are rounded once.  Every sum runs
// in an order that follows from its segment's rows and its layer's widths alone: never from how work is shared
// between threads, nor from which other segments there are.
//
// A, "down": [rank, inputs].  B transposed, "up": [rank, outputs].  Both lie in their slot's vector at `offset`.

#include "lanes.h"

#include <cmath>
#include <cstdint>

namespace {

constexpr int64_t kRows = 32;            // rows of a task
constexpr int64_t kColumns = 256;        // columns of a task, where sums run over rows
constexpr int64_t kNormBlock = 1 << 14;  // squares that are summed before sums are summed
constexpr int64_t kStepBlock = 1 << 16;

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
