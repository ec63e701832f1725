// Slot tables; see SlotTable in src/kernels.ts. A table of many rows is in no cache, so each probe is fetched ahead.
#include "functions.h"

namespace finetable {
namespace {

struct Table {
  int32_t* entries;
  uint32_t mask;
  int shift;

  uint32_t home(int32_t row) const { return mask == 0 ? 0 : ((uint32_t)row * 0x9e3779b1u) >> shift; }
  void prefetch(int32_t row) const { __builtin_prefetch(entries + 2 * (int64_t)home(row), 1); }
  // The entry that holds `row`, or the empty one where it belongs; null where the table is full.
  int32_t* seek(int32_t row) const {
    uint32_t at = home(row);
    for (uint32_t tries = 0; tries <= mask; tries++) {
      int32_t* entry = entries + 2 * (int64_t)at;
      if (entry[0] == row || entry[0] == -1) return entry;
      at = (at + 1) & mask;
    }
    return nullptr;
  }
};

constexpr int64_t ahead = 16;

Table table_of(Call& call, int i) {
  int64_t length;
  Table table = {const_cast<int32_t*>(call.ints(i, &length)), 0, 0};
  table.mask = (uint32_t)(length / 2 - 1);
  table.shift = table.mask == 0 ? 0 : __builtin_clz(table.mask);
  return table;
}

// (table, rows, out)
napi_value find_slots(Call& call) {
  const Table table = table_of(call, 0);
  int64_t count;
  const int32_t* rows = call.ints(1, &count);
  int32_t* out = const_cast<int32_t*>(call.ints(2));
  if (call.wrong()) return nullptr;
  for (int64_t i = 0; i < count && i < ahead; i++) table.prefetch(rows[i]);
  for (int64_t i = 0; i < count; i++) {
    if (i + ahead < count) table.prefetch(rows[i + ahead]);
    const int32_t* entry = table.seek(rows[i]);
    out[i] = entry && entry[0] == rows[i] ? entry[1] : -1;
  }
  return nullptr;
}

// (table, rows, slots, first)
napi_value insert_slots(Call& call) {
  const Table table = table_of(call, 0);
  int64_t count;
  const int32_t* rows = call.ints(1, &count);
  int32_t* slots = const_cast<int32_t*>(call.ints(2));
  const int32_t first = (int32_t)call.integer(3);
  if (call.wrong()) return nullptr;
  int32_t next = first;
  for (int64_t i = 0; i < count; i++) {
    if (i + ahead < count && slots[i + ahead] < 0) table.prefetch(rows[i + ahead]);
    if (slots[i] >= 0) continue;
    int32_t* entry = table.seek(rows[i]);
    if (!entry) return call.result(-1);
    entry[0] = rows[i];
    slots[i] = entry[1] = next++;
  }
  return call.result((double)(next - first));
}

}  // namespace

const NamedFunction slot_functions[] = {
    {"findSlots", entry<find_slots>},
    {"insertSlots", entry<insert_slots>},
    {nullptr, nullptr},
};

}  // namespace finetable
