// Scores of a block of rows against all queries. Included by kernels.h.
//
// Lanes are queries: those of a panel lie side by side for every dim, so that a tile of 6 rows x 2 vectors holds twelve
// sums in registers. Every score is one sum over the dims in their order, whatever tile it is made in. Rows are read where
// they lie; those that are not f32, lie in several column groups or have a delta are first made in the scratch panel.

// e = W + s A B, by the operations of a lookup of this row alone.
static void add_row_delta(const NearestArgs& a, const float* factors, float* row) {
  for_blocks(a.dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums];
    load_block<N>(row + at, lanes, sums);
    if (a.b) {
      for (int64_t k = 0; k < a.rank; k++) add_weighted<N>(a.b + k * a.dim + at, broadcast(factors[k] * a.scale), lanes, sums);
    } else {
      add_weighted<N>(factors + at, broadcast(a.scale), lanes, sums);
    }
    store_block<N>(row + at, lanes, sums);
  });
}

static int64_t lower_bound(const int32_t* values, int64_t length, int64_t value) {
  int64_t low = 0;
  while (low < length) {
    const int64_t middle = (low + length) / 2;
    if (values[middle] < value) low = middle + 1;
    else length = middle;
  }
  return low;
}

// Where each row of [begin, end) lies, those that must be made being made.
static void find_rows(const NearestArgs& a, NearestScratch& scratch, int64_t begin, int64_t end) {
  for (int64_t s = 0; s < a.shard_count; s++) {
    const NearestShard& shard = a.shards[s];
    const int64_t first = begin > shard.first_row ? begin : shard.first_row;
    const int64_t last = end < shard.first_row + shard.rows.rows ? end : shard.first_row + shard.rows.rows;
    const bool in_place = shard.rows.dtype == Dtype::f32 && shard.rows.dim == a.dim;
    for (int64_t row = first; row < last; row++) {
      const int64_t i = row - shard.first_row;
      float* made = scratch.panel + (row - begin) * a.dim;
      if (!in_place) decode_row(shard.rows, i, made + shard.first_column);
      scratch.rows[row - begin] = in_place ? shard.rows.data + i * shard.rows.stride : (const char*)made;
    }
  }
  for (int64_t t = lower_bound(a.touched_rows, a.touched, begin); t < a.touched && a.touched_rows[t] < end; t++) {
    if (a.slots[t] < 0) continue;
    const int64_t i = a.touched_rows[t] - begin;
    float* made = scratch.panel + i * a.dim;
    if (scratch.rows[i] != (const char*)made) memcpy(made, scratch.rows[i], (size_t)a.dim * sizeof(float));
    add_row_delta(a, a.factors + (int64_t)a.slots[t] * a.rank, made);
    scratch.rows[i] = (const char*)made;
  }
}

// 1 / |e|, 0 for a row of zeros.
static float inverse_norm(const char* bytes, int64_t dim) {
  const float* row = (const float*)bytes;
  V sums = zero();
  for (int64_t at = 0; at < dim; at += W) {
    const V x = load_some(row + at, dim - at);
    sums = fma(x, x, sums);
  }
  const float sum = sum_lanes(sums);
  if (sum > 1e-30f && sum < 1e30f) return 1 / __builtin_sqrtf(sum);
  // Squares that f32 cannot hold, or not well.
  double exact = 0;
  for (int64_t i = 0; i < dim; i++) exact += (double)load_float(bytes + i * 4) * load_float(bytes + i * 4);
  return exact < least_square ? 0 : (float)(1 / __builtin_sqrt(exact));
}

// Scores of `Rows` rows and the queries of one panel; those that may be among the best are handed on.
template <int Rows, int Columns>
FT_INLINE void score_tile(const NearestArgs& a, NearestScratch& scratch, const float* packed, int64_t i, int64_t begin,
                          int64_t query0) {
  const char* rows[Rows];
  for (int r = 0; r < Rows; r++) rows[r] = scratch.rows[i + r];
  V sums[Rows][Columns] = {};
  for (int64_t d = 0; d < a.dim; d++) {
    V q[Columns];
    for (int j = 0; j < Columns; j++) q[j] = load(packed + (d * Columns + j) * W);
    for (int r = 0; r < Rows; r++) {
      const V x = broadcast(load_float(rows[r] + d * 4));
      for (int j = 0; j < Columns; j++) sums[r][j] = fma(x, q[j], sums[r][j]);
    }
  }
  if (a.cosine) {
    for (int r = 0; r < Rows; r++) {
      for (int j = 0; j < Columns; j++) sums[r][j] = sums[r][j] * broadcast(scratch.inverse_norms[i + r]);
    }
  }
  // A score is let go where it is at most its query's threshold: NaN, of a score or for a threshold not known yet, never is.
  float* thresholds = scratch.thresholds + query0;
  VI below = (VI)(sums[0][0] <= load(thresholds));
  for (int r = 0; r < Rows; r++) {
    for (int j = 0; j < Columns; j++) below &= (VI)(sums[r][j] <= load(thresholds + j * W));
  }
  if (all(below)) return;
  const int64_t lanes = a.queries - query0 < Columns * W ? a.queries - query0 : Columns * W;
  for (int r = 0; r < Rows; r++) {
    float scores[Columns * W];
    for (int j = 0; j < Columns; j++) store(scores + j * W, sums[r][j]);
    for (int64_t lane = 0; lane < lanes; lane++) {
      if (!(scores[lane] <= thresholds[lane]))
        thresholds[lane] = scratch.keep(scratch.best, query0 + lane, scores[lane], (int32_t)(begin + i + r));
    }
  }
}

template <int Columns>
static void score_panel(const NearestArgs& a, NearestScratch& scratch, const float* packed, int64_t begin, int64_t count,
                        int64_t query0) {
  int64_t i = 0;
  for (; i + tile_rows <= count; i += tile_rows) score_tile<tile_rows, Columns>(a, scratch, packed, i, begin, query0);
  for (; i < count; i++) score_tile<1, Columns>(a, scratch, packed, i, begin, query0);
}

// Rows [begin, end), at most as many as the scratch has room for, and never before those of an earlier call.
static void nearest(const NearestArgs& a, NearestScratch& scratch, int64_t begin, int64_t end) {
  const int64_t count = end - begin;
  find_rows(a, scratch, begin, end);
  if (a.cosine) {
    for (int64_t i = 0; i < count; i++) scratch.inverse_norms[i] = inverse_norm(scratch.rows[i], a.dim);
  }
  for (int64_t query0 = 0; query0 < a.queries; query0 += panel_width) {
    const float* packed = a.packed + query0 * a.dim;
    if (a.queries - query0 <= W) score_panel<1>(a, scratch, packed, begin, count, query0);
    else score_panel<panel_vectors>(a, scratch, packed, begin, count, query0);
  }
}
