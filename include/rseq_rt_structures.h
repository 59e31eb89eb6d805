/*
 * rseq_rt_structures.h - per-CPU structures: a counter and a free list, and the fence that drains another CPU's slot.
 *
 * A thread that is registered changes the slot of the CPU that it runs on, by a critical section and without an atomic
 * instruction; every other thread, and one whose section was aborted too often, the overflow slot by atomics. So any
 * thread may use them, at any time, a signal handler included: with its area, or with a null one, as which a misaligned one
 * counts. A thread has a slot after rseq_rt_init, its create hook (rseq_rt.h) and rseq_rt_allow_sections
 * (rseq_rt_percpu.h); examples/c/requests.c is a whole program.
 *
 *     static struct rseq_rt_list pool;
 *     size_t count = rseq_rt_cpu_bound();	// lines: as many, all zero
 *
 *     rseq_rt_allow_sections();
 *     rseq_rt_list_init(&pool, lines, count);
 *
 *     if (rseq_rt_list_pop(&pool, area, &node) != 0)
 *         ...					// nothing here: make one
 *     rseq_rt_list_push(&pool, area, node);
 *
 * A bounded buffer of pointers and a byte log are in rseq_rt_buffers.h, inline.
 *
 * Storage is the caller's, all zero at first, and serves one structure for ever; too few lines are slow and never
 * wrong. int is 0 or a number, or a negative errno, and nothing has changed then:
 *     -EFAULT     a null pointer
 *     -EINVAL     a misaligned pointer; no lines; no such slot
 *     -EOVERFLOW  more lines than a CPU number can count
 * Calls make no system call but where "Costs" says so.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_STRUCTURES_H
#define RSEQ_RT_STRUCTURES_H

#include <stddef.h>

#include "rseq_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Two CPUs that write to one line cost each other more than all atomics that the slots save. */
#if defined(__riscv)
#define RSEQ_RT_LINE 64
#else
#define RSEQ_RT_LINE 128
#endif

/* One CPU's part of a structure. */
struct rseq_rt_line {
	unsigned char rseq_rt_opaque[RSEQ_RT_LINE];
} __attribute__((__aligned__(RSEQ_RT_LINE)));

/* ---- a counter: a sum in as many parts as there are CPUs ---- */

struct rseq_rt_counter {
	unsigned char rseq_rt_opaque[2 * RSEQ_RT_LINE];
} __attribute__((__aligned__(RSEQ_RT_LINE)));

/* Zero. */
int rseq_rt_counter_init(struct rseq_rt_counter *counter, struct rseq_rt_line *lines, size_t count);

/* Adds, wrapping; to subtract, add the complement. A fork child needs no repair. */
int rseq_rt_counter_add(const struct rseq_rt_counter *counter, const rseq_rt_area *area, size_t value);

/* The sum, wrapping; exact if nobody adds meanwhile. 0 for a null pointer. */
size_t rseq_rt_counter_sum(const struct rseq_rt_counter *counter);

/* ---- the fence ---- */

struct rseq_rt_fence {
	unsigned char rseq_rt_opaque;
};

/*
 * Registers the process for membarrier(2)'s rseq fence. 1 if the kernel has it, 0 if not: then the calling thread goes to
 * the CPU and back, which it must be allowed to. A fork child keeps it. When: once, at start. Costs: 1.
 */
int rseq_rt_fence_register(struct rseq_rt_fence *fence);

/*
 * Aborts the sections in flight on a CPU; later ones see what the caller stored before. For slots of one's own: who has
 * closed one by a word that every section compares, and finds that word there after this, has the slot alone.
 * A negative errno of the kernel's: sections may be in flight. Costs: 1, or 3.
 */
int rseq_rt_fence_abort(const struct rseq_rt_fence *fence, size_t cpu);

/* ---- a free list: an intrusive stack for each CPU, last in, first out ---- */

struct rseq_rt_list {
	size_t rseq_rt_opaque[4];
};

/* An element of a list. It lies in the pooled object, and belongs to the list while it is in it. */
struct rseq_rt_node {
	size_t rseq_rt_opaque;
};

/* Empty. */
int rseq_rt_list_init(struct rseq_rt_list *list, struct rseq_rt_line *lines, size_t count);

/* Gives a node to the slot of the CPU. It may be unmapped as soon as it was popped or drained. */
int rseq_rt_list_push(const struct rseq_rt_list *list, const rseq_rt_area *area, struct rseq_rt_node *node);

/*
 * The node that was last given to this CPU, or one of the overflow slot. -ENOENT where both are empty, whatever is on
 * other CPUs; -EAGAIN where somebody has a slot in hand for the moment.
 */
int rseq_rt_list_pop(const struct rseq_rt_list *list, const rseq_rt_area *area, struct rseq_rt_node **node);

/*
 * Takes all nodes of one slot, of any CPU, offline ones included, and gives them to each, last pushed first; how many.
 * -EAGAIN where another drain has the slot; an errno of the kernel's where the fence was refused: nothing is taken.
 * Costs: 1, rarely more.
 */
int rseq_rt_list_drain(const struct rseq_rt_list *list, const struct rseq_rt_fence *fence, size_t slot,
	void (*each)(struct rseq_rt_node *node, void *argument), void *argument);

/* The same for the overflow slot. Costs: 0. */
int rseq_rt_list_drain_overflow(const struct rseq_rt_list *list,
	void (*each)(struct rseq_rt_node *node, void *argument), void *argument);

/*
 * In a fork child, before its second thread and outside of the list's own calls: ends what the parent's other threads
 * were doing. Nodes that they had in hand are lost to the child.
 */
int rseq_rt_list_repair_in_fork_child(const struct rseq_rt_list *list);

#ifdef __cplusplus
}
#endif

#endif
