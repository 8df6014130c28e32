/** The pool's own interface; ops use only `parallel` (kernels.h). See pool.c. */
#ifndef R3_POOL_H
#define R3_POOL_H

#include "kernels.h"

/* One more user, who wants `threads` threads (the caller among them). */
void pool_open(size_t threads);
/* One user less. The last one ends the threads and frees the scratch. */
void pool_close(void);
/* What thread number `thread` (1, 2, ...) runs until the pool closes. */
void pool_worker(uint32_t thread);

#endif
