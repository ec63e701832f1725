// Optimiser steps, on rows in slots and dense. Included by kernels.h.

template <class Codec, bool momentum, Squares squares>
static void update_slots(const UpdateRowsArgs& a, int64_t begin, int64_t end) {
  const RuleVectors rule(a.rule);
  for (int64_t i = begin; i < end; i++) {
    prefetch_slot<Codec, momentum, squares>(a, a.slots[i + prefetch_slots < end ? i + prefetch_slots : end - 1]);
    const int64_t slot = a.slots[i];
    const auto row = SlotRow<Codec>::template at<squares>(a, slot);
    const float* g = a.gradients + i * a.dim;
    Rounding of_momentum(a, slot, false), of_squares(a, slot, true);
    V m = zero(), h = zero();
    if (squares == Squares::row) {
      h = broadcast(next_row_squares(a.rule, load_state<Codec>(row.h, 0, 1)[0], row.w, g, a.dim));
      store_state<Codec>(row.h, 0, h, 1, of_squares);
    }
    for (int64_t at = 0; at < a.dim; at += W) {
      const int64_t n = a.dim - at;
      V w = load_some(row.w + at, n);
      if (momentum) m = load_state<Codec>(row.m, at, n);
      if (squares == Squares::element) h = load_state<Codec>(row.h, at, n);
      rule.step<momentum, squares>(w, m, h, load_some(g + at, n));
      store_some(row.w + at, w, n);
      if (momentum) store_state<Codec>(row.m, at, m, n, of_momentum);
      if (squares == Squares::element) store_state<Codec>(row.h, at, h, n, of_squares);
    }
  }
}

struct UpdateSlots {
  const UpdateRowsArgs& a;
  int64_t begin, end;
  template <class Codec, bool momentum, Squares squares>
  FT_MEMBER void run() const {
    update_slots<Codec, momentum, squares>(a, begin, end);
  }
};

static void update_rows(const UpdateRowsArgs& a, int64_t begin, int64_t end) {
  for_rule_and_state(a, UpdateSlots{a, begin, end});
  if (!a.last_steps) return;
  for (int64_t i = begin; i < end; i++) a.last_steps[a.slots[i]] = a.step;
}

// Parameters [begin, end) of a dense array.
struct UpdateStretch {
  const UpdateDenseArgs& a;
  int64_t begin, end;
  template <class, bool momentum, Squares squares>
  FT_MEMBER void run() const {
    const RuleVectors rule(a.rule);
    V m = zero(), h = zero();
    if (squares == Squares::row) h = broadcast(a.squares[0]);
    for (int64_t at = begin; at < end; at += W) {
      const int64_t n = end - at;
      V w = load_some(a.parameters + at, n);
      if (momentum) m = load_some(a.momentum + at, n);
      if (squares == Squares::element) h = load_some(a.squares + at, n);
      rule.step<momentum, squares>(w, m, h, load_some(a.gradients + at, n));
      store_some(a.parameters + at, w, n);
      if (momentum) store_some(a.momentum + at, m, n);
      if (squares == Squares::element) store_some(a.squares + at, h, n);
    }
  }
};

static void update_dense(const UpdateDenseArgs& a, int64_t begin, int64_t end) {
  for_rule<F32>(a.rule, UpdateStretch{a, begin, end});
}

static double gradient_squares(const UpdateDenseArgs& a, int64_t begin, int64_t end) {
  // Few enough at a time for f32.
  constexpr int64_t piece = 1024;
  double sum = 0;
  for (int64_t at = begin; at < end; at += piece) {
    sum += (double)sum_gradient_squares(a.parameters + at, a.gradients + at, a.rule.l2, end - at < piece ? end - at : piece);
  }
  return sum;
}
