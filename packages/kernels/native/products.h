// Products of rows of A that changed: with their rows of the base, and with themselves. Included by kernels.h.
//
// A few rows at a time, so that sums are loaded and stored once for all of them.

static void row_products(const RowProductsArgs& a, int64_t begin, int64_t end, float* cross, float* gram, float* scratch) {
  const int64_t dim = a.base.dim, r = a.rank;
  float* const base = scratch;
  float* const now = base + product_batch * dim;
  float* const was = now + product_batch * r;
  float* const differences = was + product_batch * r;
  for (int64_t i = begin; i < end;) {
    int64_t held = 0;
    for (; i < end && held < product_batch; i++) {
      if (i + product_batch < end && a.slots[i + product_batch] >= 0) {
        prefetch_bytes(a.base.data + a.rows[i + product_batch] * a.base.stride, dim * 4);
        prefetch_line(a.factors + a.slots[i + product_batch] * r);
        if (a.counted) prefetch_line(a.counted + a.slots[i + product_batch] * r);
      }
      const int64_t slot = a.slots[i];
      if (slot < 0) continue;
      decode_row(a.base, a.rows[i], base + held * dim);
      for (int64_t k = 0; k < r; k++) {
        const float x = a.factors[slot * r + k], before = a.counted ? a.counted[slot * r + k] : 0;
        now[held * r + k] = x;
        was[held * r + k] = before;
        differences[held * r + k] = x - before;
        if (a.counted) a.counted[slot * r + k] = x;
      }
      held++;
    }
    for (int64_t k = 0; k < r; k++) {
      for_blocks(dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
        constexpr int N = decltype(block)::count;
        V sums[decltype(block)::sums];
        load_block<N>(cross + k * dim + at, lanes, sums);
        for (int64_t b = 0; b < held; b++) {
          add_weighted<N>(base + b * dim + at, broadcast(differences[b * r + k]), lanes, sums);
        }
        store_block<N>(cross + k * dim + at, lanes, sums);
      });
      // aᵀa - a₀ᵀa₀ = dᵀa + a₀ᵀd: small where d is.
      for_blocks(r, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
        constexpr int N = decltype(block)::count;
        V sums[decltype(block)::sums];
        load_block<N>(gram + k * r + at, lanes, sums);
        for (int64_t b = 0; b < held; b++) {
          add_weighted<N>(now + b * r + at, broadcast(differences[b * r + k]), lanes, sums);
          add_weighted<N>(differences + b * r + at, broadcast(was[b * r + k]), lanes, sums);
        }
        store_block<N>(gram + k * r + at, lanes, sums);
      });
    }
  }
}
