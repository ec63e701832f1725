// Deltas of which each bag has one, as JavaScript calls them.
#include <atomic>
#include <memory>
#include <vector>

#include "functions.h"
#include "pool.h"
#include "slot_table.h"

namespace finetable {
namespace {

// Bags whose places' entries are fetched ahead of the one that is searched for.
constexpr int64_t bags_ahead = 1;

struct Deltas {
  std::vector<ChosenDelta> deltas;
  std::vector<SlotTable> tables;
  std::vector<int64_t> slots;  // that each has room for
  int64_t widest = 0;
};

napi_value element(Call& call, int list, int64_t i) {
  napi_value value = nullptr;
  call.check(napi_get_element(call.env(), call.value(list), (uint32_t)i, &value));
  return value;
}

// (…, [factors, …], [b or null, …], scales, [table, …], …), from argument `first` on.
Deltas read_deltas(Call& call, int first) {
  Deltas all;
  int64_t count;
  const float* scales = call.floats(first + 2, &count);
  for (int64_t i = 0; i < count && !call.wrong(); i++) {
    const Rows* rows = call.open_rows_of(element(call, first, i));
    if (!rows) break;
    const float* b = call.floats_of(element(call, first + 1, i));
    int64_t length = 0;
    int32_t* entries = call.ints_of(element(call, first + 3, i), &length);
    if (call.wrong()) break;
    all.deltas.push_back({(const float*)rows->view.data, rows->view.dim, b, scales[i]});
    all.tables.push_back(SlotTable(entries, length));
    all.slots.push_back(rows->view.rows);
    if (rows->view.dim > all.widest) all.widest = rows->view.dim;
  }
  return all;
}

// (context, dim, [factors, …], [b or null, …], scales, [table, …], bagDeltas, placeRows, offsets, weights, out). Returns false
// where a table named a slot that there is no room for; such places are passed over.
napi_value add_chosen(Call& call) {
  const Context& context = call.context(0);
  ChosenArgs a = {};
  a.dim = call.integer(1);
  const Deltas all = read_deltas(call, 2);
  int64_t offsets, places;
  a.bag_deltas = call.ints(6);
  const int32_t* rows = call.ints(7, &places);
  a.offsets = call.ints(8, &offsets);
  a.weights = call.floats(9);
  a.out = call.floats_out(10);
  const int64_t bags = offsets - 1;
  if (call.wrong() || bags < 1) return call.wrong() ? nullptr : call.truth(true);
  const std::unique_ptr<int32_t[]> slots(new int32_t[places > 0 ? places : 1]);
  a.place_slots = slots.get();
  a.deltas = all.deltas.data();
  std::atomic<bool> good{true};
  const int64_t grain = grain_of((4 * all.widest + 64) * (1 + places / bags) + a.dim * all.widest / 4);
  parallel(context.threads, bags, grain, [&](int64_t begin, int64_t end) {
    for (int64_t bag = begin; bag < end; bag++) {
      const int64_t later = bag + bags_ahead;
      if (later < end && a.bag_deltas[later] >= 0) {
        const SlotTable& table = all.tables[a.bag_deltas[later]];
        for (int64_t p = a.offsets[later]; p < a.offsets[later + 1]; p++) table.prefetch(rows[p]);
      }
      const int32_t which = a.bag_deltas[bag];
      if (which < 0) continue;
      for (int64_t p = a.offsets[bag]; p < a.offsets[bag + 1]; p++) {
        const int32_t slot = all.tables[which].find(rows[p]);
        const bool fits = slot < all.slots[which];
        if (!fits) good = false;
        slots[p] = fits ? slot : -1;
      }
    }
    context.ops->add_chosen(a, begin, end);
  });
  return call.truth(good);
}

}  // namespace

const NamedFunction chosen_functions[] = {
    {"addChosen", entry<add_chosen>},
    {nullptr, nullptr},
};

}  // namespace finetable
