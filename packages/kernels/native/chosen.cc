// Deltas of which each bag has one, as JavaScript calls them.
#include <vector>

#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// (context, dim, [factors, …], [b or null, …], scales, bagDeltas, placeSlots, offsets, weights, out)
napi_value add_chosen(Call& call) {
  const Context& context = call.context(0);
  ChosenArgs a = {};
  a.dim = call.integer(1);
  int64_t count, offsets, places;
  const float* scales = call.floats(4, &count);
  a.bag_deltas = call.ints(5);
  a.place_slots = call.ints(6, &places);
  a.offsets = call.ints(7, &offsets);
  a.weights = call.floats(8);
  a.out = call.floats_out(9);
  std::vector<ChosenDelta> deltas;
  int64_t widest = 0;
  for (int64_t i = 0; i < count && !call.wrong(); i++) {
    napi_value factors, b;
    call.check(napi_get_element(call.env(), call.value(2), (uint32_t)i, &factors));
    call.check(napi_get_element(call.env(), call.value(3), (uint32_t)i, &b));
    if (call.wrong()) break;
    const Rows* rows = call.open_rows_of(factors);
    if (!rows) break;
    deltas.push_back({(const float*)rows->view.data, rows->view.dim, call.floats_of(b), scales[i]});
    if (rows->view.dim > widest) widest = rows->view.dim;
  }
  const int64_t bags = offsets - 1;
  if (call.wrong() || bags < 1) return nullptr;
  a.deltas = deltas.data();
  const int64_t grain = grain_of(4 * widest * (1 + places / bags) + a.dim * widest / 4);
  parallel(context.threads, bags, grain, [&](int64_t begin, int64_t end) { context.ops->add_chosen(a, begin, end); });
  return nullptr;
}

}  // namespace

const NamedFunction chosen_functions[] = {
    {"addChosen", entry<add_chosen>},
    {nullptr, nullptr},
};

}  // namespace finetable
