/**
 * The packed matrix product C[M,N] (+)= A[M,K] B[K,N].
 *
 * B is packed once, in the order in which it is read: [K block][panel of NR columns][step][NR], the last panel
 * padded with zeros. A step is one k in f32, and in bf16 two: a 32-bit lane holds k even (low half) and k odd
 * (high half) of one column. All memory orders of A and B differ only in how they are packed.
 * A register tile holds up to MR rows by NR columns. Each element has one accumulator per K block, filled in
 * ascending k; later blocks add to C. The blocks depend on K only, so neither the rows beside a row nor the
 * threads change any bit. Row tiles are balanced: 16 rows are 8 + 8 rather than 14 + 2.
 */
#include "vector.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum {
#ifdef __AVX512BF16__
  BF16_A = 1, /* floats per row and step of packed A: a pair, for the dot product instruction */
  WIDEN_FROM = 1 << 30,
#else
  BF16_A = 2, /* two rounded floats */
  /* From this many row tiles on, a panel of pairs is widened to f32 once rather than by every tile. */
  WIDEN_FROM = ACCUMULATORS == 8 ? 2 : 3,
#endif
  /* Steps of a K block: a panel of it, widened where it is, is half of a 32 KiB first-level cache. */
  STEPS_F32 = 256,
  STEPS_BF16 = STEPS_F32 / BF16_A,
  GROUP_ROWS = MR >= 8 ? 192 : 96, /* rows of A that are packed at a time */
  FEW = 4,                         /* row tiles below this number wait for memory */
  TURN = ACCUMULATORS == 8 ? 1 : ACCUMULATORS == 12 ? 4 : 2, /* k per turn of the inner loop; a widened pair is two */
};

struct blocks {
  size_t count, size;
};

/* K blocks, in steps. */
static struct blocks k_blocks(size_t steps, packed_type type) {
  size_t count = max_n(1, ceil_div(steps, type == BF16 ? STEPS_BF16 : STEPS_F32));
  return (struct blocks){count, ceil_div(steps, count)};
}

static size_t step_count(size_t K, packed_type type) { return type == BF16 ? ceil_div(K, 2) : K; }

/* ---- Register tiles ---- */

/* What is brought near while a tile is computed: its share of the next panel, `stride` floats per step. */
struct ahead {
  const float *at;
  size_t stride;
};

typedef void (*tile_fn)(size_t steps, const float *a, const float *b, struct ahead next, float *c, size_t ldc,
                        size_t columns, bool add);

INLINE void store_tile(const int mr, vf s[MR][NV], float *c, size_t ldc, size_t columns, bool add) {
  if (columns >= NR) {
    UNROLL for (int i = 0; i < mr; i++) {
      UNROLL for (int j = 0; j < NV; j++) {
        float *to = c + (size_t)i * ldc + j * VL;
        if (add) s[i][j] += load(to);
        store(to, s[i][j]);
      }
    }
    return;
  }
  float rows[MR][NR];
  UNROLL for (int i = 0; i < mr; i++) {
    UNROLL for (int j = 0; j < NV; j++) store(&rows[i][j * VL], s[i][j]);
  }
  for (int i = 0; i < mr; i++)
    for (size_t j = 0; j < columns; j++) {
      float *to = c + (size_t)i * ldc + j;
      *to = add ? *to + rows[i][j] : rows[i][j];
    }
}

/* sum += a b. GCC is given the instruction: it else moves sums between registers, fifteen moves in 48 products. */
INLINE void add_product(vf *sum, vf a, vf b) {
#if defined __AVX2__ && defined __FMA__ && !defined __AVX512F__ && !defined __clang__
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
#else
  *sum += a * b;
#endif
}

/* One k: s += a[row] b[column]. */
INLINE void step_f32(const int mr, vf s[MR][NV], const float *a, const float *b) {
  vf row[NV];
  UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * VL);
  UNROLL for (int i = 0; i < mr; i++) {
    const vf ai = splat(a[i]);
    UNROLL for (int j = 0; j < NV; j++) add_product(&s[i][j], ai, row[j]);
  }
}

#ifdef __AVX512BF16__
/* Per lane: sum + a.even b.even + a.odd b.odd. */
INLINE vf dot_pairs(vf sum, vf a, vf b) {
#ifdef __clang__
  __asm__("" : "+v"(a)); /* Clang 16 fails on a broadcast that it sees as bf16 */
#endif
  return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
}

/* Two k. */
INLINE void step_bf16(const int mr, vf s[MR][NV], const float *a, const float *b) {
  vf row[NV];
  UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * VL);
  UNROLL for (int i = 0; i < mr; i++) {
    UNROLL for (int j = 0; j < NV; j++) s[i][j] = dot_pairs(s[i][j], splat(a[i]), row[j]);
  }
}
#else
/* The odd k of a pair: its high half. Without the barrier GCC masks instead, needs one more register and spills. */
INLINE vf high_half(vu pair) {
#if defined __AVX2__ && !defined __AVX512F__ && !defined __clang__
  vu half = pair >> 16;
  __asm__("" : "+x"(half));
  return (vf)(half << 16);
#else
  return (vf)(pair & 0xffff0000);
#endif
}

/* Two k. The pairs are widened in registers, which is exact: an f32 whose low half is zero. */
INLINE void step_bf16(const int mr, vf s[MR][NV], const float *a, const float *b) {
  vf row[NV];
  UNROLL for (int j = 0; j < NV; j++) row[j] = (vf)((vu)load(b + j * VL) << 16);
  UNROLL for (int i = 0; i < mr; i++) {
    const vf ai = splat(a[i]);
    UNROLL for (int j = 0; j < NV; j++) add_product(&s[i][j], ai, row[j]);
  }
  UNROLL for (int j = 0; j < NV; j++) row[j] = high_half((vu)load(b + j * VL));
  UNROLL for (int i = 0; i < mr; i++) {
    const vf ai = splat(a[mr + i]);
    UNROLL for (int j = 0; j < NV; j++) add_product(&s[i][j], ai, row[j]);
  }
}
#endif

/*
 * Steps through packed A (`width` floats per row and step) and a panel of B, several steps per turn of the loop:
 * what a core issues beside the products is what slows them down (LOG.md). `few` row tiles cannot hide memory, so
 * each brings near as many lines as it reads.
 */
INLINE void tile(const int mr, const packed_type type, const bool few, size_t steps, const float *a,
                 const float *b, struct ahead next, float *c, size_t ldc, size_t columns, bool add) {
  const size_t width = type == BF16 ? BF16_A : 1, turn = max_n(TURN / width, 1), stepA = (size_t)mr * width;
  const int lines = ((few ? (int)turn : 1) * NR + 15) / 16;
  vf s[MR][NV] = {0};
  UNROLL for (int i = 0; i < mr; i++) __builtin_prefetch(c + (size_t)i * ldc, 1, 3);
  for (; steps >= turn; steps -= turn, a += turn * stepA, b += turn * NR, next.at += turn * next.stride) {
    UNROLL for (int line = 0; line < lines; line++) __builtin_prefetch(next.at + line * 16, 0, 2);
    UNROLL for (size_t u = 0; u < turn; u++) {
      if (type == BF16) step_bf16(mr, s, a + u * stepA, b + u * NR);
      else step_f32(mr, s, a + u * stepA, b + u * NR);
    }
  }
  for (; steps > 0; steps--, a += stepA, b += NR) {
    if (type == BF16) step_bf16(mr, s, a, b);
    else step_f32(mr, s, a, b);
  }
  store_tile(mr, s, c, ldc, columns, add);
}

#if defined __AVX512F__
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif defined __aarch64__
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif defined __AVX2__ && defined __FMA__
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define EACH_MR(X) X(1) X(2) X(3) X(4)
#endif

#define DEFINE_TILE(name, mr, type, few)                                                                        \
  static void name(size_t steps, const float *a, const float *b, struct ahead next, float *c, size_t ldc,       \
                   size_t columns, bool add) {                                                                  \
    tile(mr, type, few, steps, a, b, next, c, ldc, columns, add);                                               \
  }
#define DEFINE_TILES(mr)                                                                                        \
  DEFINE_TILE(tile_f32_##mr, mr, F32, false)                                                                    \
  DEFINE_TILE(tile_bf16_##mr, mr, BF16, false)                                                                  \
  DEFINE_TILE(tile_few_f32_##mr, mr, F32, true)                                                                 \
  DEFINE_TILE(tile_few_bf16_##mr, mr, BF16, true)
EACH_MR(DEFINE_TILES)
#define TILE_ENTRY(mr) {{tile_f32_##mr, tile_bf16_##mr}, {tile_few_f32_##mr, tile_few_bf16_##mr}},
static const tile_fn tiles_of[MR + 1][2][2] = {{{0}}, EACH_MR(TILE_ENTRY)}; /* rows, few, type */

/* ---- Packing A: [step][mr] of one row tile ---- */

/* A pair of rounded floats as the dot product instruction reads it. */
INLINE float join_pair(uint32_t even, uint32_t odd) {
  union {
    uint32_t bits;
    float value;
  } u = {even >> 16 | (odd & 0xffff0000)};
  return u.value;
}

INLINE float rounded(float x) {
  union {
    uint32_t bits;
    float value;
  } u = {round_bf16_scalar(x)};
  return u.value;
}

static void pack_rows_scalar(float *to, const float *a, size_t mr, size_t from, size_t K, size_t strideM,
                             size_t strideK, packed_type type) {
  for (size_t k = from; k < K; k++)
    for (size_t i = 0; i < mr; i++) {
      float x = a[i * strideM + k * strideK];
      if (type == F32) to[k * mr + i] = x;
      else if (BF16_A == 2) to[k * mr + i] = rounded(x);
      else if (k % 2 == 0)
        to[k / 2 * mr + i] =
            join_pair(round_bf16_scalar(x), k + 1 < K ? round_bf16_scalar(a[i * strideM + (k + 1) * strideK]) : 0);
    }
  if (type == BF16 && BF16_A == 2 && K % 2)
    for (size_t i = 0; i < mr; i++) to[K * mr + i] = 0;
}

/*
 * Four rows at a time. A store of four floats may run past row mr - 1 into the next k, whose first rows are
 * written later: groups of rows go downwards, k upwards. `to` therefore needs four floats of slack.
 */
INLINE void pack_rows_typed(float *to, const float *a, size_t mr, size_t K, size_t strideM, size_t strideK,
                            const packed_type type) {
  size_t k = 0;
  if (strideK == 1) {
    for (; k + 4 <= K; k += 4)
      for (size_t group = ceil_div(mr, 4); group-- > 0;) {
        v4 r[4];
        UNROLL for (size_t i = 0; i < 4; i++)
          r[i] = *(const v4 *)(a + min_n(group * 4 + i, mr - 1) * strideM + k);
        transpose4(r);
        if (type == F32) {
          UNROLL for (size_t i = 0; i < 4; i++) *(v4 *)(to + (k + i) * mr + group * 4) = r[i];
        } else if (BF16_A == 2) {
          UNROLL for (size_t i = 0; i < 4; i++) *(u4 *)(to + (k + i) * mr + group * 4) = round_bf16(r[i]);
        } else {
          UNROLL for (size_t i = 0; i < 4; i += 2)
            *(u4 *)(to + (k + i) / 2 * mr + group * 4) = round_bf16(r[i]) >> 16 | round_bf16(r[i + 1]);
        }
      }
  } else if (strideM == 1 && strideK >= 4) {
    for (; k + 2 < K; k += 2)
      for (size_t group = ceil_div(mr, 4); group-- > 0;) {
        v4 even = *(const v4 *)(a + k * strideK + group * 4), odd = *(const v4 *)(a + (k + 1) * strideK + group * 4);
        if (type == F32) {
          *(v4 *)(to + k * mr + group * 4) = even;
          *(v4 *)(to + (k + 1) * mr + group * 4) = odd;
        } else if (BF16_A == 2) {
          *(u4 *)(to + k * mr + group * 4) = round_bf16(even);
          *(u4 *)(to + (k + 1) * mr + group * 4) = round_bf16(odd);
        } else {
          *(u4 *)(to + k / 2 * mr + group * 4) = round_bf16(even) >> 16 | round_bf16(odd);
        }
      }
  }
  pack_rows_scalar(to, a, mr, k, K, strideM, strideK, type);
}

static void pack_rows(float *to, const float *a, size_t mr, size_t K, size_t strideM, size_t strideK,
                      packed_type type) {
  if (type == F32) pack_rows_typed(to, a, mr, K, strideM, strideK, F32);
  else pack_rows_typed(to, a, mr, K, strideM, strideK, BF16);
}

/* ---- The product ---- */

/* A panel of pairs as a panel of f32, twice as deep. The same values in the same order as `tile_bf16` uses. */
static void widen_panel(float *to, const float *b, size_t steps) {
  for (size_t i = 0; i < steps * NR; i += NR, to += NR)
    for (size_t j = 0; j < NR; j += VL, to += VL) {
      vu pair = (vu)load(b + i + j);
      store(to, (vf)(pair << 16));
      store(to + NR, (vf)(pair & 0xffff0000));
    }
}

struct gemm {
  size_t M, N, K, strideM, strideK;
  const float *a, *packed;
  float *c;
  bool accumulate;
  packed_type type;
  size_t tiles, panels;           /* of the whole product */
  size_t groupTiles, groupPanels; /* of one chunk */
  size_t panelChunks;
};

static size_t tile_row(const struct gemm *g, size_t tile) { return tile * g->M / g->tiles; }

static void gemm_chunk(const void *context, size_t chunk, void *scratch) {
  const struct gemm *g = context;
  const size_t tile0 = chunk / g->panelChunks * g->groupTiles, tile1 = min_n(tile0 + g->groupTiles, g->tiles);
  const size_t panel0 = chunk % g->panelChunks * g->groupPanels, panel1 = min_n(panel0 + g->groupPanels, g->panels);
  const size_t steps = step_count(g->K, g->type), perStep = g->type == BF16 ? 2 : 1;
  const size_t widthA = g->type == BF16 ? BF16_A : 1;
  const size_t row0 = tile_row(g, tile0);
  const struct blocks blocks = k_blocks(steps, g->type);
  const bool few = tile1 - tile0 < FEW, widen = g->type == BF16 && tile1 - tile0 >= WIDEN_FROM;
  float *widened = scratch, *packedA = widened + 2 * STEPS_BF16 * NR;

  for (size_t block = 0; block < blocks.count; block++) {
    const size_t step0 = block * blocks.size, depth = min_n(blocks.size, steps - step0);
    const size_t k0 = step0 * perStep, k1 = min_n(k0 + depth * perStep, g->K);
    for (size_t tile = tile0; tile < tile1; tile++) {
      size_t row = tile_row(g, tile), mr = tile_row(g, tile + 1) - row;
      pack_rows(packedA + (row - row0) * depth * widthA, g->a + row * g->strideM + k0 * g->strideK, mr,
                k1 - k0, g->strideM, g->strideK, g->type);
    }
    for (size_t panel = panel0; panel < panel1; panel++) {
      const float *b = g->packed + step0 * g->panels * NR + panel * depth * NR;
      const size_t columns = min_n(NR, g->N - panel * NR), share = ceil_div(NR, tile1 - tile0);
      const float *following = b + depth * NR;
      if (widen) widen_panel(widened, b, depth);
      for (size_t tile = tile0; tile < tile1; tile++) {
        size_t row = tile_row(g, tile), mr = tile_row(g, tile + 1) - row;
        const struct ahead next = {following + (tile - tile0) * share * depth, widen ? share / 2 : share};
        tiles_of[mr][few][widen ? F32 : g->type](widen ? 2 * depth : depth, packedA + (row - row0) * depth * widthA,
                                                 widen ? widened : b, next, g->c + row * g->N + panel * NR, g->N,
                                                 columns, g->accumulate || block > 0);
      }
    }
  }
}

KERNEL void OPNAME(gemm)(size_t threads, size_t M, size_t N, size_t K, const float *a, size_t strideM,
                         size_t strideK, const float *packed, float *c, bool accumulate, packed_type type) {
  if (M == 0 || N == 0) return;
  struct gemm g = {.M = M, .N = N, .K = K, .strideM = strideM, .strideK = strideK, .a = a, .packed = packed, .c = c,
                   .accumulate = accumulate, .type = type};
  g.tiles = ceil_div(M, MR);
  g.panels = ceil_div(N, NR);
  g.groupTiles = min_n(g.tiles, GROUP_ROWS / MR);
  /* Every chunk packs its rows of A anew, so there are few; below about 40 microseconds of work a second thread
   * costs more than it gives. One row waits for memory, hence + 4. */
  const size_t groups = ceil_div(g.tiles, g.groupTiles), work = K * N * (M + 4);
  const size_t wanted = threads == 1 ? 1 : min_n(max_n(work / 4000000, 1), threads * 4);
  g.panelChunks = min_n(ceil_div(wanted, groups), ceil_div(g.panels * NR, 64));
  g.groupPanels = ceil_div(g.panels, g.panelChunks);
  g.panelChunks = ceil_div(g.panels, g.groupPanels);
  const size_t depth = k_blocks(step_count(K, type), type).size, widthA = type == BF16 ? BF16_A : 1;
  parallel(threads, gemm_chunk, &g, groups * g.panelChunks,
           (2 * STEPS_BF16 * NR + g.groupTiles * MR * depth * widthA + 64) * sizeof(float));
}

/* ---- Packing B ---- */

struct pack {
  float *packed;
  const float *source;
  size_t K, N, strideK, strideN;
  packed_type type;
  size_t panels, groupPanels, panelChunks;
};

/* Steps step0..step1 of the columns column0..column1 of one panel, any strides; zeros beyond N. */
static void pack_scalar(float *to, const struct pack *p, size_t step0, size_t step1, size_t column0, size_t column1) {
  for (size_t step = step0; step < step1; step++, to += NR)
    for (size_t column = column0; column < column1; column++) {
      const size_t k = p->type == BF16 ? 2 * step : step;
      const float *from = p->source + k * p->strideK + column * p->strideN;
      float x = 0;
      if (column < p->N) {
        if (p->type == F32) x = from[0];
        else x = join_pair(round_bf16_scalar(from[0]), k + 1 < p->K ? round_bf16_scalar(from[p->strideK]) : 0);
      }
      to[column % NR] = x;
    }
}

/* k is contiguous: 4 x 4 blocks are transposed. `columns` is a multiple of 4. Returns the first step that is left. */
static size_t pack_by_column(float *to, const struct pack *p, size_t step0, size_t step1, size_t column,
                             size_t columns) {
  const size_t stride = p->strideN, perStep = p->type == BF16 ? 2 : 1, block = 4 / perStep;
  size_t step = step0;
  for (; step + block <= step1 && (step + block) * perStep <= p->K; step += block, to += block * NR)
    for (size_t j = 0; j < columns; j += 4) {
      const float *from = p->source + (column + j) * stride + step * perStep;
      v4 r[4];
      UNROLL for (size_t i = 0; i < 4; i++) r[i] = *(const v4 *)(from + i * stride);
      transpose4(r);
      if (p->type == F32) {
        UNROLL for (size_t i = 0; i < 4; i++) *(v4 *)(to + i * NR + j) = r[i];
      } else {
        UNROLL for (size_t i = 0; i < 4; i += 2)
          *(u4 *)(to + i / 2 * NR + j) = round_bf16(r[i]) >> 16 | round_bf16(r[i + 1]);
      }
    }
  return step;
}

/* n is contiguous: rows are copied, `panels` whole panels of each. Returns the first step that is left. */
static size_t pack_by_row(float *to, const struct pack *p, size_t step0, size_t step1, size_t column, size_t panels) {
  const size_t panelSize = (step1 - step0) * NR;
  size_t step = step0;
  for (; step < step1 && (p->type == F32 || step * 2 + 2 <= p->K); step++, to += NR)
    for (size_t panel = 0; panel < panels; panel++) {
      const float *even = p->source + (p->type == F32 ? step : 2 * step) * p->strideK + column + panel * NR;
      float *out = to + panel * panelSize;
      if (p->type == F32) {
        UNROLL for (size_t j = 0; j < NR; j += VL) store(out + j, load(even + j));
      } else {
        const float *odd = even + p->strideK;
        UNROLL for (size_t j = 0; j < NR; j += 4)
          *(u4 *)(out + j) = round_bf16(*(const v4 *)(even + j)) >> 16 | round_bf16(*(const v4 *)(odd + j));
      }
    }
  return step;
}

static void pack_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct pack *p = context;
  const size_t steps = step_count(p->K, p->type);
  const struct blocks blocks = k_blocks(steps, p->type);
  const size_t block = chunk / p->panelChunks, step0 = block * blocks.size, step1 = min_n(step0 + blocks.size, steps);
  const size_t panel0 = chunk % p->panelChunks * p->groupPanels, panel1 = min_n(panel0 + p->groupPanels, p->panels);
  const size_t panelSize = (step1 - step0) * NR;
  float *to = p->packed + step0 * p->panels * NR + panel0 * panelSize;
  size_t panel = panel0;
  if (p->strideN == 1 && p->strideK != 1) {
    const size_t whole = min_n(panel1, p->N / NR) - panel0;
    const size_t left = pack_by_row(to, p, step0, step1, panel0 * NR, whole);
    for (; panel < panel0 + whole; panel++, to += panelSize)
      pack_scalar(to + (left - step0) * NR, p, left, step1, panel * NR, (panel + 1) * NR);
  }
  for (; panel < panel1; panel++, to += panelSize) {
    const size_t column0 = panel * NR, column1 = column0 + NR;
    size_t column = column0;
    if (p->strideK == 1) {
      column += min_n(NR, p->N - column0) / 4 * 4;
      const size_t left = pack_by_column(to, p, step0, step1, column0, column - column0);
      pack_scalar(to + (left - step0) * NR, p, left, step1, column0, column);
    }
    pack_scalar(to, p, step0, step1, column, column1);
  }
}

KERNEL void OPNAME(pack)(size_t threads, float *packed, const float *source, size_t K, size_t N, size_t strideK,
                         size_t strideN, packed_type type) {
  if (K == 0 || N == 0) return;
  struct pack p = {packed, source, K, N, strideK, strideN, type, ceil_div(N, NR), 0, 0};
  p.groupPanels = min_n(p.panels, 8);
  p.panelChunks = ceil_div(p.panels, p.groupPanels);
  /* One block of a few panels is some tens of kilobytes; small matrices are packed by the caller alone. */
  parallel(K * N < 65536 ? 1 : threads, pack_chunk, &p, k_blocks(step_count(K, type), type).count * p.panelChunks, 0);
}

KERNEL double OPNAME(packedLength)(size_t K, size_t N, packed_type type) {
  return (double)step_count(K, type) * (double)(ceil_div(N, NR) * NR);
}
