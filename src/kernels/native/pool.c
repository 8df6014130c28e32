/**
 * The thread pool: one per process (per memory in WASM), shared by every engine in it.
 *
 * A job is a number of chunks. Threads take the next chunk from one counter, so that a thread that loses its
 * core holds back one chunk only; the caller works too. Waiting is a short spin and then sleep, never a
 * spinning barrier. The counter carries the job's number in its high half: a thread that wakes late cannot
 * take a chunk of a job that it has not read.
 * Threads and scratch grow on demand; `pool_close` ends the threads when the last user is gone.
 */
#include "pool.h"

enum { MAX_THREADS = 64, CACHE_LINE = 64 };

#ifdef __wasm__
/* One caller per memory. Workers are instances of the module in worker threads, which call `worker`. */
void *allocate(size_t bytes) __attribute__((import_module("env"), import_name("allocate")));
void release(void *at) __attribute__((import_module("env"), import_name("release")));
static void lock(void) {}
static void unlock(void) {}
static void wait_while(uint32_t *at, uint32_t value) {
  __builtin_wasm_memory_atomic_wait32((int *)at, (int)value, -1);
}
static void wake_all(uint32_t *at) { __builtin_wasm_memory_atomic_notify((int *)at, 0xffffffff); }
static void pause_briefly(void) {}
enum { SPINS = 4000 };
#else
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
static pthread_mutex_t jobLock = PTHREAD_MUTEX_INITIALIZER;
static void lock(void) { pthread_mutex_lock(&jobLock); }
static void unlock(void) { pthread_mutex_unlock(&jobLock); }
static void *allocate(size_t bytes) {
  void *at = NULL;
  if (posix_memalign(&at, CACHE_LINE, bytes) == 0) return at;
  fprintf(stderr, "kernels: out of memory (%zu bytes of scratch)\n", bytes);
  abort();
}
static void release(void *at) { free(at); }
static void pause_briefly(void) {
#if defined __x86_64__
  __builtin_ia32_pause();
#elif defined __aarch64__
  __asm__ volatile("yield");
#endif
}
enum { SPINS = 1000 }; /* a pause takes some tens of nanoseconds */
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
static void wait_while(uint32_t *at, uint32_t value) {
  syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void wake_all(uint32_t *at) {
  syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}
#else
static pthread_mutex_t sleepLock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleepCondition = PTHREAD_COND_INITIALIZER;
static void wait_while(uint32_t *at, uint32_t value) {
  pthread_mutex_lock(&sleepLock);
  while (__atomic_load_n(at, __ATOMIC_SEQ_CST) == value) pthread_cond_wait(&sleepCondition, &sleepLock);
  pthread_mutex_unlock(&sleepLock);
}
static void wake_all(uint32_t *at) {
  (void)at;
  pthread_mutex_lock(&sleepLock);
  pthread_cond_broadcast(&sleepCondition);
  pthread_mutex_unlock(&sleepLock);
}
#endif
#endif

static struct {
  /* Read and written by every thread. */
  __attribute__((aligned(CACHE_LINE))) uint64_t ticket; /* job number, next chunk */
  __attribute__((aligned(CACHE_LINE))) uint32_t done;   /* chunks of this job that are finished */
  uint32_t callerSleeps;
  __attribute__((aligned(CACHE_LINE))) uint32_t job; /* the number of the newest job: what workers wait on */
  uint32_t sleepers;
  uint32_t stopping;
  /* The job. Written while the ticket is closed. */
  chunk_fn run;
  const void *context;
  uint32_t chunks, threads;
  /* Touched by the caller only, under the lock. */
  void *scratch[MAX_THREADS];
  size_t scratchBytes[MAX_THREADS];
  uint32_t workers, users;
} pool;

#define GET(field) __atomic_load_n(&pool.field, __ATOMIC_SEQ_CST)
#define SET(field, value) __atomic_store_n(&pool.field, value, __ATOMIC_SEQ_CST)

/* Takes and runs chunks of the job `number` until none is left. */
static void work(uint32_t number, uint32_t thread) {
  for (;;) {
    uint64_t ticket = GET(ticket);
    const chunk_fn run = GET(run);
    const void *context = GET(context);
    const uint32_t chunks = GET(chunks), threads = GET(threads);
    void *scratch = __atomic_load_n(&pool.scratch[thread], __ATOMIC_SEQ_CST);
    const uint32_t chunk = (uint32_t)ticket;
    if ((uint32_t)(ticket >> 32) != number || chunk >= chunks || thread >= threads) return;
    /* When this succeeds, the ticket was never closed in between, so what was read above belongs to the job. */
    if (!__atomic_compare_exchange_n(&pool.ticket, &ticket, ticket + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      continue;
    run(context, chunk, scratch);
    if (__atomic_add_fetch(&pool.done, 1, __ATOMIC_SEQ_CST) == chunks && GET(callerSleeps)) wake_all(&pool.done);
  }
}

void pool_worker(uint32_t thread) {
  uint32_t seen = 0;
  while (!GET(stopping)) {
    uint32_t number = GET(job);
    for (int i = 0; number == seen && i < SPINS; i++) {
      pause_briefly();
      number = GET(job);
    }
    if (number == seen) {
      __atomic_add_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
      if (!GET(stopping)) wait_while(&pool.job, seen);
      __atomic_sub_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
      continue;
    }
    seen = number;
    work(number, thread);
  }
}

static void grow_scratch(size_t threads, size_t bytes) {
  for (size_t i = 0; i < threads; i++) {
    if (pool.scratchBytes[i] >= bytes) continue;
    if (pool.scratch[i]) release(pool.scratch[i]);
    pool.scratchBytes[i] = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    __atomic_store_n(&pool.scratch[i], allocate(pool.scratchBytes[i]), __ATOMIC_SEQ_CST);
  }
}

void parallel(size_t threads, chunk_fn run, const void *context, size_t count, size_t scratchBytes) {
  if (threads > pool.workers + 1) threads = pool.workers + 1;
  if (threads > count) threads = count;
  if (threads <= 1 && scratchBytes == 0) {
    for (size_t chunk = 0; chunk < count; chunk++) run(context, chunk, NULL);
    return;
  }
  lock();
  grow_scratch(threads, scratchBytes);
  if (threads <= 1) {
    for (size_t chunk = 0; chunk < count; chunk++) run(context, chunk, pool.scratch[0]);
    unlock();
    return;
  }
  const uint32_t number = pool.job + 1;
  /* Closed first: a thread that is late in the last job would take what is written next for that job's. */
  SET(ticket, (uint64_t)number << 32 | UINT32_MAX);
  SET(run, run);
  SET(context, context);
  SET(chunks, (uint32_t)count);
  SET(threads, (uint32_t)threads);
  SET(done, 0);
  SET(ticket, (uint64_t)number << 32);
  SET(job, number);
  if (GET(sleepers)) wake_all(&pool.job);
  work(number, 0);
  for (int i = 0; GET(done) != count && i < SPINS; i++) pause_briefly();
  SET(callerSleeps, 1);
  for (uint32_t done; (done = GET(done)) != count;) wait_while(&pool.done, done);
  SET(callerSleeps, 0);
  unlock();
}

#ifdef __wasm__
void pool_open(size_t threads) { pool.workers = (uint32_t)threads - 1; }
void pool_close(void) {
  pool.workers = 0;
  SET(stopping, 1);
  SET(job, pool.job + 1);
  wake_all(&pool.job);
}
#else
static pthread_t handles[MAX_THREADS];

static void *thread_main(void *index) {
  pool_worker((uint32_t)(uintptr_t)index);
  return NULL;
}

void pool_open(size_t threads) {
  lock();
  pool.users++;
  /* Signals stay with the threads of Node. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers + 1 < threads && pool.workers + 1 < MAX_THREADS) {
    const uintptr_t index = pool.workers + 1;
    if (pthread_create(&handles[index], NULL, thread_main, (void *)index) != 0) break;
    pool.workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  unlock();
}

void pool_close(void) {
  lock();
  if (pool.users > 0 && --pool.users == 0) {
    SET(stopping, 1);
    SET(job, pool.job + 1);
    wake_all(&pool.job);
    for (; pool.workers > 0; pool.workers--) pthread_join(handles[pool.workers], NULL);
    SET(stopping, 0);
    for (int i = 0; i < MAX_THREADS; i++) {
      free(pool.scratch[i]);
      pool.scratch[i] = NULL;
      pool.scratchBytes[i] = 0;
    }
  }
  unlock();
}
#endif
