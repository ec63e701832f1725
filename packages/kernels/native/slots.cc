// Slot tables; see SlotTable in src/kernels.ts. A table of many rows is in no cache, so each probe is fetched ahead.
#include "functions.h"
#include "slot_table.h"

namespace finetable {
namespace {

constexpr int64_t ahead = 16;

SlotTable table_of(Call& call, int i) {
  int64_t length;
  int32_t* entries = call.ints_out(i, &length);
  return SlotTable(entries, length);
}

// (table, rows, out)
napi_value find_slots(Call& call) {
  const SlotTable table = table_of(call, 0);
  int64_t count;
  const int32_t* rows = call.ints(1, &count);
  int32_t* out = const_cast<int32_t*>(call.ints(2));
  if (call.wrong()) return nullptr;
  for (int64_t i = 0; i < count && i < ahead; i++) table.prefetch(rows[i]);
  for (int64_t i = 0; i < count; i++) {
    if (i + ahead < count) table.prefetch(rows[i + ahead]);
    out[i] = table.find(rows[i]);
  }
  return nullptr;
}

// (table, rows, slots, first)
napi_value insert_slots(Call& call) {
  const SlotTable table = table_of(call, 0);
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
