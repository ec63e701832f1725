// What every processor of the architecture has: SSE2 on x86-64, NEON on arm64.
#include "kernels_prelude.h"

#define FT_NAMESPACE baseline
#define FT_WIDTH 4
#if defined(__aarch64__)
#define FT_NAME "neon"
#elif defined(__SSE2__)
#define FT_NAME "sse2"
#else
#define FT_NAME "scalar"
#endif
#define FT_OPS baseline_ops
#include "kernels.h"
