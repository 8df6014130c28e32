/**
 * Ops that work row by row or element by element: embedding, RMSNorm (of queries and keys as well), RoPE and the page
 * store, gated units, dropout, AdamW, the gradient norm, and the loops that measure the multiply-add peak and memory.
 *
 * Rows go to threads in chunks of at least about ten microseconds. What sums over rows (scatterAdd, dWeight)
 * is split by columns instead, so that each sum keeps the order of the rows.
 */
#include "vector.h"

/* Items per chunk, for `cost` floats touched per item: memory-bound loops take about 0.25 ns per float. */
static size_t chunk_items(size_t threads, size_t items, size_t cost) {
  return max_n(max_n(1, 40000 / max_n(1, cost)), ceil_div(items, threads * 16));
}

/* An op over items (rows, columns or elements), `perChunk` of them at a time. */
#define EACH_ITEM(t, chunk, i) \
  for (size_t i = (chunk) * (t)->perChunk, end_ = min_n(i + (t)->perChunk, (t)->items); i < end_; i++)
#define RUN_ITEMS(threads, fn, t) parallel(threads, fn, t, ceil_div((t)->items, (t)->perChunk), 0)

static void copy_row(float *restrict to, const float *restrict from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = from[i];
}

/* ---- Embedding ---- */

struct gather {
  size_t items, perChunk, C, R;
  const float *from;
  const int32_t *ids;
  float *to;
};

static void gather_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct gather *t = context;
  EACH_ITEM(t, chunk, r) copy_row(t->to + r * t->C, t->from + (size_t)t->ids[r] * t->C, t->C);
}

KERNEL void OPNAME(gather)(size_t threads, size_t R, size_t C, const float *table, const int32_t *ids, float *out) {
  struct gather t = {R, chunk_items(threads, R, 2 * C), C, R, table, ids, out};
  RUN_ITEMS(threads, gather_chunk, &t);
}

/* Items are groups of 64 columns. */
static void scatter_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct gather *t = context;
  const size_t c0 = chunk * t->perChunk * 64, c1 = min_n(c0 + t->perChunk * 64, t->C);
  for (size_t r = 0; r < t->R; r++) {
    float *to = t->to + (size_t)t->ids[r] * t->C;
    const float *from = t->from + r * t->C;
    for (size_t c = c0; c < c1; c++) to[c] += from[c];
  }
}

KERNEL void OPNAME(scatterAdd)(size_t threads, size_t R, size_t C, const float *source, const int32_t *ids,
                               float *table) {
  const size_t groups = ceil_div(C, 64);
  struct gather t = {groups, chunk_items(threads, groups, 64 * 3 * R), C, R, source, ids, table};
  RUN_ITEMS(threads, scatter_chunk, &t);
}

/* ---- RMSNorm ---- */

struct norm {
  size_t items, perChunk, C, R;
  float epsilon;
  const float *x, *weight, *dy, *given; /* given: inverse of the forward pass */
  float *out, *inverse, *dx, *dWeight;
};

/* sum_i a_i b_i c_i (c left out where null), in 16 partial sums. */
INLINE float dot_row(const float *a, const float *b, const float *c, size_t n) {
  vf sum[SV] = {0};
  size_t i = 0;
  for (; i + SLOTS <= n; i += SLOTS) {
    UNROLL for (int k = 0; k < SV; k++) {
      vf x = load(a + i + k * VL);
      if (c) x = x * load(c + i + k * VL);
      sum[k] += x * load(b + i + k * VL);
    }
  }
  float tail[3][SLOTS] = {{0}};
  for (size_t k = 0; i + k < n; k++) {
    tail[0][k] = a[i + k];
    tail[1][k] = b[i + k];
    tail[2][k] = c ? c[i + k] : 0;
  }
  if (i < n)
    UNROLL for (int k = 0; k < SV; k++) {
      vf x = load(tail[0] + k * VL);
      if (c) x = x * load(tail[2] + k * VL);
      sum[k] += x * load(tail[1] + k * VL);
    }
  return join_sum(sum);
}

/* out = x s weight; returns s. */
INLINE float norm_row(float *restrict out, const float *restrict x, const float *restrict weight, size_t C,
                      float epsilon) {
  const float scale = 1 / __builtin_sqrtf(dot_row(x, x, NULL, C) / (float)C + epsilon);
  for (size_t i = 0; i < C; i++) out[i] = x[i] * scale * weight[i];
  return scale;
}

static void norm_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct norm *t = context;
  const size_t C = t->C;
  EACH_ITEM(t, chunk, r) t->inverse[r] = norm_row(t->out + r * C, t->x + r * C, t->weight, C, t->epsilon);
}

KERNEL void OPNAME(rmsNorm)(size_t threads, size_t R, size_t C, const float *x, const float *weight, double epsilon,
                            float *out, float *inverse) {
  struct norm t = {.items = R, .perChunk = chunk_items(threads, R, 2 * C), .C = C, .epsilon = (float)epsilon, .x = x,
                   .weight = weight, .out = out, .inverse = inverse};
  RUN_ITEMS(threads, norm_chunk, &t);
}

/* Forward: y = x s w with s = inverse. dx += s w dy - x (s^3 / C) sum_j w_j dy_j x_j. */
static void norm_dx_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct norm *t = context;
  const size_t C = t->C;
  EACH_ITEM(t, chunk, r) {
    const float *restrict x = t->x + r * C, *restrict dy = t->dy + r * C, *restrict weight = t->weight;
    float *restrict dx = t->dx + r * C;
    const float s = t->given[r], pull = s * s * s * dot_row(dy, x, weight, C) / (float)C;
    for (size_t i = 0; i < C; i++) dx[i] += s * weight[i] * dy[i] - x[i] * pull;
  }
}

/* dWeight += sum_r x s dy, for groups of 64 columns. */
static void norm_dweight_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct norm *t = context;
  const size_t c0 = chunk * t->perChunk * 64, c1 = min_n(c0 + t->perChunk * 64, t->C);
  float *restrict dWeight = t->dWeight;
  for (size_t r = 0; r < t->R; r++) {
    const float *restrict x = t->x + r * t->C, *restrict dy = t->dy + r * t->C;
    const float s = t->given[r];
    for (size_t c = c0; c < c1; c++) dWeight[c] += x[c] * s * dy[c];
  }
}

KERNEL void OPNAME(rmsNormBackward)(size_t threads, size_t R, size_t C, const float *x, const float *weight,
                                    const float *inverse, const float *dy, float *dx, float *dWeight) {
  const size_t groups = ceil_div(C, 64);
  struct norm t = {.items = R, .perChunk = chunk_items(threads, R, 4 * C), .C = C, .R = R, .x = x, .weight = weight,
                   .dy = dy, .given = inverse, .dx = dx, .dWeight = dWeight};
  RUN_ITEMS(threads, norm_dx_chunk, &t);
  t.items = groups;
  t.perChunk = chunk_items(threads, groups, 64 * 2 * R);
  RUN_ITEMS(threads, norm_dweight_chunk, &t);
}

/* ---- RMSNorm of queries and keys ---- */

/* A row holds `parts` normed parts, the first `queries` of them of queries: heads, or all heads of a kind. */
struct qk_norm {
  size_t items, perChunk, R, width, queries, parts, lengthQ, lengthK, columns; /* columns: those that are normed */
  float epsilon;
  const float *qkv, *weightQ, *weightK, *given; /* given: inverse of the forward pass */
  float *out, *inverse, *dOut, *dWeightQ, *dWeightK;
};

static struct qk_norm qk_norm_of(size_t threads, size_t R, size_t H, size_t J, size_t D, bool whole) {
  const size_t width = (H + 2 * J) * D;
  return (struct qk_norm){.items = R, .perChunk = chunk_items(threads, R, 3 * width), .R = R, .width = width,
                          .queries = whole ? 1 : H, .parts = whole ? 2 : H + J, .lengthQ = whole ? H * D : D,
                          .lengthK = whole ? J * D : D, .columns = (H + J) * D};
}

static void qk_norm_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct qk_norm *t = context;
  EACH_ITEM(t, chunk, r) {
    const float *x = t->qkv + r * t->width;
    float *out = t->out + r * t->width;
    for (size_t part = 0, column = 0; part < t->parts; part++) {
      const bool query = part < t->queries;
      const size_t length = query ? t->lengthQ : t->lengthK;
      t->inverse[r * t->parts + part] =
          norm_row(out + column, x + column, query ? t->weightQ : t->weightK, length, t->epsilon);
      column += length;
    }
    copy_row(out + t->columns, x + t->columns, t->width - t->columns);
  }
}

KERNEL void OPNAME(qkNorm)(size_t threads, size_t R, size_t H, size_t J, size_t D, bool whole, const float *qkv,
                           const float *weightQ, const float *weightK, double epsilon, float *out, float *inverse) {
  struct qk_norm t = qk_norm_of(threads, R, H, J, D, whole);
  t.qkv = qkv;
  t.weightQ = weightQ;
  t.weightK = weightK;
  t.epsilon = (float)epsilon;
  t.out = out;
  t.inverse = inverse;
  RUN_ITEMS(threads, qk_norm_chunk, &t);
}

/* dWeight += sum over rows, and over the heads of a row, of x s dy. Items are 16 columns of weightQ, then of weightK. */
static void qk_dweight_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct qk_norm *t = context;
  EACH_ITEM(t, chunk, item) {
    const bool query = item < t->lengthQ / SLOTS;
    const size_t length = query ? t->lengthQ : t->lengthK, c = (query ? item : item - t->lengthQ / SLOTS) * SLOTS;
    const size_t part0 = query ? 0 : t->queries, part1 = query ? t->queries : t->parts;
    const size_t start = query ? 0 : t->queries * t->lengthQ;
    float *restrict to = (query ? t->dWeightQ : t->dWeightK) + c;
    for (size_t r = 0; r < t->R; r++)
      for (size_t part = part0; part < part1; part++) {
        const size_t at = r * t->width + start + (part - part0) * length + c;
        const float *restrict x = t->qkv + at, *restrict dy = t->dOut + at;
        const float s = t->given[r * t->parts + part];
        for (size_t i = 0; i < SLOTS; i++) to[i] += x[i] * s * dy[i];
      }
  }
}

/* Forward: y = x s w. dx = s w dy - x (s^3 / C) sum_j w_j dy_j x_j, in place of dy. */
static void qk_dx_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct qk_norm *t = context;
  EACH_ITEM(t, chunk, r) {
    for (size_t part = 0, column = 0; part < t->parts; part++) {
      const bool query = part < t->queries;
      const size_t length = query ? t->lengthQ : t->lengthK;
      const float *restrict x = t->qkv + r * t->width + column, *restrict weight = query ? t->weightQ : t->weightK;
      float *restrict dy = t->dOut + r * t->width + column;
      const float s = t->given[r * t->parts + part];
      const float pull = s * s * s * dot_row(dy, x, weight, length) / (float)length;
      for (size_t i = 0; i < length; i++) dy[i] = s * weight[i] * dy[i] - x[i] * pull;
      column += length;
    }
  }
}

KERNEL void OPNAME(qkNormBackward)(size_t threads, size_t R, size_t H, size_t J, size_t D, bool whole,
                                   const float *qkv, const float *weightQ, const float *weightK,
                                   const float *inverse, float *dOut, float *dWeightQ, float *dWeightK) {
  struct qk_norm t = qk_norm_of(threads, R, H, J, D, whole);
  t.qkv = qkv;
  t.weightQ = weightQ;
  t.weightK = weightK;
  t.given = inverse;
  t.dOut = dOut;
  t.dWeightQ = dWeightQ;
  t.dWeightK = dWeightK;
  /* The weights first: they need dOut as it came. */
  t.items = (t.lengthQ + t.lengthK) / SLOTS;
  t.perChunk = chunk_items(threads, t.items, SLOTS * 2 * R * H);
  RUN_ITEMS(threads, qk_dweight_chunk, &t);
  t.items = R;
  t.perChunk = chunk_items(threads, R, 4 * t.width);
  RUN_ITEMS(threads, qk_dx_chunk, &t);
}

/* ---- RoPE and the page store ---- */

struct rope {
  size_t items, perChunk, H, J, D;
  const float *qkv, *table, *dq, *dKeys, *dValues;
  const int32_t *positions, *slots;
  float *q, *keys, *values, *dqkv;
};

/* y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin; with sign -1 the transpose. */
static void rotate(float *restrict to, const float *restrict from, const float *restrict table, size_t D, float sign) {
  const size_t half = D / 2;
  for (size_t i = 0; i < half; i++) {
    const float cos = table[i], sin = table[half + i] * sign, x1 = from[i], x2 = from[half + i];
    to[i] = x1 * cos - x2 * sin;
    to[half + i] = x2 * cos + x1 * sin;
  }
}

static void rope_chunk(const void *context, size_t chunk, void *scratch) {
  const struct rope *t = context;
  const size_t H = t->H, J = t->J, D = t->D, width = (H + 2 * J) * D;
  float *turned = scratch;
  EACH_ITEM(t, chunk, r) {
    const float *table = t->table + (size_t)t->positions[r] * D, *from = t->qkv + r * width;
    const size_t page = (size_t)t->slots[r] / SLOTS, slot = (size_t)t->slots[r] % SLOTS;
    for (size_t h = 0; h < H; h++) rotate(t->q + (r * H + h) * D, from + h * D, table, D, 1);
    for (size_t j = 0; j < J; j++) {
      float *keys = t->keys + (page * J + j) * D * SLOTS + slot;
      rotate(turned, from + (H + j) * D, table, D, 1);
      for (size_t d = 0; d < D; d++) keys[d * SLOTS] = turned[d];
      copy_row(t->values + ((page * J + j) * SLOTS + slot) * D, from + (H + J + j) * D, D);
    }
  }
}

KERNEL void OPNAME(ropeStore)(size_t threads, size_t R, size_t H, size_t J, size_t D, const float *qkv,
                              const int32_t *positions, const int32_t *slots, const float *table, float *q,
                              float *keyPages, float *valuePages) {
  struct rope t = {.items = R, .perChunk = chunk_items(threads, R, (2 * H + 8 * J) * D), .H = H, .J = J, .D = D,
                   .qkv = qkv, .table = table, .positions = positions, .slots = slots, .q = q, .keys = keyPages,
                   .values = valuePages};
  parallel(threads, rope_chunk, &t, ceil_div(R, t.perChunk), D * sizeof(float));
}

static void rope_backward_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct rope *t = context;
  const size_t H = t->H, J = t->J, D = t->D, width = (H + 2 * J) * D;
  EACH_ITEM(t, chunk, r) {
    const float *table = t->table + (size_t)t->positions[r] * D;
    const size_t page = (size_t)t->slots[r] / SLOTS, slot = (size_t)t->slots[r] % SLOTS;
    float *to = t->dqkv + r * width;
    for (size_t h = 0; h < H; h++) rotate(to + h * D, t->dq + (r * H + h) * D, table, D, -1);
    for (size_t j = 0; j < J; j++) {
      const size_t at = ((page * J + j) * SLOTS + slot) * D;
      rotate(to + (H + j) * D, t->dKeys + at, table, D, -1);
      copy_row(to + (H + J + j) * D, t->dValues + at, D);
    }
  }
}

KERNEL void OPNAME(ropeStoreBackward)(size_t threads, size_t R, size_t H, size_t J, size_t D, const float *dq,
                                      const float *dKeyPages, const float *dValuePages, const int32_t *positions,
                                      const int32_t *slots, const float *table, float *dqkv) {
  struct rope t = {.items = R, .perChunk = chunk_items(threads, R, (2 * H + 4 * J) * D), .H = H, .J = J, .D = D,
                   .dq = dq, .dKeys = dKeyPages, .dValues = dValuePages, .table = table, .positions = positions,
                   .slots = slots, .dqkv = dqkv};
  RUN_ITEMS(threads, rope_backward_chunk, &t);
}

/* ---- Gated units ---- */

struct gated {
  size_t items, perChunk, F;
  activation_type activation;
  const float *gateUp, *dOut;
  float *out, *dGateUp;
};

INLINE vf sigmoid(vf x) { return splat(1) / (splat(1) + exp_v(-x)); }

/* Both activations are g sigmoid(v(g)). For gelu v = 2 sqrt(2/pi) (g + 0.044715 g^3). */
#define GELU_LINEAR 1.5957691216057308f
#define GELU_CUBIC (GELU_LINEAR * 0.044715f)
INLINE vf gate_sigmoid(const activation_type activation, vf gate) {
  if (activation == SILU) return sigmoid(gate);
  return sigmoid(gate * (splat(GELU_LINEAR) + splat(GELU_CUBIC) * (gate * gate)));
}

INLINE void gated_rows(const activation_type activation, const struct gated *t, size_t chunk) {
  EACH_ITEM(t, chunk, r) {
    const float *gates = t->gateUp + r * 2 * t->F, *ups = gates + t->F;
    float *out = t->out + r * t->F;
    for (size_t i = 0; i < t->F; i += VL) {
      const size_t left = t->F - i;
      vf gate = left >= VL ? load(gates + i) : load_part(gates + i, left);
      vf up = left >= VL ? load(ups + i) : load_part(ups + i, left);
      vf y = gate * gate_sigmoid(activation, gate) * up;
      if (left >= VL) store(out + i, y);
      else store_part(out + i, y, left);
    }
  }
}

static void gated_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct gated *t = context;
  if (t->activation == SILU) gated_rows(SILU, t, chunk);
  else gated_rows(GELU, t, chunk);
}

KERNEL void OPNAME(gatedUnit)(size_t threads, size_t R, size_t F, activation_type activation, const float *gateUp,
                              float *out) {
  struct gated t = {.items = R, .perChunk = chunk_items(threads, R, 6 * F), .F = F, .activation = activation,
                    .gateUp = gateUp, .out = out};
  RUN_ITEMS(threads, gated_chunk, &t);
}

/* Forward: y = g s u with s = sigmoid(v(g)). dg = dy u s (1 + g (1 - s) v'(g)), du = dy g s. */
INLINE void gated_backward_rows(const activation_type activation, const struct gated *t, size_t chunk) {
  EACH_ITEM(t, chunk, r) {
    const size_t gates = r * 2 * t->F, ups = gates + t->F;
    for (size_t i = 0; i < t->F; i += VL) {
      const size_t left = t->F - i;
      const bool whole = left >= VL;
      vf gate = whole ? load(t->gateUp + gates + i) : load_part(t->gateUp + gates + i, left);
      vf up = whole ? load(t->gateUp + ups + i) : load_part(t->gateUp + ups + i, left);
      vf dy = whole ? load(t->dOut + r * t->F + i) : load_part(t->dOut + r * t->F + i, left);
      vf s = gate_sigmoid(activation, gate), activated = gate * s, bend = gate * (splat(1) - s);
      if (activation == GELU) bend = bend * (splat(GELU_LINEAR) + splat(3 * GELU_CUBIC) * (gate * gate));
      vf dGate = dy * up * s * (splat(1) + bend), dUp = dy * activated, y = activated * up;
      if (whole) {
        store(t->dGateUp + gates + i, dGate);
        store(t->dGateUp + ups + i, dUp);
        store(t->out + r * t->F + i, y);
      } else {
        store_part(t->dGateUp + gates + i, dGate, left);
        store_part(t->dGateUp + ups + i, dUp, left);
        store_part(t->out + r * t->F + i, y, left);
      }
    }
  }
}

static void gated_backward_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct gated *t = context;
  if (t->activation == SILU) gated_backward_rows(SILU, t, chunk);
  else gated_backward_rows(GELU, t, chunk);
}

KERNEL void OPNAME(gatedUnitBackward)(size_t threads, size_t R, size_t F, activation_type activation,
                                      const float *gateUp, const float *dOut, float *dGateUp, float *out) {
  struct gated t = {.items = R, .perChunk = chunk_items(threads, R, 8 * F), .F = F, .activation = activation,
                    .gateUp = gateUp, .dOut = dOut, .out = out, .dGateUp = dGateUp};
  RUN_ITEMS(threads, gated_backward_chunk, &t);
}

/* ---- Dropout ---- */

struct dropout {
  size_t items, perChunk, C;
  const float *x;
  float *out, factor;
  uint32_t threshold, seed, firstRow;
};

/* mix and hash32 of src/lib/rng.ts. */
INLINE vu mix(vu h) {
  h = (h ^ (h >> 16)) * 0x21f0aaad;
  h = (h ^ (h >> 15)) * 0x735a2d97;
  return h ^ (h >> 15);
}

static void dropout_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct dropout *t = context;
  EACH_ITEM(t, chunk, r) {
    const float *x = t->x + r * t->C;
    float *out = t->out + r * t->C;
    const uint32_t stream = (t->firstRow + (uint32_t)r + 0x7f4a7c15) * 0x85ebca6b;
    const vu row = mix((vu){0} + ((t->seed ^ 0x9e3779b9) ^ stream));
    for (size_t c = 0; c < t->C; c += VL) {
      const size_t left = t->C - c;
      const vu counter = ((vu)lanes() + ((uint32_t)c + 0x165667b1)) * 0xc2b2ae35;
      const vi kept = mix(mix(row ^ counter) + 0x27d4eb2f) >= t->threshold;
      const vf y = (vf)((vi)((left >= VL ? load(x + c) : load_part(x + c, left)) * splat(t->factor)) & kept);
      if (left >= VL) store(out + c, y);
      else store_part(out + c, y, left);
    }
  }
}

KERNEL void OPNAME(dropout)(size_t threads, size_t R, size_t C, const float *x, double rate, size_t seed,
                            size_t firstRow, float *out) {
  const double limit = rate * 4294967296.0;
  struct dropout t = {R, chunk_items(threads, R, 6 * C), C, x, out, (float)(1 / (1 - rate)), (uint32_t)limit,
                      (uint32_t)seed, (uint32_t)firstRow};
  if ((double)t.threshold < limit) t.threshold++;
  RUN_ITEMS(threads, dropout_chunk, &t);
}

/* ---- Scale ---- */

enum { SCALE_BLOCK = 32768 };
struct scaled {
  size_t n;
  float factor;
  float *x;
};

static void scale_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct scaled *t = context;
  float *x = t->x + chunk * SCALE_BLOCK;
  const size_t n = min_n(SCALE_BLOCK, t->n - chunk * SCALE_BLOCK);
  for (size_t i = 0; i < n; i++) x[i] *= t->factor;
}

KERNEL void OPNAME(scale)(size_t threads, size_t n, double factor, float *x) {
  struct scaled t = {n, (float)factor, x};
  parallel(threads, scale_chunk, &t, ceil_div(n, SCALE_BLOCK), 0);
}

/* ---- The optimizer ---- */

enum { ADAM_BLOCK = 16384, SQUARE_BLOCK = 65536, SQUARE_ROUND = 512 };

struct adam {
  size_t n;
  float *w, *m, *v;
  const float *g;
  float beta1, rest1, beta2, rest2, epsilon, decay, rate1, inverse2, scale;
};

static void adam_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct adam t = *(const struct adam *)context;
  const size_t from = chunk * ADAM_BLOCK, n = min_n(ADAM_BLOCK, t.n - from);
  float *restrict w = t.w + from, *restrict m = t.m + from, *restrict v = t.v + from;
  const float *restrict g = t.g + from;
  for (size_t i = 0; i < n; i++) {
    const float gradient = g[i] * t.scale;
    const float mean = t.beta1 * m[i] + t.rest1 * gradient;
    const float square = t.beta2 * v[i] + t.rest2 * gradient * gradient;
    w[i] = w[i] - t.decay * w[i] - t.rate1 * mean / (__builtin_sqrtf(square * t.inverse2) + t.epsilon);
    m[i] = mean;
    v[i] = square;
  }
}

KERNEL void OPNAME(adamW)(size_t threads, size_t n, float *w, const float *g, float *m, float *v, double learningRate,
                          double beta1, double beta2, double epsilon, double weightDecay, double correction1,
                          double correction2, double gradientScale) {
  struct adam t = {.n = n, .w = w, .m = m, .v = v, .g = g, .beta1 = (float)beta1, .rest1 = (float)(1 - beta1),
                   .beta2 = (float)beta2, .rest2 = (float)(1 - beta2), .epsilon = (float)epsilon,
                   .decay = (float)(learningRate * weightDecay), .rate1 = (float)(learningRate / correction1),
                   .inverse2 = (float)(1 / correction2), .scale = (float)gradientScale};
  parallel(threads, adam_chunk, &t, ceil_div(n, ADAM_BLOCK), 0);
}

struct squares {
  size_t n;
  const float *x;
  double *sums;
};

static void squares_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct squares *t = context;
  const float *x = t->x + chunk * SQUARE_BLOCK;
  const size_t n = min_n(SQUARE_BLOCK, t->n - chunk * SQUARE_BLOCK);
  double partial[SLOTS] = {0};
  size_t i = 0;
  for (; i + SLOTS <= n; i += SLOTS) {
    UNROLL for (int k = 0; k < SLOTS; k++) partial[k] += (double)x[i + k] * (double)x[i + k];
  }
  for (size_t k = 0; i + k < n; k++) partial[k] += (double)x[i + k] * (double)x[i + k];
  for (int distance = SLOTS / 2; distance > 0; distance /= 2)
    for (int k = 0; k < distance; k++) partial[k] += partial[k + distance];
  t->sums[chunk] = partial[0];
}

KERNEL double OPNAME(sumSquares)(size_t threads, size_t n, const float *x) {
  double sums[SQUARE_ROUND], total = 0;
  for (size_t from = 0; from < n; from += (size_t)SQUARE_ROUND * SQUARE_BLOCK) {
    struct squares t = {n - from, x + from, sums};
    const size_t blocks = min_n(SQUARE_ROUND, ceil_div(n - from, SQUARE_BLOCK));
    parallel(threads, squares_chunk, &t, blocks, 0);
    for (size_t i = 0; i < blocks; i++) total += sums[i];
  }
  return total;
}

/* ---- The peak: multiply-adds in registers, nothing else ---- */

enum { CHAINS = VL == 16 || ACCUMULATORS > 12 ? 20 : 12, PEAK_CHUNKS = 8 };

struct peak {
  size_t rounds;
  packed_type type;
};

static void peak_chunk(const void *context, size_t chunk, void *scratch) {
  const struct peak *t = context;
  vf s[CHAINS];
  vf factor = splat(0.999f), term = splat(0.001f);
  UNROLL for (int i = 0; i < CHAINS; i++) s[i] = splat((float)(i + (int)chunk));
#ifdef __AVX512BF16__
  if (t->type == BF16) {
    for (size_t r = 0; r < t->rounds; r++) {
      UNROLL for (int i = 0; i < CHAINS; i++) s[i] = dot_pairs(s[i], factor, term);
    }
  } else
#endif
    for (size_t r = 0; r < t->rounds; r++) {
      UNROLL for (int i = 0; i < CHAINS; i++) s[i] = s[i] * factor + term;
    }
  UNROLL for (int i = 0; i < CHAINS; i++) store((float *)scratch + i * VL, s[i]); /* so that the loop is kept */
}

/* Runs the loop and returns its floating-point operations. */
KERNEL double OPNAME(peak)(size_t threads, size_t rounds, packed_type type) {
  struct peak t = {rounds, type};
  parallel(threads, peak_chunk, &t, threads * PEAK_CHUNKS, CHAINS * VL * sizeof(float));
  double width = 2;
#ifdef __AVX512BF16__
  if (type == BF16) width = 4;
#endif
  return (double)(threads * PEAK_CHUNKS) * (double)rounds * CHAINS * VL * width;
}

/* ---- Memory: loads of several streams, and one addition for each ---- */

enum { READ_BLOCK = 65536, STREAMS = 4 };
struct read {
  size_t n, blocks;
  const float *x;
};

static void read_chunk(const void *context, size_t chunk, void *scratch) {
  const struct read *t = context;
  const size_t from = chunk % t->blocks * READ_BLOCK, part = min_n(READ_BLOCK, t->n - from) / (STREAMS * 16) * 16;
  vf s[STREAMS * SV] = {0};
  for (size_t i = 0; i < part; i += 16) {
    UNROLL for (int k = 0; k < STREAMS * SV; k++) s[k] += load(t->x + from + k / SV * part + i + k % SV * VL);
  }
  UNROLL for (int k = 0; k < STREAMS * SV; k++) store((float *)scratch + k * VL, s[k]); /* so that the loop is kept */
}

/* Reads x `rounds` times and returns the bytes. */
KERNEL double OPNAME(read)(size_t threads, size_t rounds, size_t n, const float *x) {
  struct read t = {n, ceil_div(n, READ_BLOCK), x};
  parallel(threads, read_chunk, &t, rounds * t.blocks, STREAMS * SLOTS * sizeof(float));
  return (double)rounds * (double)n * sizeof(float);
}
