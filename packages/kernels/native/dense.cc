// Calls on dense matrices. Reductions over many rows are cut into pieces whose size depends on the shape alone, and the
// pieces are added in order, so that the number of threads changes nothing.
#include <cmath>
#include <cstring>
#include <vector>

#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// Values that one range should go through: some 10 µs.
constexpr int64_t range_values = 32 << 10;

int64_t grain_of(int64_t values_each) { return 1 + range_values / (values_each + 1); }

// The sum over pieces [begin, end) of `length`, added in order.
template <class Function>
double sum_pieces(const Context& context, int64_t length, const Function& sum_of) {
  constexpr int64_t piece = range_values;
  std::vector<double> sums((size_t)((length + piece - 1) / piece));
  parallel(context.threads, (int64_t)sums.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t from = i * piece;
      sums[(size_t)i] = sum_of(from, length - from < piece ? length : from + piece);
    }
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

double sum_squares_of(const Context& context, const float* x, int64_t length) {
  return sum_pieces(context, length,
                    [&](int64_t begin, int64_t end) { return context.ops->sum_squares(x + begin, end - begin); });
}

// (context, ruleNumbers, parameters, momentum, squares, gradients)
napi_value update_dense(Call& call) {
  const Context& context = call.context(0);
  UpdateDenseArgs a;
  int64_t length;
  a.rule = read_rule(call, 1);
  a.parameters = call.floats_out(2, &length);
  a.momentum = call.floats_out(3);
  a.squares = call.floats_out(4);
  a.gradients = call.floats(5);
  if (call.wrong() || length == 0) return nullptr;
  if (a.rule.squares == Squares::row) {
    const double sum = sum_pieces(context, length, [&](int64_t begin, int64_t end) {
      return context.ops->gradient_squares(a, begin, end);
    });
    a.squares[0] = a.rule.keep_squares * a.squares[0] + a.rule.rest_squares * (float)(sum / (double)length);
  }
  parallel(context.threads, length, range_values / 4,
           [&](int64_t begin, int64_t end) { context.ops->update_dense(a, begin, end); });
  return nullptr;
}

// Up to this many outputs, a long sum over k is cut into chunks that threads share. With more outputs there is work
// enough without.
constexpr int64_t few_outputs = 64 << 10;
constexpr int64_t least_chunk = 512;
constexpr int64_t most_chunks = 32;
// Rows that share a packed panel.
constexpr int64_t most_block_rows = 240;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void cut_matmul(MatmulArgs& a, int64_t panel_cols) {
  const int64_t blocks = divide_up(a.m, most_block_rows);
  a.row_block = divide_up(divide_up(a.m, blocks), 6) * 6;
  a.row_blocks = divide_up(a.m, a.row_block);
  a.panels = divide_up(a.n, panel_cols);
  a.chunks = 1;
  if (a.m * a.n <= few_outputs) a.chunks = divide_up(a.k, least_chunk);
  if (a.chunks > most_chunks) a.chunks = most_chunks;
  a.k_chunk = divide_up(a.k, a.chunks);
  a.chunks = divide_up(a.k, a.k_chunk);
}

// (context, m, n, k, a, transposeA, b, transposeB, out, scale)
napi_value matmul(Call& call) {
  const Context& context = call.context(0);
  MatmulArgs a = {};
  a.m = call.integer(1);
  a.n = call.integer(2);
  a.k = call.integer(3);
  a.a = call.floats(4);
  const bool transposed = call.boolean(5);
  a.a_row = transposed ? 1 : a.k;
  a.a_k = transposed ? a.m : 1;
  a.b = call.floats(6);
  a.b_transposed = call.boolean(7);
  float* out = call.floats_out(8);
  const float scale = (float)call.number(9);
  const int64_t outputs = a.m * a.n;
  if (call.wrong() || outputs == 0) return nullptr;
  if (a.k == 0) {
    memset(out, 0, (size_t)outputs * sizeof(float));
    return nullptr;
  }
  cut_matmul(a, context.ops->panel_cols);
  std::vector<float> parts;
  if (a.chunks > 1) parts.resize((size_t)(a.chunks * outputs));
  a.out = a.chunks > 1 ? parts.data() : out;
  a.scale = a.chunks > 1 ? 1 : scale;
  // Some 10 µs of multiplications at a time; what takes less than 50 is over before another thread is awake.
  const int threads = outputs * a.k < (1 << 20) ? 1 : context.threads;
  const int64_t task_products = (a.m < a.row_block ? a.m : a.row_block) * context.ops->panel_cols * a.k_chunk;
  const int64_t grain = 1 + (128 << 10) / (task_products + 1);
  parallel(threads, a.chunks * a.row_blocks * a.panels, grain,
           [&](int64_t begin, int64_t end) { context.ops->matmul(a, begin, end); });
  if (a.chunks > 1) {
    memcpy(out, parts.data(), (size_t)outputs * sizeof(float));
    for (int64_t i = 1; i < a.chunks; i++) context.ops->add_scaled(out, parts.data() + i * outputs, 1, outputs);
    if (scale != 1) context.ops->scale(out, scale, outputs);
  }
  return nullptr;
}

// (context, rows, cols, x, row)
napi_value add_to_rows(Call& call) {
  const Context& context = call.context(0);
  const int64_t rows = call.integer(1), cols = call.integer(2);
  float* x = call.floats_out(3);
  const float* row = call.floats(4);
  if (call.wrong()) return nullptr;
  parallel(context.threads, rows, grain_of(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) context.ops->add_scaled(x + i * cols, row, 1, cols);
  });
  return nullptr;
}

// (context, rows, cols, x, row)
napi_value scale_columns(Call& call) {
  const Context& context = call.context(0);
  const int64_t rows = call.integer(1), cols = call.integer(2);
  float* x = call.floats_out(3);
  const float* row = call.floats(4);
  if (call.wrong()) return nullptr;
  parallel(context.threads, rows, grain_of(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      for (int64_t c = 0; c < cols; c++) x[i * cols + c] *= row[c];
    }
  });
  return nullptr;
}

// out = the sum of what `add(i, count, sums)` adds for rows [i, i + count), in pieces, so that threads do not change it.
template <class Add>
void sum_pieces(const Context& context, int64_t rows, int64_t cols, float* out, Add add) {
  constexpr int64_t piece = 256;
  // Some 30 µs: waking a thread for less costs more than it saves.
  constexpr int64_t range_sums = 256 << 10;
  const int64_t pieces = divide_up(rows, piece);
  std::vector<float> sums((size_t)(pieces * cols));
  parallel(context.threads, pieces, divide_up(range_sums, piece * (cols + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t first = p * piece;
      add(first, rows - first < piece ? rows - first : piece, sums.data() + p * cols);
    }
  });
  memset(out, 0, (size_t)cols * sizeof(float));
  for (int64_t i = 0; i < pieces; i++) context.ops->add_scaled(out, sums.data() + i * cols, 1, cols);
}

// (context, rows, cols, x, out)
napi_value sum_rows(Call& call) {
  const Context& context = call.context(0);
  const int64_t rows = call.integer(1), cols = call.integer(2);
  const float* x = call.floats(3);
  float* out = call.floats_out(4);
  if (call.wrong()) return nullptr;
  sum_pieces(context, rows, cols, out, [&](int64_t first, int64_t count, float* sums) {
    for (int64_t i = first; i < first + count; i++) context.ops->add_scaled(sums, x + i * cols, 1, cols);
  });
  return nullptr;
}

// (context, rows, cols, x, y, out)
napi_value column_dots(Call& call) {
  const Context& context = call.context(0);
  const int64_t rows = call.integer(1), cols = call.integer(2);
  const float* x = call.floats(3);
  const float* y = call.floats(4);
  float* out = call.floats_out(5);
  if (call.wrong()) return nullptr;
  sum_pieces(context, rows, cols, out, [&](int64_t first, int64_t count, float* sums) {
    context.ops->add_column_dots(x + first * cols, y + first * cols, count, cols, sums);
  });
  return nullptr;
}

// (context, cols, logits, labels, losses, gradient, scale)
napi_value cross_entropy(Call& call) {
  const Context& context = call.context(0);
  CrossEntropyArgs a;
  int64_t rows;
  a.cols = call.integer(1);
  a.logits = call.floats(2);
  a.labels = call.ints(3, &rows);
  a.losses = call.floats_out(4);
  a.gradient = call.floats_out(5);
  a.scale = (float)call.number(6);
  if (call.wrong()) return nullptr;
  parallel(context.threads, rows, grain_of(4 * a.cols),
           [&](int64_t begin, int64_t end) { context.ops->cross_entropy(a, begin, end); });
  return nullptr;
}

// A list of arrays, null where one is.
std::vector<float*> arrays_of(Call& call, int list, int64_t most) {
  uint32_t count = 0;
  call.check(napi_get_array_length(call.env(), call.value(list), &count));
  std::vector<float*> arrays;
  for (uint32_t i = 0; i < count && (int64_t)i < most; i++) {
    napi_value value = nullptr;
    call.check(napi_get_element(call.env(), call.value(list), i, &value));
    if (call.wrong()) break;
    arrays.push_back(const_cast<float*>(call.floats_of(value)));
  }
  return arrays;
}

// (context, rows, dim, [vectors, …], cols, firstColumn, out or gradient, [out or null, …])
napi_value pair_dots_call(Call& call, bool backward) {
  const Context& context = call.context(0);
  const int64_t rows = call.integer(1);
  PairDotsArgs a = {};
  a.dim = call.integer(2);
  const std::vector<float*> vectors = arrays_of(call, 3, max_pair_vectors);
  a.count = (int64_t)vectors.size();
  a.vectors = vectors.data();
  a.cols = call.integer(4);
  a.first_column = call.integer(5);
  a.pairs = call.floats_out(6);
  std::vector<float*> outs;
  if (backward) outs = arrays_of(call, 7, a.count);
  a.outs = outs.data();
  if (call.wrong()) return nullptr;
  const auto run = backward ? context.ops->pair_dots_backward : context.ops->pair_dots;
  parallel(context.threads, rows, grain_of(a.count * a.count * a.dim / 8),
           [&](int64_t begin, int64_t end) { run(a, begin, end); });
  return nullptr;
}
napi_value pair_dots(Call& call) { return pair_dots_call(call, false); }
napi_value pair_dots_backward(Call& call) { return pair_dots_call(call, true); }

// (context, dim, x, y, offsets, places or null, out or gradient, xOut or null, yOut or null)
napi_value bag_dots_call(Call& call, bool backward) {
  const Context& context = call.context(0);
  BagDotsArgs a = {};
  int64_t offsets, products, y_values;
  a.dim = call.integer(1);
  a.x = call.floats(2);
  a.y = call.floats(3, &y_values);
  a.offsets = call.ints(4, &offsets);
  a.places = call.ints(5);
  a.dots = call.floats_out(6, &products);
  if (backward) {
    a.x_out = call.floats_out(7);
    a.y_out = call.floats_out(8);
  }
  a.bags = offsets - 1;
  if (call.wrong() || a.bags < 1) return nullptr;
  const auto run = backward ? context.ops->bag_dots_backward : context.ops->bag_dots;
  parallel(context.threads, a.bags, grain_of(a.dim * (1 + products / a.bags)),
           [&](int64_t begin, int64_t end) { run(a, begin, end); });
  if (!a.places || !a.y_out) return nullptr;
  memset(a.y_out, 0, (size_t)y_values * sizeof(float));
  parallel(context.threads, divide_up(a.dim, bag_dots_columns), 1,
           [&](int64_t begin, int64_t end) { context.ops->bag_dots_scatter(a, begin, end); });
  return nullptr;
}
napi_value bag_dots(Call& call) { return bag_dots_call(call, false); }
napi_value bag_dots_backward(Call& call) { return bag_dots_call(call, true); }

// (context, cols, x, norms)
napi_value normalize_rows(Call& call) {
  const Context& context = call.context(0);
  NormalizeArgs a = {};
  int64_t rows;
  a.cols = call.integer(1);
  a.x = call.floats_out(2);
  a.norms = call.floats_out(3, &rows);
  if (call.wrong()) return nullptr;
  parallel(context.threads, rows, grain_of(2 * a.cols),
           [&](int64_t begin, int64_t end) { context.ops->normalize(a, begin, end); });
  return nullptr;
}

// (context, cols, y, norms, gradient)
napi_value normalize_rows_backward(Call& call) {
  const Context& context = call.context(0);
  NormalizeArgs a = {};
  int64_t rows;
  a.cols = call.integer(1);
  a.y = call.floats(2);
  a.norms = call.floats_out(3, &rows);
  a.x = call.floats_out(4);
  if (call.wrong()) return nullptr;
  parallel(context.threads, rows, grain_of(2 * a.cols),
           [&](int64_t begin, int64_t end) { context.ops->normalize_backward(a, begin, end); });
  return nullptr;
}

napi_value sum_squares(Call& call) {
  const Context& context = call.context(0);
  int64_t length;
  const float* x = call.floats(1, &length);
  return call.wrong() ? nullptr : call.result(sum_squares_of(context, x, length));
}

napi_value scale_in_place(Call& call) {
  const Context& context = call.context(0);
  int64_t length;
  float* x = call.floats_out(1, &length);
  const float factor = (float)call.number(2);
  if (call.wrong()) return nullptr;
  parallel(context.threads, length, range_values,
           [&](int64_t begin, int64_t end) { context.ops->scale(x + begin, factor, end - begin); });
  return nullptr;
}

napi_value first_non_finite(Call& call) {
  const Context& context = call.context(0);
  int64_t length;
  const float* x = call.floats(1, &length);
  return call.wrong() ? nullptr : call.result((double)context.ops->first_non_finite(x, length));
}

}  // namespace

const NamedFunction dense_functions[] = {
    {"updateDense", entry<update_dense>},
    {"matmul", entry<matmul>},
    {"addToRows", entry<add_to_rows>},
    {"scaleColumns", entry<scale_columns>},
    {"sumRows", entry<sum_rows>},
    {"columnDots", entry<column_dots>},
    {"softmaxCrossEntropy", entry<cross_entropy>},
    {"pairDots", entry<pair_dots>},
    {"pairDotsBackward", entry<pair_dots_backward>},
    {"bagDots", entry<bag_dots>},
    {"bagDotsBackward", entry<bag_dots_backward>},
    {"normalizeRows", entry<normalize_rows>},
    {"normalizeRowsBackward", entry<normalize_rows_backward>},
    {"sumSquares", entry<sum_squares>},
    {"scaleInPlace", entry<scale_in_place>},
    {"firstNonFinite", entry<first_non_finite>},
    {nullptr, nullptr},
};

}  // namespace finetable
