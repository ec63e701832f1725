// Products of f32 matrices, for skinny shapes first: a rank or a batch is small on one side. Included by kernels.h.
//
// A task makes [rows of a block, columns of a panel]. For stretches of k it packs the panel of b into contiguous memory,
// padded with zeros, which also does away with b's transposition, and then fills tiles of 6 rows x 2 vectors: twelve sums
// in registers. Each output is summed in the order of k.

constexpr int tile_rows = 6;
constexpr int panel_vectors = 2;
constexpr int panel_width = panel_vectors * W;
// 16 KiB with AVX2: half of a first-level cache.
constexpr int64_t pack_depth = 256;

// packed[k][j] = b[k0 + k, j0 + j] for cols columns, then zeros up to `width`.
FT_INLINE void pack(const MatmulArgs& a, int64_t k0, int64_t depth, int64_t j0, int64_t cols, int width, float* packed) {
  if (!a.b_transposed) {
    for (int64_t k = 0; k < depth; k++) {
      const float* row = a.b + (k0 + k) * a.n + j0;
      for (int j = 0; j < width; j += W) {
        const int64_t n = cols - j;
        store(packed + k * width + j, n > 0 ? load_some(row + j, n) : zero());
      }
    }
    return;
  }
  for (int64_t j = 0; j < width; j++) {
    if (j < cols) {
      const float* row = a.b + (j0 + j) * a.k + k0;
      for (int64_t k = 0; k < depth; k++) packed[k * width + j] = row[k];
    } else {
      for (int64_t k = 0; k < depth; k++) packed[k * width + j] = 0;
    }
  }
}

// c[rows, cols] (+)= a packed, scaled at the end.
template <int Rows, int Columns>
FT_INLINE void tile(const float* a, int64_t a_row, int64_t a_k, const float* packed, int64_t depth, float* c, int64_t c_row,
                    int64_t cols, bool begins, bool ends, float scale) {
  V sums[Rows][Columns] = {};
  for (int64_t k = 0; k < depth; k++) {
    V b[Columns];
    for (int j = 0; j < Columns; j++) b[j] = load(packed + (k * Columns + j) * W);
    for (int i = 0; i < Rows; i++) {
      const V x = broadcast(a[i * a_row + k * a_k]);
      for (int j = 0; j < Columns; j++) sums[i][j] = fma(x, b[j], sums[i][j]);
    }
  }
  for (int i = 0; i < Rows; i++) {
    for (int j = 0; j < Columns; j++) {
      const int64_t n = cols - j * W;
      if (n <= 0) break;
      float* out = c + i * c_row + j * W;
      V sum = begins ? sums[i][j] : load_some(out, n) + sums[i][j];
      if (ends) sum = sum * broadcast(scale);
      store_some(out, sum, n);
    }
  }
}

template <int Columns>
static void panel(const MatmulArgs& a, int64_t row0, int64_t last_row, int64_t k0, int64_t k1, int64_t j0, float* out) {
  alignas(64) float packed[pack_depth * Columns * W];
  const int64_t cols = a.n - j0 < Columns * W ? a.n - j0 : Columns * W;
  for (int64_t k = k0; k < k1; k += pack_depth) {
    const int64_t depth = k1 - k < pack_depth ? k1 - k : pack_depth;
    pack(a, k, depth, j0, cols, Columns * W, packed);
    for (int64_t i = row0; i < last_row; i += tile_rows) {
      const float* x = a.a + i * a.a_row + k * a.a_k;
      float* c = out + i * a.n + j0;
      const bool begins = k == k0, ends = k + depth == k1;
#define FT_TILE(rows)                                                                           \
  case rows:                                                                                    \
    tile<rows, Columns>(x, a.a_row, a.a_k, packed, depth, c, a.n, cols, begins, ends, a.scale); \
    break;
      switch (last_row - i) {
        FT_TILE(1) FT_TILE(2) FT_TILE(3) FT_TILE(4) FT_TILE(5)
        default:
          tile<tile_rows, Columns>(x, a.a_row, a.a_k, packed, depth, c, a.n, cols, begins, ends, a.scale);
      }
#undef FT_TILE
    }
  }
}

static void matmul(const MatmulArgs& a, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; task++) {
    const int64_t chunk = task / (a.row_blocks * a.panels);
    const int64_t block = task / a.panels % a.row_blocks;
    const int64_t j0 = task % a.panels * panel_width;
    const int64_t row0 = block * a.row_block;
    const int64_t last_row = a.m - row0 < a.row_block ? a.m : row0 + a.row_block;
    const int64_t k0 = chunk * a.k_chunk;
    const int64_t k1 = a.k - k0 < a.k_chunk ? a.k : k0 + a.k_chunk;
    float* out = a.out + chunk * a.m * a.n;
    if (a.n - j0 <= W) panel<1>(a, row0, last_row, k0, k1, j0, out);
    else panel<panel_vectors>(a, row0, last_row, k0, k1, j0, out);
  }
}
