// Every header that the kernels need, included before any target pragma.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "ops.h"

#define FT_INLINE static inline __attribute__((always_inline))
#define FT_MEMBER inline __attribute__((always_inline))
