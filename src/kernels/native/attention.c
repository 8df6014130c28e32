/**
 * Attention over pages of keys and values, and its gradients.
 *
 * A block is a few rows of one run with all query heads of one key/value head: its "tile rows" (row, head)
 * share each load of a page. Scores have the slot as the lane (keys are stored transposed), weighted values
 * have d as the lane. All small products go through one register tile, `product`, in which an element is one
 * chain of multiply-adds in ascending order; how many rows and columns are computed beside it changes nothing.
 * So one row (decoding) and many rows (prefill, training) give the same bits: a page that rows of a block see
 * differently (at its end by causality, at its beginning by the window) is added row by row, and masked slots never
 * enter a chain.
 */
#include "vector.h"

enum {
  ROW_TILE = VL == 16 ? 8 : VL == 8 ? 6 : ACCUMULATORS / SV, /* rows of the register tile */
  MAX_BLOCKS = 4,                                            /* 16-column blocks of the register tile */
  FORWARD_ROWS = 48,                                         /* tile rows of a block: rows times heads */
  BACKWARD_ROWS = 48,
};
static const float MASKED = -1e30f;

/* How many 16-column blocks a tile of `rows` rows takes, within the registers. */
#define BLOCKS_OF(rows) ((rows) * SV * 4 <= ACCUMULATORS ? 4 : (rows) * SV * 2 <= ACCUMULATORS ? 2 : 1)

/* c[i][16 u + lane] += sum_k a[i ai + k ak] b[u][k bk + lane], k ascending. */
INLINE void product_tile(const int rows, const int blocks, size_t K, const float *a, size_t ai, size_t ak,
                         const float *const *b, size_t bk, float *c, size_t ci) {
  vf s[ROW_TILE][MAX_BLOCKS * SV];
  const float *columns[MAX_BLOCKS];
  UNROLL for (int u = 0; u < blocks; u++) columns[u] = b[u];
  UNROLL for (int i = 0; i < rows; i++) {
    UNROLL for (int j = 0; j < blocks * SV; j++) s[i][j] = load(c + (size_t)i * ci + j * VL);
  }
  for (size_t k = 0; k < K; k++) {
    vf row[MAX_BLOCKS * SV];
    UNROLL for (int j = 0; j < blocks * SV; j++) row[j] = load(columns[j / SV] + k * bk + j % SV * VL);
    UNROLL for (int i = 0; i < rows; i++) {
      const float x = a[(size_t)i * ai + k * ak];
      UNROLL for (int j = 0; j < blocks * SV; j++) s[i][j] += x * row[j];
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    UNROLL for (int j = 0; j < blocks * SV; j++) store(c + (size_t)i * ci + j * VL, s[i][j]);
  }
}

/* The used slots of one page of values, [slot][D]. */
struct segment {
  const float *values;
  size_t first, end;
};

/* c[i][d + lane] += sum over segments g and slots t of p[i pi + 16 g + t] values_g[t D + d + lane], ascending. */
INLINE void values_tile(const int rows, const int blocks, const struct segment *segments, size_t count,
                        const float *p, size_t pi, size_t D, size_t d, float *c) {
  c += d;
  vf s[ROW_TILE][MAX_BLOCKS * SV];
  UNROLL for (int i = 0; i < rows; i++) {
    UNROLL for (int j = 0; j < blocks * SV; j++) s[i][j] = load(c + (size_t)i * D + j * VL);
  }
  for (size_t g = 0; g < count; g++, p += SLOTS) {
    const float *values = segments[g].values + d;
    for (size_t t = segments[g].first; t < segments[g].end; t++) {
      vf row[MAX_BLOCKS * SV];
      UNROLL for (int j = 0; j < blocks * SV; j++) row[j] = load(values + t * D + j * VL);
      UNROLL for (int i = 0; i < rows; i++) {
        const float x = p[(size_t)i * pi + t];
        UNROLL for (int j = 0; j < blocks * SV; j++) s[i][j] += x * row[j];
      }
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    UNROLL for (int j = 0; j < blocks * SV; j++) store(c + (size_t)i * D + j * VL, s[i][j]);
  }
}

typedef void (*values_fn)(const struct segment *segments, size_t count, const float *p, size_t pi, size_t D, size_t d,
                          float *c);
typedef void (*product_fn)(size_t K, const float *a, size_t ai, size_t ak, const float *const *b, size_t bk,
                           float *c, size_t ci);
#if !defined __AVX2__ && !defined __aarch64__
#define EACH_ROWS(X) X(1) X(2)
#elif defined __AVX512F__
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#else
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define DEFINE_PRODUCT(rows)                                                                                    \
  static void product_wide_##rows(size_t K, const float *a, size_t ai, size_t ak, const float *const *b,       \
                                  size_t bk, float *c, size_t ci) {                                             \
    product_tile(rows, BLOCKS_OF(rows), K, a, ai, ak, b, bk, c, ci);                                            \
  }                                                                                                             \
  static void product_narrow_##rows(size_t K, const float *a, size_t ai, size_t ak, const float *const *b,     \
                                    size_t bk, float *c, size_t ci) {                                           \
    product_tile(rows, 1, K, a, ai, ak, b, bk, c, ci);                                                          \
  }                                                                                                             \
  static void values_wide_##rows(const struct segment *segments, size_t count, const float *p, size_t pi,      \
                                 size_t D, size_t d, float *c) {                                                \
    values_tile(rows, BLOCKS_OF(rows), segments, count, p, pi, D, d, c);                                        \
  }                                                                                                             \
  static void values_narrow_##rows(const struct segment *segments, size_t count, const float *p, size_t pi,    \
                                   size_t D, size_t d, float *c) {                                              \
    values_tile(rows, 1, segments, count, p, pi, D, d, c);                                                      \
  }
EACH_ROWS(DEFINE_PRODUCT)
#define PRODUCT_ENTRY(rows) {product_narrow_##rows, product_wide_##rows},
static const product_fn products[ROW_TILE + 1][2] = {{0, 0}, EACH_ROWS(PRODUCT_ENTRY)};
#define VALUES_ENTRY(rows) {values_narrow_##rows, values_wide_##rows},
static const values_fn value_sums[ROW_TILE + 1][2] = {{0, 0}, EACH_ROWS(VALUES_ENTRY)};

/* The same for any number of rows and of 16-column blocks. */
static void product(size_t rows, size_t blocks, size_t K, const float *a, size_t ai, size_t ak,
                    const float *const *b, size_t bk, float *c, size_t ci) {
  const size_t tiles = ceil_div(rows, ROW_TILE);
  for (size_t tile = 0; tile < tiles; tile++) {
    const size_t row = tile * rows / tiles, count = (tile + 1) * rows / tiles - row, wide = BLOCKS_OF(count);
    const float *from = a + row * ai;
    float *to = c + row * ci;
    size_t u = 0;
    for (; u + wide <= blocks; u += wide) products[count][1](K, from, ai, ak, b + u, bk, to + u * SLOTS, ci);
    for (; u < blocks; u++) products[count][0](K, from, ai, ak, b + u, bk, to + u * SLOTS, ci);
  }
}

/* The same where the column blocks of B lie side by side: B [K, columns], row stride bk. */
static void product_matrix(size_t rows, size_t columns, size_t K, const float *a, size_t ai, size_t ak,
                           const float *b, size_t bk, float *c, size_t ci) {
  const float *blocks[16];
  for (size_t column = 0; column < columns; column += 16 * SLOTS) {
    size_t count = min_n(16, (columns - column) / SLOTS);
    for (size_t u = 0; u < count; u++) blocks[u] = b + column + u * SLOTS;
    product(rows, count, K, a, ai, ak, blocks, bk, c + column, ci);
  }
}

/* c [rows, D] += P times the values of the segments. */
static void add_values(size_t rows, size_t D, const struct segment *segments, size_t count, const float *p, size_t pi,
                       float *c) {
  const size_t tiles = ceil_div(rows, ROW_TILE);
  for (size_t tile = 0; tile < tiles; tile++) {
    const size_t row = tile * rows / tiles, mr = (tile + 1) * rows / tiles - row, wide = BLOCKS_OF(mr) * SLOTS;
    size_t d = 0;
    for (; d + wide <= D; d += wide) value_sums[mr][1](segments, count, p + row * pi, pi, D, d, c + row * D);
    for (; d < D; d += SLOTS) value_sums[mr][0](segments, count, p + row * pi, pi, D, d, c + row * D);
  }
}

static void clear(float *to, size_t n) {
  for (size_t i = 0; i < n; i += VL) store(to + i, (vf){0});
}

/* to [columns, rows] = from [rows, columns]; both multiples of 4. */
static void transpose(float *to, const float *from, size_t rows, size_t columns) {
  for (size_t i = 0; i < rows; i += 4)
    for (size_t j = 0; j < columns; j += 4) {
      v4 r[4];
      UNROLL for (int t = 0; t < 4; t++) r[t] = *(const v4 *)(from + (i + t) * columns + j);
      transpose4(r);
      UNROLL for (int t = 0; t < 4; t++) *(v4 *)(to + (j + t) * rows + i) = r[t];
    }
}

/* ---- What forward and backward share ---- */

struct span {
  size_t page;
  int32_t start, first, end; /* position of slot 0; used slots */
};

INLINE struct span span_at(const int32_t *spans, size_t index) {
  const int32_t *s = spans + index * SPAN_INTS;
  return (struct span){(size_t)s[0], s[1], s[2], s[3]};
}

/* The end of the slots that a row at `position` sees; not above s.first if none. */
INLINE int32_t visible_end(struct span s, int32_t position) {
  int32_t end = position - s.start + 1;
  return end < s.end ? end : s.end;
}

/* How many leading spans a row at `position` sees something of. Spans are in order of position. */
static size_t visible_spans(const int32_t *spans, size_t count, int32_t position) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    struct span s = span_at(spans, middle);
    if (s.start + s.first <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* How many leading spans end before `position`. */
static size_t spans_before(const int32_t *spans, size_t count, int32_t position) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    struct span s = span_at(spans, middle);
    if (s.start + s.end <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

struct attention {
  size_t H, J, D, runCount;
  float scale, softcap; /* softcap 0: off */
  int32_t window;       /* 0: off */
  const int32_t *runs, *spans, *trees;
  const float *q, *keys, *values;
  float *out, *stats;
  size_t blockRows;       /* rows of a block */
  size_t stripes, widest; /* forward: chunks of a run and head; spans of the longest run */
  const float *given, *givenStats, *dOut; /* backward: out and stats of the forward pass */
  float *dq, *dKeys, *dValues;
};

/* Query heads of key/value head j. */
INLINE size_t first_head(const struct attention *t, size_t j) { return ceil_div(j * t->H, t->J); }
INLINE const float *page_at(const struct attention *t, const float *pages, size_t page, size_t j) {
  return pages + (page * t->J + j) * t->D * SLOTS;
}

/* Positions are ints: a window that holds them all is as good as a larger one. */
INLINE int32_t window_of(size_t window) { return window < INT32_MAX ? (int32_t)window : 0; }

/* The first position that a row at `position` sees. */
INLINE int32_t first_seen(const struct attention *t, int32_t position) {
  return t->window > 0 && position >= t->window ? position - t->window + 1 : 0;
}
/* The first slot that it sees; not below s.end if none. */
INLINE int32_t visible_first(const struct attention *t, struct span s, int32_t position) {
  const int32_t first = first_seen(t, position) - s.start;
  return first > s.first ? first : s.first;
}

/* Scales and caps 16 scores and masks those that a row at `position` does not see. */
INLINE void scale_and_mask(const struct attention *t, float *scores, struct span span, int32_t position) {
  const int32_t first = visible_first(t, span, position), end = visible_end(span, position);
  UNROLL for (int i = 0; i < SV; i++) {
    vi slot = lanes() + i * VL;
    vi used = (slot >= first) & (slot < end);
    vf score = load(scores + i * VL) * splat(t->scale);
    if (t->softcap > 0) score = splat(t->softcap) * tanh_v(score * splat(1 / t->softcap));
    store(scores + i * VL, choose(used, score, splat(MASKED)));
  }
}

/* ---- Forward ---- */

/* In place: scores become exp(score - largest). Writes the largest and the sum of one row. */
static void softmax_row(float *scores, size_t width, float *stats) {
  vf largest[SV], sum[SV];
  UNROLL for (int i = 0; i < SV; i++) {
    largest[i] = splat(MASKED);
    sum[i] = (vf){0};
  }
  for (size_t j = 0; j < width; j += SLOTS) {
    UNROLL for (int i = 0; i < SV; i++) largest[i] = max_v(load(scores + j + i * VL), largest[i]);
  }
  const float top = join_max(largest);
  for (size_t j = 0; j < width; j += SLOTS) {
    UNROLL for (int i = 0; i < SV; i++) {
      vf p = exp_v(load(scores + j + i * VL) - splat(top));
      store(scores + j + i * VL, p);
      sum[i] += p;
    }
  }
  stats[0] = top;
  stats[1] = join_sum(sum);
}

/* Adds spans from..end to the sums of each row, which sees its own part of each. */
static void add_values_by_row(const struct attention *t, const int32_t *spans, size_t from, size_t end, size_t rows,
                              int32_t position0, size_t group, struct segment *segments, const float *scores,
                              size_t width, float *sums) {
  for (size_t i = 0; i < rows; i++)
    for (size_t s = from; s < end; s++) {
      const struct span span = span_at(spans, s);
      const int32_t position = position0 + (int32_t)i;
      const int32_t seenFirst = visible_first(t, span, position), seenEnd = visible_end(span, position);
      if (seenFirst >= seenEnd) continue;
      segments[s].first = (size_t)seenFirst;
      segments[s].end = (size_t)seenEnd;
      add_values(group, t->D, segments + s, 1, scores + i * group * width + s * SLOTS, width,
                 sums + i * group * t->D);
    }
}

static void attention_block(const struct attention *t, const int32_t *spans, size_t spanCount, size_t row0,
                            size_t rows, int32_t position0, size_t j, float *scratch) {
  const size_t D = t->D, h0 = first_head(t, j), group = first_head(t, j + 1) - h0, tileRows = rows * group;
  const int32_t lastPosition = position0 + (int32_t)rows - 1;
  const size_t skipped = spans_before(spans, spanCount, first_seen(t, position0));
  spans += skipped * SPAN_INTS;
  spanCount -= skipped;
  const size_t visible = visible_spans(spans, spanCount, lastPosition), width = visible * SLOTS;
  /* Leading spans whose used slots are seen by every row. */
  size_t full = visible_spans(spans, spanCount, position0);
  while (full > 0 && visible_end(span_at(spans, full - 1), position0) < span_at(spans, full - 1).end) full--;
  /* Before them, those whose beginning the window hides from some row. */
  size_t partial = 0;
  while (partial < visible && visible_first(t, span_at(spans, partial), lastPosition) > span_at(spans, partial).first)
    partial++;
  full = max_n(full, partial);

  float *queries = scratch, *sums = queries + tileRows * D, *scores = sums + tileRows * D;
  const float **pages = (const float **)(scores + tileRows * t->widest * SLOTS);
  struct segment *segments = (struct segment *)(pages + t->widest);
  for (size_t i = 0; i < rows; i++)
    for (size_t d = 0; d < group * D; d += VL)
      store(queries + i * group * D + d, load(t->q + ((row0 + i) * t->H + h0) * D + d));

  for (size_t s = 0; s < visible; s++) pages[s] = page_at(t, t->keys, span_at(spans, s).page, j);
  clear(scores, tileRows * width);
  product(tileRows, visible, D, queries, D, 1, pages, SLOTS, scores, width);
  for (size_t i = 0; i < tileRows; i++) {
    const int32_t position = position0 + (int32_t)(i / group);
    for (size_t s = 0; s < visible; s++) {
      scale_and_mask(t, scores + i * width + s * SLOTS, span_at(spans, s), position);
    }
    softmax_row(scores + i * width, width, t->stats + ((row0 + i / group) * t->H + h0 + i % group) * 2);
  }

  clear(sums, tileRows * D);
  for (size_t s = 0; s < visible; s++) {
    struct span span = span_at(spans, s);
    segments[s] = (struct segment){page_at(t, t->values, span.page, j), (size_t)span.first, (size_t)span.end};
  }
  add_values_by_row(t, spans, 0, partial, rows, position0, group, segments, scores, width, sums);
  add_values(tileRows, D, segments + partial, full - partial, scores + partial * SLOTS, width, sums);
  add_values_by_row(t, spans, full, visible, rows, position0, group, segments, scores, width, sums);
  for (size_t i = 0; i < tileRows; i++) {
    const size_t at = (row0 + i / group) * t->H + h0 + i % group;
    const vf total = splat(t->stats[at * 2 + 1]);
    for (size_t d = 0; d < D; d += VL) store(t->out + at * D + d, load(sums + i * D + d) / total);
  }
}

static void attention_chunk(const void *context, size_t chunk, void *scratch) {
  const struct attention *t = context;
  /* Head by head: neighbouring runs often share a prefix, whose pages of one head then stay in the cache. */
  const size_t stripe = chunk % t->stripes, j = chunk / t->stripes / t->runCount;
  const int32_t *run = t->runs + chunk / t->stripes % t->runCount * RUN_INTS;
  const size_t row0 = (size_t)run[0], rows = (size_t)run[1];
  for (size_t i = stripe * t->blockRows; i < rows; i += t->stripes * t->blockRows)
    attention_block(t, t->spans + (size_t)run[3] * SPAN_INTS, (size_t)run[4], row0 + i,
                    min_n(t->blockRows, rows - i), run[2] + (int32_t)i, j, scratch);
}

KERNEL void OPNAME(attention)(size_t threads, size_t H, size_t J, size_t D, double scale, size_t window,
                              double softcap, const int32_t *runs, size_t runCount, const int32_t *spans,
                              const float *q, const float *keyPages, const float *valuePages, float *out,
                              float *stats) {
  struct attention t = {.H = H, .J = J, .D = D, .runCount = runCount, .scale = (float)scale,
                        .softcap = (float)softcap, .window = window_of(window), .runs = runs, .spans = spans, .q = q, .keys = keyPages, .values = valuePages, .out = out, .stats = stats};
  if (runCount == 0) return;
  const size_t group = ceil_div(H, J);
  t.blockRows = max_n(1, FORWARD_ROWS / group);
  size_t mostRows = 0, work = 0;
  for (size_t i = 0; i < runCount; i++) {
    const size_t rows = (size_t)runs[i * RUN_INTS + 1], spanCount = (size_t)runs[i * RUN_INTS + 4];
    mostRows = max_n(mostRows, rows);
    t.widest = max_n(t.widest, spanCount);
    work += rows * spanCount * SLOTS * D * H * 2;
  }
  if (work < 400000) threads = 1;
  t.stripes = 1;
  if (threads > 1) t.stripes = max_n(1, min_n(ceil_div(mostRows, t.blockRows), ceil_div(threads * 8, runCount * J)));
  const size_t tileRows = t.blockRows * group;
  parallel(threads, attention_chunk, &t, runCount * J * t.stripes,
           (2 * tileRows * D + tileRows * t.widest * SLOTS) * sizeof(float) +
               t.widest * (sizeof(float *) + sizeof(struct segment)));
}

/* ---- Backward ---- */

/*
 * One block of rows of a run: for each page that it sees, P and dS of all tile rows, then four products.
 *   p = exp(s - largest) / sum,  dv += p^T dOut,  dp = dOut v^T,  ds = p (dp - dOut.out) scale (1 - (s / softcap)^2),
 *   dq += ds k,  dk += ds^T q.
 */
static void backward_block(const struct attention *t, const int32_t *spans, size_t spanCount, size_t row0,
                           size_t rows, int32_t position0, size_t j, float *scratch) {
  const size_t D = t->D, h0 = first_head(t, j), group = first_head(t, j + 1) - h0, tileRows = rows * group;
  const size_t skipped = spans_before(spans, spanCount, first_seen(t, position0));
  const size_t visible = visible_spans(spans, spanCount, position0 + (int32_t)rows - 1);
  float *queries = scratch, *dOut = queries + tileRows * D, *dq = dOut + tileRows * D, *p = dq + tileRows * D;
  float *ds = p + tileRows * SLOTS, *turned = ds + tileRows * SLOTS, *delta = turned + D * SLOTS;
  for (size_t i = 0; i < tileRows; i++) {
    const size_t at = ((row0 + i / group) * t->H + h0 + i % group) * D;
    vf dot[SV] = {0};
    for (size_t d = 0; d < D; d += SLOTS) {
      UNROLL for (int k = 0; k < SV; k++) {
        vf g = load(t->dOut + at + d + k * VL);
        store(queries + i * D + d + k * VL, load(t->q + at + d + k * VL));
        store(dOut + i * D + d + k * VL, g);
        dot[k] += g * load(t->given + at + d + k * VL);
      }
    }
    delta[i] = join_sum(dot);
  }
  clear(dq, tileRows * D);

  for (size_t s = skipped; s < visible; s++) {
    const struct span span = span_at(spans, s);
    const float *keys = page_at(t, t->keys, span.page, j), *values = page_at(t, t->values, span.page, j);
    float *dKeys = t->dKeys + (page_at(t, t->keys, span.page, j) - t->keys);
    float *dValues = t->dValues + (dKeys - t->dKeys);

    clear(p, tileRows * SLOTS);
    product(tileRows, 1, D, queries, D, 1, &keys, SLOTS, p, SLOTS);
    transpose(turned, values, SLOTS, D);
    const float *const turnedValues = turned;
    clear(ds, tileRows * SLOTS);
    product(tileRows, 1, D, dOut, D, 1, &turnedValues, SLOTS, ds, SLOTS);
    for (size_t i = 0; i < tileRows; i++) {
      const float *stats = t->givenStats + ((row0 + i / group) * t->H + h0 + i % group) * 2;
      scale_and_mask(t, p + i * SLOTS, span, position0 + (int32_t)(i / group));
      const vf largest = splat(stats[0]), inverse = splat(1 / stats[1]);
      UNROLL for (int k = 0; k < SV; k++) {
        const vf score = load(p + i * SLOTS + k * VL);
        vf weight = exp_v(score - largest) * inverse;
        store(p + i * SLOTS + k * VL, weight);
        vf gradient = weight * (load(ds + i * SLOTS + k * VL) - splat(delta[i])) * splat(t->scale);
        if (t->softcap > 0) {
          /* A masked score is no capped one; its weight is 0 whatever the slope, which must be finite. */
          const vf part = max_v(score, splat(-t->softcap)) * splat(1 / t->softcap);
          gradient = gradient * (splat(1) - part * part);
        }
        store(ds + i * SLOTS + k * VL, gradient);
      }
    }
    product_matrix(SLOTS, D, tileRows, p, 1, SLOTS, dOut, D, dValues, D);
    product_matrix(SLOTS, D, tileRows, ds, 1, SLOTS, queries, D, dKeys, D);
    transpose(turned, keys, D, SLOTS);
    product_matrix(tileRows, D, SLOTS, ds, SLOTS, 1, turned, D, dq, D);
  }
  for (size_t i = 0; i < tileRows; i++)
    for (size_t d = 0; d < D; d += VL)
      store(t->dq + ((row0 + i / group) * t->H + h0 + i % group) * D + d, load(dq + i * D + d));
}

static void backward_chunk(const void *context, size_t chunk, void *scratch) {
  const struct attention *t = context;
  const int32_t *tree = t->trees + chunk / t->J * TREE_INTS;
  for (int32_t r = tree[0]; r < tree[0] + tree[1]; r++) {
    const int32_t *run = t->runs + (size_t)r * RUN_INTS;
    const size_t row0 = (size_t)run[0], rows = (size_t)run[1];
    for (size_t i = 0; i < rows; i += t->blockRows)
      backward_block(t, t->spans + (size_t)run[3] * SPAN_INTS, (size_t)run[4], row0 + i,
                     min_n(t->blockRows, rows - i), run[2] + (int32_t)i, chunk % t->J, scratch);
  }
}

KERNEL void OPNAME(attentionBackward)(size_t threads, size_t H, size_t J, size_t D, double scale, size_t window,
                                      double softcap, const int32_t *runs, const int32_t *spans, const int32_t *trees,
                                      size_t treeCount, const float *q, const float *keyPages,
                                      const float *valuePages, const float *out, const float *stats,
                                      const float *dOut, float *dq, float *dKeyPages, float *dValuePages) {
  struct attention t = {.H = H, .J = J, .D = D, .scale = (float)scale, .softcap = (float)softcap,
                        .window = window_of(window), .runs = runs, .spans = spans, .trees = trees, .q = q, .keys = keyPages, .values = valuePages, .given = out, .givenStats = stats,
                        .dOut = dOut, .dq = dq, .dKeys = dKeyPages, .dValues = dValuePages};
  const size_t group = ceil_div(H, J);
  t.blockRows = max_n(1, BACKWARD_ROWS / group);
  const size_t tileRows = t.blockRows * group;
  size_t work = 0;
  for (size_t i = 0; i < treeCount; i++)
    for (int32_t r = trees[i * TREE_INTS]; r < trees[i * TREE_INTS] + trees[i * TREE_INTS + 1]; r++)
      work += (size_t)runs[r * RUN_INTS + 1] * (size_t)runs[r * RUN_INTS + 4] * SLOTS * D * H * 5;
  parallel(work < 400000 ? 1 : threads, backward_chunk, &t, treeCount * J,
           (3 * tileRows * D + 2 * tileRows * SLOTS + D * SLOTS + tileRows) * sizeof(float));
}
