/*
 * malloc per CPU: what the insertions into mallocng call, and percpu.c and rseq.c define.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef MALLOC_PERCPU_H
#define MALLOC_PERCPU_H

#include <features.h>
#include <stddef.h>
#include <stdint.h>

struct meta;

/* Before the first thread is made: from here on the caches are used, if this process can have any. */
hidden void __malloc_percpu(void);
hidden extern int __malloc_percpu_used;
/* A block for n bytes of that class out of this CPU's cache; null: the way through the lock. */
hidden void *__malloc_percpu_take(int sc, size_t n);
/* Under the lock: further free slots of the group that has just served n bytes, taken for the cache. */
hidden uint32_t __malloc_percpu_reserve(struct meta *, size_t n);
/* Without it: into the cache with them. */
hidden void __malloc_percpu_fill(struct meta *, uint32_t);
/* A slot whose block was checked and whose header was made invalid. 0: it was not taken. */
hidden int __malloc_percpu_give(struct meta *, int idx);
hidden void __malloc_percpu_atfork(int);

/* The second half of mallocng's free: the slot goes back to its group. */
hidden void __malloc_free_slot(struct meta *, int idx);

/* May this process run critical sections? */
hidden int __rseq_sections(void);
/* A number above that of every CPU; 0 where it cannot be known. */
hidden size_t __rseq_cpu_bound(void);
/* Aborts the sections in flight on a CPU. 0, or a negative errno. */
hidden int __rseq_fence(size_t cpu);

#endif
