/**
 * The packed matrix product C[M,N] (+)= A[M,K] B[K,N].
 *
 * B is packed once, in the order in which it is read: [K block][panel of NR columns][step][NR], the last panel
 * padded with zeros. A step is one k in f32, two in bf16 and four in int8: a 32-bit lane holds the consecutive k of one
 * column, the first in the low bits. An int8 panel ends with the scales of its columns. All memory orders of A and B
 * differ only in how they are packed.
 * A register tile holds up to MR rows by NR columns. Each element has one accumulator per K block, filled in
 * ascending k; int8 then multiplies by the scale; later blocks add to C. The blocks depend on K only, so neither the
 * rows beside a row nor the threads change any bit. Row tiles are balanced: 16 rows are 8 + 8 rather than 14 + 2.
 * One tile of few rows goes through several panels at once: else it would wait for its own sums rather than for memory,
 * and several streams are read faster than one.
 */
#include "vector.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum {
#ifdef __AVX512BF16__
  BF16_A = 1, /* floats per row and step of packed A: a pair, for the dot product instruction */
  WIDENS_BF16 = false,
#else
  BF16_A = 2, /* two rounded floats */
  WIDENS_BF16 = true,
#endif
  INT8_K = 4, /* k per step */
  /* From this many row tiles on, a panel of several k per lane is widened to f32 once rather than by every tile. */
  WIDEN_FROM = ACCUMULATORS == 8 ? 2 : 3,
  /* Steps of a K block: a panel of it, widened where it is, is half of a 32 KiB first-level cache. */
  STEPS_F32 = 256,
  STEPS_BF16 = STEPS_F32 / BF16_A,
  STEPS_INT8 = STEPS_F32 / INT8_K,
  WIDENED = STEPS_F32 * NR, /* floats of a widened panel */
  GROUP_ROWS = MR >= 8 ? 192 : 96, /* rows of A that are packed at a time */
  FEW = 4,                         /* row tiles below this number wait for memory */
  MAX_WIDE = 4,                    /* panels of a tile */
  TURN = ACCUMULATORS == 8 ? 1 : ACCUMULATORS == 12 ? 4 : 2, /* k per turn of the inner loop; a widened pair is two */
};

_Static_assert(PACK_COLUMNS % NR == 0, "a strip of columns is whole panels");

/* k per step; floats of packed A per row and step. */
INLINE size_t step_k(packed_type type) { return type == BF16 ? 2 : type == INT8 ? INT8_K : 1; }
INLINE size_t step_a(packed_type type) { return type == BF16 ? BF16_A : type == INT8 ? INT8_K : 1; }
static size_t step_count(size_t K, packed_type type) { return ceil_div(K, step_k(type)); }

struct blocks {
  size_t count, size;
};

/* K blocks, in steps. */
static struct blocks k_blocks(size_t steps, packed_type type) {
  const size_t most = type == BF16 ? STEPS_BF16 : type == INT8 ? STEPS_INT8 : STEPS_F32;
  size_t count = max_n(1, ceil_div(steps, most));
  return (struct blocks){count, ceil_div(steps, count)};
}

/* Floats of a panel of one block. */
INLINE size_t panel_size(size_t steps, packed_type type) { return (steps + (type == INT8)) * NR; }

/* Where a panel of a block is, among `panels` of each. */
INLINE size_t panel_offset(struct blocks blocks, size_t steps, packed_type type, size_t panels, size_t block,
                           size_t panel) {
  const size_t step0 = block * blocks.size, depth = min_n(blocks.size, steps - step0);
  return block * panels * panel_size(blocks.size, type) + panel * panel_size(depth, type);
}

/* ---- Register tiles ---- */

/* What a tile reads of B: a panel, or several at one distance. */
struct panel {
  const float *b;
  size_t size, columns; /* floats of B, and columns, from one panel to the next of several */
  const float *scales;  /* int8: of the first panel; else null */
  const float *ahead;   /* what is brought near meanwhile: a share of the next panel, `stride` floats per step */
  size_t stride;
};

typedef void (*tile_fn)(size_t steps, const float *a, const struct panel *panel, float *c, size_t ldc,
                        size_t columns, bool add);

/* a b, rounded: never part of a fused multiply-add. */
INLINE vf rounded_product(vf a, vf b) {
  vf product = a * b;
#if defined __x86_64__
  __asm__("" : "+v"(product));
#elif defined __aarch64__
  __asm__("" : "+w"(product));
#endif
  return product;
}

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
 * Number `k` of a lane's four, as a float times 2^24: where a byte is the highest of its lane, it need not be moved to
 * the lowest. A power of two changes no rounding; the scales are divided by it.
 */
static const float INT8_UNIT = 16777216.0f;
INLINE vf int8_at(vi four, const int k) {
  const vi high = k == 3 ? four : (vi)((vu)four << (24 - 8 * k));
  return __builtin_convertvector(k == 0 ? high : (vi)((vu)high & 0xff000000), vf);
}

/* Four k. */
INLINE void step_int8(const int mr, vf s[MR][NV], const float *a, const float *b) {
  vi four[NV];
  UNROLL for (int j = 0; j < NV; j++) four[j] = (vi)load(b + j * VL);
  UNROLL for (int k = 0; k < INT8_K; k++) {
    vf row[NV];
    UNROLL for (int j = 0; j < NV; j++) row[j] = int8_at(four[j], k);
    UNROLL for (int i = 0; i < mr; i++) {
      const vf ai = splat(a[k * mr + i]);
      UNROLL for (int j = 0; j < NV; j++) add_product(&s[i][j], ai, row[j]);
    }
  }
}

INLINE void step_typed(const int mr, const packed_type type, vf s[MR][NV], const float *a, const float *b) {
  if (type == BF16) step_bf16(mr, s, a, b);
  else if (type == INT8) step_int8(mr, s, a, b);
  else step_f32(mr, s, a, b);
}

/*
 * Steps through packed A and `wide` panels of B, several steps per turn of the loop: what a core issues beside the
 * products is what slows them down (LOG.md). `few` row tiles cannot hide memory, so each brings near as many lines as
 * it reads.
 */
INLINE void tile(const int mr, const int wide, const packed_type type, const bool few, size_t steps, const float *a,
                 const struct panel *panel, float *c, size_t ldc, size_t columns, bool add) {
  const size_t turn = max_n(TURN / step_a(type), 1), stepA = (size_t)mr * step_a(type);
  const int lines = ((few ? (int)turn : 1) * NR + 15) / 16;
  const float *b = panel->b, *ahead = panel->ahead;
  const size_t size = panel->size, stride = panel->stride;
  vf s[MAX_WIDE][MR][NV];
  UNROLL for (int p = 0; p < wide; p++) {
    UNROLL for (int i = 0; i < mr; i++) {
      UNROLL for (int j = 0; j < NV; j++) s[p][i][j] = (vf){0};
    }
  }
  UNROLL for (int i = 0; i < mr; i++) __builtin_prefetch(c + (size_t)i * ldc, 1, 3);
  for (; steps >= turn; steps -= turn, a += turn * stepA, b += turn * NR, ahead += turn * stride) {
    /* Of several panels the hardware brings near what follows. */
    if (wide == 1) UNROLL for (int line = 0; line < lines; line++) __builtin_prefetch(ahead + line * 16, 0, 2);
    UNROLL for (size_t u = 0; u < turn; u++) {
      UNROLL for (int p = 0; p < wide; p++) step_typed(mr, type, s[p], a + u * stepA, b + p * size + u * NR);
    }
  }
  for (; steps > 0; steps--, a += stepA, b += NR) {
    UNROLL for (int p = 0; p < wide; p++) step_typed(mr, type, s[p], a, b + p * size);
  }
  UNROLL for (int p = 0; p < wide; p++) {
    if (panel->scales) UNROLL for (int j = 0; j < NV; j++) {
      const vf scale = load(panel->scales + p * size + j * VL) * splat(1 / INT8_UNIT);
      UNROLL for (int i = 0; i < mr; i++) s[p][i][j] = rounded_product(s[p][i][j], scale);
    }
    store_tile(mr, s[p], c + p * panel->columns, ldc, columns - p * panel->columns, add);
  }
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

/* Panels that one tile of these rows goes through at once. */
#define WIDE(mr) ((mr) == 1 ? 4 : (mr) <= 3 && (mr) * NV * 2 <= ACCUMULATORS ? 2 : 1)

#define DEFINE_TILE(name, mr, wide, type, few)                                                                  \
  static void name(size_t steps, const float *a, const struct panel *panel, float *c, size_t ldc,               \
                   size_t columns, bool add) {                                                                  \
    tile(mr, wide, type, few, steps, a, panel, c, ldc, columns, add);                                           \
  }
#define DEFINE_TILES(mr)                              \
  DEFINE_TILE(tile_f32_##mr, mr, 1, F32, false)       \
  DEFINE_TILE(tile_bf16_##mr, mr, 1, BF16, false)     \
  DEFINE_TILE(tile_few_f32_##mr, mr, 1, F32, true)    \
  DEFINE_TILE(tile_few_bf16_##mr, mr, 1, BF16, true)  \
  DEFINE_TILE(tile_few_int8_##mr, mr, 1, INT8, true)
EACH_MR(DEFINE_TILES)
#define TYPES_ENTRY(name, mr) {name##_f32_##mr, name##_bf16_##mr, name##_int8_##mr}
/* Many tiles of int8 are computed from a widened panel. */
#define TILE_ENTRY(mr) {{tile_f32_##mr, tile_bf16_##mr, NULL}, TYPES_ENTRY(tile_few, mr)},
static const tile_fn tiles_of[MR + 1][2][3] = {{{0}}, EACH_MR(TILE_ENTRY)}; /* rows, few, type */

#define DEFINE_WIDE(mr)                                      \
  DEFINE_TILE(tile_wide_f32_##mr, mr, WIDE(mr), F32, true)   \
  DEFINE_TILE(tile_wide_bf16_##mr, mr, WIDE(mr), BF16, true) \
  DEFINE_TILE(tile_wide_int8_##mr, mr, WIDE(mr), INT8, true)
DEFINE_WIDE(1) DEFINE_WIDE(2) DEFINE_WIDE(3)
static const tile_fn wide_tiles_of[4][3] = {{0}, TYPES_ENTRY(tile_wide, 1), TYPES_ENTRY(tile_wide, 2),
                                            TYPES_ENTRY(tile_wide, 3)}; /* rows, type */

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
      if (type != BF16) to[k * mr + i] = x;
      else if (BF16_A == 2) to[k * mr + i] = rounded(x);
      else if (k % 2 == 0)
        to[k / 2 * mr + i] =
            join_pair(round_bf16_scalar(x), k + 1 < K ? round_bf16_scalar(a[i * strideM + (k + 1) * strideK]) : 0);
    }
  /* The rest of the last step. */
  if (type == INT8 || (type == BF16 && BF16_A == 2))
    for (size_t k = K; k < ceil_div(K, step_k(type)) * step_k(type); k++)
      for (size_t i = 0; i < mr; i++) to[k * mr + i] = 0;
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
        if (type != BF16) {
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
        if (type != BF16) {
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
  if (type == BF16) pack_rows_typed(to, a, mr, K, strideM, strideK, BF16);
  else if (type == INT8) pack_rows_typed(to, a, mr, K, strideM, strideK, INT8);
  else pack_rows_typed(to, a, mr, K, strideM, strideK, F32);
}

/* ---- The product ---- */

/* A panel of several k per lane as a panel of f32. The same values in the same order as a tile uses. */
static void widen_panel(float *to, const float *b, size_t steps, packed_type type) {
  for (size_t i = 0; i < steps * NR; i += NR, to += step_k(type) * NR)
    for (size_t j = 0; j < NR; j += VL) {
      const vf lane = load(b + i + j);
      if (type == BF16) {
        store(to + j, (vf)((vu)lane << 16));
        store(to + NR + j, (vf)((vu)lane & 0xffff0000));
      } else {
        UNROLL for (int k = 0; k < INT8_K; k++) store(to + k * NR + j, int8_at((vi)lane, k));
      }
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
  const size_t steps = step_count(g->K, g->type), perStep = step_k(g->type), widthA = step_a(g->type);
  const size_t row0 = tile_row(g, tile0), tiles = tile1 - tile0;
  const struct blocks blocks = k_blocks(steps, g->type);
  const bool widen = tiles >= WIDEN_FROM && (g->type == INT8 || (g->type == BF16 && WIDENS_BF16));
  const packed_type tileType = widen ? F32 : g->type;
  const size_t firstRows = tile_row(g, tile0 + 1) - row0;
  const size_t wide = tiles == 1 ? WIDE(firstRows) : 1;
  float *widened = scratch, *packedA = widened + WIDENED;

  for (size_t block = 0; block < blocks.count; block++) {
    const size_t step0 = block * blocks.size, depth = min_n(blocks.size, steps - step0);
    const size_t k0 = step0 * perStep, k1 = min_n(k0 + depth * perStep, g->K), size = panel_size(depth, g->type);
    for (size_t tile = tile0; tile < tile1; tile++) {
      size_t row = tile_row(g, tile), mr = tile_row(g, tile + 1) - row;
      pack_rows(packedA + (row - row0) * depth * widthA, g->a + row * g->strideM + k0 * g->strideK, mr,
                k1 - k0, g->strideM, g->strideK, g->type);
    }
    const float *b = g->packed + panel_offset(blocks, steps, g->type, g->panels, block, panel0);
    const float *nextBlock = g->packed;
    if (block + 1 < blocks.count) nextBlock += panel_offset(blocks, steps, g->type, g->panels, block + 1, panel0);
    /* Several panels at once are each the next of a stream: reading goes on where it was, which is the fastest. */
    const size_t each = wide > 1 ? (panel1 - panel0) / wide : 0, single = panel0 + each * (wide - 1);
    for (size_t panel = panel0; panel < panel1; panel++, b += size) {
      const bool streams = panel < panel0 + each;
      if (panel == panel0 + each) {
        panel += single - panel0;
        b += (single - panel0) * size;
        if (panel == panel1) break;
      }
      const size_t columns = g->N - panel * NR, share = ceil_div(NR, tiles);
      if (widen) widen_panel(widened, b, depth, g->type);
      struct panel part = {.b = widen ? widened : b, .size = each * size, .columns = each * NR, .scales = g->type == INT8 ? b + depth * NR : NULL,
                           .ahead = panel + 1 < panel1 ? b + size : nextBlock, .stride = widen ? share / perStep : share};
      for (size_t tile = tile0; tile < tile1; tile++, part.ahead += share * depth) {
        size_t row = tile_row(g, tile), mr = tile_row(g, tile + 1) - row;
        const tile_fn compute = streams ? wide_tiles_of[mr][tileType] : tiles_of[mr][tiles < FEW][tileType];
        compute(widen ? perStep * depth : depth, packedA + (row - row0) * depth * widthA, &part,
                g->c + row * g->N + panel * NR, g->N, columns, g->accumulate || block > 0);
      }
    }
  }
}

KERNEL void OPNAME(gemm)(size_t threads, size_t M, size_t N, size_t K, const float *a, size_t strideM,
                         size_t strideK, const float *packed, float *c, bool accumulate, packed_type type) {
  if (M == 0 || N == 0) return;
  if (K == 0) type = F32; /* no scales to read */
  struct gemm g = {.M = M, .N = N, .K = K, .strideM = strideM, .strideK = strideK, .a = a, .packed = packed, .c = c,
                   .accumulate = accumulate, .type = type};
  g.tiles = ceil_div(M, MR);
  g.panels = ceil_div(N, NR);
  g.groupTiles = min_n(g.tiles, GROUP_ROWS / MR);
  /* Every chunk packs its rows of A anew, so many rows have few chunks; below about 40 microseconds of work a second
   * thread costs more than it gives. A weight that comes from memory takes as long as about 16 products. */
  const size_t groups = ceil_div(g.tiles, g.groupTiles), work = K * N * (M + 16 / step_k(type));
  const size_t wanted = threads == 1 ? 1 : min_n(max_n(work / 4000000, 1), threads * (g.tiles < FEW ? 16 : 4));
  g.panelChunks = min_n(ceil_div(wanted, groups), ceil_div(g.panels * NR, 64));
  g.groupPanels = ceil_div(g.panels, g.panelChunks);
  g.panelChunks = ceil_div(g.panels, g.groupPanels);
  const size_t depth = k_blocks(step_count(K, type), type).size, widthA = step_a(type);
  parallel(threads, gemm_chunk, &g, groups * g.panelChunks,
           (WIDENED + g.groupTiles * MR * depth * widthA + 64) * sizeof(float));
}

/* ---- Packing B ---- */

/* A strip of columns: N of them, in `panels` panels from `firstPanel` on, of a matrix of `allPanels`. */
struct pack {
  float *packed;
  const float *source;
  size_t K, N, strideK, strideN;
  packed_type type, gathered; /* gathered: as what columns are read before int8 is made of them */
  size_t panels, firstPanel, allPanels, groupPanels, panelChunks;
};

/* Steps step0..step1 of the columns column0..column1 of one panel, any strides; zeros beyond N. */
static void pack_scalar(float *to, const struct pack *p, size_t step0, size_t step1, size_t column0, size_t column1) {
  for (size_t step = step0; step < step1; step++, to += NR)
    for (size_t column = column0; column < column1; column++) {
      const size_t k = p->gathered == BF16 ? 2 * step : step;
      const float *from = p->source + k * p->strideK + column * p->strideN;
      float x = 0;
      if (column < p->N) {
        if (p->gathered == F32) x = from[0];
        else x = join_pair(round_bf16_scalar(from[0]), k + 1 < p->K ? round_bf16_scalar(from[p->strideK]) : 0);
      }
      to[column % NR] = x;
    }
}

/* k is contiguous: 4 x 4 blocks are transposed. `columns` is a multiple of 4. Returns the first step that is left. */
static size_t pack_by_column(float *to, const struct pack *p, size_t step0, size_t step1, size_t column,
                             size_t columns) {
  const size_t stride = p->strideN, perStep = p->gathered == BF16 ? 2 : 1, block = 4 / perStep;
  size_t step = step0;
  for (; step + block <= step1 && (step + block) * perStep <= p->K; step += block, to += block * NR)
    for (size_t j = 0; j < columns; j += 4) {
      const float *from = p->source + (column + j) * stride + step * perStep;
      v4 r[4];
      UNROLL for (size_t i = 0; i < 4; i++) r[i] = *(const v4 *)(from + i * stride);
      transpose4(r);
      if (p->gathered == F32) {
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
  for (; step < step1 && (p->gathered == F32 || step * 2 + 2 <= p->K); step++, to += NR)
    for (size_t panel = 0; panel < panels; panel++) {
      const float *even = p->source + (p->gathered == F32 ? step : 2 * step) * p->strideK + column + panel * NR;
      float *out = to + panel * panelSize;
      if (p->gathered == F32) {
        UNROLL for (size_t j = 0; j < NR; j += VL) store(out + j, load(even + j));
      } else {
        const float *odd = even + p->strideK;
        UNROLL for (size_t j = 0; j < NR; j += 4)
          *(u4 *)(out + j) = round_bf16(*(const v4 *)(even + j)) >> 16 | round_bf16(*(const v4 *)(odd + j));
      }
    }
  return step;
}

/*
 * Panel b of f32, `depth` k deep, to int8: per column scale = max |w| / 127 and q = w / scale, to nearest even.
 */
static void quantize_panel(float *to, const float *b, size_t depth) {
  const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
  const size_t steps = ceil_div(depth, INT8_K);
  for (size_t j = 0; j < NR; j += VL) {
    vf largest = {0};
    for (size_t k = 0; k < depth; k++) largest = max_v((vf)((vi)load(b + k * NR + j) & 0x7fffffff), largest);
    const vf scale = largest / splat(127);
    const vi used = scale > splat(0);
    store(to + steps * NR + j, scale);
    for (size_t step = 0; step < steps; step++) {
      vu lane = {0};
      for (size_t i = 0; i < INT8_K && step * INT8_K + i < depth; i++) {
        const vf x = (vf)((vi)(load(b + (step * INT8_K + i) * NR + j) / choose(used, scale, splat(1))) & used);
        const vf q = max_v(choose(x > splat(127), splat(127), x), splat(-127)) + magic;
        lane |= ((vu)q & 0xff) << (8 * (uint32_t)i);
      }
      store(to + step * NR + j, (vf)lane);
    }
  }
}

/* Columns of panels panel0..panel1 of the strip, steps step0..step1 (of the type that is gathered), to `to`. */
static void pack_panels(float *to, const struct pack *p, size_t step0, size_t step1, size_t panel0, size_t panel1) {
  const size_t panelSize = (step1 - step0) * NR;
  size_t panel = panel0;
  if (p->strideN == 1 && p->strideK != 1) {
    const size_t whole = max_n(panel0, min_n(panel1, p->N / NR)) - panel0;
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

static void pack_chunk(const void *context, size_t chunk, void *scratch) {
  const struct pack *p = context;
  const size_t steps = step_count(p->K, p->type);
  const struct blocks blocks = k_blocks(steps, p->type);
  const size_t block = chunk / p->panelChunks, step0 = block * blocks.size, step1 = min_n(step0 + blocks.size, steps);
  const size_t panel0 = chunk % p->panelChunks * p->groupPanels, panel1 = min_n(panel0 + p->groupPanels, p->panels);
  float *to = p->packed + panel_offset(blocks, steps, p->type, p->allPanels, block, p->firstPanel + panel0);
  if (p->type != INT8) {
    pack_panels(to, p, step0, step1, panel0, panel1);
    return;
  }
  const size_t k0 = step0 * INT8_K, k1 = min_n(step1 * INT8_K, p->K);
  float *gathered = scratch;
  pack_panels(gathered, p, k0, k1, panel0, panel1);
  for (size_t panel = panel0; panel < panel1; panel++, gathered += (k1 - k0) * NR, to += panel_size(step1 - step0, INT8))
    quantize_panel(to, gathered, k1 - k0);
}

KERNEL void OPNAME(pack)(size_t threads, float *packed, const float *source, size_t K, size_t N, size_t first,
                         size_t count, size_t strideK, size_t strideN, packed_type type) {
  if (K == 0 || count == 0) return;
  struct pack p = {.packed = packed, .source = source, .K = K, .N = count, .strideK = strideK, .strideN = strideN,
                   .type = type, .gathered = type == INT8 ? F32 : type, .panels = ceil_div(count, NR),
                   .firstPanel = first / NR, .allPanels = ceil_div(N, NR)};
  p.groupPanels = min_n(p.panels, 8);
  p.panelChunks = ceil_div(p.panels, p.groupPanels);
  const struct blocks blocks = k_blocks(step_count(K, type), type);
  /* One block of a few panels is some tens of kilobytes; small matrices are packed by the caller alone. */
  parallel(K * count < 65536 ? 1 : threads, pack_chunk, &p, blocks.count * p.panelChunks,
           type == INT8 ? p.groupPanels * blocks.size * INT8_K * NR * sizeof(float) : 0);
}

KERNEL double OPNAME(packedLength)(size_t K, size_t N, packed_type type) {
  const size_t steps = step_count(K, type);
  if (steps == 0) return 0;
  return (double)(steps + (type == INT8 ? k_blocks(steps, type).count : 0)) * (double)(ceil_div(N, NR) * NR);
}

/* ---- Reading what is packed ---- */

/* B(k, column) as products see it: bf16 rounded, int8 scale times q. `b` is the panel's block, `depth` steps deep. */
INLINE float packed_value(const float *b, size_t depth, size_t k, size_t column, packed_type type) {
  if (type == F32) return b[k * NR + column];
  union {
    float value;
    uint32_t bits;
  } u = {b[k / step_k(type) * NR + column]};
  if (type == INT8) return (float)(int8_t)(u.bits >> (k % INT8_K * 8)) * b[depth * NR + column];
  u.bits = k % 2 ? u.bits & 0xffff0000 : u.bits << 16;
  return u.value;
}

struct gather_packed {
  size_t R, K, N;
  const float *packed;
  const int32_t *ids;
  float *out;
  packed_type type;
};

static void gather_packed_chunk(const void *context, size_t r, void *scratch) {
  (void)scratch;
  const struct gather_packed *t = context;
  const size_t steps = step_count(t->K, t->type), panels = ceil_div(t->N, NR), id = (size_t)t->ids[r];
  const struct blocks blocks = k_blocks(steps, t->type);
  float *out = t->out + r * t->K;
  for (size_t block = 0; block < blocks.count; block++) {
    const float *b = t->packed + panel_offset(blocks, steps, t->type, panels, block, id / NR);
    const size_t step0 = block * blocks.size, depth = min_n(blocks.size, steps - step0);
    const size_t k0 = step0 * step_k(t->type), k1 = min_n(k0 + depth * step_k(t->type), t->K);
    for (size_t k = k0; k < k1; k++) out[k] = packed_value(b, depth, k - k0, id % NR, t->type);
  }
}

KERNEL void OPNAME(gatherPacked)(size_t threads, size_t R, size_t K, size_t N, const float *packed, const int32_t *ids,
                                 float *out, packed_type type) {
  struct gather_packed t = {R, K, N, packed, ids, out, type};
  parallel(R * K < 20000 ? 1 : threads, gather_packed_chunk, &t, R, 0);
}

/* ---- Transposing what is packed ---- */

enum { TURN_PANELS = 8 }; /* panels of the result that are made at a time: a few kilobytes of each panel of B are read */

struct transpose_packed {
  float *to;
  const float *from;
  size_t K, N; /* of the matrix in `from` */
  packed_type toType, fromType;
  size_t panels, groups; /* of the result */
};

/* Rows k0..k1 of a panel of B as f32, [k][NR]; zeros from K on. */
static void unpack_rows(float *to, const struct transpose_packed *t, size_t panel, size_t k0, size_t k1) {
  const packed_type type = t->fromType;
  const size_t steps = step_count(t->K, type), panels = ceil_div(t->N, NR), perStep = step_k(type);
  const struct blocks blocks = k_blocks(steps, type);
  for (size_t k = k0; k < k1;) {
    if (k >= t->K) {
      for (size_t j = 0; j < NR; j += VL) store(to + j, (vf){0});
      to += NR;
      k++;
      continue;
    }
    const size_t block = k / (blocks.size * perStep), start = block * blocks.size * perStep;
    const size_t depth = min_n(blocks.size, steps - block * blocks.size);
    const size_t end = min_n(min_n(start + depth * perStep, t->K), k1);
    const float *b = t->from + panel_offset(blocks, steps, type, panels, block, panel);
    for (; k < end; k++, to += NR) {
      const float *lane = b + (k - start) / perStep * NR;
      const uint32_t part = (uint32_t)((k - start) % perStep);
      for (size_t j = 0; j < NR; j += VL) {
        vf x = load(lane + j);
        if (type == BF16) x = part ? (vf)((vu)x & 0xffff0000) : (vf)((vu)x << 16);
        else if (type == INT8)
          x = __builtin_convertvector((vi)((vu)x << (24 - 8 * part)) >> 24, vf) * load(b + depth * NR + j);
        store(to + j, x);
      }
    }
  }
}

/* A chunk is one K block (range of n) of TURN_PANELS panels (range of k) of the result. */
static void transpose_chunk(const void *context, size_t chunk, void *scratch) {
  const struct transpose_packed *t = context;
  const size_t steps = step_count(t->N, t->toType), perStep = step_k(t->toType);
  const struct blocks blocks = k_blocks(steps, t->toType);
  const size_t block = chunk / t->groups, step0 = block * blocks.size, depth = min_n(blocks.size, steps - step0);
  const size_t panel0 = chunk % t->groups * TURN_PANELS, panel1 = min_n(panel0 + TURN_PANELS, t->panels);
  const size_t n0 = step0 * perStep, n1 = min_n(n0 + depth * perStep, t->N);
  float *to = t->to + panel_offset(blocks, steps, t->toType, t->panels, block, panel0), *rows = scratch;
  for (size_t from = n0 / NR; from * NR < n1; from++) {
    unpack_rows(rows, t, from, panel0 * NR, panel1 * NR);
    const size_t column0 = max_n(n0, from * NR), column1 = min_n(n1, (from + 1) * NR);
    for (size_t panel = panel0; panel < panel1; panel++)
      for (size_t column = column0; column < column1; column += 4) {
        float *out = to + (panel - panel0) * depth * NR + (column - n0) / perStep * NR;
        const float *in = rows + (panel - panel0) * NR * NR + column - from * NR;
        const size_t count = min_n(4, column1 - column);
        for (size_t i = 0; i < NR; i += 4, out += 4) {
          v4 r[4]; /* The last columns may be those of the next row, which are not stored. */
          UNROLL for (size_t u = 0; u < 4; u++) r[u] = *(const v4 *)(in + (i + u) * NR);
          transpose4(r);
          if (t->toType == F32) {
            if (count == 4) UNROLL for (size_t u = 0; u < 4; u++) *(v4 *)(out + u * NR) = r[u];
            else
              for (size_t u = 0; u < count; u++) *(v4 *)(out + u * NR) = r[u];
          } else {
            if (count % 2) r[count] = (v4){0};
            *(u4 *)out = round_bf16(r[0]) >> 16 | round_bf16(r[1]);
            if (count > 2) *(u4 *)(out + NR) = round_bf16(r[2]) >> 16 | round_bf16(r[3]);
          }
        }
      }
  }
}

KERNEL void OPNAME(transposePacked)(size_t threads, float *to, const float *from, size_t K, size_t N,
                                    packed_type fromType, packed_type toType) {
  if (K == 0 || N == 0) return;
  struct transpose_packed t = {to, from, K, N, toType, fromType, ceil_div(K, NR), 0};
  t.groups = ceil_div(t.panels, TURN_PANELS);
  parallel(K * N < 65536 ? 1 : threads, transpose_chunk, &t,
           k_blocks(step_count(N, toType), toType).count * t.groups,
           (TURN_PANELS * NR * NR + 4) * sizeof(float));
}
