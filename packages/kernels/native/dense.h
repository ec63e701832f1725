// Operations on rows of dense matrices. Included by kernels.h. Sums over a row run in vector lanes, in f64 where large or
// small values could leave the range of f32; the lanes are then added in order.

// A double for each lane of a V, in two registers: a vector of twice a register's width would be kept in memory, loop by loop.
struct Doubles {
  VD low, high;
};

FT_INLINE Doubles widen(V v) {
  VH halves[2];
  memcpy(halves, &v, sizeof v);
  return {__builtin_convertvector(halves[0], VD), __builtin_convertvector(halves[1], VD)};
}

FT_INLINE void add(Doubles& sums, Doubles x) {
  sums.low += x.low;
  sums.high += x.high;
}

FT_INLINE Doubles product(V x, V y) {
  const Doubles a = widen(x), b = widen(y);
  return {a.low * b.low, a.high * b.high};
}

FT_INLINE double sum_lanes(Doubles v) {
  double sum = v.low[0];
  for (int i = 1; i < W / 2; i++) sum += v.low[i];
  for (int i = 0; i < W / 2; i++) sum += v.high[i];
  return sum;
}

static double dot(const float* x, const float* y, int64_t length) {
  Doubles sums = {};
  int64_t at = 0;
  for (; at + W <= length; at += W) add(sums, product(load(x + at), load(y + at)));
  if (at < length) add(sums, product(load_some(x + at, length - at), load_some(y + at, length - at)));
  return sum_lanes(sums);
}

static double sum_squares(const float* x, int64_t length) { return dot(x, x, length); }

static void add_scaled(float* y, const float* x, float factor, int64_t length) {
  for (int64_t i = 0; i < length; i++) y[i] += factor * x[i];
}

static void scale(float* x, float factor, int64_t length) {
  for (int64_t i = 0; i < length; i++) x[i] *= factor;
}

static void add_column_dots(const float* x, const float* y, int64_t rows, int64_t cols, float* out) {
  for_blocks(cols, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    constexpr int vectors = decltype(block)::sums;
    V sums[vectors], factors[vectors], values[vectors];
    load_block<N>(out + at, lanes, sums);
    for (int64_t i = 0; i < rows; i++) {
      load_block<N>(x + i * cols + at, lanes, factors);
      load_block<N>(y + i * cols + at, lanes, values);
      for (int j = 0; j < vectors; j++) sums[j] = fma(factors[j], values[j], sums[j]);
    }
    store_block<N>(out + at, lanes, sums);
  });
}

// e^x for x <= 0, within 2 ulp; 0 below -87.3, where it would be subnormal. x = n ln 2 + r with |r| <= ln 2 / 2, e^r by
// its Taylor polynomial of degree 7 (remainder below 2^-27 of e^r), 2^n through the exponent's bits. ln 2 is split in two, so that r keeps all its bits (Cody and Waite 1980).
FT_INLINE V exponential(V x) {
  const V rounder = broadcast(0x1.8p23f);
  const V n = (x * broadcast(1.44269504f) + rounder) - rounder;
  const V r = (x - n * broadcast(0x1.62ep-1f)) - n * broadcast(0x1.0bfbe8p-15f);
  V p = broadcast(1.0f / 5040);
  p = p * r + broadcast(1.0f / 720);
  p = p * r + broadcast(1.0f / 120);
  p = p * r + broadcast(1.0f / 24);
  p = p * r + broadcast(1.0f / 6);
  p = p * r + broadcast(0.5f);
  p = p * r + broadcast(1);
  p = p * r + broadcast(1);
  // A NaN has no exponent to add to; it stays NaN through p.
  const VI exponent = __builtin_convertvector(select(n > broadcast(-127), n, broadcast(-127)), VI);
  return select(x < broadcast(-87.3f), zero(), p * (V)((exponent + 127) << 23));
}

static void cross_entropy(const CrossEntropyArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const float* logits = a.logits + i * a.cols;
    const float target = logits[a.labels[i]];
    const V lowest = broadcast(-__builtin_inff());
    V most = lowest;
    int64_t at = 0;
    for (; at + W <= a.cols; at += W) {
      const V v = load(logits + at);
      most = select(v > most, v, most);
    }
    float peak = max_lanes(most);
    for (; at < a.cols; at++) peak = logits[at] > peak ? logits[at] : peak;

    float* gradient = a.gradient ? a.gradient + i * a.cols : nullptr;
    Doubles sums = {};
    for (at = 0; at + W <= a.cols; at += W) {
      const V e = exponential(load(logits + at) - broadcast(peak));
      add(sums, widen(e));
      if (gradient) store(gradient + at, e);
    }
    double sum = sum_lanes(sums);
    if (at < a.cols) {
      const int n = (int)(a.cols - at);
      const V e = exponential(load_first(logits + at, n) - broadcast(peak));
      for (int lane = 0; lane < n; lane++) sum += e[lane];
      if (gradient) store_first(gradient + at, e, n);
    }
    a.losses[i] = (float)(log(sum) + ((double)peak - target));
    if (!gradient) continue;
    const float label = gradient[a.labels[i]];
    const float factor = (float)(a.scale / sum);
    for (at = 0; at < a.cols; at++) gradient[at] *= factor;
    gradient[a.labels[i]] = (float)(a.scale * (label / sum - 1));
  }
}

static void normalize(const NormalizeArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    float* x = a.x + i * a.cols;
    const float norm = a.norms[i] = (float)__builtin_sqrt(dot(x, x, a.cols));
    if (norm == 0) continue;
    for (int64_t c = 0; c < a.cols; c++) x[c] /= norm;
  }
}

static void normalize_backward(const NormalizeArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    float* g = a.x + i * a.cols;
    const float* y = a.y + i * a.cols;
    const float norm = a.norms[i];
    if (norm == 0) {
      memset(g, 0, (size_t)a.cols * sizeof(float));
      continue;
    }
    const float along = (float)dot(g, y, a.cols);
    for (int64_t c = 0; c < a.cols; c++) g[c] = (g[c] - along * y[c]) / norm;
  }
}
