/**
 * The WASM module: kernels and pool as one unit. Memory is imported and shared; `allocate` and `release` are
 * imports too. The main instance calls the ops; each worker thread has its own instance, whose stack pointer is
 * set before it calls `worker`. No C library.
 */
#include "kernels.c"
#include "pool.c"

#define EXPORT(name) __attribute__((export_name(name)))

/* Where memory is free: the linker sets this symbol behind stack and data. */
extern char __heap_base;
EXPORT("heapBase") size_t export_heap_base(void) { return (size_t)&__heap_base; }

EXPORT("open") void export_open(size_t threads) { pool_open(threads); }
EXPORT("close") void export_close(void) { pool_close(); }
EXPORT("worker") void export_worker(uint32_t thread) { pool_worker(thread); }
