/**
 * What the kernels share: the constants of each target, the vector types, the list of ops and the pool.
 *
 * One source serves every build. It is written with the compiler's vector extensions; a target differs in
 * three constants: VL (floats per vector) and the register tile of the matrix product, MR rows by NV vectors.
 * `kernels.c` is compiled once per instruction set; `pool.c` and the glue (`napi.c` or `wasm.c`) once.
 * Lengths are not checked here; the TypeScript side does that.
 */
#ifndef R3_KERNELS_H
#define R3_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined __AVX512F__
enum { VL = 16, MR = 14, NV = 2, ACCUMULATORS = 24 };
#elif defined __AVX2__ && defined __FMA__
enum { VL = 8, MR = 6, NV = 2, ACCUMULATORS = 12 };
#elif defined __aarch64__
enum { VL = 4, MR = 8, NV = 3, ACCUMULATORS = 24 };
#else /* 128 bits, 16 registers, no fused multiply-add: SSE2 and WASM */
enum { VL = 4, MR = 4, NV = 2, ACCUMULATORS = 8 };
#endif

enum {
  NR = NV * VL,     /* columns of a packed panel */
  SLOTS = 16,       /* tokens per page of keys and values; also the number of partial sums of a row reduction */
  SV = SLOTS / VL,  /* vectors that hold one value per slot */
  PACK_COLUMNS = 96, /* a strip of columns that is packed by itself begins at a multiple */
  RUN_INTS = 5,
  SPAN_INTS = 4,
  TREE_INTS = 2,
};

typedef enum { F32 = 0, BF16 = 1, INT8 = 2 } packed_type;
typedef enum { SILU = 0, GELU = 1 } activation_type;

/*
 * The ops: name, result, parameters. `threads` is the most threads that one call may use.
 * Meaning, shapes and order of summation: src/kernels/ops.ts.
 */
#define R3_OPS(OP)                                                                                                \
  OP(packedLength, double, (size_t K, size_t N, packed_type type))                                                \
  OP(pack, void, (size_t threads, float *packed, const float *source, size_t K, size_t N, size_t first,           \
                  size_t count, size_t strideK, size_t strideN, packed_type type))                                \
  OP(gatherPacked, void, (size_t threads, size_t R, size_t K, size_t N, const float *packed, const int32_t *ids,  \
                          float *out, packed_type type))                                                          \
  OP(transposePacked, void, (size_t threads, float *to, const float *from, size_t K, size_t N,                    \
                             packed_type fromType, packed_type toType))                                           \
  OP(gemm, void, (size_t threads, size_t M, size_t N, size_t K, const float *a, size_t strideM, size_t strideK,   \
                  const float *packed, float *c, bool accumulate, packed_type type))                              \
  OP(gather, void, (size_t threads, size_t R, size_t C, const float *table, const int32_t *ids, float *out))      \
  OP(scatterAdd, void, (size_t threads, size_t R, size_t C, const float *source, const int32_t *ids, float *table)) \
  OP(rmsNorm, void, (size_t threads, size_t R, size_t C, const float *x, const float *weight, double epsilon,     \
                     float *out, float *inverse))                                                                 \
  OP(rmsNormBackward, void, (size_t threads, size_t R, size_t C, const float *x, const float *weight,             \
                             const float *inverse, const float *dy, float *dx, float *dWeight))                   \
  OP(qkNorm, void, (size_t threads, size_t R, size_t H, size_t J, size_t D, bool whole, const float *qkv,         \
                    const float *weightQ, const float *weightK, double epsilon, float *out, float *inverse))      \
  OP(qkNormBackward, void, (size_t threads, size_t R, size_t H, size_t J, size_t D, bool whole, const float *qkv, \
                            const float *weightQ, const float *weightK, const float *inverse, float *dOut,        \
                            float *dWeightQ, float *dWeightK))                                                    \
  OP(ropeStore, void, (size_t threads, size_t R, size_t H, size_t J, size_t D, const float *qkv,                  \
                       const int32_t *positions, const int32_t *slots, const float *table, float *q,              \
                       float *keyPages, float *valuePages))                                                       \
  OP(ropeStoreBackward, void, (size_t threads, size_t R, size_t H, size_t J, size_t D, const float *dq,           \
                               const float *dKeyPages, const float *dValuePages, const int32_t *positions,        \
                               const int32_t *slots, const float *table, float *dqkv))                            \
  OP(attention, void, (size_t threads, size_t H, size_t J, size_t D, double scale, size_t window, double softcap, \
                       const int32_t *runs, size_t runCount, const int32_t *spans, const float *q,                \
                       const float *keyPages, const float *valuePages, float *out, float *stats))                 \
  OP(attentionBackward, void, (size_t threads, size_t H, size_t J, size_t D, double scale, size_t window,         \
                               double softcap, const int32_t *runs, const int32_t *spans, const int32_t *trees,   \
                               size_t treeCount, const float *q, const float *keyPages, const float *valuePages,  \
                               const float *out, const float *stats, const float *dOut, float *dq,                \
                               float *dKeyPages, float *dValuePages))                                             \
  OP(gatedUnit, void, (size_t threads, size_t R, size_t F, activation_type activation, const float *gateUp,       \
                       float *out))                                                                               \
  OP(gatedUnitBackward, void, (size_t threads, size_t R, size_t F, activation_type activation,                    \
                               const float *gateUp, const float *dOut, float *dGateUp, float *out))               \
  OP(dropout, void, (size_t threads, size_t R, size_t C, const float *x, double rate, size_t seed,                \
                     size_t firstRow, float *out))                                                                \
  OP(softcap, void, (size_t threads, size_t n, double cap, float *x))                                             \
  OP(scale, void, (size_t threads, size_t n, double factor, float *x))                                            \
  OP(logprobs, void, (size_t threads, size_t R, size_t V, const float *logits, const int32_t *targets,            \
                      double temperature, float *logsumexp, float *logprob))                                      \
  OP(logprobsBackward, void, (size_t threads, size_t R, size_t V, float *logits, const int32_t *targets,          \
                              double temperature, double softcap, const float *logsumexp,                         \
                              const float *coefficient))                                                          \
  OP(sample, void, (size_t threads, size_t R, size_t V, const float *logits, const float *temperature,            \
                    const int32_t *topK, const float *topP, const float *minP, const float *uniform,              \
                    int32_t *tokens, float *logprob))                                                             \
  OP(adamW, void, (size_t threads, size_t n, float *w, const float *g, float *m, float *v, double learningRate,   \
                   double beta1, double beta2, double epsilon, double weightDecay, double correction1,            \
                   double correction2, double gradientScale))                                                     \
  OP(sumSquares, double, (size_t threads, size_t n, const float *x))                                              \
  OP(peak, double, (size_t threads, size_t rounds, packed_type type))                                             \
  OP(read, double, (size_t threads, size_t rounds, size_t n, const float *x))

struct ops {
#define OP(name, result, parameters) result(*name) parameters;
  R3_OPS(OP)
#undef OP
};

/* One chunk of an op. `scratch` belongs to the running thread and is 64-byte aligned. */
typedef void (*chunk_fn)(const void *context, size_t chunk, void *scratch);

/*
 * Runs chunks 0..count-1, each once, on up to `threads` threads, the caller among them, and returns when all are
 * done. Chunks must be independent: which thread runs which, and when, is not fixed.
 */
void parallel(size_t threads, chunk_fn run, const void *context, size_t count, size_t scratchBytes);

#endif
