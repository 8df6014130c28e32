/**
 * Vectors of VL floats by the compiler's extension (GCC 12 and Clang), and the few functions on them that
 * several ops share: choice by mask, exp, tanh, transposition of 4x4 blocks, rounding to bf16, joining partial sums.
 * Loads and stores need no alignment. No intrinsics, and no dependence on the C library.
 */
#ifndef R3_VECTOR_H
#define R3_VECTOR_H

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef float vf __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t u4 __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf x) { *(vf *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
INLINE vf max_v(vf a, vf b) { return choose(a > b, a, b); }

/* The first n < VL floats at p, then zeros. */
INLINE vf load_part(const float *p, size_t n) {
  vf x = {0};
  for (size_t i = 0; i < n; i++) x[i] = p[i];
  return x;
}
INLINE void store_part(float *p, vf x, size_t n) {
  for (size_t i = 0; i < n; i++) p[i] = x[i];
}

INLINE size_t min_n(size_t a, size_t b) { return a < b ? a : b; }
INLINE size_t max_n(size_t a, size_t b) { return a > b ? a : b; }
INLINE size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

/* Lane numbers 0..VL-1. */
INLINE vi lanes(void) {
  vi x = {0};
  UNROLL for (int i = 0; i < VL; i++) x[i] = i;
  return x;
}

/* Joins 16 partial sums pairwise: distance 8, 4, 2, 1. */
INLINE float join_sum(const vf *partial) {
  float t[SLOTS];
  for (int i = 0; i < SV; i++) store(t + i * VL, partial[i]);
  for (int distance = SLOTS / 2; distance > 0; distance /= 2)
    for (int i = 0; i < distance; i++) t[i] += t[i + distance];
  return t[0];
}

INLINE float join_max(const vf *partial) {
  float t[SLOTS], largest;
  for (int i = 0; i < SV; i++) store(t + i * VL, partial[i]);
  largest = t[0];
  for (int i = 1; i < SLOTS; i++) largest = t[i] > largest ? t[i] : largest;
  return largest;
}

/*
 * exp(x), relative error about 1e-7; exactly 0 below -87.3; the value at 88.3 above it.
 *   x = n ln2 + r,  exp(x) = 2^n (1 + r + r^2 P(r)).  Cephes expf (Moshier), its polynomial and split of ln2.
 */
INLINE vf exp_v(vf x) {
  const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
  vf t = choose(x > splat(88.3f), splat(88.3f), x);
  vf shifted = t * splat(1.44269504088896341f) + magic;
  vf n = shifted - magic;
  vf r = t - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  vf y = p * (r * r) + r + splat(1.0f);
  y = (vf)((vu)y + ((vu)shifted << 23));
  return (vf)((vi)y & ~(x < splat(-87.3f)));
}

/*
 * tanh(x), relative error below 1e-6: an odd polynomial below 0.625 (Cephes tanhf, Moshier), else 1 - 2 / (exp(2x) + 1).
 */
INLINE vf tanh_v(vf x) {
  const vf size = (vf)((vi)x & 0x7fffffff), square = x * x;
  vf p = splat(-5.70498872745e-3f);
  p = p * square + splat(2.06390887954e-2f);
  p = p * square + splat(-5.37397155531e-2f);
  p = p * square + splat(1.33314422036e-1f);
  p = p * square + splat(-3.33332819422e-1f);
  const vf small = p * square * x + x, large = splat(1) - splat(2) / (exp_v(size + size) + splat(1));
  return choose(size < splat(0.625f), small, (vf)((vi)large | ((vi)x & ~0x7fffffff)));
}

/* ln(x) for a normal x > 0, in f64: x = 2^e m, ln m = 2 atanh((m - 1) / (m + 1)). */
INLINE double log_d(double x) {
  union {
    double value;
    uint64_t bits;
  } u = {x};
  int64_t e = (int64_t)(u.bits >> 52) - 1023;
  u.bits = (u.bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
  if (u.value > 1.4142135623730951) {
    u.value *= 0.5;
    e++;
  }
  double s = (u.value - 1) / (u.value + 1), s2 = s * s, sum = 0;
  for (int i = 21; i > 0; i -= 2) sum = sum * s2 + 1.0 / i;
  return (double)e * 0.6931471805599453 + 2 * s * sum;
}

/* r[i][j] becomes r[j][i]. */
INLINE void transpose4(v4 r[4]) {
  v4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  v4 c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/* The bf16 nearest to each f32 (ties to even), in the high halves; a NaN stays a NaN. */
INLINE u4 round_bf16(v4 value) {
  u4 x = (u4)value;
  u4 rounded = x + 0x7fff + ((x >> 16) & 1);
  u4 nan = (u4)((x & 0x7fffffff) > 0x7f800000);
  return ((nan & (x | 0x400000)) | (~nan & rounded)) & 0xffff0000;
}
INLINE uint32_t round_bf16_scalar(float value) {
  return round_bf16((v4){value, 0, 0, 0})[0];
}

#endif
