// Optimiser state of a row as vectors of f32, and back: 16-bit state is rounded at random. As portable/state.ts, bit for bit.
// Included by kernels.h.

// Philox4x32-10, as `philox` of @finetable/core.
static void philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t* out) {
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = (uint64_t)0xd2511f53 * c0, p1 = (uint64_t)0xcd9e8d57 * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// The random 16 bits of each element of one state row at one step: eight elements share a block.
struct Rounding {
  uint32_t key0, key1, slot, step;
  bool squares;
  int64_t held = -1;
  uint32_t block[4];
  Rounding(const SlotRows& a, int64_t slot, bool squares)
      : key0((uint32_t)a.seed), key1((uint32_t)(a.seed >> 32)), slot((uint32_t)slot), step((uint32_t)a.step), squares(squares) {}
  FT_MEMBER uint32_t bits(int64_t element) {
    if (element / 8 != held) {
      held = element / 8;
      philox((uint32_t)held, slot, step, squares, key0, key1, block);
    }
    return (block[element % 8 / 2] >> (16 * (element % 2))) & 0xffff;
  }
  // Of W elements from `at`, a multiple of W, on.
  FT_MEMBER VI lanes(int64_t at) {
    uint32_t words[W < 8 ? 4 : W / 2];
    for (int64_t i = 0; i < W; i += 8) philox((uint32_t)((at + i) / 8), slot, step, squares, key0, key1, words + i / 2);
    return widen_shorts((const char*)words + at % 8 * 2);
  }
};

FT_INLINE uint32_t float_bits(float value) {
  uint32_t x;
  memcpy(&x, &value, sizeof x);
  return x;
}

FT_INLINE uint16_t round_as(Bf16, float value, uint32_t random) {
  const uint32_t x = float_bits(value), magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return (uint16_t)((x >> 16) | (magnitude > 0x7f800000 ? 0x40 : 0));
  const uint32_t rounded = (magnitude + random) >> 16;
  return (uint16_t)(((x >> 16) & 0x8000) | (rounded < 0x7f7f ? rounded : 0x7f7f));
}

FT_INLINE uint16_t round_as(F16, float value, uint32_t random) {
  const uint32_t x = float_bits(value), sign = (x >> 16) & 0x8000, magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= 0x38800000) {
    const uint32_t rounded = (magnitude - 0x38000000 + (random >> 3)) >> 13;
    return (uint16_t)(sign | (rounded < 0x7bff ? rounded : 0x7bff));
  }
  const float steps = __builtin_fabsf(value) * 0x1p24f;
  const uint32_t whole = (uint32_t)steps;
  return (uint16_t)(sign | (whole + ((float)random < (steps - (float)whole) * 65536.0f)));
}

template <class Codec>
FT_INLINE V load_state(const char* row, int64_t at, int64_t n) {
  return n >= W ? load_columns<Codec>(row, at) : load_first_columns<Codec>(row, at, (int)n);
}

// Lanes one by one.
template <class Codec>
static void store_state(char* row, int64_t at, V v, int64_t n, Rounding& rounding) {
  float lanes[W];
  store(lanes, v);
  for (int64_t i = 0; i < n && i < W; i++) {
    uint16_t rounded = round_as(Codec(), lanes[i], rounding.bits(at + i));
    // A square of 0 beside a momentum would make a step of m / epsilon.
    if (rounding.squares && rounded == 0 && lanes[i] > 0) rounded = 1;
    memcpy(row + (at + i) * 2, &rounded, 2);
  }
}
// All lanes at once: the same numbers.
template <>
void store_state<Bf16>(char* row, int64_t at, V v, int64_t n, Rounding& rounding) {
  const VI x = (VI)v, magnitude = x & 0x7fffffff;
  VI rounded = (magnitude + rounding.lanes(at)) >> 16;
  // Finite values stay finite, and what was not keeps its top bits, with one set that keeps a NaN a NaN.
  const VI special = (VI)(magnitude >= 0x7f800000), nan = (VI)(magnitude > 0x7f800000);
  const VI over = (VI)(rounded > 0x7f7f);
  rounded = (over & 0x7f7f) | (~over & rounded);
  rounded = (special & ((magnitude >> 16) | (nan & 0x40))) | (~special & rounded);
  if (rounding.squares) rounded |= (VI)(rounded == 0) & (VI)(v > zero()) & 1;
  typedef uint16_t U16 __attribute__((vector_size(FT_WIDTH * 2)));
  const U16 shorts = __builtin_convertvector(rounded | ((x >> 16) & 0x8000), U16);
  if (n >= W) memcpy(row + at * 2, &shorts, sizeof shorts);
  else copy_few<W>(row + at * 2, (const char*)&shorts, (int)n * 2);
}
template <>
FT_MEMBER void store_state<F32>(char* row, int64_t at, V v, int64_t n, Rounding&) {
  store_some((float*)row + at, v, n);
}
