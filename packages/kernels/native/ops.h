// The arithmetic, as one table of functions per instruction set. Arguments are plain structs that TypeScript has checked.
//
// Most functions do a range [begin, end) of their outputs, so that threads can share a call. No output depends on where
// ranges begin or end, which is why results are the same for any number of threads.
//
// Dimension letters: V rows of a table, D dims, r rank, n places, u unique rows, b bags.
#pragma once
#include <cstdint>

namespace finetable {

// As StoreDtype, in the order of native/addon.ts.
enum class Dtype : int32_t { f32, f16, bf16, int8, int4, i32 };

// Rows of a store. A store over part of a table's columns has a stride longer than its rows. No address need be aligned.
struct RowsView {
  const char* data;
  int64_t stride;        // bytes from one row's elements to the next one's
  const char* scales;    // f32; null without
  int64_t scale_stride;  // bytes from one row's scales to the next one's
  int64_t group;         // columns that share a scale: 0 without, a power of two, or all of them
  int64_t rows, dim;
  Dtype dtype;
};

// Bytes of the elements of `columns` columns.
inline int64_t element_bytes(Dtype dtype, int64_t columns) {
  switch (dtype) {
    case Dtype::f16:
    case Dtype::bf16: return 2 * columns;
    case Dtype::int8: return columns;
    case Dtype::int4: return (columns + 1) / 2;
    default: return 4 * columns;
  }
}

// Rows [first_row, first_row + rows.rows) of a table, in some of its columns.
struct ShardView {
  RowsView rows;
  int64_t first_row;
};

// The shards of columns [first_column, first_column + columns), none of them empty, by row.
struct ColumnGroup {
  int64_t first_column, columns;
  const ShardView* shards;
  int64_t shard_count;
};

struct LookupArgs {
  int64_t dim;
  Dtype dtype;  // of all shards and the overlay
  // None: the base was pooled before and stands in `out`.
  const ColumnGroup* groups;
  int64_t group_count;
  RowsView overlay;              // whole rows
  const int32_t* overlay_slots;  // [u], -1 where a row is in a shard; null without an overlay
  const int32_t* offsets;        // [b + 1]
  const int32_t* place_rows;     // [n]
  const int32_t* place_unique;   // [n]
  const int32_t* unique_rows;    // [u]
  const float* weights;          // [n] or null
  int64_t places;
  // The delta; `factors` null: none. `b` null: the identity, rank = dim.
  const float* factors;  // [capacity, r]
  const int32_t* slots;  // [u], -1 where untouched
  const float* b;        // [r, D]
  int64_t rank;
  float scale;
  float* out;     // [b, D]
  float* pooled;  // [b, r] or null
  float* pooled_base;    // [b, D] or null: gets `out` as it was before the delta
  const float* columns;  // [D] or null: what `out` is multiplied by last
};

// More than this does not fit the scratch of a pooled factor row, which lies on the stack (16 KiB).
constexpr int64_t max_rank = 4096;

// A delta that some bags of a batch have; as in LookupArgs.
struct ChosenDelta {
  const float* factors;
  int64_t rank;
  const float* b;
  float scale;
};

struct ChosenArgs {
  int64_t dim;
  const ChosenDelta* deltas;
  const int32_t* bag_deltas;   // [b], -1 for none
  const int32_t* place_slots;  // [n], -1 where untouched
  const int32_t* offsets;      // [b + 1]
  const float* weights;        // [n] or null
  float* out;                  // [b, D], added to
};

// Rows of A that changed, as RowProducts has them.
struct RowProductsArgs {
  RowsView base;
  const int32_t* rows;   // [n]
  const int32_t* slots;  // [n], -1: passed over
  const float* factors;  // [capacity, r]
  float* counted;        // likewise, brought up to date; null: zeros
  int64_t rank;
};

// Rows that are taken at once, for which there must be scratch memory: `product_batch` times (D + r + rank_padded(r)) floats.
constexpr int64_t product_batch = 16;
// Products are made for this many columns of A at a time.
constexpr int rank_tile = 4;
inline int64_t rank_padded(int64_t rank) { return (rank + rank_tile - 1) / rank_tile * rank_tile; }

struct SegmentSumArgs {
  int64_t cols;
  const int32_t* group_offsets;  // [u + 1]
  const int32_t* group_places;   // [n]
  const int32_t* group_bags;     // [n]
  const float* weights;          // [n] or null
  int64_t places;
  const float* values;     // [b, cols]
  const int32_t* uniques;  // [k] in [0, u); null: all
  float* out;              // [k, cols]
};

struct GatherArgs {
  RowsView from;
  const int32_t* rows;
  float* out;
};

// Rows [first_row, first_row + rows.rows) and columns [first_column, first_column + rows.dim) of a table.
struct NearestShard {
  RowsView rows;
  int64_t first_row, first_column;
};

struct NearestArgs {
  int64_t dim;
  const NearestShard* shards;  // column groups, each of all rows
  int64_t shard_count;
  // [q / panel_cols] panels of [D, panel_cols], the last one [D, panel_cols / 2] where that is enough, with zeros after the
  // queries; of length 1 for cosine.
  const float* packed;
  int64_t queries;
  bool cosine;
  // Rows with a delta; `touched` 0: none. `b` null: the identity, rank = dim.
  const int32_t* touched_rows;  // [t], ascending
  const int32_t* slots;         // [t]
  int64_t touched;
  const float* factors;  // [capacity, r]
  const float* b;        // [r, D]
  int64_t rank;
  float scale;
};

// What one thread works with, for a block of rows.
struct NearestScratch {
  float* panel;          // [block, D]: rows that cannot be read in place
  const char** rows;     // [block]: f32, anywhere
  float* inverse_norms;  // [block]
  float* thresholds;     // per query of a panel: scores up to it are not wanted; NaN: all are
  void* best;
  float (*keep)(void* best, int64_t query, float score, int32_t row);  // returns the query's new threshold
};

// Σ x² of a vector that counts as zero: its inverse length would not be a normal f32.
constexpr double least_square = 0x1p-252;

// As `RuleForm` of form.ts.
enum class Squares : int32_t { none, element, row };

struct Rule {
  bool momentum;
  Squares squares;
  float l2, epsilon;
  float keep_momentum, rest_momentum, keep_squares, rest_squares;
  float step_numbers[3];  // rate, decay and root of this step
};

// Rows in slots, to be brought to `step`.
struct SlotRows {
  Rule rule;
  int32_t step;
  int64_t dim;
  float* parameters;
  Dtype state_dtype;  // f32, bf16 or f16
  char* momentum;
  char* squares;
  uint64_t seed;  // draws how 16-bit state is rounded
  const int32_t* slots;
  int32_t* last_steps;  // or null
};

struct UpdateRowsArgs : SlotRows {
  const float* gradients;  // [u, dim]
};

// As `SkippedSteps` of skipped.ts has them.
struct ReplayRowsArgs : SlotRows {
  const float* numbers;    // [step + 1, 3]
  const float* sums;       // [step, 8] or null
  int64_t recent;          // from here on they hold what is left of w, m and h
  const double* log_kept;  // [step + 1]
  int64_t single_steps;
  double log_keep_momentum, log_keep_squares;
};

struct UpdateDenseArgs {
  Rule rule;
  float* parameters;
  float* momentum;
  float* squares;  // one value where squares are by row: that of this step
  const float* gradients;
};

// out[M, N] = scale · a b, or + into partial products of `k_chunk` terms each, laid out [chunk, M, N]. a is read through
// strides; b is [K, N] or, with b_transposed, [N, K].
struct MatmulArgs {
  int64_t m, n, k;
  const float* a;
  int64_t a_row, a_k;
  const float* b;
  bool b_transposed;
  float* out;
  float scale;
  // How the work is cut; see cut_matmul.
  int64_t row_block, row_blocks, panels, k_chunk, chunks;
};

struct CrossEntropyArgs {
  int64_t cols;
  const float* logits;
  const int32_t* labels;
  float* losses;
  float* gradient;  // or null
  float scale;
};

struct NormalizeArgs {
  int64_t cols;
  float* x;  // rows, or the gradient
  const float* y;
  float* norms;
};

// Vectors of one example with each other. The pairs (i, j), j < i, are columns first_column + i (i - 1) / 2 + j.
struct PairDotsArgs {
  int64_t count, dim;
  const float* const* vectors;  // each [b, D]
  int64_t cols, first_column;
  float* pairs;        // [b, cols]: the dots, or their gradient
  float* const* outs;  // each [b, D] or null
};

// More than this does not fit the scratch of an example's gradients, which lies on the stack.
constexpr int64_t max_pair_vectors = 1024;

// One vector with each of a bag's.
struct BagDotsArgs {
  int64_t dim, bags;
  const float* x;          // [b, D]
  const float* y;          // [m, D]
  const int32_t* offsets;  // [b + 1]
  const int32_t* places;   // [n], rows of y; null: row j
  float* dots;             // [n]: the dots, or their gradient
  float* x_out;            // [b, D] or null
  float* y_out;            // [m, D] or null
};

// Those that one task of bag_dots_scatter works on.
constexpr int64_t bag_dots_columns = 32;

struct Ops {
  const char* name;
  // Columns that one matmul task makes.
  int64_t panel_cols;
  void (*lookup)(const LookupArgs&, int64_t begin, int64_t end);           // bags
  void (*add_chosen)(const ChosenArgs&, int64_t begin, int64_t end);       // bags
  // Of rows [begin, end), added to cross [rank_padded(r), D] and half [rank_padded(r), r]: what they add to AᵀA is half + halfᵀ.
  void (*row_products)(const RowProductsArgs&, int64_t begin, int64_t end, float* cross, float* half, float* scratch);
  void (*segment_sum)(const SegmentSumArgs&, int64_t begin, int64_t end);  // unique rows
  void (*nearest)(const NearestArgs&, NearestScratch&, int64_t begin, int64_t end);  // rows
  void (*gather)(const GatherArgs&, int64_t begin, int64_t end);           // outputs
  void (*update_rows)(const UpdateRowsArgs&, int64_t begin, int64_t end);  // slots
  void (*replay_rows)(const ReplayRowsArgs&, int64_t begin, int64_t end);  // slots
  void (*update_dense)(const UpdateDenseArgs&, int64_t begin, int64_t end);  // parameters
  double (*gradient_squares)(const UpdateDenseArgs&, int64_t begin, int64_t end);  // Σ (g + l2 w)²
  void (*matmul)(const MatmulArgs&, int64_t begin, int64_t end);             // tasks: chunks x row blocks x panels
  void (*cross_entropy)(const CrossEntropyArgs&, int64_t begin, int64_t end);        // rows
  void (*pair_dots)(const PairDotsArgs&, int64_t begin, int64_t end);                // examples
  void (*pair_dots_backward)(const PairDotsArgs&, int64_t begin, int64_t end);       // examples
  void (*bag_dots)(const BagDotsArgs&, int64_t begin, int64_t end);                  // bags
  void (*bag_dots_backward)(const BagDotsArgs&, int64_t begin, int64_t end);         // bags
  void (*bag_dots_scatter)(const BagDotsArgs&, int64_t begin, int64_t end);          // blocks of columns of y_out, which is zero
  void (*normalize)(const NormalizeArgs&, int64_t begin, int64_t end);               // rows
  void (*normalize_backward)(const NormalizeArgs&, int64_t begin, int64_t end);      // rows
  void (*add_scaled)(float* y, const float* x, float factor, int64_t length);        // y += factor x
  void (*scale)(float* x, float factor, int64_t length);
  void (*add_column_dots)(const float* x, const float* y, int64_t rows, int64_t cols, float* sums);  // [cols], added to
  double (*sum_squares)(const float* x, int64_t length);
  int64_t (*first_non_finite)(const float* x, int64_t length);
  int64_t (*first_outside)(const int32_t* x, int64_t length, int32_t low, int32_t limit);
  int64_t (*first_descent)(const int32_t* x, int64_t length);
};

extern const Ops baseline_ops;
#if defined(__x86_64__)
extern const Ops avx2_ops;
extern const Ops avx512_ops;
#endif

// The table for `name`, or for null the best that this processor runs; null where it cannot run `name`.
const Ops* find_ops(const char* name);

}  // namespace finetable
