// Dot products of vectors that belong together. Included by kernels.h. Sums run in vector lanes of f32, which are then added
// in order.

// out[k] = x · y[k], for up to four vectors that are read together.
template <int Count>
FT_INLINE void dots_of(const float* x, const float* const* y, int64_t dim, float* out) {
  V sums[Count] = {};
  for (int64_t at = 0; at < dim; at += W) {
    const V v = load_some(x + at, dim - at);
    for (int k = 0; k < Count; k++) sums[k] = fma(v, load_some(y[k] + at, dim - at), sums[k]);
  }
  for (int k = 0; k < Count; k++) out[k] = sum_lanes(sums[k]);
}

template <int Vectors>
FT_INLINE void combine_some(const float* factors, const float* const* y, int64_t count, int64_t at, int64_t dim, float* out) {
  V sums[Vectors] = {};
  for (int64_t k = 0; k < count; k++) {
    const V factor = broadcast(factors[k]);
    for (int i = 0; i < Vectors; i++) {
      const V v = Vectors > 1 ? load(y[k] + at + i * W) : load_some(y[k] + at, dim - at);
      sums[i] = fma(factor, v, sums[i]);
    }
  }
  for (int i = 0; i < Vectors; i++) store_some(out + at + i * W, sums[i], dim - at - i * W);
}

// out = Σ_k factors[k] y[k].
FT_INLINE void combine(const float* factors, const float* const* y, int64_t count, int64_t dim, float* out) {
  int64_t at = 0;
  for (; at + 4 * W <= dim; at += 4 * W) combine_some<4>(factors, y, count, at, dim, out);
  for (; at < dim; at += W) combine_some<1>(factors, y, count, at, dim, out);
}

static void pair_dots(const PairDotsArgs& a, int64_t begin, int64_t end) {
  const float* x[max_pair_vectors];
  for (int64_t row = begin; row < end; row++) {
    float* out = a.pairs + row * a.cols + a.first_column;
    for (int64_t i = 0; i < a.count; i++) {
      x[i] = a.vectors[i] + row * a.dim;
      int64_t j = 0;
      for (; j + 4 <= i; j += 4) dots_of<4>(x[i], x + j, a.dim, out + j);
      for (; j < i; j++) dots_of<1>(x[i], x + j, a.dim, out + j);
      out += i;
    }
  }
}

static void pair_dots_backward(const PairDotsArgs& a, int64_t begin, int64_t end) {
  const float* x[max_pair_vectors];
  float factors[max_pair_vectors];
  for (int64_t row = begin; row < end; row++) {
    const float* gradient = a.pairs + row * a.cols + a.first_column;
    for (int64_t i = 0; i < a.count; i++) x[i] = a.vectors[i] + row * a.dim;
    for (int64_t i = 0; i < a.count; i++) {
      if (!a.outs[i]) continue;
      for (int64_t j = 0; j < i; j++) factors[j] = gradient[i * (i - 1) / 2 + j];
      factors[i] = 0;
      for (int64_t j = i + 1; j < a.count; j++) factors[j] = gradient[j * (j - 1) / 2 + i];
      // Not multiplied by 0, which would make NaN of what is infinite: left out.
      const float* self = x[i];
      const int64_t last = a.count - 1;
      x[i] = x[last];
      factors[i] = factors[last];
      combine(factors, x, last, a.dim, a.outs[i] + row * a.dim);
      x[i] = self;
    }
  }
}

static const float* bag_vector(const BagDotsArgs& a, int64_t j) { return a.y + (a.places ? a.places[j] : j) * a.dim; }

static void bag_dots(const BagDotsArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const float* x = a.x + i * a.dim;
    const int64_t last = a.offsets[i + 1];
    int64_t p = a.offsets[i];
    for (; p + 4 <= last; p += 4) {
      const float* four[4] = {bag_vector(a, p), bag_vector(a, p + 1), bag_vector(a, p + 2), bag_vector(a, p + 3)};
      dots_of<4>(x, four, a.dim, a.dots + p);
    }
    for (; p < last; p++) {
      const float* y = bag_vector(a, p);
      dots_of<1>(x, &y, a.dim, a.dots + p);
    }
  }
}

static void bag_dots_backward(const BagDotsArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t first = a.offsets[i], last = a.offsets[i + 1];
    if (a.y_out && !a.places) {
      const float* x = a.x + i * a.dim;
      for (int64_t p = first; p < last; p++) {
        float* out = a.y_out + p * a.dim;
        for (int64_t c = 0; c < a.dim; c++) out[c] = a.dots[p] * x[c];
      }
    }
    if (!a.x_out) continue;
    float* out = a.x_out + i * a.dim;
    memset(out, 0, (size_t)a.dim * sizeof(float));
    for (int64_t p = first; p < last; p++) add_scaled(out, bag_vector(a, p), a.dots[p], a.dim);
  }
}

// Columns of y_out that a thread adds up by itself: rows that several bags name are summed in the order of the bags.
static void bag_dots_scatter(const BagDotsArgs& a, int64_t begin, int64_t end) {
  const int64_t first = begin * bag_dots_columns;
  const int64_t count = (end * bag_dots_columns < a.dim ? end * bag_dots_columns : a.dim) - first;
  for (int64_t i = 0; i < a.bags; i++) {
    const float* x = a.x + i * a.dim + first;
    for (int64_t p = a.offsets[i]; p < a.offsets[i + 1]; p++)
      add_scaled(a.y_out + a.places[p] * a.dim + first, x, a.dots[p], count);
  }
}
