// The formula of every update rule, a vector at a time: see form.ts. In f32. Included by kernels.h.

struct RuleVectors {
  V l2, epsilon, keep_momentum, rest_momentum, keep_squares, rest_squares;
  V rate, decay, root;
  explicit RuleVectors(const Rule& r)
      : l2(broadcast(r.l2)),
        epsilon(broadcast(r.epsilon)),
        keep_momentum(broadcast(r.keep_momentum)),
        rest_momentum(broadcast(r.rest_momentum)),
        keep_squares(broadcast(r.keep_squares)),
        rest_squares(broadcast(r.rest_squares)) {
    set_step(r.step_numbers);
  }
  FT_MEMBER void set_step(const float* numbers) {
    rate = broadcast(numbers[0]);
    decay = broadcast(numbers[1]);
    root = broadcast(numbers[2]);
  }
  // Lanes past the end of a row hold zeros and stay zeros. Squares by row are those after the step.
  template <bool momentum, Squares squares>
  FT_MEMBER void step(V& w, V& m, V& h, V g) const {
    g += l2 * w;
    if (squares == Squares::element) h = keep_squares * h + rest_squares * g * g;
    if (momentum) g = m = keep_momentum * m + rest_momentum * g;
    V moved = rate * g;
    if (squares != Squares::none) moved = moved / (square_root(h) * root + epsilon);
    w -= decay * w + moved;
  }
};

// Σ (g + l2 w)²; `g` null: no gradient.
FT_INLINE float sum_gradient_squares(const float* w, const float* g, float l2, int64_t length) {
  V squares = zero();
  for (int64_t at = 0; at < length; at += W) {
    V x = broadcast(l2) * load_some(w + at, length - at);
    if (g) x += load_some(g + at, length - at);
    squares += x * x;
  }
  return sum_lanes(squares);
}

FT_INLINE float next_row_squares(const Rule& r, float h, const float* w, const float* g, int64_t dim) {
  return r.keep_squares * h + r.rest_squares * (sum_gradient_squares(w, g, r.l2, dim) / (float)dim);
}

// Where a slot's row lies. `h` is one value a row where squares are by row.
template <class Codec>
struct SlotRow {
  float* w;
  char *m, *h;
  template <Squares squares>
  static FT_MEMBER SlotRow at(const SlotRows& a, int64_t slot) {
    const int64_t bytes = slot * a.dim * Codec::bits / 8;
    return {a.parameters + slot * a.dim, a.momentum + bytes,
            a.squares + (squares == Squares::row ? slot * Codec::bits / 8 : bytes)};
  }
};

// Slots lie scattered; their rows are fetched this many slots ahead.
constexpr int64_t prefetch_slots = 8;

template <class Codec, bool momentum, Squares squares>
FT_INLINE void prefetch_slot(const SlotRows& a, int64_t slot) {
  const auto row = SlotRow<Codec>::template at<squares>(a, slot);
  const int64_t bytes = a.dim * Codec::bits / 8;
  prefetch_bytes(row.w, a.dim * 4);
  if (momentum) prefetch_bytes(row.m, bytes);
  if (squares != Squares::none) prefetch_bytes(row.h, squares == Squares::row ? Codec::bits / 8 : bytes);
}

// Calls `function.run<Codec, momentum, squares>()` for what a rule and its state have.
template <class Codec, class Function>
FT_INLINE void for_rule(const Rule& r, const Function& function) {
  switch (r.squares) {
    case Squares::none:
      if (r.momentum) function.template run<Codec, true, Squares::none>();
      else function.template run<Codec, false, Squares::none>();
      break;
    case Squares::element:
      if (r.momentum) function.template run<Codec, true, Squares::element>();
      else function.template run<Codec, false, Squares::element>();
      break;
    case Squares::row:
      if (r.momentum) function.template run<Codec, true, Squares::row>();
      else function.template run<Codec, false, Squares::row>();
      break;
  }
}

template <class Function>
FT_INLINE void for_rule_and_state(const SlotRows& a, const Function& function) {
  if (a.state_dtype == Dtype::bf16) for_rule<Bf16>(a.rule, function);
  else if (a.state_dtype == Dtype::f16) for_rule<F16>(a.rule, function);
  else for_rule<F32>(a.rule, function);
}
