/**
 * The Node-API addon: `{ best, variants: { avx2: { gemm, ... }, ... }, open, close, misalignment, detach }`.
 *
 * Holds every variant that this CPU can run. Typed arrays are passed without copies: an op gets the address of
 * a view's first element, which is not kept after the call. A value of the wrong kind throws a TypeError;
 * lengths are not checked here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <node_api.h>

#include "kernels.h"
#include "pool.h"

/* ---- Calls ---- */

typedef union {
  size_t n;
  double d;
  float *f;
  int32_t *i;
} value;

typedef double (*adaptor)(const struct ops *k, const value *v);

/* Per op: its parameters (n: size, d: number, f: Float32Array, i: Int32Array), and the call. */
#define R3_CALLS(CALL)                                                                                            \
  CALL(packedLength, "nnn", k->packedLength(v[0].n, v[1].n, v[2].n))                                              \
  CALL(pack, "nffnnnnnnn", (k->pack(v[0].n, v[1].f, v[2].f, v[3].n, v[4].n, v[5].n, v[6].n, v[7].n, v[8].n,       \
                                    v[9].n), 0))                                                                  \
  CALL(gatherPacked, "nnnnfifn", (k->gatherPacked(v[0].n, v[1].n, v[2].n, v[3].n, v[4].f, v[5].i, v[6].f,         \
                                                  v[7].n), 0))                                                    \
  CALL(transposePacked, "nffnnnn", (k->transposePacked(v[0].n, v[1].f, v[2].f, v[3].n, v[4].n, v[5].n, v[6].n),   \
                                    0))                                                                           \
  CALL(gemm, "nnnnfnnffnn", (k->gemm(v[0].n, v[1].n, v[2].n, v[3].n, v[4].f, v[5].n, v[6].n, v[7].f, v[8].f,      \
                                     v[9].n != 0, v[10].n), 0))                                                   \
  CALL(gather, "nnnfif", (k->gather(v[0].n, v[1].n, v[2].n, v[3].f, v[4].i, v[5].f), 0))                          \
  CALL(scatterAdd, "nnnfif", (k->scatterAdd(v[0].n, v[1].n, v[2].n, v[3].f, v[4].i, v[5].f), 0))                  \
  CALL(rmsNorm, "nnnffdff", (k->rmsNorm(v[0].n, v[1].n, v[2].n, v[3].f, v[4].f, v[5].d, v[6].f, v[7].f), 0))      \
  CALL(rmsNormBackward, "nnnffffff", (k->rmsNormBackward(v[0].n, v[1].n, v[2].n, v[3].f, v[4].f, v[5].f, v[6].f,  \
                                                         v[7].f, v[8].f), 0))                                     \
  CALL(qkNorm, "nnnnnnfffdff", (k->qkNorm(v[0].n, v[1].n, v[2].n, v[3].n, v[4].n, v[5].n != 0, v[6].f, v[7].f,    \
                                          v[8].f, v[9].d, v[10].f, v[11].f), 0))                                  \
  CALL(qkNormBackward, "nnnnnnfffffff",                                                                           \
       (k->qkNormBackward(v[0].n, v[1].n, v[2].n, v[3].n, v[4].n, v[5].n != 0, v[6].f, v[7].f, v[8].f, v[9].f,    \
                          v[10].f, v[11].f, v[12].f), 0))                                                         \
  CALL(ropeStore, "nnnnnfiiffff", (k->ropeStore(v[0].n, v[1].n, v[2].n, v[3].n, v[4].n, v[5].f, v[6].i, v[7].i,   \
                                                v[8].f, v[9].f, v[10].f, v[11].f), 0))                            \
  CALL(ropeStoreBackward, "nnnnnfffiiff", (k->ropeStoreBackward(v[0].n, v[1].n, v[2].n, v[3].n, v[4].n, v[5].f,   \
                                                                v[6].f, v[7].f, v[8].i, v[9].i, v[10].f,          \
                                                                v[11].f), 0))                                     \
  CALL(attention, "nnnndndinifffff",                                                                              \
       (k->attention(v[0].n, v[1].n, v[2].n, v[3].n, v[4].d, v[5].n, v[6].d, v[7].i, v[8].n, v[9].i, v[10].f,     \
                     v[11].f, v[12].f, v[13].f, v[14].f), 0))                                                     \
  CALL(attentionBackward, "nnnndndiiinfffffffff",                                                                 \
       (k->attentionBackward(v[0].n, v[1].n, v[2].n, v[3].n, v[4].d, v[5].n, v[6].d, v[7].i, v[8].i, v[9].i,      \
                             v[10].n, v[11].f, v[12].f, v[13].f, v[14].f, v[15].f, v[16].f, v[17].f, v[18].f,     \
                             v[19].f), 0))                                                                        \
  CALL(gatedUnit, "nnnnff", (k->gatedUnit(v[0].n, v[1].n, v[2].n, v[3].n, v[4].f, v[5].f), 0))                    \
  CALL(gatedUnitBackward, "nnnnffff", (k->gatedUnitBackward(v[0].n, v[1].n, v[2].n, v[3].n, v[4].f, v[5].f,       \
                                                            v[6].f, v[7].f), 0))                                  \
  CALL(dropout, "nnnfdnnf", (k->dropout(v[0].n, v[1].n, v[2].n, v[3].f, v[4].d, v[5].n, v[6].n, v[7].f), 0))      \
  CALL(softcap, "nndf", (k->softcap(v[0].n, v[1].n, v[2].d, v[3].f), 0))                                          \
  CALL(scale, "nndf", (k->scale(v[0].n, v[1].n, v[2].d, v[3].f), 0))                                              \
  CALL(logprobs, "nnnfidff", (k->logprobs(v[0].n, v[1].n, v[2].n, v[3].f, v[4].i, v[5].d, v[6].f, v[7].f), 0))    \
  CALL(logprobsBackward, "nnnfiddff", (k->logprobsBackward(v[0].n, v[1].n, v[2].n, v[3].f, v[4].i, v[5].d,        \
                                                           v[6].d, v[7].f, v[8].f), 0))                           \
  CALL(sample, "nnnffifffif", (k->sample(v[0].n, v[1].n, v[2].n, v[3].f, v[4].f, v[5].i, v[6].f, v[7].f, v[8].f,  \
                                         v[9].i, v[10].f), 0))                                                    \
  CALL(adamW, "nnffffdddddddd", (k->adamW(v[0].n, v[1].n, v[2].f, v[3].f, v[4].f, v[5].f, v[6].d, v[7].d, v[8].d, \
                                          v[9].d, v[10].d, v[11].d, v[12].d, v[13].d), 0))                        \
  CALL(sumSquares, "nnf", k->sumSquares(v[0].n, v[1].n, v[2].f))                                                  \
  CALL(peak, "nnn", k->peak(v[0].n, v[1].n, v[2].n))                                                              \
  CALL(read, "nnnf", k->read(v[0].n, v[1].n, v[2].n, v[3].f))

#define CALL(name, parameters, expression) \
  static double call_##name(const struct ops *k, const value *v) { return expression; }
R3_CALLS(CALL)
#undef CALL

static const struct {
  const char *name, *parameters;
  adaptor call;
} calls[] = {
#define CALL(name, parameters, expression) {#name, parameters, call_##name},
    R3_CALLS(CALL)
#undef CALL
};
enum { CALL_COUNT = sizeof calls / sizeof calls[0], MAX_PARAMETERS = 20 };

/* ---- Variants, the best last ---- */

#ifdef __x86_64__
#include <cpuid.h>
extern const struct ops ops_baseline, ops_avx2, ops_avx512, ops_avx512bf16;
static bool always(void) { return true; }
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && has_avx2();
}
static bool has_avx512bf16(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}
#define R3_VARIANTS(VARIANT) \
  VARIANT(baseline, always) VARIANT(avx2, has_avx2) VARIANT(avx512, has_avx512) VARIANT(avx512bf16, has_avx512bf16)
#elif defined __aarch64__
extern const struct ops ops_neon;
static bool always(void) { return true; }
#define R3_VARIANTS(VARIANT) VARIANT(neon, always)
#else
extern const struct ops ops_baseline;
static bool always(void) { return true; }
#define R3_VARIANTS(VARIANT) VARIANT(baseline, always)
#endif

static const struct {
  const char *name;
  const struct ops *ops;
  bool (*supported)(void);
} variants[] = {
#define VARIANT(name, supported) {#name, &ops_##name, supported},
    R3_VARIANTS(VARIANT)
#undef VARIANT
};
enum { VARIANT_COUNT = sizeof variants / sizeof variants[0] };

/* ---- Glue ---- */

static napi_value call_op(napi_env env, napi_callback_info info) {
  napi_value given[MAX_PARAMETERS], result;
  value values[MAX_PARAMETERS];
  size_t count = MAX_PARAMETERS;
  void *data = NULL;
  napi_get_cb_info(env, info, &count, given, NULL, &data);
  const size_t op = (uintptr_t)data % CALL_COUNT, variant = (uintptr_t)data / CALL_COUNT;
  const char *parameters = calls[op].parameters;
  for (size_t i = 0; parameters[i]; i++) {
    napi_status status = napi_invalid_arg;
    napi_typedarray_type type = napi_int8_array;
    int64_t integer = 0;
    void *at = NULL;
    if (i < count) {
      switch (parameters[i]) {
        case 'n':
          status = napi_get_value_int64(env, given[i], &integer);
          values[i].n = (size_t)integer;
          break;
        case 'd':
          status = napi_get_value_double(env, given[i], &values[i].d);
          break;
        default:
          status = napi_get_typedarray_info(env, given[i], &type, NULL, &at, NULL, NULL);
          if (status == napi_ok && type != (parameters[i] == 'f' ? napi_float32_array : napi_int32_array))
            status = napi_invalid_arg;
          values[i].f = at;
      }
    }
    if (status != napi_ok) {
      napi_throw_type_error(env, NULL, calls[op].name);
      return NULL;
    }
  }
  const double number = calls[op].call(variants[variant].ops, values);
  napi_create_double(env, number, &result);
  return result;
}

/* open(threads) */
static napi_value call_open(napi_env env, napi_callback_info info) {
  napi_value given;
  size_t count = 1;
  int64_t threads = 1;
  napi_get_cb_info(env, info, &count, &given, NULL, NULL);
  napi_get_value_int64(env, given, &threads);
  pool_open((size_t)threads);
  return NULL;
}

static napi_value call_close(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  pool_close();
  return NULL;
}

/* misalignment(arrayBuffer): its address mod 64. */
static napi_value call_misalignment(napi_env env, napi_callback_info info) {
  napi_value given, result;
  size_t count = 1;
  void *at = NULL;
  napi_get_cb_info(env, info, &count, &given, NULL, NULL);
  napi_get_arraybuffer_info(env, given, &at, NULL);
  napi_create_uint32(env, (uint32_t)((uintptr_t)at % 64), &result);
  return result;
}

/* detach(arrayBuffer): gives its memory back at once. */
static napi_value call_detach(napi_env env, napi_callback_info info) {
  napi_value given;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &given, NULL, NULL);
  napi_detach_arraybuffer(env, given);
  return NULL;
}

static void set_function(napi_env env, napi_value object, const char *name, napi_callback function, void *data) {
  napi_value wrapped;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, data, &wrapped);
  napi_set_named_property(env, object, name, wrapped);
}

NAPI_MODULE_INIT() {
  /* Node unloads addons when a worker thread ends, but the pool's threads go on: the library stays. */
  Dl_info self;
  if (dladdr((void *)&calls, &self) && self.dli_fname) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE);

  napi_value table, best;
  napi_create_object(env, &table);
  for (size_t i = 0; i < VARIANT_COUNT; i++) {
    if (!variants[i].supported()) continue;
    napi_value ops;
    napi_create_object(env, &ops);
    for (size_t op = 0; op < CALL_COUNT; op++)
      set_function(env, ops, calls[op].name, call_op, (void *)(uintptr_t)(i * CALL_COUNT + op));
    napi_set_named_property(env, table, variants[i].name, ops);
    napi_create_string_utf8(env, variants[i].name, NAPI_AUTO_LENGTH, &best);
  }
  napi_set_named_property(env, exports, "variants", table);
  napi_set_named_property(env, exports, "best", best);
  set_function(env, exports, "open", call_open, NULL);
  set_function(env, exports, "close", call_close, NULL);
  set_function(env, exports, "misalignment", call_misalignment, NULL);
  set_function(env, exports, "detach", call_detach, NULL);
  return exports;
}
