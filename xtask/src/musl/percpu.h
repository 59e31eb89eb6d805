/*
 * malloc per CPU: functions called by the insertions into mallocng, defined in percpu.c and rseq.c.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef MALLOC_PERCPU_H
#define MALLOC_PERCPU_H

#include <features.h>
#include <stddef.h>
#include <stdint.h>

struct meta;

/* Before the first thread is created: enables the caches, if this process can have any. */
hidden void __malloc_percpu(void);
/* Under the lock: further free slots of the group that has just served n bytes, taken for the cache. */
hidden uint32_t __malloc_percpu_reserve(struct meta *, size_t n);
/* Without the lock: puts them into the cache. */
hidden void __malloc_percpu_fill(struct meta *, uint32_t);
hidden void __malloc_percpu_atfork(int);
/* Before a child that shares the memory and the area of its parent, and does not make the parent wait. */
hidden void __malloc_percpu_off(void);

/* mallocng's own malloc and free, behind the caches, and the second half of that free: the slot goes back to its group. */
hidden void *__malloc_behind(size_t);
hidden void __malloc_behind_free(void *);
hidden void __malloc_free_slot(struct meta *, int idx);

/* Whether this process may run critical sections. */
hidden int __rseq_sections(void);
/* Greater than the number of any CPU; 0 if unknown. */
hidden size_t __rseq_cpu_bound(void);
/* Aborts the sections in flight on a CPU. 0, or a negative errno. */
hidden int __rseq_fence(size_t cpu);

#endif
