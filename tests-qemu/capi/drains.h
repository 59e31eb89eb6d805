/*
 * A drain beside a section that has compared and not yet stored. A worker stands in a section on one CPU, another thread
 * drains that CPU's slot, and then lets the section go on. With the fence it was aborted and finds the slot drained. The
 * broken variant is a kernel that only says that it has fenced: the section commits over what the drain has taken.
 *
 * A worker that the kernel has preempted meanwhile was aborted by that. Its switches are counted, and rounds are repeated
 * until there were some without one, which the fence alone could abort.
 *
 * RSEQ_RT_SLOT_SHIFT is that of the structure, and _GNU_SOURCE is defined.
 */
#ifndef DRAINS_H
#define DRAINS_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "check.h"
#include "filter.h"
#include "rseq_rt_percpu.h"
#include "rseq_rt_structures.h"

/* Rounds without a switch. */
#define ROUNDS 5

/* A structure. Its slots' first word says what is in them, 0: nothing. */
struct drained {
	struct rseq_rt_slots slots;
	/* One item more in the slot of the CPU. */
	void (*fill)(const rseq_rt_area *area);
	/* The word that the section stores over the one it has compared, and the change of the number of items. */
	uintptr_t (*next)(uintptr_t word);
	int change;
	/* How many items were taken, of a slot and of the overflow slot. */
	int (*drain)(size_t slot);
	int (*drain_overflow)(void);
};

static const struct drained *drained_one;
/* Those of the drain, and of the worker. */
static int drain_cpu, worker_cpu;
/* As the section has them: it was reached, and may go on. */
static struct {
	int reached, may_go;
} stop;
/* Of a round: the worker's answer is there; the answer; whether nothing but the drain came to it. */
static int has_ended, outcome, was_alone;
static int is_over;
static pthread_barrier_t begins, ends;

/* slot.word = value, if it is expect, with a stop between the two. */
static int store_slowly(struct rseq *rseq, struct rseq_rt_slots slots, uintptr_t expect, uintptr_t value)
{
	if (!rseq)
		return RSEQ_RT_OUT_OF_RANGE;
#if defined(__x86_64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(differs))
		"addq %[base], %%rax\n\t"
		"cmpq %[expect], (%%rax)\n\t"
		"jne %l[differs]\n\t"
		"movl $1, (%[stop])\n\t"
		"6: pause\n\t"
		"cmpl $0, 4(%[stop])\n\t"
		"je 6b\n\t"
		"movq %[value], (%%rax)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [expect] "r" (expect), [value] "r" (value), [stop] "r" (&stop)
		: RSEQ_RT_SECTION_CLOBBERS
		: RSEQ_RT_SECTION_LABELS, differs);
#elif defined(__aarch64__)
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(differs))
		"add x9, %[base], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
		"ldr x11, [x9]\n\t"
		"cmp x11, %[expect]\n\t"
		"b.ne %l[differs]\n\t"
		"mov w11, #1\n\t"
		"str w11, [%[stop]]\n\t"
		"6: ldr w11, [%[stop], #4]\n\t"
		"cbz w11, 6b\n\t"
		"str %[value], [x9]\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [expect] "r" (expect), [value] "r" (value), [stop] "r" (&stop)
		: RSEQ_RT_SECTION_CLOBBERS, "x11"
		: RSEQ_RT_SECTION_LABELS, differs);
#else
	__asm__ __volatile__ goto (
		RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(differs))
		"add t0, %[base], t0\n\t"
		"ld t2, 0(t0)\n\t"
		"bne t2, %[expect], %l[differs]\n\t"
		"li t2, 1\n\t"
		"sw t2, 0(%[stop])\n\t"
		"6: lw t2, 4(%[stop])\n\t"
		"beqz t2, 6b\n\t"
		"sd %[value], 0(t0)\n\t"
		RSEQ_RT_SECTION_END
		: /* none */
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [expect] "r" (expect), [value] "r" (value), [stop] "r" (&stop)
		: RSEQ_RT_SECTION_CLOBBERS, "t2"
		: RSEQ_RT_SECTION_LABELS, differs);
#endif
	return RSEQ_RT_COMMITTED;
	RSEQ_RT_SECTION_MISSES
differs:
	return RSEQ_RT_DIFFERS;
}

static void bind_to(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	CHECK_IS(sched_setaffinity(0, sizeof one, &one), 0);
}

static long switches(void)
{
	struct rusage usage;

	CHECK_IS(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

static uintptr_t word_of(const struct drained *one, int slot)
{
	const char *base = one->slots.base;

	return __atomic_load_n((const uintptr_t *)(base + (size_t)slot * RSEQ_RT_SLOT_SIZE), __ATOMIC_RELAXED);
}

static void *in_the_section(void *unused)
{
	const struct drained *one = drained_one;
	rseq_rt_area area = RSEQ_RT_AREA_INIT;

	bind_to(worker_cpu);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	while (pthread_barrier_wait(&begins), !is_over) {
		uintptr_t word, next;
		long before;

		one->fill(&area);
		/* 0: aborted so often that it went to the overflow slot. */
		word = word_of(one, worker_cpu);
		next = word ? one->next(word) : 0;
		before = switches();
		outcome = word ? store_slowly(rseq_rt_current(&area), one->slots, word, next) : RSEQ_RT_ABORTED;
		was_alone = word && switches() == before;
		__atomic_store_n(&has_ended, 1, __ATOMIC_RELEASE);
		pthread_barrier_wait(&ends);
	}
	rseq_rt_on_thread_exit(&area, RSEQ_RT_KEEP);
	return unused;
}

/* One round: how many items too many there were, and whether the section was aborted by the drain if at all. */
static int a_round(const struct drained *one, int *alone)
{
	int items, taken;
	unsigned looks = 0;

	stop.reached = stop.may_go = has_ended = 0;
	pthread_barrier_wait(&begins);
	/* On a busy CPU a yield lasts longer than the worker's time slice. */
	while (!__atomic_load_n(&stop.reached, __ATOMIC_ACQUIRE) && !__atomic_load_n(&has_ended, __ATOMIC_ACQUIRE))
		if (++looks % 65536 == 0)
			sched_yield();
	items = one->drain((size_t)worker_cpu);
	CHECK(items >= 0);
	__atomic_store_n(&stop.may_go, 1, __ATOMIC_RELEASE);
	pthread_barrier_wait(&ends);
	/* The worker waits, and sections are none. */
	taken = one->drain((size_t)worker_cpu);
	CHECK(taken >= 0);
	items += taken + one->drain_overflow();
	*alone = was_alone;
	return items - 1 - (outcome == RSEQ_RT_COMMITTED ? one->change : 0);
}

static void *rounds(void *broken)
{
	pthread_t worker;
	int alone, alone_rounds = 0, wrong = 0;

	bind_to(drain_cpu);
	CHECK_IS(pthread_barrier_init(&begins, NULL, 2), 0);
	CHECK_IS(pthread_barrier_init(&ends, NULL, 2), 0);
	is_over = 0;
	CHECK_IS(pthread_create(&worker, NULL, in_the_section, NULL), 0);
	/* The fence of this thread's calls is none from here on. */
	if (broken)
		CHECK_IS(filter_call(SYS_membarrier, REFUSE(0)), 0);
	while (alone_rounds < ROUNDS && !(broken && wrong)) {
		wrong += a_round(drained_one, &alone) != 0;
		alone_rounds += alone;
	}
	is_over = 1;
	pthread_barrier_wait(&begins);
	CHECK_IS(pthread_join(worker, NULL), 0);
	pthread_barrier_destroy(&begins);
	pthread_barrier_destroy(&ends);
	CHECK_IS(wrong != 0, broken != NULL);
	return broken;
}

/* Drains so. Broken: without the fence, which has to be seen. */
static void drain_beside_a_section(const struct drained *one, int broken)
{
	pthread_t drainer;

	drained_one = one;
	CHECK_IS(pthread_create(&drainer, NULL, rounds, broken ? &broken : NULL), 0);
	CHECK_IS(pthread_join(drainer, NULL), 0);
}

/* Chooses the CPUs; or why none of it can be tried. */
static const char *no_drains(const rseq_rt_area *area, int has_fence, size_t slots)
{
	cpu_set_t all;
	int cpu, found = 0;

	if (!has_fence)
		return "no membarrier(2) for rseq";
	if (!rseq_rt_current(area))
		return "no sections";
	if (sched_getaffinity(0, sizeof all, &all))
		return "more CPUs than cpu_set_t has";
	for (cpu = 0; cpu < CPU_SETSIZE && (size_t)cpu < slots && found < 2; cpu++)
		if (CPU_ISSET(cpu, &all))
			*(found++ ? &worker_cpu : &drain_cpu) = cpu;
	return found < 2 ? "one CPU" : NULL;
}

#endif
