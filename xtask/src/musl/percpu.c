/*
 * malloc per CPU: a bounded cache of free slots for each CPU and size class, in front of mallocng.
 *
 * A slot (of a group; one block of memory) that is in a cache is one that mallocng believes allocated, so that its group
 * stays. What lies in it is what mallocng's free leaves: a header that no check passes. A cache holds no address of a
 * block and nothing lies in a block: an entry is the group's out-of-band structure and the index, so that who writes to
 * freed memory reaches no pointer of the allocator, as before.
 *
 * Each CPU has one piece of memory:
 *
 *     count[0] ... count[CLASSES-1] | entries of class 0 | entries of class 1 | ...
 *
 * A count is changed by critical sections on that CPU alone, whose commit it is: an entry below the count is never
 * written to. Whoever is aborted has changed nothing. No order is asked for: what was written to a slot before it was put in
 * was written on this CPU, or by a thread that has come to it since.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define _BSD_SOURCE
#define RSEQ_RT_SLOT_SHIFT 15
#include "mallocng/meta.h"
#include "pthread_impl.h"
#include "rseq_rt_percpu.h"
#include "percpu.h"
#include <malloc.h>

/* mallocng's size classes up to slots of 4080 bytes. Of larger ones free gives whole pages back to the kernel. */
#define CLASSES 28
/* Of a class on one CPU. */
#define MOST_BYTES 32768
#define MOST_ENTRIES 256
/* Taken from mallocng in one go. */
#define BATCH 16

/*
 * An entry: the address of the group's structure, a multiple of 8 below 2^57, shifted by 2, with the index of 5 bits
 * below. FREED: the slot has been in use, so that its header must say that it was freed.
 */
#define ENTRY(g, idx) ((uintptr_t)(g)<<2 | (idx))
#define GROUP(entry) ((struct meta *)(((entry)&~FREED)>>5<<3))
#define INDEX(entry) ((int)((entry)&31))
#define FREED ((uintptr_t)1<<63)

/* A count above all: no entry, no room. Whoever gives a cache back holds it. */
#define CLOSED UINTPTR_MAX

/*
 * Written while there is one thread, so that all others find them as they are. Without slots everything goes through
 * mallocng.
 */
int __malloc_percpu_used;
static struct rseq_rt_slots slots;
/* The first entry of a class, in words from the start of a slot; that of the next is behind its last. */
static uint16_t first[CLASSES+1];

static volatile int lock[1];

static inline size_t capacity(int sc)
{
	return first[sc+1] - first[sc];
}

static inline volatile uintptr_t *slot_of(size_t cpu)
{
	return (void *)((char *)slots.base + cpu*RSEQ_RT_SLOT_SIZE);
}

/*
 * The calling thread's, if it may run sections: registered, not exiting, and no vfork child on its parent's area. The
 * kernel's structure is the start of the area.
 */
static inline struct rseq *current(void)
{
	rseq_rt_area *area = &__pthread_self()->rseq;
	return rseq_rt_cpu_by_load(area) >= 0 ? (void *)area->rseq_rt_opaque : 0;
}

/*
 * 1: an entry was taken. 0: there is none, or the thread may not.
 *
 * What is read outside of the section may be old, or that of another CPU; the section compares both words on the CPU where
 * it runs. The count alone would not do: in between, others may have taken this entry and put in another.
 */
static inline int pop(struct rseq *rseq, int sc, uintptr_t *entry)
{
	int tries;
	for (tries = 0; tries < 8; tries++) {
		size_t cpu = rseq_rt_percpu_id(rseq), count, top;
		int result;
		if (cpu >= slots.count) return 0;
		count = slot_of(cpu)[sc];
		if (count-1 >= capacity(sc)) return 0;
		top = first[sc] + count-1;
		*entry = slot_of(cpu)[top];
#ifndef MALLOC_PERCPU_BROKEN
		result = rseq_rt_percpu_compare_two_and_store(rseq, slots, sc*sizeof count, count,
			top*sizeof count, *entry, count-1);
#else
		/* The same by plain stores, for the tests. The pause is for a switch to fall into. */
		for (volatile int pause = 0; pause < 200; pause++);
		slot_of(cpu)[sc] = count-1;
		result = RSEQ_RT_COMMITTED;
#endif
		if (result != RSEQ_RT_DIFFERS) return result == RSEQ_RT_COMMITTED;
	}
	return 0;
}

/* 1: it is in the cache. 0: there is no room, or the thread may not. */
static inline int push(struct rseq *rseq, int sc, uintptr_t entry)
{
	int tries;
	for (tries = 0; tries < 8; tries++) {
		size_t cpu = rseq_rt_percpu_id(rseq), count;
		int result;
		if (cpu >= slots.count) return 0;
		count = slot_of(cpu)[sc];
		if (count >= capacity(sc)) return 0;
		result = rseq_rt_percpu_compare_store_and_store(rseq, slots, sc*sizeof count, count,
			(first[sc] + count)*sizeof count, entry, count+1);
		if (result != RSEQ_RT_DIFFERS) return result == RSEQ_RT_COMMITTED;
	}
	return 0;
}

/* Once, in __pthread_create, while there is one thread. */
void __malloc_percpu(void)
{
	size_t count, next = CLASSES;
	void *base;
	int sc;
	if (!__rseq_sections() || !(count = __rseq_cpu_bound())) return;
	for (sc = 0; sc < CLASSES; sc++) {
		size_t most = MOST_BYTES / (UNIT*size_classes[sc]);
		first[sc] = next;
		next += most < MOST_ENTRIES ? most : MOST_ENTRIES;
	}
	first[sc] = next;
	if (next*sizeof(uintptr_t) > RSEQ_RT_SLOT_SIZE) a_crash();
	/* Pages come as they are touched: those of CPUs that the program runs on, and never a huge one for all CPUs. */
	base = mmap(0, count*RSEQ_RT_SLOT_SIZE, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANON|MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) return;
	__syscall(SYS_madvise, base, count*RSEQ_RT_SLOT_SIZE, MADV_NOHUGEPAGE);
	if (rseq_rt_slots_init(&slots, base, RSEQ_RT_SLOT_SIZE, count)) return;
	__malloc_percpu_used = 1;
}

/*
 * A slot that was freed says so in its header, at its start or where that leads. A block that two threads freed at the
 * same moment is in a cache twice: both found its header valid. The second to take it finds it in use.
 */
static inline int is_freed(const struct meta *g, int idx)
{
	const unsigned char *p = g->mem->storage + get_stride(g)*idx;
	if (p[-3] == 7<<5) p += UNIT * *(const uint16_t *)(p-2);
	return p[-3] == 255;
}

void *__malloc_percpu_take(int sc, size_t n)
{
	struct rseq *rseq;
	uintptr_t entry;
	struct meta *g;
	if (sc >= CLASSES || !(rseq = current()) || !pop(rseq, sc, &entry)) return 0;
	g = GROUP(entry);
	if (entry & FREED) assert(is_freed(g, INDEX(entry)));
	return enframe(g, INDEX(entry), n, ctx.mmap_counter);
}

/*
 * Only slots that malloc would have handed out next: none is activated for the cache. Not of a coarser class, which
 * mallocng chooses where a class is hardly used.
 */
uint32_t __malloc_percpu_reserve(struct meta *g, size_t n)
{
	uint32_t rest = g->avail_mask, taken;
	int most = BATCH;
	if (!__malloc_percpu_used || g->sizeclass >= CLASSES || g->sizeclass != size_to_class(n) || !current())
		return 0;
	if (most > capacity(g->sizeclass)/4) most = capacity(g->sizeclass)/4;
	for (; rest && most; most--) rest &= rest-1;
	taken = g->avail_mask & ~rest;
	g->avail_mask = rest;
	return taken;
}

void __malloc_percpu_fill(struct meta *g, uint32_t taken)
{
	struct rseq *rseq = current();
	/* The last first, so that the first is on top. */
	while (taken) {
		int idx = 31 - a_clz_32(taken);
		taken -= 1u<<idx;
		if (!rseq || !push(rseq, g->sizeclass, ENTRY(g, idx)))
			__malloc_free_slot(g, idx);
	}
}

int __malloc_percpu_give(struct meta *g, int idx)
{
	struct rseq *rseq;
	/* A group of one slot may have another size than its class says. */
	if (g->sizeclass >= CLASSES || !g->last_idx || !(rseq = current())) return 0;
	return push(rseq, g->sizeclass, FREED | ENTRY(g, idx));
}

/* ---- giving back ---- */

/* The counts of one CPU's classes are closed, and what they were is told. */
static void close_counts(volatile uintptr_t *slot, uintptr_t *old)
{
	int sc;
	for (sc = 0; sc < CLASSES; sc++) {
		do old[sc] = slot[sc];
		while (old[sc] && a_cas_p(slot+sc, (void *)old[sc], (void *)CLOSED) != (void *)old[sc]);
	}
}

/*
 * Empties the caches of all CPUs, offline ones included, and returns whether there was anything. A section that had
 * compared before the count was closed may still commit, over CLOSED: after the fence none is in flight, so that a count
 * that is closed still is this thread's, with the entries below what it was; and one that is not is what that section made it.
 */
int __malloc_trim(size_t pad)
{
	uintptr_t old[CLASSES];
	size_t cpu, i;
	int sc, some = 0;
	LOCK(lock);
	for (cpu = 0; cpu < slots.count; cpu++) {
		volatile uintptr_t *slot = slot_of(cpu);
		for (sc = 0; sc < CLASSES && !slot[sc]; sc++);
		if (sc == CLASSES) continue;
		close_counts(slot, old);
		if (__rseq_fence(cpu)) {
			/* Opened again as it was, for a section in flight as well. */
			for (sc = 0; sc < CLASSES; sc++)
				if (old[sc]) a_cas_p(slot+sc, (void *)CLOSED, (void *)old[sc]);
			continue;
		}
		for (sc = 0; sc < CLASSES; sc++) {
			if (!old[sc] || slot[sc] != CLOSED) continue;
			for (i = 0; i < old[sc]; i++) {
				uintptr_t entry = slot[first[sc]+i];
				__malloc_free_slot(GROUP(entry), INDEX(entry));
			}
			some = 1;
			/* From the store on they are written to. */
			a_barrier();
			slot[sc] = 0;
		}
	}
	UNLOCK(lock);
	return some;
}
weak_alias(__malloc_trim, malloc_trim);

/*
 * A fork is held up while caches are closed, and the child finds all open. It finds each as it was at some moment, since
 * a commit is one store. What other threads had in hand is lost to the child.
 */
void __malloc_percpu_atfork(int who)
{
	if (who < 0) LOCK(lock);
	else if (who > 0) lock[0] = 0;
	else UNLOCK(lock);
}
