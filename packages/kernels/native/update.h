// Optimiser steps: one rule, reached through slots, through replay or densely. Included by kernels.h.
//
// A rule is a struct of broadcast constants whose `step` takes a vector of parameters with its state one step on. Lanes
// past the end of a row hold zeros and stay zeros. Formulas: see UpdateRule in kernels.ts; in f32.

struct SgdVectors {
  V learning_rate, weight_decay;
  explicit SgdVectors(const Rule& r) : learning_rate(broadcast(r.learning_rate)), weight_decay(broadcast(r.weight_decay)) {}
  FT_MEMBER void step(V& w, V&, V&, V g) const { w -= learning_rate * (g + weight_decay * w); }
};

struct AdagradVectors {
  V learning_rate, epsilon;
  explicit AdagradVectors(const Rule& r) : learning_rate(broadcast(r.learning_rate)), epsilon(broadcast(r.epsilon)) {}
  FT_MEMBER void step(V& w, V& h, V&, V g) const {
    h += g * g;
    w -= learning_rate * g / (square_root(h) + epsilon);
  }
};

struct AdamwVectors {
  V beta1, rest1, beta2, rest2, kept, rate, root, epsilon;
  float learning_rate;
  explicit AdamwVectors(const Rule& r)
      : beta1(broadcast(r.beta1)),
        rest1(broadcast(r.rest1)),
        beta2(broadcast(r.beta2)),
        rest2(broadcast(r.rest2)),
        kept(broadcast(r.kept)),
        epsilon(broadcast(r.epsilon)),
        learning_rate(r.learning_rate) {
    correct(r.correction, r.root);
  }
  FT_MEMBER void correct(float first, float second_root) {
    rate = broadcast(learning_rate * first);
    root = broadcast(second_root);
  }
  FT_MEMBER void step(V& w, V& m, V& v, V g) const {
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * g * g;
    w = w * kept - rate * m / (square_root(v) * root + epsilon);
  }
};

// One step for `length` parameters, each with its own state.
template <class Vectors>
FT_INLINE void step_stretch(const Vectors& rule, float* w, float* first, float* second, const float* g, int64_t length) {
  for (int64_t at = 0; at < length; at += W) {
    const int64_t n = length - at;
    V wv = load_some(w + at, n), fv = zero(), sv = zero();
    if (first) fv = load_some(first + at, n);
    if (second) sv = load_some(second + at, n);
    rule.step(wv, fv, sv, load_some(g + at, n));
    store_some(w + at, wv, n);
    if (first) store_some(first + at, fv, n);
    if (second) store_some(second + at, sv, n);
  }
}

// Slots lie scattered; their rows are fetched this many slots ahead.
constexpr int64_t prefetch_slots = 8;

FT_INLINE void prefetch_slot(const float* rows, int64_t slot, int64_t dim) {
  if (rows) prefetch_bytes(rows + slot * dim, dim * (int64_t)sizeof(float));
}

template <class Vectors>
static void update_slots(const UpdateRowsArgs& a, int64_t begin, int64_t end) {
  const Vectors rule(a.rule);
  for (int64_t i = begin; i < end; i++) {
    const int64_t ahead = a.slots[i + prefetch_slots < end ? i + prefetch_slots : end - 1];
    prefetch_slot(a.parameters, ahead, a.dim);
    prefetch_slot(a.first, ahead, a.dim);
    prefetch_slot(a.second, ahead, a.dim);
    const int64_t at = a.slots[i] * a.dim;
    step_stretch(rule, a.parameters + at, a.first ? a.first + at : nullptr, a.second ? a.second + at : nullptr,
                 a.gradients + i * a.dim, a.dim);
  }
}

static void update_slots_rowwise(const UpdateRowsArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t slot = a.slots[i];
    const float* g = a.gradients + i * a.dim;
    float* w = a.parameters + slot * a.dim;
    V squares = zero();
    for (int64_t at = 0; at < a.dim; at += W) {
      const V gv = load_some(g + at, a.dim - at);
      squares += gv * gv;
    }
    const float h = a.first[slot] += sum_lanes(squares) / (float)a.dim;
    const V rate = broadcast(a.rule.learning_rate / (__builtin_sqrtf(h) + a.rule.epsilon));
    for (int64_t at = 0; at < a.dim; at += W) {
      const int64_t n = a.dim - at;
      store_some(w + at, load_some(w + at, n) - rate * load_some(g + at, n), n);
    }
  }
}

static void update_rows(const UpdateRowsArgs& a, int64_t begin, int64_t end) {
  switch (a.rule.type) {
    case RuleType::sgd: update_slots<SgdVectors>(a, begin, end); break;
    case RuleType::adagrad: update_slots<AdagradVectors>(a, begin, end); break;
    case RuleType::rowwise_adagrad: update_slots_rowwise(a, begin, end); break;
    case RuleType::adamw: update_slots<AdamwVectors>(a, begin, end); break;
  }
  if (!a.last_steps) return;
  for (int64_t i = begin; i < end; i++) a.last_steps[a.slots[i]] = a.step;
}

template <class Vectors>
static void update_stretch(const UpdateDenseArgs& a, int64_t begin, int64_t end) {
  const Vectors rule(a.rule);
  step_stretch(rule, a.parameters + begin, a.first ? a.first + begin : nullptr, a.second ? a.second + begin : nullptr,
               a.gradients + begin, end - begin);
}

static void update_dense(const UpdateDenseArgs& a, int64_t begin, int64_t end) {
  switch (a.rule.type) {
    case RuleType::sgd: update_stretch<SgdVectors>(a, begin, end); break;
    case RuleType::adagrad: update_stretch<AdagradVectors>(a, begin, end); break;
    case RuleType::rowwise_adagrad: break;
    case RuleType::adamw: update_stretch<AdamwVectors>(a, begin, end); break;
  }
}

// Steps (last, step] of sgd with weight decay and no gradient. Each step is the same function of w, so once it changes
// nothing it never will.
static void replay_sgd(const Rule& r, float* w, int64_t dim, int64_t steps) {
  const SgdVectors rule(r);
  for (int64_t at = 0; at < dim; at += W) {
    V wv = load_some(w + at, dim - at), unused = zero();
    for (int64_t t = 0; t < steps; t++) {
      const V before = wv;
      rule.step(wv, unused, unused, zero());
      if (all(wv == before)) break;
    }
    store_some(w + at, wv, dim - at);
  }
}

// Whether no later zero-gradient step of Adam without weight decay can move w in f32. |m| only shrinks (rounding is
// monotone and beta1 < 1), the first correction only falls towards 1 and the divisor is at least epsilon, so every later
// update is at most rate |m| / epsilon; 1.001 is room for rounding, and so are two steps of the smallest f32 where m is
// not 0. Where w ± that rounds to w, so does w ± anything smaller.
FT_INLINE bool settled(V w, V m, V reach) {
  const V most = select(m == zero(), zero(), reach * absolute(m) + broadcast(0x1p-148f));
  return all((VI)(w + most == w) & (VI)(w - most == w));
}

// The moments alone, as `step` decays them; a product that rounds to itself stays there.
FT_INLINE void decay(V& m, V& v, const AdamwVectors& rule, int64_t steps) {
  const V nothing1 = rule.rest1 * zero(), nothing2 = rule.rest2 * zero() * zero();
  bool m_rests = false;
  for (int64_t t = 0; t < steps; t++) {
    const V v_before = v;
    v = rule.beta2 * v + nothing2;
    // Not multiplied once it rests: where it does it is subnormal, which is slow on some processors.
    if (!m_rests) {
      const V m_before = m;
      m = rule.beta1 * m + nothing1;
      m_rests = all(m == m_before);
    } else if (all(v == v_before)) {
      break;
    }
  }
}

static void replay_adamw(const ReplayRowsArgs& a, int64_t slot, int64_t last) {
  AdamwVectors rule(a.rule);
  const bool decays = a.rule.weight_decay != 0;
  for (int64_t at = 0; at < a.dim; at += W) {
    const int64_t n = a.dim - at, where = slot * a.dim + at;
    V w = load_some(a.parameters + where, n), m = load_some(a.first + where, n), v = load_some(a.second + where, n);
    for (int64_t t = last + 1; t <= a.step; t++) {
      const int64_t row = 2 * (t < a.correction_steps ? t : a.correction_steps);
      rule.correct(a.corrections[row], a.corrections[row + 1]);
      rule.step(w, m, v, zero());
      if (!decays && settled(w, m, rule.rate / rule.epsilon * broadcast(1.001f))) {
        decay(m, v, rule, a.step - t);
        break;
      }
    }
    store_some(a.parameters + where, w, n);
    store_some(a.first + where, m, n);
    store_some(a.second + where, v, n);
  }
}

static void replay_rows(const ReplayRowsArgs& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t slot = a.slots[i];
    if (slot < 0) continue;
    const int64_t last = a.last_steps[slot];
    if (last >= a.step) continue;
    a.last_steps[slot] = a.step;
    // Without gradient adagrad's h grows by 0 and w moves by 0, and so does w under sgd without weight decay.
    if (a.rule.type == RuleType::adamw) replay_adamw(a, slot, last);
    else if (a.rule.type == RuleType::sgd && a.rule.weight_decay != 0) {
      replay_sgd(a.rule, a.parameters + slot * a.dim, a.dim, a.step - last);
    }
  }
}
