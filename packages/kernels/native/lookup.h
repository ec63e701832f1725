// The bag lookup: pooled base rows, then the delta. Included by kernels.h.
//
// Time goes into waiting for rows that lie anywhere, and no loop over places that waits as it goes has enough of them under
// way: for each place added, the lines of a later place are asked for, across the ends of bags. What is added last has then
// arrived, and columns after the first block find it in the cache.
//
// A fetch holds up the instructions behind it until its address is translated, and a core has some 250 of them in view. So
// there are as few as can be from one fetch to the next: the rows of one store are found by arithmetic on ids in the order of
// places, and rows of common widths have loops of their own. In long bags the translations of several places then overlap. In
// short ones, where a place has its share of the product with B, they do not: there a few places are fetched in one go.

// The columns of one place's row.
struct Place {
  const char* row;
  const char* scales;
  int shift;  // as of `group_shift`
};

// Mean places of a bag below which bags are short, and the places that are fetched in one go then.
constexpr int64_t short_bag = 4;
constexpr int64_t burst_places = 4;
// Places whose columns are done block by block before the next ones are begun: as many as fit half of a first-level cache.
constexpr int64_t most_tile = 64;
constexpr int64_t tile_bytes = 16 << 10;

// Whether some of the rows may lie on one line more than their bytes need.
static bool straddle_lines(const void* data, int64_t stride, int64_t bytes) {
  const int64_t unit = bytes < 64 ? bytes : 64;
  return 64 % unit || bytes % unit || stride % unit || (uintptr_t)data % (uintptr_t)unit;
}


// Rows of one store that holds the whole table: there is nothing to find.
class StoreRows {
 public:
  StoreRows(const LookupArgs& a, const ColumnGroup& group, int64_t, int64_t)
      : view_(group.shards->rows), shift_(group_shift(view_)), rows_(a.place_rows) {}
  FT_MEMBER void find(int64_t) {}
  FT_MEMBER Place at(int64_t place) const {
    const int64_t row = rows_[place];
    return {view_.data + row * view_.stride, view_.scales + row * view_.scale_stride, shift_};
  }

 private:
  const RowsView view_;
  const int shift_;
  const int32_t* rows_;
};

// Rows of several stores, found some places at a time and kept in a ring until they have been added.
class FoundRows {
 public:
  // Of places [begin, end).
  FoundRows(const LookupArgs& a, const ColumnGroup& group, int64_t begin, int64_t end) : a_(a), group_(group), found_(begin), end_(end) {
    if (!a.overlay_slots) return;
    overlay_ = a.overlay;
    overlay_.data += element_bytes(a.dtype, group.first_column);
    if (overlay_.scales) overlay_.scales += (group.first_column >> group_shift(overlay_)) * 4;
  }
  // To be called for one place after another.
  FT_MEMBER void find(int64_t place) {
    if (place == found_) find_more();
  }
  FT_MEMBER Place at(int64_t place) const { return ring_[(uint64_t)place % ring_places]; }

 private:
  static constexpr int64_t ring_places = 128;
  static constexpr int64_t found_at_once = 32;
  static_assert(most_tile + most_ahead + found_at_once <= ring_places, "the places of a tile stay in the ring");

  __attribute__((noinline)) void find_more() {
    const int64_t last = end_ - found_ < found_at_once ? end_ : found_ + found_at_once;
    for (; found_ < last; found_++) ring_[(uint64_t)found_ % ring_places] = search(found_);
  }
  Place search(int64_t place) const {
    if (!a_.overlay_slots) return in_shards(a_.place_rows[place]);
    const int64_t unique = a_.place_unique[place];
    const int64_t copy = a_.overlay_slots[unique];
    return copy < 0 ? in_shards(a_.unique_rows[unique]) : in_store(overlay_, copy);
  }
  Place in_shards(int64_t row) const {
    const ShardView* shard = group_.shards;
    // Halving without a branch on the ids, which nothing could predict.
    for (int64_t n = group_.shard_count; n > 1;) {
      const int64_t half = n / 2;
      shard = shard[half].first_row <= row ? shard + half : shard;
      n -= half;
    }
    return in_store(shard->rows, row - shard->first_row);
  }
  static Place in_store(const RowsView& view, int64_t row) {
    return {view.data + row * view.stride, view.scales + row * view.scale_stride, group_shift(view)};
  }

  const LookupArgs& a_;
  const ColumnGroup& group_;
  int64_t found_, end_;
  RowsView overlay_ = {};
  Place ring_[ring_places];
};

// How a lookup differs from others, known where its loops are compiled: rows of `columns` columns that lie on as few lines as
// they can, 0 for any; with `beside`, a delta whose factor rows, of at most one vector, are pooled beside the first block.
template <class CodecOf, class RowsOf, int columns_of, bool is_beside>
struct Kind {
  typedef CodecOf Codec;
  typedef RowsOf Rows;
  static constexpr int columns = columns_of;
  static constexpr bool beside = is_beside;
};

// Asks for what places need: the lines of their rows of the base, in ascending order, and their rows of A.
template <class Kind>
class Fetcher {
  typedef typename Kind::Codec Codec;
  typedef typename Kind::Rows Rows;

 public:
  // Of places [begin, end), those of `bags`.
  Fetcher(const LookupArgs& a, Rows& rows, int64_t columns, int64_t begin, int64_t end, int64_t bags)
      : rows_(rows), factors_(a), row_bytes_(element_bytes(a.dtype, columns)), next_(begin), end_(end) {
    const int64_t factor_bytes = a.rank * (int64_t)sizeof(float);
    straddling_ = Kind::beside && straddle_lines(a.factors, factor_bytes, factor_bytes);
    ahead_ = places_ahead((row_bytes_ + 63) / 64 + Kind::beside);
    in_bursts_ = end - begin < short_bag * bags;
    if (in_bursts_ && ahead_ > 2 * burst_places) ahead_ = 2 * burst_places;
    fetch_burst(ahead_);
    one_by_one_ = in_bursts_ ? begin : end - ahead_;
  }
  // To be called before a bag that ends at place `last`,
  FT_MEMBER void begin_bag(int64_t last) {
    if (in_bursts_) while (next_ < end_ && next_ < last + ahead_) fetch_burst(burst_places);
  }
  // and before each of its places.
  FT_MEMBER void begin_place(int64_t place) {
    if (place < one_by_one_) fetch(place + ahead_);
  }

 private:
  FT_MEMBER void fetch(int64_t p) {
    rows_.find(p);
    const Place place = rows_.at(p);
    const int64_t bytes = Kind::columns ? Kind::columns * Codec::bits / 8 : row_bytes_;
    for (int64_t at = 0; at < bytes; at += 64) prefetch_line(place.row + at);
    if (!Kind::columns) prefetch_line(place.row + bytes - 1);
    if (Codec::scaled) prefetch_line(place.scales);
    if (Kind::beside) {
      const float* factors = factors_.row_ahead(p);
      prefetch_line(factors);
      if (straddling_) prefetch_line(factors + factors_.rank - 1);
    }
  }
  FT_MEMBER void fetch_burst(int64_t places) {
    for (const int64_t last = end_ - next_ < places ? end_ : next_ + places; next_ < last; next_++) fetch(next_);
  }

  Rows& rows_;
  const FactorRows factors_;
  const int64_t row_bytes_;
  int64_t ahead_;
  int64_t next_, end_;  // of bursts
  int64_t one_by_one_;  // places below it fetch another
  bool in_bursts_;
  bool straddling_;  // rows of A
};

template <class Codec, int N>
FT_INLINE void add_place(const Place& place, float weight, int64_t at, int lanes, V* sums) {
  // A vector never crosses a group of 32 columns or more, so whole stretches share a factor.
  constexpr int stretch = Codec::bits == 4 ? 32 / W : N ? N : 1;
  if (N == 0) {
    float factor = weight;
    if (Codec::scaled) factor *= load_float(place.scales + (at >> place.shift) * 4);
    sums[0] = fma(broadcast(factor), load_first_columns<Codec>(place.row, at, lanes), sums[0]);
  }
  for (int first = 0; first < N; first += stretch) {
    float factor = weight;
    if (Codec::scaled) factor *= load_float(place.scales + ((at + first * W) >> place.shift) * 4);
    const V w = broadcast(factor);
    for (int i = first; i < first + stretch && i < N; i++) {
      sums[i] = fma(w, load_columns<Codec>(place.row, at + i * W), sums[i]);
    }
  }
}

// sums += Ā[0] B[0] + Ā[1] B[1] + …, in this order, for one block of columns.
template <int N>
FT_INLINE void add_rows(const float* pooled, const float* b, int64_t rank, int64_t dim, int lanes, V* sums) {
  for (int64_t k = 0; k < rank; k++) add_weighted<N>(b + k * dim, broadcast(pooled[k]), lanes, sums);
}

// The delta of one bag after another: s Ā[k] B[k] for k = 0, 1, …, or s times the sum of delta rows where there is no B. A
// bag without touched rows gets none. Added beside the base or after it, each output goes through the same operations in
// the same order.
class BagDelta {
 public:
  explicit BagDelta(const LookupArgs& a) : a_(a), rows_(a), ahead_(a.rank * (int64_t)sizeof(float), a.places), b_(a.b) {
    // B is read whole for every bag: from a copy that starts on a line, so that no load crosses two.
    if (a.b && a.rank * a.dim <= aligned_floats) b_ = (const float*)memcpy(aligned_, a.b, (size_t)(a.rank * a.dim) * sizeof(float));
  }

  // To a bag whose base is in `out`.
  __attribute__((noinline)) void add(int64_t bag) {
    const int64_t first = a_.offsets[bag], last = a_.offsets[bag + 1];
    float* out = a_.out + bag * a_.dim;
    rows_.touched = false;
    if (!a_.b) return add_bag(rows_, first, last, ahead_, a_.scale, out);
    sum_bag(rows_, first, last, ahead_, a_.rank, pooled_);
    finish(bag);
    if (!rows_.touched) return;
    for_blocks(a_.dim, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
      constexpr int N = decltype(block)::count;
      V sums[decltype(block)::sums];
      load_block<N>(out + at, lanes, sums);
      add_product<N>(a_.dim, at, lanes, sums);
      store_block<N>(out + at, lanes, sums);
    });
  }

  // Ā of a rank up to W, pooled elsewhere.
  FT_MEMBER void set(int64_t bag, V pooled) {
    store(pooled_, pooled);
    finish(bag);
  }
  // sums += s Ā B for the block of columns from `at` on. `dim` is D.
  template <int N>
  FT_MEMBER void add_product(int64_t dim, int64_t at, int lanes, V* sums) const {
    add_rows<N>(pooled_, b_ + at, a_.rank, dim, lanes, sums);
  }

 private:
  // Keeps Ā where it is asked for, and scales it.
  FT_MEMBER void finish(int64_t bag) {
    float* kept = a_.pooled ? a_.pooled + bag * a_.rank : nullptr;
    for (int64_t k = 0; k < a_.rank; k += W) {
      const V factor = load_some(pooled_ + k, a_.rank - k);
      if (kept) store_some(kept + k, factor, a_.rank - k);
      store_some(pooled_ + k, factor * broadcast(a_.scale), a_.rank - k);
    }
  }

  const LookupArgs& a_;
  FactorRows rows_;
  const Ahead ahead_;
  const float* b_;
  float pooled_[max_rank];
  alignas(64) float aligned_[aligned_floats];
};

// Ends a bag whose base is in `out`.
static void end_bag(const LookupArgs& a, BagDelta& delta, int64_t bag) {
  float* const out = a.out + bag * a.dim;
  if (a.pooled_base) memcpy(a.pooled_base + bag * a.dim, out, (size_t)a.dim * sizeof(float));
  delta.add(bag);
  if (!a.columns) return;
  for (int64_t at = 0; at < a.dim; at += W) {
    store_some(out + at, load_some(out + at, a.dim - at) * load_some(a.columns + at, a.dim - at), a.dim - at);
  }
}

template <class Kind>
static void pool_bags(const LookupArgs& a, const ColumnGroup& group, bool with_delta, int64_t begin, int64_t end) {
  typedef typename Kind::Codec Codec;
  const int64_t columns = Kind::columns ? Kind::columns : group.columns;
  typename Kind::Rows rows(a, group, a.offsets[begin], a.offsets[end]);
  const FactorRows factors(a);
  const int rank = (int)a.rank;
  const Weights weights(a.weights);
  Fetcher<Kind> fetcher(a, rows, columns, a.offsets[begin], a.offsets[end], end - begin);
  BagDelta delta(a);
  const int64_t row_bytes = columns * Codec::bits / 8;
  const int64_t most = row_bytes * most_tile <= tile_bytes ? most_tile : row_bytes >= tile_bytes ? 1 : tile_bytes / row_bytes;
  // Lines to be written are fetched too, and would queue behind those to be read. Long rows are streams of their own.
  const int64_t out_bytes = a.dim <= 1024 ? a.dim * (int64_t)sizeof(float) : 0;
  const int64_t out_ahead = 1 + 1024 / (a.dim * (int64_t)sizeof(float));
  for (int64_t bag = begin; bag < end; bag++) {
    const int64_t first = a.offsets[bag], last = a.offsets[bag + 1];
    float* out = a.out + bag * a.dim;
    fetcher.begin_bag(last);
    if (bag + out_ahead < end) {
      prefetch_bytes_to_write(out + out_ahead * a.dim, out_bytes);
      if (with_delta && a.pooled_base) prefetch_bytes_to_write(a.pooled_base + (bag + out_ahead) * a.dim, out_bytes);
    }
    // Then the delta is added before the sums leave the registers.
    const bool at_once = Kind::beside && last - first <= most;
    bool touched = false;
    int64_t tile = first;
    do {
      const int64_t tile_end = last - tile > most ? tile + most : last;
      for_blocks(columns, [&](auto block, int64_t at, int lanes) __attribute__((always_inline)) {
        constexpr int N = decltype(block)::count;
        V sums[decltype(block)::sums] = {};
        float* to = out + group.first_column + at;
        if (tile > first) load_block<N>(to, lanes, sums);
        if (at == 0) {
          V pooled = zero();
          for (int64_t p = tile; p < tile_end; p++) {
            fetcher.begin_place(p);
            add_place<Codec, N>(rows.at(p), weights.number(p), at, lanes, sums);
            const int64_t slot = Kind::beside ? factors.slot(p) : -1;
            if (slot < 0) continue;
            touched = true;
            pooled = fma(weights.at(p), load_first(factors.row(slot), rank), pooled);
          }
          if (at_once) delta.set(bag, pooled);
        } else {
          for (int64_t p = tile; p < tile_end; p++) add_place<Codec, N>(rows.at(p), weights.number(p), at, lanes, sums);
        }
        if (at_once) {
          if (a.pooled_base) store_block<N>(a.pooled_base + bag * a.dim + at, lanes, sums);
          if (touched) delta.template add_product<N>(columns, at, lanes, sums);
          if (a.columns) multiply_block<N>(a.columns + at, lanes, sums);
        }
        store_block<N>(to, lanes, sums);
      });
      tile = tile_end;
    } while (tile < last);
    if (with_delta && !at_once) end_bag(a, delta, bag);
  }
}

template <class Codec, class Rows, int columns>
static void pool_kind(const LookupArgs& a, const ColumnGroup& group, bool with_delta, int64_t begin, int64_t end) {
  if (with_delta && a.b && a.group_count == 1 && a.rank <= W) pool_bags<Kind<Codec, Rows, columns, true>>(a, group, with_delta, begin, end);
  else pool_bags<Kind<Codec, Rows, columns, false>>(a, group, with_delta, begin, end);
}

template <class Codec>
static void pool_group(const LookupArgs& a, const ColumnGroup& group, bool with_delta, int64_t begin, int64_t end) {
  // Every kind is the kernel compiled once more: those that are rarer, or wait for memory anyway, share one.
  if (group.shard_count != 1 || a.overlay_slots) return pool_bags<Kind<Codec, FoundRows, 0, false>>(a, group, with_delta, begin, end);
  const RowsView& view = group.shards->rows;
  if (Codec::bits != 32 && Codec::bits != 8) return pool_kind<Codec, StoreRows, 0>(a, group, with_delta, begin, end);
  switch (straddle_lines(view.data, view.stride, element_bytes(view.dtype, view.dim)) ? 0 : view.dim) {
    case 64: return pool_kind<Codec, StoreRows, 64>(a, group, with_delta, begin, end);
    case 128: return pool_kind<Codec, StoreRows, 128>(a, group, with_delta, begin, end);
    default: return pool_kind<Codec, StoreRows, 0>(a, group, with_delta, begin, end);
  }
}

static void lookup(const LookupArgs& a, int64_t begin, int64_t end) {
  if (a.group_count == 0) {
    BagDelta delta(a);
    for (int64_t bag = begin; bag < end; bag++) end_bag(a, delta, bag);
  }
  for (int64_t g = 0; g < a.group_count; g++) {
    const bool with_delta = a.factors && g == a.group_count - 1;
    switch (a.dtype) {
      case Dtype::f16: pool_group<F16>(a, a.groups[g], with_delta, begin, end); break;
      case Dtype::bf16: pool_group<Bf16>(a, a.groups[g], with_delta, begin, end); break;
      case Dtype::int8: pool_group<Int8>(a, a.groups[g], with_delta, begin, end); break;
      case Dtype::int4: pool_group<Int4>(a, a.groups[g], with_delta, begin, end); break;
      default: pool_group<F32>(a, a.groups[g], with_delta, begin, end); break;
    }
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
