/*
 * Your own sections: a per-CPU slab with push and pop of whole batches, and a log of events.
 *
 *     cargo xtask staticlib --out DIR
 *     cc examples/c/sections.c $(PKG_CONFIG_PATH=DIR/lib/pkgconfig pkg-config --cflags --libs rseq_rt) -pthread
 *
 * Under a glibc that owns rseq the sections run on its registration; elsewhere the create hook registers each thread.
 * The same two in Rust are examples/sections. Each section stores where nobody looks, and its last store publishes the
 * result: the head of the slab, the length of the log.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#define RSEQ_RT_SLOT_SHIFT 9
#include "rseq_rt.h"
#include "rseq_rt_percpu.h"

#define THREADS 4
#define ROUNDS 20000
#define ROOM 56 /* words; the sections contain it, and the offset of items, as numbers */
#define BATCH 8

struct slot {
	uintptr_t head;		/* items of a slab, or bytes of a log */
	uintptr_t unused[7];
	uintptr_t items[ROOM];
} __attribute__((__aligned__(512)));

_Static_assert(offsetof(struct slot, items) == 64 && sizeof(struct slot) == 512, "as in the sections");

/* Pushes all length words at from onto the slab; RSEQ_RT_DIFFERS if there is no room for them. length is not 0. */
static int slab_push(struct rseq *rseq, struct rseq_rt_slots slots, const uintptr_t *from, uintptr_t length)
{
	if (!rseq)
		return RSEQ_RT_OUT_OF_RANGE;
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"addq %[base], %%rax\n\t"
		"movq (%%rax), %%rdx\n\t"
		"leaq (%%rdx, %[length]), %%r8\n\t"
		"cmpq $56, %%r8\n\t"
		"ja %l[full]\n\t"
		"leaq 64(%%rax, %%rdx, 8), %%rdx\n\t"
		"movq %[length], %%r9\n\t"
		"6: movq -8(%[from], %%r9, 8), %%r10\n\t"
		"movq %%r10, -8(%%rdx, %%r9, 8)\n\t"
		"decq %%r9\n\t"
		"jnz 6b\n\t"
		"movq %%r8, (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [from] "r" (from), [length] "r" (length)
		: RSEQ_RT_SECTION_CLOBBERS, "rdx", "r8", "r9", "r10"
		: RSEQ_RT_SECTION_LABELS, full);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add x9, %[base], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"add x12, x11, %[length]\n\t"
		"cmp x12, #56\n\t"
		"b.hi %l[full]\n\t"
		"add x11, x9, x11, lsl #3\n\t"
		"add x11, x11, #64\n\t"
		"mov x13, %[length]\n\t"
		"6: sub x13, x13, #1\n\t"
		"ldr x14, [%[from], x13, lsl #3]\n\t"
		"str x14, [x11, x13, lsl #3]\n\t"
		"cbnz x13, 6b\n\t"
		"str x12, [x9]\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [from] "r" (from), [length] "r" (length)
		: RSEQ_RT_SECTION_CLOBBERS, "x11", "x12", "x13", "x14"
		: RSEQ_RT_SECTION_LABELS, full);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add t0, %[base], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"add t3, t2, %[length]\n\t"
		"li t4, 56\n\t"
		"bgtu t3, t4, %l[full]\n\t"
		"slli t2, t2, 3\n\t"
		"add t2, t2, t0\n\t"
		"mv t4, %[from]\n\t"
		"slli t5, %[length], 3\n\t"
		"add t5, t5, t4\n\t"
		"6: ld t6, 0(t4)\n\t"
		"sd t6, 64(t2)\n\t"
		"addi t4, t4, 8\n\t"
		"addi t2, t2, 8\n\t"
		"bne t4, t5, 6b\n\t"
		"sd t3, 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [from] "r" (from), [length] "r" (length)
		: RSEQ_RT_SECTION_CLOBBERS, "t2", "t3", "t4", "t5", "t6"
		: RSEQ_RT_SECTION_LABELS, full);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
full:
	return RSEQ_RT_DIFFERS;
}

/* Pops up to length words from the slab into to, and stores their number in *taken; RSEQ_RT_DIFFERS if it is empty. */
static int slab_pop(struct rseq *rseq, struct rseq_rt_slots slots, uintptr_t *to, uintptr_t length, uintptr_t *taken)
{
	if (!rseq)
		return RSEQ_RT_OUT_OF_RANGE;
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"addq %[base], %%rax\n\t"
		"movq (%%rax), %%rdx\n\t"
		"testq %%rdx, %%rdx\n\t"
		"jz %l[empty]\n\t"
		"movq %[length], %%r8\n\t"
		"cmpq %%rdx, %%r8\n\t"
		"cmovaq %%rdx, %%r8\n\t"
		"subq %%r8, %%rdx\n\t"
		"leaq 64(%%rax, %%rdx, 8), %%r11\n\t"
		"movq %%r8, %%r9\n\t"
		"6: movq -8(%%r11, %%r9, 8), %%r10\n\t"
		"movq %%r10, -8(%[to], %%r9, 8)\n\t"
		"decq %%r9\n\t"
		"jnz 6b\n\t"
		"movq %%rdx, (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		"movq %%r8, (%[taken])\n\t"
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [to] "r" (to), [length] "r" (length), [taken] "r" (taken)
		: RSEQ_RT_SECTION_CLOBBERS, "rdx", "r8", "r9", "r10", "r11"
		: RSEQ_RT_SECTION_LABELS, empty);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"add x9, %[base], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"cbz x11, %l[empty]\n\t"
		"cmp %[length], x11\n\t"
		"csel x12, %[length], x11, lo\n\t"
		"sub x11, x11, x12\n\t"
		"add x13, x9, x11, lsl #3\n\t"
		"add x13, x13, #64\n\t"
		"mov x14, x12\n\t"
		"6: sub x14, x14, #1\n\t"
		"ldr x15, [x13, x14, lsl #3]\n\t"
		"str x15, [%[to], x14, lsl #3]\n\t"
		"cbnz x14, 6b\n\t"
		"str x11, [x9]\n\t"
		RSEQ_RT_SECTION_END
		"str x12, [%[taken]]\n\t"
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [to] "r" (to), [length] "r" (length), [taken] "r" (taken)
		: RSEQ_RT_SECTION_CLOBBERS, "x11", "x12", "x13", "x14", "x15"
		: RSEQ_RT_SECTION_LABELS, empty);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(empty))
		"add t0, %[base], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"beqz t2, %l[empty]\n\t"
		"mv t3, %[length]\n\t"
		"bleu t3, t2, 6f\n\t"
		"mv t3, t2\n\t"
		"6: sub t2, t2, t3\n\t"
		"slli t4, t2, 3\n\t"
		"add t4, t4, t0\n\t"
		"slli t5, t3, 3\n\t"
		"7: addi t5, t5, -8\n\t"
		"add t6, t4, t5\n\t"
		"ld t6, 64(t6)\n\t"
		"add a7, %[to], t5\n\t"
		"sd t6, 0(a7)\n\t"
		"bnez t5, 7b\n\t"
		"sd t2, 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		"sd t3, 0(%[taken])\n\t"
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [to] "r" (to), [length] "r" (length), [taken] "r" (taken)
		: RSEQ_RT_SECTION_CLOBBERS, "t2", "t3", "t4", "t5", "t6", "a7"
		: RSEQ_RT_SECTION_LABELS, empty);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
empty:
	return RSEQ_RT_DIFFERS;
}

/* Appends an event: two words, and bytes at from, a multiple of eight and not 0. RSEQ_RT_DIFFERS if the log is full. */
static int append(struct rseq *rseq, struct rseq_rt_slots slots, uintptr_t kind, uintptr_t when, const void *from,
		  uintptr_t bytes)
{
	if (!rseq)
		return RSEQ_RT_OUT_OF_RANGE;
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"addq %[base], %%rax\n\t"
		"movq (%%rax), %%rdx\n\t"
		"leaq 16(%%rdx, %[bytes]), %%r8\n\t"
		"cmpq $448, %%r8\n\t"
		"ja %l[full]\n\t"
		"leaq 64(%%rax, %%rdx), %%rdx\n\t"
		"movq %[kind], (%%rdx)\n\t"
		"movq %[when], 8(%%rdx)\n\t"
		"movq %[bytes], %%r9\n\t"
		"6: movq -8(%[from], %%r9), %%r10\n\t"
		"movq %%r10, 8(%%rdx, %%r9)\n\t"
		"subq $8, %%r9\n\t"
		"jnz 6b\n\t"
		"movq %%r8, (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [kind] "r" (kind), [when] "r" (when), [from] "r" (from), [bytes] "r" (bytes)
		: RSEQ_RT_SECTION_CLOBBERS, "rdx", "r8", "r9", "r10"
		: RSEQ_RT_SECTION_LABELS, full);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add x9, %[base], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"add x12, x11, %[bytes]\n\t"
		"add x12, x12, #16\n\t"
		"cmp x12, #448\n\t"
		"b.hi %l[full]\n\t"
		"add x11, x9, x11\n\t"
		"add x11, x11, #64\n\t"
		"stp %[kind], %[when], [x11], #16\n\t"
		"mov x13, %[bytes]\n\t"
		"6: sub x13, x13, #8\n\t"
		"ldr x14, [%[from], x13]\n\t"
		"str x14, [x11, x13]\n\t"
		"cbnz x13, 6b\n\t"
		"stlr x12, [x9]\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [kind] "r" (kind), [when] "r" (when), [from] "r" (from), [bytes] "r" (bytes)
		: RSEQ_RT_SECTION_CLOBBERS, "x11", "x12", "x13", "x14"
		: RSEQ_RT_SECTION_LABELS, full);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
		"add t0, %[base], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"add t3, t2, %[bytes]\n\t"
		"addi t3, t3, 16\n\t"
		"li t4, 448\n\t"
		"bgtu t3, t4, %l[full]\n\t"
		"add t2, t2, t0\n\t"
		"sd %[kind], 64(t2)\n\t"
		"sd %[when], 72(t2)\n\t"
		"mv t4, %[bytes]\n\t"
		"6: addi t4, t4, -8\n\t"
		"add t5, %[from], t4\n\t"
		"ld t5, 0(t5)\n\t"
		"add t6, t2, t4\n\t"
		"sd t5, 80(t6)\n\t"
		"bnez t4, 6b\n\t"
		"fence rw, w\n\t"
		"sd t3, 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [kind] "r" (kind), [when] "r" (when), [from] "r" (from), [bytes] "r" (bytes)
		: RSEQ_RT_SECTION_CLOBBERS, "t2", "t3", "t4", "t5", "t6"
		: RSEQ_RT_SECTION_LABELS, full);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
full:
	return RSEQ_RT_DIFFERS;
}

static struct rseq_rt_slots slabs, logs;
static uintptr_t pushed, popped;	/* sums of the items */
static uintptr_t events, dropped, without;

static uintptr_t sum(const uintptr_t *items, uintptr_t length)
{
	uintptr_t all = 0;

	while (length--)
		all += items[length];
	return all;
}

static void work(const rseq_rt_area *area, uintptr_t thread)
{
	uintptr_t batch[BATCH], taken, logged = 0, full = 0, in = 0, out = 0, no_slot = 0;

	for (uintptr_t round = 0; round < ROUNDS; round++) {
		const uintptr_t payload[] = { thread ^ round, thread + round };

		for (uintptr_t item = 0; item < BATCH; item++)
			batch[item] = (thread << 32 | round) * 2654435761u + item;
		switch (slab_push(rseq_rt_current(area), slabs, batch, BATCH)) {
		case RSEQ_RT_COMMITTED:
			in += sum(batch, BATCH);
			break;
		case RSEQ_RT_DIFFERS:
			break; /* full */
		default:
			no_slot++;
		}
		if (slab_pop(rseq_rt_current(area), slabs, batch, BATCH - round % 2, &taken) == RSEQ_RT_COMMITTED)
			out += sum(batch, taken);
		switch (append(rseq_rt_current(area), logs, thread, round, payload, sizeof payload)) {
		case RSEQ_RT_COMMITTED:
			logged++;
			break;
		case RSEQ_RT_DIFFERS:
			full++;
			break;
		default:
			no_slot++;
		}
	}
	__atomic_add_fetch(&pushed, in, __ATOMIC_RELAXED);
	__atomic_add_fetch(&popped, out, __ATOMIC_RELAXED);
	__atomic_add_fetch(&events, logged, __ATOMIC_RELAXED);
	__atomic_add_fetch(&dropped, full, __ATOMIC_RELAXED);
	__atomic_add_fetch(&without, no_slot, __ATOMIC_RELAXED);
}

static void *thread(void *argument)
{
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	sigset_t all, before;

	rseq_rt_on_thread_create(&area);
	work(&area, (uintptr_t)argument);

	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return argument;
}

static struct slot *memory(size_t count)
{
	void *storage = NULL;

	if (posix_memalign(&storage, sizeof(struct slot), sizeof(struct slot) * count))
		abort();
	for (size_t i = 0; i < count; i++)
		((struct slot *)storage)[i].head = 0;
	return storage;
}

int main(void)
{
	unsigned long auxv[] = { 27, getauxval(27), 28, getauxval(28), 0, 0 };
	pthread_t threads[THREADS];
	size_t count = rseq_rt_cpu_bound(), i, at;
	struct slot *slab = memory(count), *log = memory(count);
	uintptr_t left = 0, logged = 0;

	if (rseq_rt_init(auxv) || rseq_rt_slots_init(&slabs, slab, sizeof *slab, count)
	    || rseq_rt_slots_init(&logs, log, sizeof *log, count))
		return 1;
	rseq_rt_allow_sections();
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread, (void *)i))
			return 1;
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	for (i = 0; i < count; i++) {
		left += sum(slab[i].items, slab[i].head);
		/* Whole events, one after the other. */
		for (at = 0; at < log[i].head / sizeof(uintptr_t); at += 4, logged++) {
			const uintptr_t *event = &log[i].items[at];

			if (event[2] != (event[0] ^ event[1]) || event[3] != event[0] + event[1]) {
				puts("a torn event");
				return 1;
			}
		}
	}
	printf("%lu events, %lu dropped, %lu times without a slot\n", (unsigned long)events, (unsigned long)dropped,
	       (unsigned long)without);
	if (popped + left != pushed || logged != events) {
		puts("an item or an event is lost");
		return 1;
	}
	return 0;
}
