// Products of rows of A that changed: with their rows of the base, and with themselves. Included by kernels.h.
//
// With d = a - a₀ and m = (a + a₀) / 2, aᵀa - a₀ᵀa₀ = dᵀm + mᵀd. So a batch of rows needs one product, dᵀ [W | m], in tiles of
// rank_tile x 2 vectors whose sums stay in registers for the whole batch; what of it is dᵀm is added to its transpose later.

// Rows of the base to be fetched while others are multiplied, for each tile what the same tile of them will read. Fetched in one
// go, they would keep the products waiting.
struct LaterRows {
  const char* rows[product_batch];
  int64_t bits;  // of an element
};

// sums[k, j] += Σ_i differences[i, k] rows[i][j] for rank_tile values of k, and N vectors of j, or `lanes` of one for N = 0.
template <int N>
FT_INLINE void product_tile(const float* const* rows, int64_t count, int64_t at, int lanes, const float* differences,
                            int64_t depth, float* sums, int64_t cols, const LaterRows* later) {
  constexpr int vectors = N ? N : 1;
  V tile[rank_tile][vectors];
  const int64_t first_byte = later ? at * later->bits / 8 : 0;
  const int64_t bytes = later ? vectors * W * later->bits / 8 : 0;
  for (int k = 0; k < rank_tile; k++) load_block<N>(sums + k * cols + at, lanes, tile[k]);
  for (int64_t i = 0; i < count; i++) {
    if (later) {
      for (int64_t byte = 0; byte < bytes; byte += 64) prefetch_line(later->rows[i] + first_byte + byte);
    }
    V row[vectors];
    load_block<N>(rows[i] + at, lanes, row);
    for (int k = 0; k < rank_tile; k++) {
      const V d = broadcast(differences[i * depth + k]);
      for (int j = 0; j < vectors; j++) tile[k][j] = fma(d, row[j], tile[k][j]);
    }
  }
  for (int k = 0; k < rank_tile; k++) store_block<N>(sums + k * cols + at, lanes, tile[k]);
}

// sums[depth, cols] += differencesᵀ rows; depth is a multiple of rank_tile.
FT_INLINE void add_product(const float* const* rows, int64_t count, int64_t cols, const float* differences, int64_t depth,
                           float* sums, const LaterRows* later) {
#define FT_TILES(N, lanes)                                                                            \
  for (int64_t k = 0; k < depth; k += rank_tile)                                                      \
    product_tile<N>(rows, count, at, lanes, differences + k, depth, sums + k * cols, cols, k ? nullptr : later)
  int64_t at = 0;
  for (; cols - at >= 2 * W; at += 2 * W) FT_TILES(2, 0);
  for (; cols - at >= W; at += W) FT_TILES(1, 0);
  if (at < cols) FT_TILES(0, (int)(cols - at));
#undef FT_TILES
}

static void row_products(const RowProductsArgs& a, int64_t begin, int64_t end, float* cross, float* half, float* scratch) {
  const int64_t dim = a.base.dim, r = a.rank, depth = rank_padded(r);
  float* const decoded = scratch;
  float* const means = decoded + product_batch * dim;
  float* const differences = means + product_batch * r;
  const float* base_rows[product_batch];
  const float* mean_rows[product_batch];
  for (int64_t b = 0; b < product_batch; b++) mean_rows[b] = means + b * r;
  memset(differences, 0, (size_t)(product_batch * depth) * sizeof(float));
  LaterRows later;
  later.bits = element_bytes(a.base.dtype, 8);
  // Of the batch that begins at `first`: rows of A now, those of the base later. Any row where there is none.
  const auto fetch = [&](int64_t first) __attribute__((always_inline)) {
    for (int64_t b = 0; b < product_batch; b++) {
      const int64_t i = first + b < end ? first + b : end - 1;
      const int64_t slot = a.slots[i] < 0 ? 0 : a.slots[i];
      later.rows[b] = a.base.data + a.rows[i] * a.base.stride;
      prefetch_line(a.factors + slot * r);
      if (a.counted) prefetch_line(a.counted + slot * r);
    }
  };
  fetch(begin);
  for (int64_t i = begin; i < end;) {
    int64_t held = 0;
    const int64_t last = i + product_batch < end ? i + product_batch : end;
    for (; i < last; i++) {
      const int64_t slot = a.slots[i];
      if (slot < 0) continue;
      if (a.base.dtype == Dtype::f32) {
        base_rows[held] = (const float*)(a.base.data + a.rows[i] * a.base.stride);
      } else {
        decode_row(a.base, a.rows[i], decoded + held * dim);
        base_rows[held] = decoded + held * dim;
      }
      for (int64_t k = 0; k < r; k += W) {
        const V now = load_some(a.factors + slot * r + k, r - k);
        V before = zero();
        if (a.counted) {
          before = load_some(a.counted + slot * r + k, r - k);
          store_some(a.counted + slot * r + k, now, r - k);
        }
        store_some(means + held * r + k, (now + before) * broadcast(0.5f), r - k);
        store_some(differences + held * depth + k, now - before, r - k);
      }
      held++;
    }
    fetch(last);
    add_product(base_rows, held, dim, differences, depth, cross, &later);
    add_product(mean_rows, held, r, differences, depth, half, nullptr);
  }
}
