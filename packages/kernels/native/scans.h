// Searches for the first bad value, a stretch at a time: whole stretches are tested without a branch per value. Included
// by kernels.h.

constexpr int64_t stretch = 512;

// `bad(i)` is 0 or 1.
template <class Bad>
FT_INLINE int64_t first_where(int64_t begin, int64_t length, Bad bad) {
  for (int64_t from = begin; from < length; from += stretch) {
    const int64_t to = from + stretch < length ? from + stretch : length;
    int32_t any = 0;
    for (int64_t i = from; i < to; i++) any |= bad(i);
    if (!any) continue;
    for (int64_t i = from; i < to; i++) {
      if (bad(i)) return i;
    }
  }
  return -1;
}

static int64_t first_non_finite(const float* x, int64_t length) {
  return first_where(0, length, [=](int64_t i) __attribute__((always_inline)) {
    int32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    return (int32_t)((bits & 0x7f800000) == 0x7f800000);
  });
}

// One unsigned compare: a value below `low` wraps to a large one.
static int64_t first_outside(const int32_t* x, int64_t length, int32_t low, int32_t limit) {
  const uint32_t span = (uint32_t)limit - (uint32_t)low;
  return first_where(0, length, [=](int64_t i) __attribute__((always_inline)) {
    return (int32_t)((uint32_t)x[i] - (uint32_t)low >= span);
  });
}

static int64_t first_descent(const int32_t* x, int64_t length) {
  return first_where(1, length, [=](int64_t i) __attribute__((always_inline)) { return (int32_t)(x[i] < x[i - 1]); });
}
