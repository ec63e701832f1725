// Steps without gradient on rows in slots, many at once: see skipped.ts for the formulas. Included by kernels.h.

// What steps `last + 1` to the newest leave of w, m and h where momentum moves nothing.
struct Shrinking {
  V w, m, h;
  float h_row;
  template <bool momentum, Squares squares>
  static FT_MEMBER Shrinking of(const ReplayRowsArgs& a, int64_t last) {
    float w, m = 1, h = 1;
    if (momentum && a.sums && last >= a.recent) {
      const float* x = a.sums + 8 * last + 5;
      w = x[0], m = x[1], h = x[2];
    } else {
      const double steps = (double)(a.step - last);
      w = (float)__builtin_exp(a.log_kept[a.step] - a.log_kept[last]);
      if (momentum) m = (float)__builtin_exp(a.log_keep_momentum * steps);
      if (momentum && squares != Squares::none) h = (float)__builtin_exp(a.log_keep_squares * steps);
    }
    return {broadcast(w), broadcast(m), broadcast(h), h};
  }
};

// Steps one by one as far as they matter.
template <bool momentum, Squares squares>
static void make_steps(const ReplayRowsArgs& a, int64_t last, V& w, V& m, V& h) {
  RuleVectors rule(a.rule);
  const int64_t to = a.step - last < a.single_steps ? a.step : last + a.single_steps;
  for (int64_t t = last + 1; t <= to; t++) {
    rule.set_step(a.numbers + 3 * t);
    if (squares == Squares::row) h *= rule.keep_squares;
    rule.step<momentum, squares>(w, m, h, zero());
  }
  if (to == a.step) return;
  const Shrinking rest = Shrinking::of<momentum, squares>(a, to);
  w *= rest.w;
  m *= rest.m;
  h *= rest.h;
}

// All that momentum does to w in the steps after `last`, before w shrinks.
struct Sums {
  V sum, centre, second, third, least;
  explicit Sums(const float* x)
      : sum(broadcast(x[0])), centre(broadcast(x[1])), second(broadcast(x[2])), third(broadcast(x[3])), least(broadcast(x[4])) {}
  template <Squares squares>
  FT_MEMBER bool add(V& w, V m, V h) const {
    V moved = sum;
    if (squares != Squares::none) {
      const V root = square_root(h);
      if (!all((VI)(root >= least) | (VI)(m == zero()))) return false;
      const V inverse = broadcast(1) / (root + centre), p = centre * inverse;
      moved = sum * inverse * (broadcast(1) - (broadcast(1) - p) * p * (second - p * third));
    }
    w -= m * moved;
    return true;
  }
};

// L2 decay makes every gradient, and so squares by row, depend on the whole row: one step after the other, in f32 state.
template <class Codec, bool momentum>
static void replay_whole_row(const ReplayRowsArgs& a, SlotRow<Codec> row, int64_t last, float* h) {
  RuleVectors rule(a.rule);
  for (int64_t t = last + 1; t <= a.step; t++) {
    rule.set_step(a.numbers + 3 * t);
    V hv = broadcast(*h = next_row_squares(a.rule, *h, row.w, nullptr, a.dim));
    for (int64_t at = 0; at < a.dim; at += W) {
      const int64_t n = a.dim - at;
      V w = load_some(row.w + at, n), m = momentum ? load_some((float*)row.m + at, n) : zero();
      rule.step<momentum, Squares::row>(w, m, hv, zero());
      store_some(row.w + at, w, n);
      if (momentum) store_some((float*)row.m + at, m, n);
    }
  }
}

template <class Codec, bool momentum, Squares squares>
static void replay_row(const ReplayRowsArgs& a, int64_t slot, int64_t last) {
  const auto row = SlotRow<Codec>::template at<squares>(a, slot);
  Rounding of_momentum(a, slot, false), of_squares(a, slot, true);
  float h_row = squares == Squares::row ? load_state<Codec>(row.h, 0, 1)[0] : 0;
  if (squares == Squares::row && a.rule.l2 != 0) {
    replay_whole_row<Codec, momentum>(a, row, last, &h_row);
    store_state<Codec>(row.h, 0, broadcast(h_row), 1, of_squares);
    return;
  }
  const Shrinking shrinking = Shrinking::of<momentum, squares>(a, last);
  static const float no_sums[8] = {};
  const Sums sums(a.sums ? a.sums + 8 * last : no_sums);
  for (int64_t at = 0; at < a.dim; at += W) {
    const int64_t n = a.dim - at;
    V w = load_some(row.w + at, n), m = zero(), h = broadcast(h_row);
    if (momentum) m = load_state<Codec>(row.m, at, n);
    if (squares == Squares::element) h = load_state<Codec>(row.h, at, n);
    if (momentum && a.sums && sums.add<squares>(w, m, h)) {
      w *= shrinking.w;
      m *= shrinking.m;
      h *= shrinking.h;
    } else {
      make_steps<momentum, squares>(a, last, w, m, h);
    }
    store_some(row.w + at, w, n);
    if (momentum) store_state<Codec>(row.m, at, m, n, of_momentum);
    if (squares == Squares::element) store_state<Codec>(row.h, at, h, n, of_squares);
  }
  if (squares == Squares::row) store_state<Codec>(row.h, 0, broadcast(h_row * shrinking.h_row), 1, of_squares);
}

struct ReplaySlots {
  const ReplayRowsArgs& a;
  int64_t begin, end;
  template <class Codec, bool momentum, Squares squares>
  FT_MEMBER void run() const {
    const bool rests = !momentum && a.rule.l2 == 0 && a.rule.step_numbers[1] == 0;
    for (int64_t i = begin; i < end; i++) {
      const int64_t ahead = a.slots[i + prefetch_slots < end ? i + prefetch_slots : end - 1];
      if (ahead >= 0 && !rests) prefetch_slot<Codec, momentum, squares>(a, ahead);
      const int64_t farther = a.slots[i + 2 * prefetch_slots < end ? i + 2 * prefetch_slots : end - 1];
      if (farther >= 0) prefetch_line(a.last_steps + farther);
      const int64_t slot = a.slots[i];
      if (slot < 0) continue;
      const int64_t last = a.last_steps[slot];
      if (last >= a.step) continue;
      a.last_steps[slot] = a.step;
      if (!rests) replay_row<Codec, momentum, squares>(a, slot, last);
    }
  }
};

static void replay_rows(const ReplayRowsArgs& a, int64_t begin, int64_t end) {
  for_rule_and_state(a, ReplaySlots{a, begin, end});
}
