/*
 * malloc per CPU: a bounded cache of free slots for each CPU and size class, in front of mallocng.
 *
 * A slot (of a group; one block of memory) that is in a cache is one that mallocng believes allocated, so that its group
 * stays. Its header says where it is, as that of a block does, and that it is in a cache, which no check passes. Nothing
 * lies in a block, so that who writes to freed memory reaches no pointer of the allocator, as before.
 *
 * Each CPU has one piece of memory, and the depot, into which full caches are emptied and out of which empty ones are
 * filled, has another:
 *
 *     count of class 0 | entries of class 0 | count of class 1 | entries of class 1 | ...
 *
 * A count is changed by critical sections on that CPU alone, whose commit it is: an entry below the count is never
 * written to. Whoever is aborted has changed nothing. No order is asked for: what was written to a slot before it was put in
 * was written on this CPU, or by a thread that has come to it since, or went through the lock of the depot.
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

/* mallocng's size classes up to slots of 4080 bytes. free returns whole pages of larger ones to the kernel. */
#define CLASSES 28
#define MOST_UNITS 255
/* Of a class on one CPU. */
#define MOST_BYTES 32768
#define MOST_ENTRIES 256
/* Slots taken from mallocng at a time. */
#define BATCH 16

#define unlikely(condition) __builtin_expect(condition, 0)

/* A count that is negative, and above all: no entry, no room. Whoever gives a cache back holds it. */
#define CLOSED ((uintptr_t)1<<63)

/*
 * The header of a block, in the 4 bytes before it: 0, the index of its slot with the number of reserved bytes at its end
 * (5: the number stands there), and its offset in the group. In a cached slot the number is 6 and the index that of another
 * slot, so that mallocng refuses both. It leaves 7 itself, in a slot that is free and in one whose block begins later.
 */
typedef uint32_t __attribute__((__may_alias__)) header;
#define HEADER(p) (*(header *)((unsigned char *)(p)-IB))
#define INDEX(h) ((h)>>8 & 31)
#define RESERVED(h) ((h)>>13 & 7)
#define OFFSET(h) ((size_t)((h)>>16))
/* 0 if the block fills its slot. */
#define OTHER(h) ((h) & ((header)7<<13 | 255))
/* The difference between the header of a cached slot and that of the block which fills it. */
#define MARK ((header)6<<13 | (header)31<<8)
#define IN_CACHE(class, idx) ((header)((class)->units*(idx)<<16 | (idx)<<8) ^ MARK)

/* Of a group, as one load: last_idx in 5 bits, freeable in one, sizeclass in 6. */
typedef const uintptr_t __attribute__((__may_alias__)) word;
#define FIELDS(g) (*(word *)(&(g)->freed_mask+1))

struct class {
	/* Of the count, on the first CPU. */
	uintptr_t at;
	/* Of a slot; 0: no slot of this class is cached. */
	uint32_t units;
	/* Entries of a cache. */
	uint32_t most;
};

/*
 * Written while there is one thread, so that all others find them as they are. Without slots everything goes through
 * mallocng, as does what is not smaller than `bound`.
 */
static size_t bound;
static struct rseq_rt_slots slots;

/* By number, for each that a group can have. */
static struct class classes[64];
/* Where the count of the class is that serves these units, less one. */
static uintptr_t counts[MOST_UNITS];

/* The depot's entries, and CLOSED counts: one thread at a time. */
static volatile int lock[1];

/* The cache of a class on a CPU: its count, and the entries behind it. The depot is that behind the last CPU. */
static inline volatile uintptr_t *cache(const struct class *class, size_t cpu)
{
	return (void *)(class->at + cpu*RSEQ_RT_SLOT_SIZE);
}

/*
 * The calling thread's area, if it may run sections: registered, not exiting, and not used by a vfork child. The
 * kernel's structure is the start of the area.
 */
static inline struct rseq *current(void)
{
	typedef const uint16_t __attribute__((__may_alias__)) state;
	unsigned char *area = __pthread_self()->rseq.rseq_rt_opaque;
	return *(state *)(area+RSEQ_RT_AREA_STATE) == RSEQ_RT_REGISTERED ? (void *)area : 0;
}

#ifndef MALLOC_PERCPU_BROKEN
/* RSEQ_RT_COMMITTED: an entry was taken. RSEQ_RT_DIFFERS: there is none. */
static inline int pop(struct rseq *rseq, uintptr_t at, unsigned char **p)
{
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"addq %[at], %%rax\n\t"
		"movq (%%rax), %%rdx\n\t"
		"subq $1, %%rdx\n\t"
		"jl %l[empty]\n\t"
		"movq 8(%%rax, %%rdx, 8), %%r8\n\t"
		"movq %%rdx, (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		"movq %%r8, (%[p])\n\t"
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (at), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "rdx", "r8"
		: RSEQ_RT_SECTION_LABELS, empty);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"add x9, %[at], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"subs x11, x11, #1\n\t"
		"b.lt %l[empty]\n\t"
		"add x12, x9, x11, lsl #3\n\t"
		"ldr x13, [x12, #8]\n\t"
		"str x11, [x9]\n\t"
		RSEQ_RT_SECTION_END
		"str x13, [%[p]]\n\t"
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (at), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "x11", "x12", "x13"
		: RSEQ_RT_SECTION_LABELS, empty);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"add t0, %[at], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"blez t2, %l[empty]\n\t"
		"addi t2, t2, -1\n\t"
		"slli t3, t2, 3\n\t"
		"add t3, t3, t0\n\t"
		"ld t4, 8(t3)\n\t"
		"sd t2, 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		"sd t4, 0(%[p])\n\t"
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (at), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "t2", "t3", "t4"
		: RSEQ_RT_SECTION_LABELS, empty);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
empty:
	return RSEQ_RT_DIFFERS;
}
#else
/* The same by plain stores, for the tests. The pause is for a switch to fall into. */
static inline int pop(struct rseq *rseq, uintptr_t at, unsigned char **p)
{
	size_t cpu = rseq_rt_percpu_id(rseq), count;
	volatile uintptr_t *here;
	if (cpu >= slots.count) return RSEQ_RT_OUT_OF_RANGE;
	here = (void *)(at + cpu*RSEQ_RT_SLOT_SIZE);
	count = *here;
	if (count-1 >= MOST_ENTRIES) return RSEQ_RT_DIFFERS;
	*p = (unsigned char *)here[count];
	for (volatile int pause = 0; pause < 200; pause++);
	*here = count-1;
	return RSEQ_RT_COMMITTED;
}
#endif

/* RSEQ_RT_COMMITTED: it is in the cache. RSEQ_RT_DIFFERS: there is no room. */
static inline int push(struct rseq *rseq, const struct class *class, unsigned char *p)
{
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"addq %[at], %%rax\n\t"
		"movq (%%rax), %%rdx\n\t"
		"cmpq %[most], %%rdx\n\t"
		"jae %l[full]\n\t"
		"movq %[p], 8(%%rax, %%rdx, 8)\n\t"
		"addq $1, %%rdx\n\t"
		"movq %%rdx, (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (class->at), [most] "r" ((size_t)class->most), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "rdx"
		: RSEQ_RT_SECTION_LABELS, full);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add x9, %[at], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"cmp x11, %[most]\n\t"
		"b.hs %l[full]\n\t"
		"add x12, x9, x11, lsl #3\n\t"
		"str %[p], [x12, #8]\n\t"
		"add x11, x11, #1\n\t"
		"str x11, [x9]\n\t"
		RSEQ_RT_SECTION_END
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (class->at), [most] "r" ((size_t)class->most), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "x11", "x12"
		: RSEQ_RT_SECTION_LABELS, full);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add t0, %[at], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"bgeu t2, %[most], %l[full]\n\t"
		"slli t3, t2, 3\n\t"
		"add t3, t3, t0\n\t"
		"sd %[p], 8(t3)\n\t"
		"addi t2, t2, 1\n\t"
		"sd t2, 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		:
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [at] "r" (class->at), [most] "r" ((size_t)class->most), [p] "r" (p)
		: RSEQ_RT_SECTION_CLOBBERS, "t2", "t3"
		: RSEQ_RT_SECTION_LABELS, full);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
full:
	return RSEQ_RT_DIFFERS;
}

/* Called once, in __pthread_create, while there is one thread. */
void __malloc_percpu(void)
{
	size_t count, at = 0, i = 0;
	char *base;
	int sc;
	if (!__rseq_sections() || !(count = __rseq_cpu_bound())) return;
	/* Pages come as they are touched: those of CPUs that the program runs on, and never a huge one for all CPUs. */
	base = mmap(0, (count+1)*RSEQ_RT_SLOT_SIZE, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANON|MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) return;
	__syscall(SYS_madvise, base, (count+1)*RSEQ_RT_SLOT_SIZE, MADV_NOHUGEPAGE);
	for (sc = 0; sc < CLASSES; sc++) {
		size_t most = MOST_BYTES / (UNIT*size_classes[sc]);
		if (most > MOST_ENTRIES) most = MOST_ENTRIES;
		classes[sc] = (struct class){ (uintptr_t)base + at, size_classes[sc], most };
		for (; i < size_classes[sc]; i++) counts[i] = (uintptr_t)base + at;
		at += (1+most)*sizeof(uintptr_t);
	}
	if (at > RSEQ_RT_SLOT_SIZE) a_crash();
	if (rseq_rt_slots_init(&slots, base, RSEQ_RT_SLOT_SIZE, count)) return;
	bound = UNIT*MOST_UNITS - IB + 1;
}

static inline struct group *group_of(unsigned char *p, header h)
{
	return (void *)(p - UNIT*OFFSET(h) - UNIT);
}

/*
 * The class of a slot of one of mallocng's groups; else null. The structure that a group's first word
 * leads to is trusted if it is known for mallocng's and leads back. The only slot of a group may be larger than its class, so
 * that it is none here.
 */
static inline const struct class *class_of(unsigned char *p, header h)
{
	struct group *base = group_of(p, h);
	struct meta *g = base->meta;
	size_t idx = INDEX(h), fields, last;
	if (unlikely(g->mem != base) || unlikely(((struct meta_area *)((uintptr_t)g & -4096))->check != ctx.secret)) return 0;
	fields = FIELDS(g);
	last = fields & 31;
	if (unlikely(!last) || unlikely(idx > last)) return 0;
	return &classes[fields>>6 & 63];
}

/*
 * Whether mallocng has the slot free. Asked where a block may begin inside a slot, with bytes of another block for a header:
 * the one at the start of a free slot is that of no block.
 */
static int is_free(unsigned char *p, header h)
{
	struct meta *g = group_of(p, h)->meta;
	return (g->avail_mask | g->freed_mask)>>INDEX(h) & 1;
}

/*
 * A cached slot, to its group. Whoever wrote to its header in the meantime does not have another slot of the group marked
 * free, which may be in use.
 */
static void give_back(unsigned char *p)
{
	header h = HEADER(p) ^ MARK;
	const struct class *class;
	if (OTHER(h) || !(class = class_of(p, h)) || OFFSET(h) != class->units*INDEX(h) || is_free(p, h)) a_crash();
	HEADER(p) = 255<<8;
	__malloc_free_slot(group_of(p, h)->meta, INDEX(h));
}

/* Everything goes through mallocng from here on. malloc_trim still empties the caches. */
void __malloc_percpu_off(void)
{
	bound = 0;
}

/* ---- the depot ---- */

/* Half a cache goes to the depot, as far as there is room. */
static void spill(struct rseq *rseq, const struct class *class)
{
	volatile uintptr_t *depot = cache(class, slots.count);
	unsigned char *p;
	int n;
	if (*depot >= class->most) return;
	LOCK(lock);
	for (n = class->most/2; n && *depot < class->most && pop(rseq, class->at, &p) == RSEQ_RT_COMMITTED; n--) {
		depot[*depot+1] = (uintptr_t)p;
		++*depot;
	}
	UNLOCK(lock);
}

/* Half a cache comes back; that much was there, or there was nothing. */
static void refill(struct rseq *rseq, const struct class *class)
{
	volatile uintptr_t *depot = cache(class, slots.count);
	int n;
	if (!*depot) return;
	LOCK(lock);
	for (n = class->most/2; n && *depot && push(rseq, class, (void *)depot[*depot]) == RSEQ_RT_COMMITTED; n--)
		--*depot;
	UNLOCK(lock);
}

static __attribute__((__noinline__)) void overflowing(struct rseq *rseq, const struct class *class, unsigned char *p)
{
	spill(rseq, class);
	if (push(rseq, class, p) != RSEQ_RT_COMMITTED) give_back(p);
}

/* ---- malloc and free: one path, without a branch by which sizes come, since those are not foreseen ---- */

/*
 * The block that fills a slot taken from a cache. A block that two threads freed at the same moment is in a cache twice,
 * since both found its header valid: the second to take it finds it in use.
 */
static inline void *taken(unsigned char *p)
{
	header h = HEADER(p) ^ MARK;
	if (unlikely(OTHER(h))) a_crash();
	HEADER(p) = h;
	return p;
}

static __attribute__((__noinline__)) void *missed(struct rseq *rseq, size_t n)
{
	const struct class *class = &classes[size_to_class(n)];
	unsigned char *p;
	refill(rseq, class);
	if (pop(rseq, class->at, &p) != RSEQ_RT_COMMITTED) return __malloc_behind(n);
	return taken(p);
}

void *malloc(size_t n)
{
	struct rseq *rseq;
	unsigned char *p;
	if (unlikely(n >= bound) || unlikely(!(rseq = current()))) return __malloc_behind(n);
	if (unlikely(pop(rseq, counts[(n+IB-1)/UNIT], &p) != RSEQ_RT_COMMITTED)) return missed(rseq, n);
	return taken(p);
}

/*
 * A block that does not fill its slot, made by mallocng, realloc or aligned_alloc: the other checks of mallocng's free
 * apply. mallocng itself judges what does not pass.
 */
static __attribute__((__noinline__)) void free_other(unsigned char *p)
{
	struct rseq *rseq = current();
	const struct class *class;
	unsigned char *start, *end;
	size_t offset, reserved;
	header h;
	if (!bound || !rseq || (uintptr_t)p & 15) goto behind;
	h = HEADER(p);
	if (h & 255 || !(class = class_of(p, h)) || !class->units) goto behind;
	if (is_free(p, h)) goto behind;
	offset = OFFSET(h) - class->units*INDEX(h);
	if (offset >= class->units) goto behind;
	start = p - UNIT*offset;
	end = start + UNIT*class->units - IB;
	reserved = RESERVED(h);
	if (reserved > 5) goto behind;
	if (reserved == 5) {
		reserved = *(header *)(end-4);
		if (reserved < 5 || end[-5]) goto behind;
	}
	if (reserved > end-p || end[-reserved] || *end || start[-4]) goto behind;
	HEADER(p) = 255<<8;
	HEADER(start) = IN_CACHE(class, INDEX(h));
	if (push(rseq, class, start) != RSEQ_RT_COMMITTED) overflowing(rseq, class, start);
	return;
behind:
	__malloc_behind_free(p);
}

void free(void *block)
{
	const struct class *class;
	unsigned char *p = block;
	struct rseq *rseq;
	size_t units;
	header h;
	if (!p) return;
	if (unlikely(!bound) || unlikely(!(rseq = current())) || unlikely((uintptr_t)p & 15)) goto other;
	h = HEADER(p);
	if (unlikely(OTHER(h)) || unlikely(!(class = class_of(p, h)))) goto other;
	units = class->units;
	if (unlikely(!units) || unlikely(OFFSET(h) != units*INDEX(h)) || unlikely(p[UNIT*units-IB])) goto other;
	HEADER(p) = h ^ MARK;
	if (unlikely(push(rseq, class, p) != RSEQ_RT_COMMITTED)) overflowing(rseq, class, p);
	return;
other:
	free_other(p);
}

/*
 * Only slots that malloc would have handed out next: none is activated for the cache. Not of a coarser class, which
 * mallocng chooses where a class is hardly used.
 */
uint32_t __malloc_percpu_reserve(struct meta *g, size_t n)
{
	uint32_t rest = g->avail_mask, taken;
	int most = BATCH;
	if (n >= bound || g->sizeclass != size_to_class(n) || !current()) return 0;
	if (most > classes[g->sizeclass].most/4) most = classes[g->sizeclass].most/4;
	for (; rest && most; most--) rest &= rest-1;
	taken = g->avail_mask & ~rest;
	g->avail_mask = rest;
	return taken;
}

void __malloc_percpu_fill(struct meta *g, uint32_t taken)
{
	const struct class *class = &classes[g->sizeclass];
	struct rseq *rseq = current();
	/* The last first, so that the first is on top. */
	while (taken) {
		int idx = 31 - a_clz_32(taken);
		unsigned char *p = g->mem->storage + UNIT*class->units*idx;
		taken -= 1u<<idx;
		/* The byte behind the slot before it. */
		if (p[-4]) a_crash();
		HEADER(p) = IN_CACHE(class, idx);
		if (!rseq || push(rseq, class, p) != RSEQ_RT_COMMITTED) give_back(p);
	}
}

/* ---- giving back ---- */

/* The counts of one CPU's classes are closed, and what they were is told. */
static void close_counts(size_t cpu, uintptr_t *old)
{
	int sc;
	for (sc = 0; sc < CLASSES; sc++) {
		volatile uintptr_t *count = cache(&classes[sc], cpu);
		do old[sc] = *count;
		while (old[sc] && a_cas_p(count, (void *)old[sc], (void *)CLOSED) != (void *)old[sc]);
	}
}

/*
 * Empties the depot and the caches of all CPUs, offline ones included, and returns whether there was anything. A section
 * that had compared before the count was closed may still commit, over CLOSED: after the fence none is in flight, so that a
 * count that is closed still is this thread's, with the entries below what it was; and one that is not is what that section
 * made it.
 */
int __malloc_trim(size_t pad)
{
	uintptr_t old[CLASSES];
	size_t cpu, i;
	int sc, some = 0;
	if (!slots.count) return 0;
	LOCK(lock);
	for (cpu = 0; cpu <= slots.count; cpu++) {
		for (sc = 0; sc < CLASSES && !*cache(&classes[sc], cpu); sc++);
		if (sc == CLASSES) continue;
		close_counts(cpu, old);
		if (cpu < slots.count && __rseq_fence(cpu)) {
			/* Opened again as it was, for a section in flight as well. */
			for (sc = 0; sc < CLASSES; sc++)
				if (old[sc]) a_cas_p(cache(&classes[sc], cpu), (void *)CLOSED, (void *)old[sc]);
			continue;
		}
		for (sc = 0; sc < CLASSES; sc++) {
			volatile uintptr_t *count = cache(&classes[sc], cpu);
			if (!old[sc] || *count != CLOSED) continue;
			for (i = 1; i <= old[sc]; i++) give_back((void *)count[i]);
			some = 1;
			/* After this store the entries may be overwritten. */
			a_barrier();
			*count = 0;
		}
	}
	UNLOCK(lock);
	return some;
}
weak_alias(__malloc_trim, malloc_trim);

/*
 * A fork is held up while caches are closed or the depot changes, and the child finds all open. It finds each as it was at
 * some moment, since a commit is one store. What other threads had in hand is lost to the child.
 */
void __malloc_percpu_atfork(int who)
{
	if (who < 0) LOCK(lock);
	else if (who > 0) lock[0] = 0;
	else UNLOCK(lock);
}
