// Calls on rows: segment sum, optimiser steps in slots, and searches in plans.
#include <vector>

#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// (context, cols, groupOffsets, groupPlaces, groupBags, weights, values, uniques, out)
napi_value segment_sum(Call& call) {
  const Context& context = call.context(0);
  SegmentSumArgs a;
  int64_t offsets;
  a.cols = call.integer(1);
  a.group_offsets = call.ints(2, &offsets);
  a.group_places = call.ints(3, &a.places);
  a.group_bags = call.ints(4);
  a.weights = call.floats(5);
  a.values = call.floats(6);
  int64_t count = offsets - 1;
  const int64_t mean = offsets > 1 ? a.places / (offsets - 1) : 0;
  a.uniques = call.ints(7, &count);
  if (!a.uniques) count = offsets - 1;
  a.out = call.floats_out(8);
  if (call.wrong() || count < 1) return nullptr;
  const int64_t grain = grain_of(4 * a.cols * (1 + mean));
  parallel(context.threads, count, grain, [&](int64_t begin, int64_t end) { context.ops->segment_sum(a, begin, end); });
  return nullptr;
}

// Products of many rows, in pieces that are summed in f32 and added to f64 sums in order, so that threads do not change them.
class RowProductSums {
 public:
  static constexpr int64_t piece = 256;

  RowProductSums(const Context& context, const RowProductsArgs& args, int64_t count)
      : context_(context), args_(args), count_(count), sums_((size_t)(pieces() * each())) {}

  int64_t pieces() const { return (count_ + piece - 1) / piece; }
  int64_t end_of(int64_t p) const { return (p + 1) * piece < count_ ? (p + 1) * piece : count_; }

  // For each piece once, on any thread.
  void sum(int64_t p) {
    const int64_t r = args_.rank, dim = args_.base.dim;
    std::vector<float> scratch((size_t)(product_batch * (dim + r + rank_padded(r))));
    float* const sums = sums_.data() + p * each();
    context_.ops->row_products(args_, p * piece, end_of(p), sums, sums + rank_padded(r) * dim, scratch.data());
  }
  void add_to(double* cross, double* gram) const {
    const int64_t r = args_.rank, dim = args_.base.dim;
    for (int64_t p = 0; p < pieces(); p++) {
      const float* sums = sums_.data() + p * each();
      const float* half = sums + rank_padded(r) * dim;
      for (int64_t x = 0; x < r * dim; x++) cross[x] += sums[x];
      for (int64_t k = 0; k < r; k++) {
        for (int64_t l = 0; l < r; l++) gram[k * r + l] += (double)half[k * r + l] + half[l * r + k];
      }
    }
  }

 private:
  int64_t each() const { return rank_padded(args_.rank) * (args_.base.dim + args_.rank); }

  const Context& context_;
  const RowProductsArgs args_;
  const int64_t count_;
  std::vector<float> sums_;
};

// A store or, where that is null, the matrix [rows, dim] after it. False where both are.
bool read_base(Call& call, int i, RowsView& base) {
  const Rows* store = call.open_rows(i);
  int64_t length;
  const float* values = call.floats(i + 1, &length);
  if (store) {
    base = store->view;
    return true;
  }
  const int64_t dim = call.integer(i + 2);
  if (!values || dim < 1) return false;
  base = {(const char*)values, dim * (int64_t)sizeof(float), nullptr, 0, 0, length / dim, dim, Dtype::f32};
  return true;
}

// (context, base store or null, base matrix or null, dim, rows, factors, slots, counted or null, cross, gram)
napi_value add_row_products(Call& call) {
  const Context& context = call.context(0);
  RowProductsArgs a = {};
  int64_t count;
  const bool has_base = read_base(call, 1, a.base);
  a.rows = call.ints(4, &count);
  const Rows* factors = call.open_rows(5);
  a.slots = call.ints(6);
  a.counted = (float*)call.memory(7);
  double* cross = call.doubles_out(8);
  double* gram = call.doubles_out(9);
  if (call.wrong() || !has_base || !factors || count < 1) return nullptr;
  a.factors = (const float*)factors->view.data;
  a.rank = factors->view.dim;
  RowProductSums products(context, a, count);
  parallel(context.threads, products.pieces(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) products.sum(p);
  });
  products.add_to(cross, gram);
  return nullptr;
}

}  // namespace

Rule read_rule(Call& call, int numbers) {
  Rule rule = {};
  const float* x = call.floats(numbers);
  if (call.wrong()) return rule;
  rule.momentum = x[0] != 0;
  rule.squares = (Squares)x[1];
  rule.l2 = x[2];
  rule.epsilon = x[3];
  rule.keep_momentum = x[4];
  rule.rest_momentum = x[5];
  rule.keep_squares = x[6];
  rule.rest_squares = x[7];
  for (int i = 0; i < 3; i++) rule.step_numbers[i] = x[8 + i];
  return rule;
}

namespace {

// The arguments that both begin with:
// (context, ruleNumbers, step, parameters, momentum, squares, roundingSeed, slots, lastSteps). Returns how many slots there are.
int64_t read_slot_rows(Call& call, SlotRows& a) {
  int64_t count;
  a.rule = read_rule(call, 1);
  a.step = (int32_t)call.integer(2);
  const Rows* parameters = call.open_rows(3);
  a.dim = parameters ? parameters->view.dim : 0;
  a.parameters = (float*)call.memory(3);
  const Rows* state = a.rule.momentum ? call.open_rows(4) : call.open_rows(5);
  a.state_dtype = state ? state->view.dtype : Dtype::f32;
  a.momentum = call.memory(4);
  a.squares = call.memory(5);
  a.seed = (uint64_t)call.number(6);
  a.slots = call.ints(7, &count);
  a.last_steps = (int32_t*)call.memory(8);
  return count;
}
constexpr int after_slot_rows = 9;

// (…, gradients, base store or null, base matrix or null, dim, rows, counted, cross, gram)
napi_value update_rows(Call& call) {
  const Context& context = call.context(0);
  UpdateRowsArgs a;
  const int64_t count = read_slot_rows(call, a);
  a.gradients = call.floats(after_slot_rows);
  RowProductsArgs b = {};
  const bool has_base = read_base(call, after_slot_rows + 1, b.base);
  b.rows = call.ints(after_slot_rows + 4);
  b.counted = (float*)call.memory(after_slot_rows + 5);
  double* cross = call.doubles_out(after_slot_rows + 6);
  double* gram = call.doubles_out(after_slot_rows + 7);
  if (call.wrong()) return nullptr;
  if (has_base && count > 0) {
    b.slots = a.slots;
    b.factors = a.parameters;
    b.rank = a.dim;
    RowProductSums products(context, b, count);
    // Rows that were just updated are in cache.
    parallel(context.threads, products.pieces(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        context.ops->update_rows(a, p * products.piece, products.end_of(p));
        products.sum(p);
      }
    });
    products.add_to(cross, gram);
    return nullptr;
  }
  parallel(context.threads, count, grain_of(16 * a.dim + 64),
           [&](int64_t begin, int64_t end) { context.ops->update_rows(a, begin, end); });
  return nullptr;
}

// (…, numbers, sums, recent, logKept, singleSteps, logKeepMomentum, logKeepSquares)
napi_value replay_rows(Call& call) {
  const Context& context = call.context(0);
  ReplayRowsArgs a;
  const int64_t count = read_slot_rows(call, a);
  a.numbers = call.floats(after_slot_rows);
  a.sums = call.floats(after_slot_rows + 1);
  a.recent = call.integer(after_slot_rows + 2);
  a.log_kept = call.doubles(after_slot_rows + 3);
  a.single_steps = call.integer(after_slot_rows + 4);
  a.log_keep_momentum = call.number(after_slot_rows + 5);
  a.log_keep_squares = call.number(after_slot_rows + 6);
  if (call.wrong()) return nullptr;
  // Where skipped steps are made one by one, rows differ in what they cost, which small ranges even out.
  const int64_t grain = a.sums ? 512 : 128;
  parallel(context.threads, count, grain, [&](int64_t begin, int64_t end) { context.ops->replay_rows(a, begin, end); });
  return nullptr;
}

napi_value first_outside(Call& call) {
  const Context& context = call.context(0);
  int64_t length;
  const int32_t* x = call.ints(1, &length);
  const int32_t low = (int32_t)call.integer(2), limit = (int32_t)call.integer(3);
  return call.wrong() ? nullptr : call.result((double)context.ops->first_outside(x, length, low, limit));
}

napi_value first_descent(Call& call) {
  const Context& context = call.context(0);
  int64_t length;
  const int32_t* x = call.ints(1, &length);
  return call.wrong() ? nullptr : call.result((double)context.ops->first_descent(x, length));
}

napi_value first_repeated(Call& call) {
  // One bit per value, all zero between calls; as long as the largest value asks for, not as the table.
  static thread_local std::vector<uint64_t> seen;
  int64_t length;
  const int32_t* x = call.ints(0, &length);
  if (call.wrong()) return nullptr;
  int32_t largest = 0;
  for (int64_t i = 0; i < length; i++) largest = x[i] > largest ? x[i] : largest;
  const size_t words = (size_t)largest / 64 + 1;
  if (seen.size() < words) seen.resize(words);
  int64_t repeated = -1;
  for (int64_t i = 0; i < length && repeated < 0; i++) {
    if (x[i] < 0) continue;
    uint64_t& word = seen[(size_t)x[i] / 64];
    const uint64_t bit = 1ull << (x[i] % 64);
    if (word & bit) repeated = i;
    word |= bit;
  }
  for (int64_t i = 0; i < length; i++) {
    if (x[i] >= 0) seen[(size_t)x[i] / 64] = 0;
  }
  return call.result((double)repeated);
}

}  // namespace

const NamedFunction sparse_functions[] = {
    {"segmentSum", entry<segment_sum>},
    {"addRowProducts", entry<add_row_products>},
    {"updateRows", entry<update_rows>},
    {"replayRows", entry<replay_rows>},
    {"firstOutside", entry<first_outside>},
    {"firstDescent", entry<first_descent>},
    {"firstRepeated", entry<first_repeated>},
    {nullptr, nullptr},
};

}  // namespace finetable
