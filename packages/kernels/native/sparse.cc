// Calls on rows: lookup, segment sum, optimiser steps in slots, and searches in plans.
#include <vector>

#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// Bytes that one range should move, about 20 µs of random reads: short enough that a late thread costs little, long
// enough that handing it out costs nothing.
constexpr int64_t range_bytes = 96 << 10;

int64_t grain_of(int64_t bytes_each) { return 1 + range_bytes / (bytes_each + 1); }

// (context, dim, [rows, firstRow, half, …], offsets, placeUnique, uniqueRows, weights, factors, rank, slots, b, scale, out,
// pooledFactors)
napi_value lookup(Call& call) {
  const Context& context = call.context(0);
  LookupArgs a = {};
  a.dim = call.integer(1);
  std::vector<ShardView> shards;
  uint32_t entries = 0;
  call.check(napi_get_array_length(call.env(), call.value(2), &entries));
  for (uint32_t i = 0; i + 2 < entries && !call.wrong(); i += 3) {
    napi_value handle, first_row, half;
    ShardView shard = {};
    double first = 0;
    call.check(napi_get_element(call.env(), call.value(2), i, &handle));
    call.check(napi_get_element(call.env(), call.value(2), i + 1, &first_row));
    call.check(napi_get_element(call.env(), call.value(2), i + 2, &half));
    call.check(napi_get_value_double(call.env(), first_row, &first));
    call.check(napi_get_value_bool(call.env(), half, &shard.half));
    shard.data = call.memory_of(handle);
    shard.first_row = (int64_t)first;
    // An empty shard holds no row and would stand in the way of the search.
    while (!shards.empty() && shards.back().first_row == shard.first_row) shards.pop_back();
    shards.push_back(shard);
  }
  int64_t offsets;
  a.offsets = call.ints(3, &offsets);
  a.place_unique = call.ints(4, &a.places);
  a.unique_rows = call.ints(5);
  a.weights = call.floats(6);
  a.factors = (const float*)call.memory(7);
  a.rank = call.integer(8);
  a.slots = call.ints(9);
  a.b = call.floats(10);
  a.scale = (float)call.number(11);
  a.out = call.floats_out(12);
  a.pooled = call.floats_out(13);
  if (call.wrong()) return nullptr;
  a.shards = shards.data();
  a.shard_count = (int64_t)shards.size();
  const int64_t bags = offsets - 1;
  if (bags < 1) return nullptr;
  const int64_t row_bytes = 4 * (a.dim + (a.factors ? a.rank : 0));
  const int64_t chain = a.b ? a.dim * a.rank / 4 : 0;
  const int64_t grain = grain_of(row_bytes * (1 + a.places / bags) + chain);
  parallel(context.threads, bags, grain, [&](int64_t begin, int64_t end) { context.ops->lookup(a, begin, end); });
  return nullptr;
}

// (context, cols, groupOffsets, groupPlaces, groupBags, weights, values, out)
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
  a.out = call.floats_out(7);
  const int64_t unique = offsets - 1;
  if (call.wrong() || unique < 1) return nullptr;
  const int64_t grain = grain_of(4 * a.cols * (1 + a.places / unique));
  parallel(context.threads, unique, grain, [&](int64_t begin, int64_t end) { context.ops->segment_sum(a, begin, end); });
  return nullptr;
}

}  // namespace

// type, then the numbers that native/rule.ts writes.
Rule read_rule(Call& call, int type, int numbers) {
  Rule rule = {};
  rule.type = (RuleType)call.integer(type);
  const float* x = call.floats(numbers);
  if (call.wrong()) return rule;
  rule.learning_rate = x[0];
  rule.weight_decay = x[1];
  rule.epsilon = x[2];
  rule.beta1 = x[3];
  rule.rest1 = x[4];
  rule.beta2 = x[5];
  rule.rest2 = x[6];
  rule.kept = x[7];
  rule.correction = x[8];
  rule.root = x[9];
  return rule;
}

namespace {

// (context, ruleType, ruleNumbers, step, dim, parameters, first, second, slots, gradients, lastSteps)
napi_value update_rows(Call& call) {
  const Context& context = call.context(0);
  UpdateRowsArgs a;
  int64_t count;
  a.rule = read_rule(call, 1, 2);
  a.step = (int32_t)call.integer(3);
  a.dim = call.integer(4);
  a.parameters = (float*)call.memory(5);
  a.first = (float*)call.memory(6);
  a.second = (float*)call.memory(7);
  a.slots = call.ints(8, &count);
  a.gradients = call.floats(9);
  a.last_steps = (int32_t*)call.memory(10);
  if (call.wrong()) return nullptr;
  parallel(context.threads, count, grain_of(16 * a.dim + 64),
           [&](int64_t begin, int64_t end) { context.ops->update_rows(a, begin, end); });
  return nullptr;
}

// (context, ruleType, ruleNumbers, step, dim, parameters, first, second, slots, lastSteps, corrections, correctionSteps)
napi_value replay_rows(Call& call) {
  const Context& context = call.context(0);
  ReplayRowsArgs a;
  int64_t count;
  a.rule = read_rule(call, 1, 2);
  a.step = (int32_t)call.integer(3);
  a.dim = call.integer(4);
  a.parameters = (float*)call.memory(5);
  a.first = (float*)call.memory(6);
  a.second = (float*)call.memory(7);
  a.slots = call.ints(8, &count);
  a.last_steps = (int32_t*)call.memory(9);
  a.corrections = call.floats(10);
  a.correction_steps = (int32_t)call.integer(11);
  if (call.wrong()) return nullptr;
  // A row may be one step behind or thousands: small ranges even that out.
  constexpr int64_t grain = 128;
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
    {"lookup", entry<lookup>},
    {"segmentSum", entry<segment_sum>},
    {"updateRows", entry<update_rows>},
    {"replayRows", entry<replay_rows>},
    {"firstOutside", entry<first_outside>},
    {"firstDescent", entry<first_descent>},
    {"firstRepeated", entry<first_repeated>},
    {nullptr, nullptr},
};

}  // namespace finetable
