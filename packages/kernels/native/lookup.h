// The bag lookup: pooled base rows, then the delta. Included by kernels.h.
//
// Time goes into waiting for rows that lie anywhere, and no loop over places that waits as it goes has enough of them under
// way. So it is done in steps, which run ahead of each other and across the ends of bags. The resolver works out where the
// rows of some places lie, all at once; for each place added, the lines of a later place are asked for. What is added last
// has then arrived, and columns after the first block find it in the cache.
//
// A fetch holds up the instructions behind it until its address is translated, and a core has some 250 of them in view. In
// long bags those are several places, whose translations overlap. In short bags, where a place has its share of the product
// with B, they are not: there the resolver asks for the first lines of a few places in one go.

// Where the rows of one place lie.
struct Place {
  const char* row;
  const char* scales;
  const float* factors;  // null where the row was never touched
  int32_t shift;         // as of `group_shift`
  float weight;
};

constexpr int64_t ring_places = 128;
// Resolved at once; of short bags, as many as a core has under way in one loop: more would lie in the cache too long before
// their turn.
constexpr int64_t resolved_places = 32;
constexpr int64_t resolved_short = 8;
// Mean places of a bag below which bags are short.
constexpr int64_t short_bag = 4;
// Places whose columns are done block by block before the next ones are begun: as many as fit half of a first-level cache.
constexpr int64_t most_tile = 64;
constexpr int64_t tile_bytes = 16 << 10;
static_assert(most_tile + most_ahead + resolved_places <= ring_places, "the places of a tile stay in the ring");

// The lines of `bytes` from `p` on, in ascending order. Unrolled: instructions between two fetches keep the next one out of
// view. Counted from the end, so that a row that is not aligned to lines has its last one too.
FT_INLINE void prefetch_lines(const char* p, int64_t bytes) {
  const char* last = p + bytes - 1;
  prefetch_line(p);
  switch ((bytes - 1) / 64) {
    default:
      for (const char* line = p + 64; line < last - 7 * 64; line += 64) prefetch_line(line);
      [[fallthrough]];
    case 7: prefetch_line(last - 7 * 64); [[fallthrough]];
    case 6: prefetch_line(last - 6 * 64); [[fallthrough]];
    case 5: prefetch_line(last - 5 * 64); [[fallthrough]];
    case 4: prefetch_line(last - 4 * 64); [[fallthrough]];
    case 3: prefetch_line(last - 3 * 64); [[fallthrough]];
    case 2: prefetch_line(last - 2 * 64); [[fallthrough]];
    case 1: prefetch_line(last - 1 * 64); [[fallthrough]];
    case 0: prefetch_line(last);
  }
}

class Resolver {
 public:
  // Of places [begin, end) of `bags`. `group` null: no base. Without `delta` no factors.
  Resolver(const LookupArgs& a, const ColumnGroup* group, bool delta, int64_t begin, int64_t end, int64_t bags)
      : a_(a), group_(group), delta_(delta), short_(end - begin < short_bag * bags), resolved_(begin), fetched_(begin), end_(end) {
    int64_t lines = 0;
    if (delta) {
      factor_bytes_ = a.rank * (int64_t)sizeof(float);
      lines += 1 + (factor_bytes_ - 1) / 64;
    }
    if (group) {
      row_bytes_ = element_bytes(a.dtype, group->columns);
      scaled_ = a.dtype == Dtype::int8 || a.dtype == Dtype::int4;
      lines += 1 + (row_bytes_ - 1) / 64;
      overlay_ = a.overlay;
      if (a.overlay_slots) {
        overlay_.data += element_bytes(a.dtype, group->first_column);
        if (overlay_.scales) overlay_.scales += (group->first_column >> group_shift(overlay_)) * 4;
      }
    }
    tile_ = row_bytes_ * most_tile <= tile_bytes ? most_tile : row_bytes_ >= tile_bytes ? 1 : tile_bytes / row_bytes_;
    for (float& weight : weights_) weight = 1;
    for (int64_t p = 0; p < places_ahead(lines); p++) fetch();
  }

  int64_t tile() const { return tile_; }
  FT_MEMBER Place at(int64_t place) const {
    const uint64_t i = index(place);
    return {rows_[i], scales_[i], factors_[i], shifts_[i], weights_[i]};
  }

  // Fetches the rows of one more place; to be called once for each that is added.
  FT_MEMBER void fetch() {
    if (fetched_ == resolved_) {
      if (resolved_ == end_) return;
      resolve();
    }
    const Place place = at(fetched_++);
    if (row_bytes_) prefetch_lines(place.row, row_bytes_);
    if (scaled_ && !short_) prefetch_line(place.scales);
    if (delta_ && place.factors) prefetch_lines((const char*)place.factors, factor_bytes_);
  }

 private:
  __attribute__((noinline)) void resolve() {
    const int64_t count = short_ ? resolved_short : resolved_places;
    const int64_t last = end_ - resolved_ < count ? end_ : resolved_ + count;
    const int32_t* place_unique = a_.place_unique;
    const int32_t* unique_rows = a_.unique_rows;
    const float* weights = a_.weights;
    for (int64_t p = resolved_; weights && p < last; p++) weights_[index(p)] = weights[p];
    if (group_ && group_->shard_count == 1 && !a_.overlay_slots) {
      const ShardView shard = *group_->shards;
      const int shift = group_shift(shard.rows);
      for (int64_t p = resolved_; p < last; p++) {
        locate(shard.rows, unique_rows[place_unique[p]] - shard.first_row, shift, index(p));
      }
    } else if (group_) {
      for (int64_t p = resolved_; p < last; p++) search(place_unique[p], index(p));
    }
    if (delta_) {
      const int32_t* slots = a_.slots;
      for (int64_t p = resolved_; p < last; p++) {
        const int64_t slot = slots[place_unique[p]];
        factors_[index(p)] = slot < 0 ? nullptr : a_.factors + slot * a_.rank;
      }
    }
    for (int64_t p = resolved_; short_ && p < last; p++) {
      const Place place = at(p);
      if (row_bytes_) prefetch_line(place.row);
      if (scaled_) prefetch_line(place.scales);
      if (delta_ && place.factors) prefetch_line(place.factors);
    }
    resolved_ = last;
  }

  static FT_MEMBER uint64_t index(int64_t place) { return (uint64_t)place % ring_places; }

  FT_MEMBER void locate(const RowsView& view, int64_t row, int shift, uint64_t i) {
    rows_[i] = view.data + row * view.stride;
    if (!view.scales) return;
    scales_[i] = view.scales + row * view.scale_stride;
    shifts_[i] = shift;
  }

  void search(int64_t unique, uint64_t i) {
    const int64_t copy = a_.overlay_slots ? a_.overlay_slots[unique] : -1;
    if (copy >= 0) return locate(overlay_, copy, group_shift(overlay_), i);
    const int64_t row = a_.unique_rows[unique];
    const ShardView* shard = group_->shards;
    // Halving without a branch on the ids, which nothing could predict.
    for (int64_t n = group_->shard_count; n > 1;) {
      const int64_t half = n / 2;
      shard = shard[half].first_row <= row ? shard + half : shard;
      n -= half;
    }
    locate(shard->rows, row - shard->first_row, group_shift(shard->rows), i);
  }

  const LookupArgs& a_;
  const ColumnGroup* group_;
  bool delta_, short_;
  int64_t resolved_, fetched_, end_;
  int64_t row_bytes_ = 0, factor_bytes_ = 0;
  RowsView overlay_ = {};
  int64_t tile_;
  bool scaled_ = false;
  // The ring, a field each: what a lookup does not need is not written.
  const char* rows_[ring_places] = {};
  const char* scales_[ring_places] = {};
  const float* factors_[ring_places] = {};
  int32_t shifts_[ring_places] = {};
  float weights_[ring_places];
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
static __attribute__((noinline)) bool pool_factors(const Resolver& resolver, int64_t begin, int64_t end, int64_t rank, bool add, float* pooled) {
  bool touched = false;
  for_blocks(rank, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums] = {};
    if (add) load_block<N>(pooled + at, lanes, sums);
    for (int64_t p = begin; p < end; p++) {
      const Place place = resolver.at(p);
      if (!place.factors) continue;
      touched = true;
      add_weighted<N>(place.factors + at, broadcast(place.weight), lanes, sums);
    }
    store_block<N>(pooled + at, lanes, sums);
  });
  return touched;
}

// sums += Ā[0] B[0] + Ā[1] B[1] + …, in this order, for one block of columns.
template <int N>
FT_INLINE void add_rows(const float* pooled, const float* b, int64_t rank, int64_t dim, int lanes, V* sums) {
  for (int64_t k = 0; k < rank; k++) add_weighted<N>(b + k * dim, broadcast(pooled[k]), lanes, sums);
}

static __attribute__((noinline)) void add_product(const float* pooled, const float* b, int64_t rank, int64_t dim, float* out) {
  for_blocks(dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
    constexpr int N = decltype(block)::count;
    V sums[decltype(block)::sums];
    load_block<N>(out + at, lanes, sums);
    add_rows<N>(pooled, b + at, rank, dim, lanes, sums);
    store_block<N>(out + at, lanes, sums);
  });
}

// Keeps Ā where it is asked for, and scales it.
FT_INLINE void finish_factors(const LookupArgs& a, int64_t bag, float* pooled) {
  float* kept = a.pooled ? a.pooled + bag * a.rank : nullptr;
  for (int64_t k = 0; k < a.rank; k += W) {
    const V factor = load_some(pooled + k, a.rank - k);
    if (kept) store_some(kept + k, factor, a.rank - k);
    store_some(pooled + k, factor * broadcast(a.scale), a.rank - k);
  }
}

// No base: `out` holds it.
struct PooledBefore {
  static constexpr int bits = 0;
};

// The base sum first, then the delta: s Ā[k] B[k] for k = 0, 1, …, or s times the sum of delta rows where there is no B. In
// one call or in two, each output goes through the same operations in the same order. A bag without touched rows gets no
// delta.
template <class Codec>
static void pool_bags(const LookupArgs& a, const ColumnGroup* group, bool delta, int64_t begin, int64_t end) {
  const bool low_rank = delta && a.b;
  Resolver resolver(a, group, low_rank, a.offsets[begin], a.offsets[end], end - begin);
  const Ahead factors_ahead(a.rank * (int64_t)sizeof(float), a.places);
  float pooled[max_rank];
  // B is read whole for every bag: from a copy that starts on a line, so that no load crosses two.
  alignas(64) float aligned[aligned_floats];
  const float* b = a.b;
  if (low_rank && a.rank * a.dim <= aligned_floats) b = (const float*)memcpy(aligned, a.b, (size_t)(a.rank * a.dim) * sizeof(float));
  // Lines to be written are fetched too, and would queue behind those to be read. Long rows are streams of their own.
  const int64_t out_bytes = a.dim <= 1024 ? a.dim * (int64_t)sizeof(float) : 0;
  const int64_t out_ahead = 1 + 1024 / (a.dim * (int64_t)sizeof(float));
  for (int64_t bag = begin; bag < end; bag++) {
    const int64_t first = a.offsets[bag], last = a.offsets[bag + 1];
    float* out = a.out + bag * a.dim;
    if (bag + out_ahead < end) prefetch_bytes_to_write(out + out_ahead * a.dim, out_bytes);
    bool touched = false;
    // The factors of a bag have arrived with its rows: its delta is added before its sums leave the registers. A factor row
    // of one vector is pooled beside the first block.
    const bool at_once = low_rank && group && a.group_count == 1 && last - first <= resolver.tile();
    const bool beside = at_once && a.rank <= W;
    int64_t tile = first;
    do {
      const int64_t tile_end = last - tile > resolver.tile() ? tile + resolver.tile() : last;
      if (!group) {
        for (int64_t p = tile; p < tile_end; p++) resolver.fetch();
      }
      if constexpr (Codec::bits != 0) {
        for_blocks(group->columns, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
          constexpr int N = decltype(block)::count;
          V sums[decltype(block)::sums] = {};
          float* to = out + group->first_column + at;
          if (tile > first) load_block<N>(to, lanes, sums);
          if (at == 0) {
            V factors = zero();
            for (int64_t p = tile; p < tile_end; p++) {
              resolver.fetch();
              const Place place = resolver.at(p);
              add_place<Codec, N>(place, at, lanes, sums);
              if (!beside || !place.factors) continue;
              touched = true;
              factors = fma(broadcast(place.weight), load_some(place.factors, a.rank), factors);
            }
            if (beside) store(pooled, factors);
            else if (at_once) touched = pool_factors(resolver, first, last, a.rank, false, pooled);
            if (at_once) finish_factors(a, bag, pooled);
          } else {
            for (int64_t p = tile; p < tile_end; p++) add_place<Codec, N>(resolver.at(p), at, lanes, sums);
          }
          if (at_once && touched) add_rows<N>(pooled, b + at, a.rank, a.dim, lanes, sums);
          store_block<N>(to, lanes, sums);
        });
      }
      if (low_rank && !at_once) touched |= pool_factors(resolver, tile, tile_end, a.rank, tile > first, pooled);
      tile = tile_end;
    } while (tile < last);
    if (low_rank && !at_once) {
      finish_factors(a, bag, pooled);
      if (touched) add_product(pooled, b, a.rank, a.dim, out);
    }
    if (delta && !low_rank) {
      FactorRows factors(a);
      add_bag(factors, first, last, factors_ahead, a.scale, out);
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
