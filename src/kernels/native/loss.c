/**
 * Log-probabilities of chosen tokens, their gradient, the cap of logits, and sampling.
 *
 * A row of logits is never stored as a softmax: two passes give the largest value and the sum of exponentials,
 * in 16 partial sums by index mod 16. `logprobs` and `sample` share that function, so they agree to the bit.
 * A sampled token comes from inverse transform in ascending id. Where a filter is on, tokens are taken from a
 * heap in falling probability until the filters are met; the rest of the vocabulary is never sorted.
 */
#include "vector.h"

/* The tempered logits of one row: l = logit * inverse. */
struct tempered {
  float largest, logsumexp, sum; /* sum of exp(l - largest) */
};

/* weights, where given, receives exp(l - largest). */
static __attribute__((noinline)) struct tempered tempered_row(const float *logits, size_t V, float inverse,
                                                              float *weights) {
  const vf scale = splat(inverse);
  vf largest[SV], sum[SV];
  UNROLL for (int k = 0; k < SV; k++) {
    largest[k] = splat(-__builtin_inff());
    sum[k] = (vf){0};
  }
  /* The last, partial group of 16, padded with values whose exponential is 0. */
  float tail[SLOTS];
  const size_t whole = V / SLOTS * SLOTS;
  for (size_t k = 0; k < SLOTS; k++) tail[k] = whole + k < V ? logits[whole + k] : -__builtin_inff();
  for (size_t i = 0; i < V; i += SLOTS) {
    const float *from = i < whole ? logits + i : tail;
    UNROLL for (int k = 0; k < SV; k++) largest[k] = max_v(load(from + k * VL), largest[k]);
  }
  const float top = join_max(largest) * inverse;
  for (size_t i = 0; i < V; i += SLOTS) {
    const float *from = i < whole ? logits + i : tail;
    vf p[SV];
    UNROLL for (int k = 0; k < SV; k++) {
      vf l = load(from + k * VL) * scale;
      p[k] = exp_v(l - splat(top));
      sum[k] += p[k];
    }
    if (weights) UNROLL for (int k = 0; k < SV; k++) store(weights + i + k * VL, p[k]);
  }
  struct tempered row = {.largest = top, .sum = join_sum(sum)};
  row.logsumexp = (float)((double)top + log_d((double)row.sum));
  return row;
}

static __attribute__((noinline)) float logprob_of(float logit, float inverse, float logsumexp) {
  float l = logit * inverse;
  return l - logsumexp;
}

struct loss {
  size_t R, V;
  const float *logits;
  float *gradients;
  const int32_t *targets;
  float inverse, softcap; /* softcap 0: off */
  float *logsumexp, *logprob;
  const float *given, *coefficient;
  const float *temperature, *topP, *minP, *uniform;
  const int32_t *topK;
  int32_t *tokens;
};

static void logprobs_chunk(const void *context, size_t r, void *scratch) {
  (void)scratch;
  const struct loss *t = context;
  const float *logits = t->logits + r * t->V;
  t->logsumexp[r] = tempered_row(logits, t->V, t->inverse, NULL).logsumexp;
  t->logprob[r] = logprob_of(logits[t->targets[r]], t->inverse, t->logsumexp[r]);
}

/* A row of fewer logits than this is not worth a wake-up. */
static size_t row_threads(size_t threads, size_t R, size_t V) { return R * V < 20000 ? 1 : threads; }

KERNEL void OPNAME(logprobs)(size_t threads, size_t R, size_t V, const float *logits, const int32_t *targets,
                             double temperature, float *logsumexp, float *logprob) {
  struct loss t = {.R = R, .V = V, .logits = logits, .targets = targets, .inverse = (float)(1 / temperature),
                   .logsumexp = logsumexp, .logprob = logprob};
  parallel(row_threads(threads, R, V), logprobs_chunk, &t, R, 0);
}

/* dl_v = coefficient (onehot_v - exp(l_v - logsumexp)) / temperature, times 1 - (l_v / softcap)^2 where capped. */
static void logprobs_backward_chunk(const void *context, size_t r, void *scratch) {
  (void)scratch;
  const struct loss *t = context;
  float *row = t->gradients + r * t->V;
  const float coefficient = t->coefficient[r] * t->inverse;
  const vf scale = splat(t->inverse), logsumexp = splat(t->given[r]), factor = splat(-coefficient);
  const bool capped = t->softcap > 0;
  const float part = capped ? 1 / t->softcap : 0, of_target = row[t->targets[r]] * part;
  for (size_t i = 0; i < t->V; i += VL) {
    const size_t left = t->V - i;
    const vf y = left >= VL ? load(row + i) : load_part(row + i, left);
    vf l = y * scale;
    vf gradient = exp_v(l - logsumexp) * factor;
    if (capped) gradient = gradient * (splat(1) - y * splat(part) * (y * splat(part)));
    if (left >= VL) store(row + i, gradient);
    else store_part(row + i, gradient, left);
  }
  row[t->targets[r]] += capped ? coefficient * (1 - of_target * of_target) : coefficient;
}

KERNEL void OPNAME(logprobsBackward)(size_t threads, size_t R, size_t V, float *logits, const int32_t *targets,
                                     double temperature, double softcap, const float *logsumexp,
                                     const float *coefficient) {
  struct loss t = {.R = R, .V = V, .gradients = logits, .targets = targets, .inverse = (float)(1 / temperature),
                   .softcap = (float)softcap, .given = logsumexp, .coefficient = coefficient};
  parallel(row_threads(threads, R, V), logprobs_backward_chunk, &t, R, 0);
}

/* ---- Softcap ---- */

enum { CAP_BLOCK = 8192 };
struct capped {
  size_t n;
  float cap, inverse;
  float *x;
};

static void softcap_chunk(const void *context, size_t chunk, void *scratch) {
  (void)scratch;
  const struct capped *t = context;
  float *x = t->x + chunk * CAP_BLOCK;
  const size_t n = min_n(CAP_BLOCK, t->n - chunk * CAP_BLOCK);
  for (size_t i = 0; i < n; i += VL) {
    const size_t left = n - i;
    const vf value = left >= VL ? load(x + i) : load_part(x + i, left);
    const vf y = splat(t->cap) * tanh_v(value * splat(t->inverse));
    if (left >= VL) store(x + i, y);
    else store_part(x + i, y, left);
  }
}

KERNEL void OPNAME(softcap)(size_t threads, size_t n, double cap, float *x) {
  struct capped t = {n, (float)cap, (float)(1 / cap), x};
  parallel(threads, softcap_chunk, &t, ceil_div(n, CAP_BLOCK), 0);
}

/* ---- Sampling ---- */

enum { DRAW_BLOCK = 1024 };

/* In ascending id: sums of blocks find the block, a scan finds the token. Sums of blocks are in f64. */
static size_t draw(const float *weights, size_t V, double uniform, double *blocks) {
  double total = 0, sum = 0;
  for (size_t from = 0; from < V; from += DRAW_BLOCK) {
    double partial[SLOTS] = {0};
    const size_t n = min_n(DRAW_BLOCK, ceil_div(V - from, SLOTS) * SLOTS);
    for (size_t i = 0; i < n; i += SLOTS) {
      UNROLL for (int k = 0; k < SLOTS; k++) partial[k] += (double)weights[from + i + k];
    }
    for (int k = 1; k < SLOTS; k++) partial[0] += partial[k];
    blocks[from / DRAW_BLOCK] = partial[0];
    total += partial[0];
  }
  const double threshold = uniform * total;
  size_t block = 0, last = 0;
  while ((block + 1) * DRAW_BLOCK < V && sum + blocks[block] <= threshold) sum += blocks[block++];
  for (size_t i = block * DRAW_BLOCK; i < V; i++) {
    if (weights[i] > 0) last = i;
    sum += (double)weights[i];
    if (sum > threshold) return i;
  }
  return last;
}

struct candidate {
  float weight;
  int32_t id;
};

static bool before(struct candidate a, struct candidate b) {
  return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

static void sift_down(struct candidate *heap, size_t count, size_t at) {
  const struct candidate moving = heap[at];
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && before(heap[child + 1], heap[child])) child++;
    if (!before(heap[child], moving)) break;
    heap[at] = heap[child];
  }
  heap[at] = moving;
}

enum { BUCKETS = 2048, BUCKET_SHIFT = 20 };
struct bucket {
  double sum;
  size_t count;
};

/* Weights are at least 0, so their bits order them: the bucket is the exponent and the three bits below it. */
INLINE size_t bucket_of(float weight) {
  union {
    float value;
    uint32_t bits;
  } u = {weight};
  return (u.bits >> BUCKET_SHIFT) & (BUCKETS - 1);
}

/* The lowest bucket that can hold a kept token: the head reached by it has k tokens, or topP of the sum. */
static size_t lowest_bucket(const float *weights, size_t V, double sum, int32_t topK, float topP,
                            struct bucket *buckets) {
  for (size_t b = 0; b < BUCKETS; b++) buckets[b] = (struct bucket){0, 0};
  for (size_t i = 0; i < V; i++) {
    struct bucket *bucket = buckets + bucket_of(weights[i]);
    bucket->sum += (double)weights[i];
    bucket->count++;
  }
  double mass = 0;
  size_t count = 0, b = BUCKETS - 1;
  for (; b > 0; b--) {
    mass += buckets[b].sum;
    count += buckets[b].count;
    /* The margin is for the order of the additions. */
    if ((topK > 0 && count >= (size_t)topK) || (topP < 1 && mass >= (double)topP * sum * (1 + 1e-9))) break;
  }
  return b;
}

/*
 * By falling weight under the filters, each measured on the whole distribution: the first k (top-k), the
 * shortest head whose weights reach topP of the sum, those with at least minP of the largest weight. The kept
 * ones are moved behind the shrinking heap, so that the likeliest ends up last.
 */
static size_t draw_filtered(const float *weights, size_t V, double sum, int32_t topK, float topP, float minP,
                            double uniform, struct bucket *buckets, struct candidate *heap) {
  const size_t lowest = lowest_bucket(weights, V, sum, topK, topP, buckets);
  size_t count = 0, kept = 0;
  for (size_t i = 0; i < V; i++)
    if (bucket_of(weights[i]) >= lowest && weights[i] >= minP)
      heap[count++] = (struct candidate){weights[i], (int32_t)i};
  for (size_t i = count / 2; i-- > 0;) sift_down(heap, count, i);
  const size_t size = count, limit = topK > 0 ? min_n((size_t)topK, size) : size;
  double total = 0;
  while (kept < limit) {
    const struct candidate next = heap[0];
    if (kept > 0 && (next.weight < minP || (topP < 1 && total >= (double)topP * sum))) break;
    heap[0] = heap[--count];
    if (count > 0) sift_down(heap, count, 0);
    heap[size - ++kept] = next;
    total += (double)next.weight;
  }
  const double threshold = uniform * total;
  double reached = 0;
  for (size_t i = 1; i <= kept; i++) {
    reached += (double)heap[size - i].weight;
    if (reached > threshold) return (size_t)heap[size - i].id;
  }
  return (size_t)heap[size - kept].id;
}

static void sample_chunk(const void *context, size_t r, void *scratch) {
  const struct loss *t = context;
  const size_t V = t->V, padded = ceil_div(V, SLOTS) * SLOTS;
  const float *logits = t->logits + r * V;
  const bool greedy = t->temperature[r] == 0;
  const float inverse = greedy ? 1 : (float)(1 / (double)t->temperature[r]);
  double *blocks = scratch;
  float *weights = (float *)(blocks + ceil_div(V, DRAW_BLOCK));
  struct candidate *heap = (struct candidate *)(weights + padded);
  struct bucket *buckets = (struct bucket *)(heap + padded);
  const struct tempered row = tempered_row(logits, V, inverse, greedy ? NULL : weights);
  const bool filtered = (t->topK[r] > 0 && (size_t)t->topK[r] < V) || t->topP[r] < 1 || t->minP[r] > 0;
  size_t token = 0;
  if (greedy) {
    while (token + 1 < V && logits[token] != row.largest) token++;
  } else if (filtered) {
    token = draw_filtered(weights, V, (double)row.sum, t->topK[r], t->topP[r], t->minP[r], (double)t->uniform[r],
                          buckets, heap);
  } else {
    token = draw(weights, V, (double)t->uniform[r], blocks);
  }
  t->tokens[r] = (int32_t)token;
  t->logprob[r] = logprob_of(logits[token], inverse, row.logsumexp);
}

KERNEL void OPNAME(sample)(size_t threads, size_t R, size_t V, const float *logits, const float *temperature,
                           const int32_t *topK, const float *topP, const float *minP, const float *uniform,
                           int32_t *tokens, float *logprob) {
  struct loss t = {.R = R, .V = V, .logits = logits, .temperature = temperature, .topK = topK, .topP = topP,
                   .minP = minP, .uniform = uniform, .tokens = tokens, .logprob = logprob};
  const size_t padded = ceil_div(V, SLOTS) * SLOTS;
  parallel(row_threads(threads, R, V), sample_chunk, &t, R,
           ceil_div(V, DRAW_BLOCK) * sizeof(double) + padded * (sizeof(float) + sizeof(struct candidate)) +
               BUCKETS * sizeof(struct bucket));
}
