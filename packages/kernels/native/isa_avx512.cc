// AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)
#include "kernels_prelude.h"

// After the standard headers; see isa_avx2.cc.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define FT_NAMESPACE avx512
#define FT_WIDTH 16
#define FT_NAME "avx512"
#define FT_OPS avx512_ops
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
