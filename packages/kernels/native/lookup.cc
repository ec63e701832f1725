// The lookup as JavaScript calls it: at once, or on a thread of libuv's.
#include <vector>

#include "async.h"
#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// A call's arguments and what keeps their stores' memory in place, whoever closes them.
class Lookup {
 public:
  // (context, dim, [rows, firstRow, firstColumn, …], overlayRows, overlaySlots, offsets, placeRows, placeUnique, uniqueRows,
  // weights, factors, slots, b, scale, out, pooledFactors, pooledBase, columns)
  explicit Lookup(Call& call) : context_(call.context(0)) {
    LookupArgs& a = args_;
    a.dim = call.integer(1);
    read_shards(call, call.value(2));
    if (const Rows* overlay = stores_.hold(call.open_rows(3))) {
      a.overlay = overlay->view;
      a.dtype = overlay->view.dtype;
      a.overlay_slots = call.ints(4);
      if (groups_.empty()) {
        groups_.push_back({0, a.dim, nullptr, 0});
        first_shards_.push_back(0);
      }
    }
    int64_t offsets;
    a.offsets = call.ints(5, &offsets);
    a.place_rows = call.ints(6, &a.places);
    a.place_unique = call.ints(7);
    a.unique_rows = call.ints(8);
    a.weights = call.floats(9);
    if (const Rows* factors = stores_.hold(call.open_rows(10))) {
      a.factors = (const float*)factors->view.data;
      a.rank = factors->view.dim;
    }
    a.slots = call.ints(11);
    a.b = call.floats(12);
    a.scale = (float)call.number(13);
    a.out = call.floats_out(14);
    a.pooled = call.floats_out(15);
    a.pooled_base = call.floats_out(16);
    a.columns = call.floats(17);
    bags_ = offsets - 1;
    // Only now, since a vector that grows moves its elements.
    for (size_t g = 0; g < groups_.size(); g++) groups_[g].shards = shards_.data() + first_shards_[g];
    a.groups = groups_.data();
    a.group_count = (int64_t)groups_.size();
  }
  Lookup(const Lookup&) = delete;

  void run() const {
    if (bags_ < 1) return;
    const LookupArgs& a = args_;
    const int64_t row_bytes = element_bytes(a.dtype, a.dim) + 4 * (a.factors ? a.rank : 0);
    const int64_t chain = a.b ? a.dim * a.rank / 4 : 0;
    const int64_t grain = grain_of(row_bytes * (1 + a.places / bags_) + chain);
    parallel(context_.threads, bags_, grain, [&](int64_t begin, int64_t end) { context_.ops->lookup(a, begin, end); });
  }

 private:
  void read_shards(Call& call, napi_value list) {
    uint32_t entries = 0;
    call.check(napi_get_array_length(call.env(), list, &entries));
    for (uint32_t i = 0; i + 2 < entries && !call.wrong(); i += 3) {
      napi_value handle = nullptr;
      double first[2] = {};
      call.check(napi_get_element(call.env(), list, i, &handle));
      for (uint32_t k = 0; k < 2; k++) {
        napi_value number;
        call.check(napi_get_element(call.env(), list, i + 1 + k, &number));
        call.check(napi_get_value_double(call.env(), number, &first[k]));
      }
      const Rows* rows = stores_.hold(call.open_rows_of(handle));
      if (!rows) return;
      args_.dtype = rows->view.dtype;
      if (groups_.empty() || groups_.back().first_column != (int64_t)first[1]) {
        groups_.push_back({(int64_t)first[1], rows->view.dim, nullptr, 0});
        first_shards_.push_back(shards_.size());
      }
      // One without rows would stand in the way of the search.
      if (rows->view.rows == 0) continue;
      shards_.push_back({rows->view, (int64_t)first[0]});
      groups_.back().shard_count++;
    }
  }

  const Context context_;
  LookupArgs args_ = {};
  int64_t bags_;
  std::vector<ShardView> shards_;
  std::vector<ColumnGroup> groups_;
  std::vector<size_t> first_shards_;
  HeldStores stores_;
};

napi_value lookup(Call& call) {
  const Lookup lookup(call);
  if (!call.wrong()) lookup.run();
  return nullptr;
}

// As `lookup`; returns a promise.
napi_value lookup_async(Call& call) {
  std::unique_ptr<Lookup> lookup(new Lookup(call));
  return run_async(call, "finetable lookup", 4, 17, std::move(lookup));
}

}  // namespace

const NamedFunction lookup_functions[] = {
    {"lookup", entry<lookup>},
    {"lookupAsync", entry<lookup_async>},
    {nullptr, nullptr},
};

}  // namespace finetable
