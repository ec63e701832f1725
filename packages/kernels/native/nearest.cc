// Nearest rows: threads take blocks of rows, each keeps the best of what it saw, and those are merged. Which rows are kept
// depends on scores and rows alone, so the result is the same however blocks were shared.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "async.h"
#include "functions.h"
#include "pool.h"

namespace finetable {
namespace {

// Rows of a block together, a quarter of a second-level cache: they are read once for every panel of queries.
constexpr int64_t block_bytes = 128 << 10;
// Rows of several tiles, so that few are left over.
constexpr int64_t block_step = 12;

// A score and its row as one number: the larger is the better. NaN comes last, equal scores by ascending row.
typedef uint64_t Candidate;

Candidate candidate(float score, int32_t row) {
  score += 0.0f;  // -0 is no other score than 0
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  const uint32_t rank = std::isnan(score) ? 0 : bits & 0x80000000 ? ~bits : bits | 0x80000000;
  return (uint64_t)rank << 32 | (0xffffffffu - (uint32_t)row);
}
int32_t row_of(Candidate c) { return (int32_t)(0xffffffffu - (uint32_t)c); }
float score_of(Candidate c) {
  const uint32_t rank = (uint32_t)(c >> 32);
  if (rank == 0) return NAN;
  const uint32_t bits = rank & 0x80000000 ? rank & 0x7fffffff : ~rank;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

typedef std::vector<Candidate> Candidates;

void keep_best(Candidates& list, size_t count) {
  if (list.size() <= count) return;
  std::nth_element(list.begin(), list.begin() + (ptrdiff_t)count - 1, list.end(), std::greater<Candidate>());
  list.resize(count);
}

// The best candidates of one thread, per query. Lists grow to twice what is wanted before the worse half goes: a few
// operations per candidate, where a heap needs its depth.
struct Best {
  size_t count;
  std::vector<Candidates> lists;

  // The score that the next candidate must exceed; NaN while there are fewer than `count`.
  float keep(int64_t query, float score, int32_t row) {
    Candidates& list = lists[(size_t)query];
    list.push_back(candidate(score, row));
    if (list.size() < count + std::max<size_t>(count, 16)) return thresholds[(size_t)query];
    keep_best(list, count);
    return thresholds[(size_t)query] = score_of(list.back());
  }
  std::vector<float> thresholds;
};

class Nearest {
 public:
  // (context, dim, tableRows, [rows, firstRow, firstColumn, …], queries, q, k, cosine, factors, touchedRows, slots, b, scale,
  // rows, scores)
  explicit Nearest(Call& call) : context_(call.context(0)) {
    a_.dim = call.integer(1);
    table_rows_ = call.integer(2);
    read_shards(call, call.value(3));
    queries_ = call.floats(4);
    a_.queries = call.integer(5);
    count_ = call.integer(6);
    a_.cosine = call.boolean(7);
    if (const Rows* factors = stores_.hold(call.open_rows(8))) {
      a_.factors = (const float*)factors->view.data;
      a_.rank = factors->view.dim;
    }
    a_.touched_rows = call.ints(9, &a_.touched);
    a_.slots = call.ints(10);
    a_.b = call.floats(11);
    a_.scale = (float)call.number(12);
    rows_ = call.ints_out(13);
    scores_ = call.floats_out(14);
  }
  Nearest(const Nearest&) = delete;

  void run() {
    if (a_.queries == 0) return;
    a_.shards = shards_.data();
    a_.shard_count = (int64_t)shards_.size();
    pack();
    std::vector<Best> best((size_t)context_.threads);
    std::atomic<int64_t> next{0};
    in_parallel(context_.threads, [&](int64_t i) { search(best[(size_t)i], next); });
    in_parallel(a_.queries, [&](int64_t query) { merge(best, query); });
  }

 private:
  void read_shards(Call& call, napi_value list) {
    uint32_t entries = 0;
    call.check(napi_get_array_length(call.env(), list, &entries));
    for (uint32_t i = 0; i + 2 < entries && !call.wrong(); i += 3) {
      napi_value values[3] = {};
      double first[2] = {};
      for (uint32_t k = 0; k < 3; k++) call.check(napi_get_element(call.env(), list, i + k, &values[k]));
      for (uint32_t k = 0; k < 2; k++) call.check(napi_get_value_double(call.env(), values[k + 1], &first[k]));
      if (const Rows* rows = stores_.hold(call.open_rows_of(values[0])))
        shards_.push_back({rows->view, (int64_t)first[0], (int64_t)first[1]});
    }
  }

  // Queries side by side in panels of the kernel's width, the last one of half of it where that will do.
  void pack() {
    const int64_t width = context_.ops->panel_cols, half = width / 2;
    packed_.assign((size_t)((a_.queries + width - 1) / width * width * a_.dim), 0);
    for (int64_t query = 0; query < a_.queries; query++) {
      const float* from = queries_ + query * a_.dim;
      double scale = 1;
      if (a_.cosine) {
        double sum = 0;
        for (int64_t d = 0; d < a_.dim; d++) sum += (double)from[d] * from[d];
        scale = sum < least_square ? 0 : 1 / std::sqrt(sum);
      }
      const int64_t query0 = query / width * width;
      const int64_t step = a_.queries - query0 <= half ? half : width;
      float* to = packed_.data() + query0 * a_.dim + (query - query0);
      for (int64_t d = 0; d < a_.dim; d++) to[d * step] = (float)(from[d] * scale);
    }
    a_.packed = packed_.data();
  }

  // Everything that a thread finds before the blocks are used up.
  void search(Best& best, std::atomic<int64_t>& next) {
    const int64_t block = std::max<int64_t>(1, block_bytes / (a_.dim * 4) / block_step) * block_step;
    std::vector<float> panel((size_t)(block * a_.dim)), inverse_norms((size_t)block);
    std::vector<const char*> rows((size_t)block);
    // Lanes beyond the queries have a threshold that no number exceeds.
    const int64_t width = context_.ops->panel_cols;
    std::vector<float> thresholds((size_t)((a_.queries + width - 1) / width * width), INFINITY);
    std::fill_n(thresholds.begin(), a_.queries, NAN);
    best.count = (size_t)count_;
    best.lists.resize((size_t)a_.queries);
    best.thresholds.assign((size_t)a_.queries, NAN);
    const auto keep = [](void* to, int64_t query, float score, int32_t row) { return ((Best*)to)->keep(query, score, row); };
    NearestScratch scratch = {panel.data(), rows.data(), inverse_norms.data(), thresholds.data(), &best, keep};
    for (;;) {
      const int64_t begin = next.fetch_add(block, std::memory_order_relaxed);
      if (begin >= table_rows_) return;
      context_.ops->nearest(a_, scratch, begin, std::min(begin + block, table_rows_));
    }
  }

  void merge(const std::vector<Best>& best, int64_t query) {
    Candidates all;
    for (const Best& part : best) {
      // A thread that found no work left has no lists.
      if (!part.lists.empty()) all.insert(all.end(), part.lists[(size_t)query].begin(), part.lists[(size_t)query].end());
    }
    keep_best(all, (size_t)count_);
    std::sort(all.begin(), all.end(), std::greater<Candidate>());
    for (size_t i = 0; i < all.size(); i++) {
      rows_[query * count_ + (int64_t)i] = row_of(all[i]);
      scores_[query * count_ + (int64_t)i] = score_of(all[i]);
    }
  }

  // body(i) for i below `count`. No exception may reach a thread of the pool.
  template <class Body>
  void in_parallel(int64_t count, Body body) {
    std::atomic<bool> failed{false};
    parallel(context_.threads, count, 1, [&](int64_t begin, int64_t end) {
      try {
        for (int64_t i = begin; i < end; i++) body(i);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    });
    if (failed) throw std::bad_alloc();
  }

  const Context context_;
  NearestArgs a_ = {};
  int64_t table_rows_, count_;
  std::vector<NearestShard> shards_;
  const float* queries_;
  std::vector<float> packed_;
  int32_t* rows_;
  float* scores_;
  HeldStores stores_;
};

napi_value nearest(Call& call) {
  std::unique_ptr<Nearest> nearest(new Nearest(call));
  return run_async(call, "finetable nearest", 4, 14, std::move(nearest));
}

}  // namespace

const NamedFunction nearest_functions[] = {
    {"nearest", entry<nearest>},
    {nullptr, nullptr},
};

}  // namespace finetable
