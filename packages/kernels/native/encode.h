// Floats as a store holds them: the reverse of codec.h, for stores that are filled row by row.
#pragma once
#include <cmath>
#include <cstring>

#include "ops.h"

namespace finetable {

inline uint32_t bits_of(float value) {
  uint32_t x;
  memcpy(&x, &value, sizeof x);
  return x;
}

// Nearest, ties to even; overflow gives infinity. As f32ToF16 of @finetable/core.
inline uint16_t half_from_float(float value) {
  const uint32_t x = bits_of(value);
  const uint32_t sign = (x >> 16) & 0x8000, magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (magnitude >= 0x38800000) {
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
  }
  // Subnormal: adding 0.5, whose last place is 2^-24, rounds to a multiple of that.
  return (uint16_t)(sign | (bits_of(fabsf(value) + 0.5f) - 0x3f000000));
}

// As f32ToBf16 of @finetable/core.
inline uint16_t bfloat_from_float(float value) {
  const uint32_t x = bits_of(value);
  if ((x & 0x7fffffff) > 0x7f800000) return (uint16_t)(((x >> 16) & 0x8000) | 0x7fc0);
  return (uint16_t)((x + 0x7fff + ((x >> 16) & 1)) >> 16);
}

// The largest |x| / most.
inline float scale_of(const float* x, int64_t columns, int most) {
  float peak = 0;
  for (int64_t c = 0; c < columns; c++) peak = fabsf(x[c]) > peak ? fabsf(x[c]) : peak;
  return peak / (float)most;
}

// x / scale to the nearest, ties to even.
inline int quantise(float x, float scale, int most) {
  if (scale == 0) return 0;
  double q = (double)x / (double)scale;
  // A subnormal scale is no exact fraction of the largest |x|.
  q = q > most ? most : q < -most ? -most : q;
  // The last place of 1.5 * 2^52 is 1: adding it rounds.
  return (int)((q + 0x1.8p52) - 0x1.8p52);
}

inline void encode_row(const RowsView& view, int64_t row, const float* x) {
  char* elements = const_cast<char*>(view.data) + row * view.stride;
  if (view.dtype == Dtype::f32 || view.dtype == Dtype::i32) memcpy(elements, x, (size_t)view.dim * sizeof(float));
  uint16_t* shorts = (uint16_t*)elements;
  if (view.dtype == Dtype::f16) {
    for (int64_t c = 0; c < view.dim; c++) shorts[c] = half_from_float(x[c]);
  }
  if (view.dtype == Dtype::bf16) {
    for (int64_t c = 0; c < view.dim; c++) shorts[c] = bfloat_from_float(x[c]);
  }
  if (!view.scales) return;
  float* scales = (float*)(const_cast<char*>(view.scales) + row * view.scale_stride);
  for (int64_t first = 0; first < view.dim; first += view.group) {
    const int64_t end = view.dim - first < view.group ? view.dim : first + view.group;
    const int most = view.dtype == Dtype::int8 ? 127 : 7;
    const float scale = *scales++ = scale_of(x + first, end - first, most);
    if (view.dtype == Dtype::int8) {
      for (int64_t c = first; c < end; c++) elements[c] = (char)quantise(x[c], scale, most);
    } else {
      // Groups begin on an even column.
      for (int64_t c = first; c < end; c += 2) {
        const int low = quantise(x[c], scale, most), high = c + 1 < end ? quantise(x[c + 1], scale, most) : 0;
        elements[c / 2] = (char)((low & 15) | (high & 15) << 4);
      }
    }
  }
}

}  // namespace finetable
