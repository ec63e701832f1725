// How each dtype's elements become floats: a codec loads one vector of a row, W columns from `column` on, or the first n of
// them. Nothing is read beyond a row's end. Included by kernels.h.

// W elements as 32-bit lanes, and an IEEE half's value.
#if FT_WIDTH == 16
FT_INLINE VI widen_signed_bytes(const char* p) { return (VI)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
FT_INLINE VI widen_shorts(const char* p) { return (VI)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
FT_INLINE V load_halves(const char* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
#elif FT_WIDTH == 8
FT_INLINE VI widen_signed_bytes(const char* p) { return (VI)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
FT_INLINE VI widen_shorts(const char* p) { return (VI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)); }
FT_INLINE V load_halves(const char* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
#else
FT_INLINE VI widen_signed_bytes(const char* p) {
  typedef int8_t I8 __attribute__((vector_size(FT_WIDTH)));
  I8 bytes;
  memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, VI);
}
FT_INLINE VI widen_shorts(const char* p) {
  typedef uint16_t U16 __attribute__((vector_size(FT_WIDTH * 2)));
  U16 shorts;
  memcpy(&shorts, p, sizeof shorts);
  return __builtin_convertvector(shorts, VI);
}
FT_INLINE V load_halves(const char* p) {
  const VI bits = widen_shorts(p);
  // Exponent and fraction move up 13 places; times 2^112 then moves the bias from 15 to 127, exactly, subnormals included.
  const VI magnitude = (bits & 0x7fff) << 13;
  const VI scaled = (VI)((V)magnitude * 0x1p112f);
  // Infinity and NaN keep an exponent of all ones.
  const VI special = (VI)(magnitude >= (0x7c00 << 13)) & 0x7f800000;
  return (V)(scaled | special | ((bits & 0x8000) << 16));
}
#endif

// Two's complement nibbles, the lower half of a byte first.
FT_INLINE V load_nibbles(const char* p) {
#if FT_WIDTH == 16
  const __m128i words = _mm_loadl_epi64((const __m128i*)p);
  const __m512i lanes = (__m512i)_mm512_permutexvar_epi32(_mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),
                                                          _mm512_castsi128_si512(words));
  const VI top = (VI)_mm512_sllv_epi32(lanes, _mm512_set_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28));
#elif FT_WIDTH == 8
  int32_t word;
  memcpy(&word, p, sizeof word);
  const VI top = VI{} + word << VI{28, 24, 20, 16, 12, 8, 4, 0};
#else
  uint16_t word;
  memcpy(&word, p, sizeof word);
  const VI top = VI{} + (int32_t)word << VI{28, 24, 20, 16};
#endif
  return __builtin_convertvector(top >> 28, V);
}

// By the bits of a small number, at most `most`: a call of memcpy costs more than what it would copy.
template <int most>
FT_INLINE void copy_few(char* to, const char* from, int bytes) {
#define FT_COPY(n) \
  if (most >= n && (bytes & n)) memcpy(to, from, most >= n ? n : 0), to += n, from += n;
  FT_COPY(16) FT_COPY(8) FT_COPY(4) FT_COPY(2) FT_COPY(1)
#undef FT_COPY
}

// `bits` of an element; whether scales multiply it.
struct F32 {
  static constexpr int bits = 32;
  static constexpr bool scaled = false;
  static FT_MEMBER V load_lanes(const char* p) { return load((const float*)p); }
};
struct F16 {
  static constexpr int bits = 16;
  static constexpr bool scaled = false;
  static FT_MEMBER V load_lanes(const char* p) { return load_halves(p); }
};
struct Bf16 {
  static constexpr int bits = 16;
  static constexpr bool scaled = false;
  static FT_MEMBER V load_lanes(const char* p) { return (V)(widen_shorts(p) << 16); }
};
struct Int8 {
  static constexpr int bits = 8;
  static constexpr bool scaled = true;
  static FT_MEMBER V load_lanes(const char* p) { return __builtin_convertvector(widen_signed_bytes(p), V); }
};
struct Int4 {
  static constexpr int bits = 4;
  static constexpr bool scaled = true;
  static FT_MEMBER V load_lanes(const char* p) { return load_nibbles(p); }
};

// `column` is a multiple of W.
template <class Codec>
FT_INLINE V load_columns(const char* row, int64_t column) {
  return Codec::load_lanes(row + column * Codec::bits / 8);
}
template <class Codec>
FT_INLINE V load_first_columns(const char* row, int64_t column, int n) {
  const char* p = row + column * Codec::bits / 8;
  if (Codec::bits == 32) return load_first((const float*)p, n);
  constexpr int bytes = W * Codec::bits / 8;
  char lanes[bytes] = {};
  copy_few<bytes / (Codec::bits == 4 ? 1 : 2)>(lanes, p, (n * Codec::bits + 7) / 8);
  // Of the lane after an odd row of int4 nothing is said: the row's last byte holds it too.
  return Codec::load_lanes(lanes);
}

FT_INLINE float load_float(const char* p) {
  float x;
  memcpy(&x, p, sizeof x);
  return x;
}

// Scales lie at `column >> shift`. A group is a power of two of at least 32 columns, or all columns of its view; 0 where there
// are no scales.
FT_INLINE int group_shift(const RowsView& view) {
  return view.group != 0 && view.group < view.dim ? __builtin_ctzll((uint64_t)view.group) : 31;
}

template <class Codec>
static void decode_row_as(const RowsView& view, int64_t row, float* out) {
  const char* elements = view.data + row * view.stride;
  const char* scales = Codec::scaled ? view.scales + row * view.scale_stride : nullptr;
  const int shift = Codec::scaled ? group_shift(view) : 0;
  for (int64_t at = 0; at < view.dim; at += W) {
    const bool whole = view.dim - at >= W;
    const int n = whole ? W : (int)(view.dim - at);
    V v = whole ? load_columns<Codec>(elements, at) : load_first_columns<Codec>(elements, at, n);
    if (Codec::scaled) v *= broadcast(load_float(scales + (at >> shift) * 4));
    store_some(out + at, v, n);
  }
}

// out[view.dim] = row `row` of a store of numbers.
static void decode_row(const RowsView& view, int64_t row, float* out) {
  switch (view.dtype) {
    case Dtype::f32:
    case Dtype::i32: memcpy(out, view.data + row * view.stride, (size_t)view.dim * sizeof(float)); break;
    case Dtype::f16: decode_row_as<F16>(view, row, out); break;
    case Dtype::bf16: decode_row_as<Bf16>(view, row, out); break;
    case Dtype::int8: decode_row_as<Int8>(view, row, out); break;
    case Dtype::int4: decode_row_as<Int4>(view, row, out); break;
  }
}
