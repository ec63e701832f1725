// All kernels for one instruction set: included once by each isa_*.cc, which sets FT_NAMESPACE, FT_OPS, FT_WIDTH (floats in
// a vector) and FT_NAME.
//
// Everything is static or in the instruction set's own namespace, and no template of the standard library is used:
// functions of one name compiled for two instruction sets must never be merged by the linker.
namespace finetable {
namespace FT_NAMESPACE {

#include "simd.h"
#include "codec.h"
#include "pooling.h"
#include "lookup.h"
#include "chosen.h"
#include "products.h"
#include "state.h"
#include "rules.h"
#include "update.h"
#include "replay.h"
#include "matmul.h"
#include "dense.h"
#include "dots.h"
#include "nearest.h"
#include "scans.h"

}  // namespace FT_NAMESPACE

const Ops FT_OPS = {
    FT_NAME,
    FT_NAMESPACE::panel_width,
    FT_NAMESPACE::lookup,
    FT_NAMESPACE::add_chosen,
    FT_NAMESPACE::row_products,
    FT_NAMESPACE::segment_sum,
    FT_NAMESPACE::nearest,
    FT_NAMESPACE::gather,
    FT_NAMESPACE::update_rows,
    FT_NAMESPACE::replay_rows,
    FT_NAMESPACE::update_dense,
    FT_NAMESPACE::gradient_squares,
    FT_NAMESPACE::matmul,
    FT_NAMESPACE::cross_entropy,
    FT_NAMESPACE::pair_dots,
    FT_NAMESPACE::pair_dots_backward,
    FT_NAMESPACE::bag_dots,
    FT_NAMESPACE::bag_dots_backward,
    FT_NAMESPACE::bag_dots_scatter,
    FT_NAMESPACE::normalize,
    FT_NAMESPACE::normalize_backward,
    FT_NAMESPACE::add_scaled,
    FT_NAMESPACE::scale,
    FT_NAMESPACE::add_column_dots,
    FT_NAMESPACE::sum_squares,
    FT_NAMESPACE::first_non_finite,
    FT_NAMESPACE::first_outside,
    FT_NAMESPACE::first_descent,
};

}  // namespace finetable
