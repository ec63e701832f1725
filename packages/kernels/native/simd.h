// One vector of FT_WIDTH floats and what the kernels do with it. + - * / are the compiler's own for vector types.
// Included by kernels.h.

constexpr int W = FT_WIDTH;
typedef float V __attribute__((vector_size(FT_WIDTH * 4)));
typedef int32_t VI __attribute__((vector_size(FT_WIDTH * 4)));
// Half as many floats, and as doubles: one register of these.
typedef float VH __attribute__((vector_size(FT_WIDTH * 2)));
typedef double VD __attribute__((vector_size(FT_WIDTH * 4)));

FT_INLINE V zero() { return V{}; }

FT_INLINE V load(const float* p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
FT_INLINE void store(float* p, V v) { memcpy(p, &v, sizeof v); }

#if FT_WIDTH == 16

FT_INLINE V broadcast(float x) { return _mm512_set1_ps(x); }
FT_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
FT_INLINE V square_root(V v) { return _mm512_sqrt_ps(v); }
FT_INLINE bool all(VI mask) { return _mm512_movepi32_mask((__m512i)mask) == 0xffff; }
FT_INLINE __mmask16 first_lanes(int n) { return (__mmask16)((1u << n) - 1); }
FT_INLINE V load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
FT_INLINE void store_first(float* p, V v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

#elif FT_WIDTH == 8

FT_INLINE V broadcast(float x) { return _mm256_set1_ps(x); }
FT_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
FT_INLINE V square_root(V v) { return _mm256_sqrt_ps(v); }
FT_INLINE bool all(VI mask) { return _mm256_movemask_ps((__m256)mask) == 0xff; }
// Eight lanes read from here + 8 - n have their first n set.
alignas(32) static const int32_t lane_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
FT_INLINE __m256i first_lanes(int n) { return _mm256_loadu_si256((const __m256i*)(lane_masks + 8 - n)); }
FT_INLINE V load_first(const float* p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
FT_INLINE void store_first(float* p, V v, int n) { _mm256_maskstore_ps(p, first_lanes(n), v); }

#else

FT_INLINE V broadcast(float x) { return V{x, x, x, x}; }
#if defined(__aarch64__)
FT_INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
FT_INLINE V square_root(V v) { return vsqrtq_f32(v); }
FT_INLINE bool all(VI mask) { return vminvq_u32((uint32x4_t)mask) != 0; }
#elif defined(__SSE2__)
// No fused multiply-add before AVX2: the product is rounded too.
FT_INLINE V fma(V a, V b, V c) { return a * b + c; }
FT_INLINE V square_root(V v) { return _mm_sqrt_ps(v); }
FT_INLINE bool all(VI mask) { return _mm_movemask_ps((__m128)mask) == 0xf; }
#else
FT_INLINE V fma(V a, V b, V c) { return a * b + c; }
FT_INLINE V square_root(V v) {
  for (int i = 0; i < W; i++) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
FT_INLINE bool all(VI mask) { return mask[0] && mask[1] && mask[2] && mask[3]; }
#endif
FT_INLINE V load_first(const float* p, int n) {
  V v = zero();
  // Rows of a file need not be aligned.
  for (int i = 0; i < n; i++) memcpy((float*)&v + i, p + i, sizeof(float));
  return v;
}
FT_INLINE void store_first(float* p, V v, int n) {
  for (int i = 0; i < n; i++) p[i] = v[i];
}

#endif

// min(n, W) lanes; the others are 0.
FT_INLINE V load_some(const float* p, int64_t n) { return n >= W ? load(p) : load_first(p, (int)n); }
FT_INLINE void store_some(float* p, V v, int64_t n) {
  if (n >= W) store(p, v);
  else store_first(p, v, (int)n);
}

FT_INLINE V select(VI mask, V yes, V no) { return (V)((mask & (VI)yes) | (~mask & (VI)no)); }
FT_INLINE V absolute(V v) { return (V)((VI)v & 0x7fffffff); }

// Lane by lane, so that the order is the same for every caller.
FT_INLINE float sum_lanes(V v) {
  float sum = v[0];
  for (int i = 1; i < W; i++) sum += v[i];
  return sum;
}
FT_INLINE float max_lanes(V v) {
  float most = v[0];
  for (int i = 1; i < W; i++) most = v[i] > most ? v[i] : most;
  return most;
}

FT_INLINE void prefetch_line(const void* p) { __builtin_prefetch(p, 0, 3); }
FT_INLINE void prefetch_bytes_to_write(void* p, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((char*)p + at, 1, 3);
}
FT_INLINE void prefetch_bytes(const void* p, int64_t bytes) {
  const char* line = (const char*)((uintptr_t)p & ~(uintptr_t)63);
  for (const char* end = (const char*)p + bytes; line < end; line += 64) prefetch_line(line);
}
