// Weighted sums of rows: bags of factor rows in the forward pass, and rows of the gradient in the backward one, are one loop
// over different sources. A source knows where the row of place p lies and adds it, weighted, to sums. Included by
// kernels.h; lookup.h pools rows of tables.
//
// Sums stay in registers for a block of columns: N vectors, or for N = 0 the first `lanes` of one vector, at a row's end.
// Each column is summed in the order of places, whatever its block.

// Half of the registers.
#if FT_WIDTH == 16 || defined(__aarch64__)
#define FT_BLOCK_VECTORS 16
#else
#define FT_BLOCK_VECTORS 8
#endif
constexpr int block_vectors = FT_BLOCK_VECTORS;

// 16 KiB, half of a first-level cache.
constexpr int64_t aligned_floats = 4096;

// Rows are fetched this many places ahead: enough lines to keep a core's fill buffers busy, few enough to stay in the
// first-level cache until their turn.
constexpr int64_t lines_ahead = 64;
constexpr int64_t most_ahead = 32;

FT_INLINE int64_t places_ahead(int64_t lines) {
  const int64_t places = lines_ahead / (lines < 1 ? 1 : lines);
  return places < 2 ? 2 : places > most_ahead ? most_ahead : places;
}

template <int N>
struct Vectors {
  static constexpr int count = N;
  static constexpr int sums = N ? N : 1;
};

template <int N>
FT_INLINE void add_weighted(const float* x, V w, int lanes, V* sums) {
  if (N == 0) sums[0] = fma(w, load_first(x, lanes), sums[0]);
  for (int i = 0; i < N; i++) sums[i] = fma(w, load(x + i * W), sums[i]);
}

// Fetches the part of a row that a block reads. The last byte stands for the line that a row not aligned to lines ends in.
template <int N>
FT_INLINE void prefetch_block(const float* x, int lanes) {
  const int bytes = (N ? N * W : lanes) * (int)sizeof(float);
  for (int at = 0; at < bytes; at += 64) prefetch_line((const char*)x + at);
  prefetch_line((const char*)x + bytes - 1);
}

static const float one = 1;

// One number per place, or 1 for all.
struct Weights {
  const float* values;
  int64_t mask;
  explicit Weights(const float* weights) : values(weights ? weights : &one), mask(weights ? -1 : 0) {}
  FT_MEMBER float number(int64_t place) const { return values[place & mask]; }
  FT_MEMBER V at(int64_t place) const { return broadcast(number(place)); }
};

// Rows of A, or none where a row was never touched.
struct FactorRows {
  const float* data;
  int64_t rank;
  const int32_t* slots;
  const int32_t* place_unique;
  Weights weights;
  bool touched = false;

  FactorRows(const LookupArgs& a)
      : data(a.factors), rank(a.rank), slots(a.slots), place_unique(a.place_unique), weights(a.weights) {}
  FT_MEMBER int64_t slot(int64_t place) const { return slots[place_unique[place]]; }
  FT_MEMBER const float* row(int64_t slot) const { return data + slot * rank; }
  // Any row where there is none: a fetch costs less than a branch that nothing predicts.
  FT_MEMBER const float* row_ahead(int64_t place) const {
    const int64_t slot = this->slot(place);
    return row(slot < 0 ? 0 : slot);
  }
  FT_MEMBER void prefetch_index(int64_t place) const { prefetch_line(slots + place_unique[place]); }
  template <int N>
  FT_MEMBER void prefetch(int64_t place, int64_t at, int lanes) const {
    prefetch_block<N>(row_ahead(place) + at, lanes);
  }
  template <int N>
  FT_MEMBER void add(int64_t place, int64_t at, int lanes, V* sums) {
    const int64_t slot = this->slot(place);
    if (slot < 0) return;
    touched = true;
    add_weighted<N>(row(slot) + at, weights.at(place), lanes, sums);
  }
};

// Rows of the gradient, one per bag, at the places of a unique row.
struct BagRows {
  const float* values;
  int64_t cols;
  const int32_t* group_bags;
  const int32_t* group_places;
  Weights weights;

  BagRows(const SegmentSumArgs& a)
      : values(a.values), cols(a.cols), group_bags(a.group_bags), group_places(a.group_places), weights(a.weights) {}
  FT_MEMBER void prefetch_index(int64_t place) const { prefetch_line(weights.values + (group_places[place] & weights.mask)); }
  template <int N>
  FT_MEMBER void prefetch(int64_t i, int64_t at, int lanes) const {
    prefetch_block<N>(values + group_bags[i] * cols + at, lanes);
  }
  template <int N>
  FT_MEMBER void add(int64_t i, int64_t at, int lanes, V* sums) {
    add_weighted<N>(values + group_bags[i] * cols + at, weights.at(group_places[i]), lanes, sums);
  }
};

// The place to fetch while place p is summed, which may lie beyond the bag and the range of a thread.
struct Ahead {
  int64_t places, last;
  Ahead(int64_t row_bytes, int64_t count) : places(places_ahead(1 + row_bytes / 64)), last(count - 1) {}
  FT_MEMBER int64_t of(int64_t p) const { return p + places < last ? p + places : last; }
  FT_MEMBER int64_t twice(int64_t p) const { return p + 2 * places < last ? p + 2 * places : last; }
};

// Adds places [begin, end) to the sums of one block, fetching the same block of later places and, for places later still,
// the index that says where their rows lie: a fetch that waits for its own address holds up everything behind it.
template <int N, class Source>
FT_INLINE void sum_places(Source& source, int64_t begin, int64_t end, Ahead ahead, int64_t at, int lanes, V* sums) {
  for (int64_t p = begin; p < end; p++) {
    if (at == 0) source.prefetch_index(ahead.twice(p));
    source.template prefetch<N>(ahead.of(p), at, lanes);
    source.template add<N>(p, at, lanes, sums);
  }
}

// Calls body(Vectors<N>, first column, lanes) for the blocks of a row of `cols`.
template <class Body>
FT_INLINE void for_blocks(int64_t cols, Body body) {
  // Powers of two: every size more is every kernel compiled once more.
#define FT_BLOCK(n)                                      \
  if (n <= block_vectors && cols - at >= n * W) {        \
    body(Vectors<(n <= block_vectors ? n : 1)>(), at, 0); \
    at += n * W;                                         \
    continue;                                            \
  }
  for (int64_t at = 0; at < cols;) {
    FT_BLOCK(16) FT_BLOCK(8) FT_BLOCK(4) FT_BLOCK(2) FT_BLOCK(1)
    body(Vectors<0>(), at, (int)(cols - at));
    return;
  }
#undef FT_BLOCK
}

template <int N>
FT_INLINE void load_block(const float* x, int lanes, V* sums) {
  if (N == 0) sums[0] = load_first(x, lanes);
  for (int i = 0; i < N; i++) sums[i] = load(x + i * W);
}
template <int N>
FT_INLINE void store_block(float* x, int lanes, const V* sums) {
  if (N == 0) store_first(x, sums[0], lanes);
  for (int i = 0; i < N; i++) store(x + i * W, sums[i]);
}
template <int N>
FT_INLINE void multiply_block(const float* x, int lanes, V* sums) {
  if (N == 0) sums[0] = sums[0] * load_first(x, lanes);
  for (int i = 0; i < N; i++) sums[i] = sums[i] * load(x + i * W);
}

// out = the sum of one bag.
template <class Source>
static void sum_bag(Source& source, int64_t begin, int64_t end, Ahead ahead, int64_t cols, float* out) {
  for_blocks(cols, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums] = {};
    sum_places<N>(source, begin, end, ahead, at, lanes, sums);
    store_block<N>(out + at, lanes, sums);
  });
}

// out += scale · the sum of one bag, added up on its own first: the delta of a dense group.
static __attribute__((noinline)) void add_bag(FactorRows& source, int64_t begin, int64_t end, Ahead ahead, float scale, float* out) {
  for_blocks(source.rank, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    constexpr int vectors = decltype(block)::sums;
    V deltas[vectors] = {}, sums[vectors];
    sum_places<N>(source, begin, end, ahead, at, lanes, deltas);
    if (!source.touched) return;
    load_block<N>(out + at, lanes, sums);
    for (int i = 0; i < vectors; i++) sums[i] = fma(broadcast(scale), deltas[i], sums[i]);
    store_block<N>(out + at, lanes, sums);
  });
}

static void segment_sum(const SegmentSumArgs& a, int64_t begin, int64_t end) {
  BagRows rows(a);
  const Ahead ahead(a.cols * (int64_t)sizeof(float), a.places);
  for (int64_t i = begin; i < end; i++) {
    const int64_t u = a.uniques ? a.uniques[i] : i;
    sum_bag(rows, a.group_offsets[u], a.group_offsets[u + 1], ahead, a.cols, a.out + i * a.cols);
  }
}
