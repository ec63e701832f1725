// Deltas of which each bag has one: a batch for many tenants. Included by kernels.h, after lookup.h.
//
// Bags next to each other need not share anything, so the factor rows of the next bag are fetched while one is summed.

FT_INLINE void prefetch_chosen(const ChosenArgs& a, int64_t bag) {
  const int32_t which = a.bag_deltas[bag];
  if (which < 0) return;
  const ChosenDelta& delta = a.deltas[which];
  for (int64_t p = a.offsets[bag]; p < a.offsets[bag + 1]; p++) {
    const int64_t slot = a.place_slots[p];
    if (slot >= 0) prefetch_bytes(delta.factors + slot * delta.rank, delta.rank * (int64_t)sizeof(float));
  }
}

// sums += Σ w A[slot] over places [begin, end), for one block of columns. Returns whether any was touched.
template <int N>
FT_INLINE bool sum_chosen(const ChosenArgs& a, const ChosenDelta& delta, int64_t begin, int64_t end, int64_t at, int lanes, V* sums) {
  bool touched = false;
  const Weights weights(a.weights);
  for (int64_t p = begin; p < end; p++) {
    const int64_t slot = a.place_slots[p];
    if (slot < 0) continue;
    touched = true;
    add_weighted<N>(delta.factors + slot * delta.rank + at, weights.at(p), lanes, sums);
  }
  return touched;
}

// out += Σ s Ā[k] B[k] for k = 0, 1, …
static __attribute__((noinline)) void add_low_rank(const ChosenArgs& a, const ChosenDelta& delta, int64_t begin, int64_t end, float* out) {
  float pooled[max_rank];
  bool touched = false;
  for_blocks(delta.rank, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums] = {};
    touched = sum_chosen<N>(a, delta, begin, end, at, lanes, sums);
    for (V& sum : sums) sum *= broadcast(delta.scale);
    store_block<N>(pooled + at, lanes, sums);
  });
  if (!touched) return;
  for_blocks(a.dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums];
    load_block<N>(out + at, lanes, sums);
    for (int64_t k = 0; k < delta.rank; k++) {
      add_weighted<N>(delta.b + k * a.dim + at, broadcast(pooled[k]), lanes, sums);
    }
    store_block<N>(out + at, lanes, sums);
  });
}

// out += s Σ w A[slot]
static __attribute__((noinline)) void add_dense(const ChosenArgs& a, const ChosenDelta& delta, int64_t begin, int64_t end, float* out) {
  for_blocks(a.dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    constexpr int vectors = decltype(block)::sums;
    V deltas[vectors] = {}, sums[vectors];
    if (!sum_chosen<N>(a, delta, begin, end, at, lanes, deltas)) return;
    load_block<N>(out + at, lanes, sums);
    for (int i = 0; i < vectors; i++) sums[i] = fma(broadcast(delta.scale), deltas[i], sums[i]);
    store_block<N>(out + at, lanes, sums);
  });
}

static void add_chosen(const ChosenArgs& a, int64_t begin, int64_t end) {
  if (begin < end) prefetch_chosen(a, begin);
  for (int64_t bag = begin; bag < end; bag++) {
    if (bag + 1 < end) prefetch_chosen(a, bag + 1);
    const int32_t which = a.bag_deltas[bag];
    if (which < 0) continue;
    const ChosenDelta& delta = a.deltas[which];
    float* out = a.out + bag * a.dim;
    if (delta.b) add_low_rank(a, delta, a.offsets[bag], a.offsets[bag + 1], out);
    else add_dense(a, delta, a.offsets[bag], a.offsets[bag + 1], out);
  }
}
