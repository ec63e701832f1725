// The bag lookup: pooled base rows, then the delta. Included by kernels.h.
//
// Time goes into waiting for rows that lie anywhere. So a resolver runs some places in front of the adder, across the ends
// of bags: it finds out where the rows of a place lie, asks for all of their lines, and leaves the addresses in a ring.
// The adder takes them from there, and columns after the first block find their lines in the cache.

// Where the rows of one place lie.
struct Place {
  const char* row;
  const char* scales;
  const float* factors;  // null where the row was never touched
  int32_t shift;         // as of `group_shift`
  float weight;
};

constexpr int64_t ring_places = 128;
// Places whose columns are done block by block before the next ones are begun: as many as fit half of a first-level cache.
constexpr int64_t most_tile = 64;
constexpr int64_t tile_bytes = 16 << 10;
static_assert(most_tile + most_ahead <= ring_places, "places of a tile stay in the ring while later ones are resolved");

class Resolver {
 public:
  // `group` null: no base. Without `delta` no factors.
  Resolver(const LookupArgs& a, const ColumnGroup* group, bool delta, int64_t begin, int64_t end)
      : place_unique_(a.place_unique),
        unique_rows_(a.unique_rows),
        slots_(delta ? a.slots : nullptr),
        factors_(a.factors),
        rank_(a.rank),
        weights_(a.weights),
        next_(begin),
        end_(end) {
    int64_t lines = delta ? 1 + rank_ / 16 : 0;
    if (group) {
      shards_ = group->shards;
      shard_count_ = group->shard_count;
      row_bytes_ = element_bytes(a.dtype, group->columns);
      lines += 1 + row_bytes_ / 64;
      has_base_ = true;
      overlay_ = a.overlay;
      overlay_slots_ = a.overlay_slots;
      if (overlay_slots_) {
        overlay_.data += element_bytes(a.dtype, group->first_column);
        if (overlay_.scales) overlay_.scales += (group->first_column >> group_shift(overlay_)) * 4;
      }
    }
    ahead_ = places_ahead(lines);
    tile_ = row_bytes_ * most_tile <= tile_bytes ? most_tile : row_bytes_ >= tile_bytes ? 1 : tile_bytes / row_bytes_;
    for (int64_t p = begin; p < begin + ahead_; p++) advance();
  }

  int64_t tile() const { return tile_; }
  FT_MEMBER const Place& at(int64_t place) const { return ring_[place % ring_places]; }

  // Resolves one more place; to be called once for each that is added.
  FT_MEMBER void advance() {
    if (next_ >= end_) return;
    const int64_t unique = place_unique_[next_];
    Place& place = ring_[next_ % ring_places];
    place.weight = weights_ ? weights_[next_] : 1;
    if (has_base_) resolve_base(unique, place);
    if (slots_) {
      const int64_t slot = slots_[unique];
      place.factors = slot < 0 ? nullptr : factors_ + slot * rank_;
      if (slot >= 0) prefetch_bytes(place.factors, rank_ * (int64_t)sizeof(float));
    }
    next_++;
  }

 private:
  FT_MEMBER void resolve_base(int64_t unique, Place& place) {
    const int64_t copy = overlay_slots_ ? overlay_slots_[unique] : -1;
    const RowsView* view = &overlay_;
    int64_t row = copy;
    if (copy < 0) {
      const int64_t id = unique_rows_[unique];
      const ShardView* shard = shards_;
      // Halving without a branch on the ids, which nothing could predict.
      for (int64_t n = shard_count_; n > 1;) {
        const int64_t half = n / 2;
        shard = shard[half].first_row <= id ? shard + half : shard;
        n -= half;
      }
      view = &shard->rows;
      row = id - shard->first_row;
    }
    place.row = view->data + row * view->stride;
    prefetch_bytes(place.row, row_bytes_);
    if (view->scales) {
      place.scales = view->scales + row * view->scale_stride;
      place.shift = group_shift(*view);
      prefetch_line(place.scales);
    }
  }

  const int32_t* place_unique_;
  const int32_t* unique_rows_;
  const int32_t* slots_;
  const float* factors_;
  int64_t rank_;
  const float* weights_;
  int64_t next_, end_;
  const ShardView* shards_ = nullptr;
  int64_t shard_count_ = 0;
  int64_t row_bytes_ = 0;
  bool has_base_ = false;
  RowsView overlay_ = {};
  const int32_t* overlay_slots_ = nullptr;
  int64_t ahead_, tile_;
  Place ring_[ring_places];
};

template <class Codec, int N>
FT_INLINE void add_place(const Place& place, int64_t at, int lanes, V* sums) {
  // A vector never crosses a group of 32 columns or more, so whole stretches share a factor.
  constexpr int stretch = Codec::bits == 4 ? 32 / W : N ? N : 1;
  if (N == 0) {
    float factor = place.weight;
    if (Codec::scaled) factor *= load_float(place.scales + (at >> place.shift) * 4);
    sums[0] = fma(broadcast(factor), load_first_columns<Codec>(place.row, at, lanes), sums[0]);
  }
  for (int first = 0; first < N; first += stretch) {
    float factor = place.weight;
    if (Codec::scaled) factor *= load_float(place.scales + ((at + first * W) >> place.shift) * 4);
    const V w = broadcast(factor);
    for (int i = first; i < first + stretch && i < N; i++) {
      sums[i] = fma(w, load_columns<Codec>(place.row, at + i * W), sums[i]);
    }
  }
}

// pooled = the weighted sum of the factors of places [begin, end), or + it. Returns whether any was touched.
static bool pool_factors(const Resolver& resolver, int64_t begin, int64_t end, int64_t rank, bool add, float* pooled) {
  bool touched = false;
  for_blocks(rank, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums] = {};
    if (add) load_block<N>(pooled + at, lanes, sums);
    for (int64_t p = begin; p < end; p++) {
      const Place& place = resolver.at(p);
      if (!place.factors) continue;
      touched = true;
      add_weighted<N>(place.factors + at, broadcast(place.weight), lanes, sums);
    }
    store_block<N>(pooled + at, lanes, sums);
  });
  return touched;
}

// out += Ā[0] B[0] + Ā[1] B[1] + …, in this order, Ā being scaled already.
static void add_product(const float* pooled, const float* b, int64_t rank, int64_t dim, float* out) {
  for_blocks(dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums];
    load_block<N>(out + at, lanes, sums);
    for (int64_t k = 0; k < rank; k++) add_weighted<N>(b + k * dim + at, broadcast(pooled[k]), lanes, sums);
    store_block<N>(out + at, lanes, sums);
  });
}

// out += the delta of a bag. Ā is in `pooled`, which is scaled here.
static void add_delta(const LookupArgs& a, int64_t bag, bool touched, float* pooled, const float* b) {
  float* kept = a.pooled ? a.pooled + bag * a.rank : nullptr;
  for (int64_t k = 0; k < a.rank; k += W) {
    const V factor = load_some(pooled + k, a.rank - k);
    if (kept) store_some(kept + k, factor, a.rank - k);
    store_some(pooled + k, factor * broadcast(a.scale), a.rank - k);
  }
  if (touched) add_product(pooled, b, a.rank, a.dim, a.out + bag * a.dim);
}

// No base: `out` holds it.
struct PooledBefore {
  static constexpr int bits = 0;
};

// The base sum goes to `out` first, and the delta is then added there: s Ā[k] B[k] for k = 0, 1, …, or s times the sum of
// delta rows where there is no B. In one call or in two, each output goes through the same operations in the same order.
// A bag without touched rows gets no delta.
template <class Codec>
static void pool_bags(const LookupArgs& a, const ColumnGroup* group, bool delta, int64_t begin, int64_t end) {
  const bool low_rank = delta && a.b;
  Resolver resolver(a, group, low_rank, a.offsets[begin], a.offsets[end]);
  const Ahead factors_ahead(a.rank * (int64_t)sizeof(float), a.places);
  float pooled[max_rank];
  // B is read whole for every bag: from a copy that starts on a line, so that no load crosses two.
  alignas(64) float aligned[aligned_floats];
  const float* b = a.b;
  if (low_rank && a.rank * a.dim <= aligned_floats) b = (const float*)memcpy(aligned, a.b, (size_t)(a.rank * a.dim) * sizeof(float));
  for (int64_t bag = begin; bag < end; bag++) {
    const int64_t first = a.offsets[bag], last = a.offsets[bag + 1];
    bool touched = false;
    int64_t tile = first;
    do {
      const int64_t tile_end = last - tile > resolver.tile() ? tile + resolver.tile() : last;
      if constexpr (Codec::bits != 0) {
        float* out = a.out + bag * a.dim + group->first_column;
        for_blocks(group->columns, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
          constexpr int N = decltype(block)::count;
          V sums[decltype(block)::sums] = {};
          if (tile > first) load_block<N>(out + at, lanes, sums);
          for (int64_t p = tile; p < tile_end; p++) {
            if (at == 0) resolver.advance();
            add_place<Codec, N>(resolver.at(p), at, lanes, sums);
          }
          store_block<N>(out + at, lanes, sums);
        });
      } else {
        for (int64_t p = tile; p < tile_end; p++) resolver.advance();
      }
      if (low_rank) touched |= pool_factors(resolver, tile, tile_end, a.rank, tile > first, pooled);
      tile = tile_end;
    } while (tile < last);
    if (low_rank) {
      add_delta(a, bag, touched, pooled, b);
    } else if (delta) {
      FactorRows factors(a);
      add_bag(factors, first, last, factors_ahead, a.scale, a.out + bag * a.dim);
    }
  }
}

static void pool_group(const LookupArgs& a, const ColumnGroup* group, bool delta, int64_t begin, int64_t end) {
  switch (a.dtype) {
    case Dtype::f16: return pool_bags<F16>(a, group, delta, begin, end);
    case Dtype::bf16: return pool_bags<Bf16>(a, group, delta, begin, end);
    case Dtype::int8: return pool_bags<Int8>(a, group, delta, begin, end);
    case Dtype::int4: return pool_bags<Int4>(a, group, delta, begin, end);
    default: return pool_bags<F32>(a, group, delta, begin, end);
  }
}

static void lookup(const LookupArgs& a, int64_t begin, int64_t end) {
  if (a.group_count == 0) return pool_bags<PooledBefore>(a, nullptr, true, begin, end);
  for (int64_t g = 0; g < a.group_count; g++) {
    pool_group(a, a.groups + g, a.factors && g == a.group_count - 1, begin, end);
  }
}

static void gather(const GatherArgs& a, int64_t begin, int64_t end) {
  const int64_t row_bytes = element_bytes(a.from.dtype, a.from.dim);
  const Ahead ahead(row_bytes, end);
  for (int64_t i = begin; i < end; i++) {
    const int64_t later = a.rows[ahead.of(i)];
    prefetch_bytes(a.from.data + later * a.from.stride, row_bytes);
    if (a.from.scales) prefetch_line(a.from.scales + later * a.from.scale_stride);
    decode_row(a.from, a.rows[i], a.out + i * a.from.dim);
  }
}
