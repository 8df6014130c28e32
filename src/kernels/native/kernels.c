/**
 * All kernels of one target as one unit of compilation.
 * Native builds compile it once per instruction set, with R3_SUFFIX naming the set, and get one table of ops;
 * the WASM build exports the ops by name.
 */
#include "kernels.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#ifdef R3_SUFFIX
#define KERNEL static
#define OPNAME(name) JOIN(name, R3_SUFFIX)
#else
#define KERNEL
#define OPNAME(name) op_##name
#define OP(name, result, parameters) __attribute__((export_name(#name))) result OPNAME(name) parameters;
R3_OPS(OP)
#undef OP
#endif

#include "gemm.c"
#include "attention.c"
#include "rows.c"
#include "loss.c"

#ifdef R3_SUFFIX
const struct ops JOIN(ops, R3_SUFFIX) = {
#define OP(name, result, parameters) .name = OPNAME(name),
    R3_OPS(OP)
#undef OP
};
#endif
