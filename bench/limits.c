/**
 * What limits a product on this core: multiply-adds alone, with other instructions beside them, and register tiles
 * whose panels stay in the first-level cache. x86-64 with AVX2; one thread; GFLOP/s over 400 short bursts in turn.
 *
 *   cc -O3 -march=x86-64-v3 -o build/limits bench/limits.c && build/limits
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float vf __attribute__((vector_size(32), aligned(4), may_alias));
#define UNROLL _Pragma("GCC unroll 32")
enum { STEPS = 256, CALLS = 300, BURSTS = 400, SUMS = 12 };

/* `beside` is put into each turn of 12 multiply-adds on registers. */
#define LOOP(name, beside)                                                                                     \
  __attribute__((noinline)) static void name(const float *a, const float *b, float *c) {                       \
    vf s[SUMS] = {0}, x = *(const vf *)a, y = *(const vf *)b;                                                   \
    for (int k = 0; k < STEPS; k++) {                                                                           \
      UNROLL for (int j = 0; j < SUMS; j++) __asm__("vfmadd213ps %2, %1, %0" : "+x"(s[j]) : "x"(x), "x"(y));    \
      beside                                                                                                    \
    }                                                                                                           \
    UNROLL for (int j = 0; j < SUMS; j++) *(vf *)(c + j * 8) = s[j];                                            \
  }
LOOP(alone, )
LOOP(with_loads, UNROLL for (int j = 0; j < 8; j++) {
  vf t;
  __asm__ volatile("vmovups %1, %0" : "=x"(t) : "m"(*(const vf *)(a + j * 8)));
})
LOOP(with_nothing, UNROLL for (int j = 0; j < 8; j++) __asm__ volatile("nop");)

/* 6 rows by 16 columns, `turn` k per turn, one prefetch per turn. */
#define TILE(name, turn)                                                                                        \
  __attribute__((noinline)) static void name(const float *a, const float *b, float *c) {                       \
    vf s[6][2] = {0};                                                                                           \
    for (int k = 0; k < STEPS; k += turn, a += 6 * turn, b += 16 * turn) {                                      \
      __builtin_prefetch(b + 8192, 0, 2);                                                                       \
      UNROLL for (int u = 0; u < turn; u++) {                                                                   \
        const vf left = *(const vf *)(b + 16 * u), right = *(const vf *)(b + 16 * u + 8);                       \
        UNROLL for (int i = 0; i < 6; i++) {                                                                    \
          const vf x = a[6 * u + i] - (vf){0};                                                                  \
          __asm__("vfmadd231ps %2, %1, %0" : "+x"(s[i][0]) : "x"(x), "x"(left));                                \
          __asm__("vfmadd231ps %2, %1, %0" : "+x"(s[i][1]) : "x"(x), "x"(right));                               \
        }                                                                                                       \
      }                                                                                                         \
    }                                                                                                           \
    UNROLL for (int i = 0; i < SUMS; i++) *(vf *)(c + i * 8) = s[i / 2][i % 2];                                 \
  }
TILE(tile_1, 1)
TILE(tile_4, 4)

static const struct {
  const char *name;
  void (*run)(const float *a, const float *b, float *c);
} loops[] = {{"12 multiply-adds", alone},
             {"and 8 loads", with_loads},
             {"and 8 no-operations", with_nothing},
             {"tile 6x16, 1 k per turn", tile_1},
             {"tile 6x16, 4 k per turn", tile_4}};
enum { LOOPS = sizeof loops / sizeof *loops };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(void) {
  static _Alignas(64) float a[6 * STEPS], b[16 * STEPS + 8192], c[SUMS * 8];
  static double speeds[LOOPS][BURSTS];
  for (int burst = 0; burst < BURSTS; burst++)
    for (int i = 0; i < LOOPS; i++) {
      const double start = now();
      for (int call = 0; call < CALLS; call++) loops[i].run(a, b, c);
      speeds[i][burst] = 16.0 * SUMS * STEPS * CALLS / (now() - start) / 1e9;
    }
  for (int i = 0; i < LOOPS; i++) {
    qsort(speeds[i], BURSTS, sizeof(double), ascending);
    printf("%-26s median %5.1f  p10 %5.1f  p90 %5.1f\n", loops[i].name, speeds[i][BURSTS / 2],
           speeds[i][BURSTS / 10], speeds[i][BURSTS * 9 / 10]);
  }
}
