// A slot table; see SlotTable in src/kernels.ts. Not for code of an instruction set's own: nothing here is in its namespace.
#pragma once
#include <cstdint>

namespace finetable {

struct SlotTable {
  int32_t* entries;
  uint32_t mask;
  int shift;

  // `length`: twice a power of two.
  SlotTable(int32_t* from, int64_t length)
      : entries(from), mask((uint32_t)(length / 2 - 1)), shift(mask == 0 ? 0 : __builtin_clz(mask)) {}

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
  // -1 where it has none.
  int32_t find(int32_t row) const {
    const int32_t* entry = seek(row);
    return entry && entry[0] == row ? entry[1] : -1;
  }
};

}  // namespace finetable
