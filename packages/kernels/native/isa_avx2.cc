// AVX2, FMA and F16C: x86-64 from 2013 on.
#if defined(__x86_64__)
#include "kernels_prelude.h"

// After the standard headers: an inline function of theirs compiled for AVX2 could be the copy that the linker keeps for
// everyone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define FT_NAMESPACE avx2
#define FT_WIDTH 8
#define FT_NAME "avx2"
#define FT_OPS avx2_ops
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
