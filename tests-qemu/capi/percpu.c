/*
 * The per-CPU operations of rseq_rt_percpu.h: bad input, the effect of each, a storm, a debugger. Where the thread is
 * registered and the kernel trusted, every test must have used its sections.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auxv.h"
#include "check.h"
#include "rseq_rt_percpu.h"

int failures;

static int live;

struct slot {
	uintptr_t word, second, far, pointer, head;
	unsigned char bytes[88];
} __attribute__((__aligned__(128)));

struct node {
	uintptr_t next;
	int found;
};

#define WORD offsetof(struct slot, word)
#define SECOND offsetof(struct slot, second)
#define POINTER offsetof(struct slot, pointer)
#define HEAD offsetof(struct slot, head)
#define BYTES offsetof(struct slot, bytes)
#define FAR ((ptrdiff_t)offsetof(struct slot, far))

static struct slot *storage;
static size_t count;
static struct rseq_rt_slots slots;
static rseq_rt_area main_area = RSEQ_RT_AREA_INIT;

static void clear(void)
{
	size_t i;

	memset(storage, 0, count * sizeof *storage);
	for (i = 0; i < count; i++)
		storage[i].pointer = (uintptr_t)&storage[i];
}

static uintptr_t total(size_t word)
{
	uintptr_t sum = 0;
	size_t i;

	for (i = 0; i < count; i++)
		sum += *(uintptr_t *)((char *)&storage[i] + word);
	return sum;
}

/* One of the 8 operations of a variant, by number, with the slot's current values. */
#define OPERATIONS 8
#define ONCE(variant, id) \
static int once##variant(struct rseq *rseq, struct rseq_rt_slots in, int which, struct node *node) \
{ \
	static const unsigned char source[24] = "twenty-three characters"; \
	uintptr_t word = 0, second = 0, head = 0; \
	void *popped = NULL; \
	int outcome; \
	if (rseq && id(rseq) < in.count) { \
		struct slot *slot = (struct slot *)in.base + id(rseq); \
		word = *(volatile uintptr_t *)&slot->word; \
		second = *(volatile uintptr_t *)&slot->second; \
		head = *(volatile uintptr_t *)&slot->head; \
	} \
	switch (which) { \
	case 0: \
		return rseq_rt_percpu_add##variant(rseq, in, WORD, 1); \
	case 1: \
		return rseq_rt_percpu_add_through##variant(rseq, in, POINTER, FAR, 1); \
	case 2: \
		return rseq_rt_percpu_compare_and_store##variant(rseq, in, WORD, word, word + 1); \
	case 3: \
		return rseq_rt_percpu_compare_two_and_store##variant(rseq, in, WORD, word, SECOND, second, word + 1); \
	case 4: \
		return rseq_rt_percpu_compare_store_and_store##variant(rseq, in, WORD, word, SECOND, 77, word + 1); \
	case 5: \
		return rseq_rt_percpu_compare_link_and_store##variant( \
			rseq, in, HEAD, head, &node->next, (uintptr_t)node); \
	case 6: \
		outcome = rseq_rt_percpu_pop##variant( \
			rseq, in, HEAD, NULL, offsetof(struct node, next), &popped); \
		if (outcome == RSEQ_RT_COMMITTED) \
			((struct node *)popped)->found++; \
		return outcome; \
	default: \
		return rseq_rt_percpu_compare_copy_and_store##variant( \
			rseq, in, WORD, word, BYTES, source, sizeof source, word + 1); \
	} \
}

ONCE(, rseq_rt_percpu_id)
ONCE(_release, rseq_rt_percpu_id)
ONCE(_mm_cid, rseq_rt_percpu_id_mm_cid)
ONCE(_mm_cid_release, rseq_rt_percpu_id_mm_cid)

static int (*const variants[])(struct rseq *, struct rseq_rt_slots, int, struct node *) = {
	once, once_release, once_mm_cid, once_mm_cid_release
};

static struct rseq *current(int variant, const rseq_rt_area *area)
{
	return variant < 2 ? rseq_rt_current(area) : rseq_rt_current_mm_cid(area);
}

#ifndef RSEQ_RT_DEBUG
static void slots_are_checked(void)
{
	struct rseq_rt_slots is = { NULL, 0 };
	char *base = (char *)storage;

	CHECK_IS(rseq_rt_slots_init(NULL, base, 128, 1), -EFAULT);
	CHECK_IS(rseq_rt_slots_init(&is, NULL, 128, 1), -EFAULT);
	CHECK_IS(rseq_rt_slots_init(&is, base + 4, 128, 1), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 0, 1), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 64, 1), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 192, 1), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 256, 1), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 128, 0), -EINVAL);
	CHECK_IS(rseq_rt_slots_init(&is, base, 128, 0x80000000u), -EOVERFLOW);
	CHECK_IS(rseq_rt_slots_init(&is, base, 128, (size_t)-1), -EOVERFLOW);
	CHECK(!is.base && !is.count);
	CHECK_IS(rseq_rt_slots_init(&is, base, 128, 3), 0);
	CHECK(is.base == base && is.count == 3);
}
#endif

static void bound_covers_every_cpu(void)
{
	size_t bound = rseq_rt_cpu_bound(), possible = rseq_rt_possible_cpu_bound();

	CHECK(bound >= (size_t)sysconf(_SC_NPROCESSORS_CONF) && bound % 64 == 0);
	CHECK(bound > (size_t)sched_getcpu());
	/* 0 without /sys, as in an init. */
	CHECK(!possible || (possible <= bound && possible > (size_t)sched_getcpu()));
}

/* A thread that may not run sections gets that answer from every operation, and nothing changes. */
static void nobody_is_out_of_range(void)
{
	static const struct rseq_rt_slots none;
	rseq_rt_area other = RSEQ_RT_AREA_INIT;
	struct node node = { 0, 0 };
	int variant, which, token;

	CHECK(!rseq_rt_current(NULL));
	CHECK(!rseq_rt_current((const rseq_rt_area *)((const char *)&main_area + 4)));
	CHECK(!rseq_rt_current(&other) && !rseq_rt_current_mm_cid(&other));
	token = rseq_rt_vfork_begin(&main_area);
	CHECK(!rseq_rt_current(&main_area) && !rseq_rt_current_mm_cid(&main_area));
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), 0);
	clear();
	for (variant = 0; variant < 4; variant++) {
		for (which = 0; which < OPERATIONS; which++) {
			struct rseq *rseq = current(variant, &main_area);
			CHECK_IS(variants[variant](NULL, slots, which, &node), RSEQ_RT_OUT_OF_RANGE);
			CHECK_IS(variants[variant](rseq, none, which, &node), RSEQ_RT_OUT_OF_RANGE);
		}
	}
	CHECK(!total(WORD) && !total(SECOND) && !total(HEAD) && !node.next && !node.found);
}

static void each_operation(void)
{
	int variant, which;

	for (variant = 0; variant < 4; variant++) {
		struct rseq *rseq = current(variant, &main_area);
		struct node node = { 0, 0 };
		void *popped = NULL;
		size_t i, copied = 0;

		clear();
		if (!rseq) {
			CHECK(!live || variant >= 2);
			continue;
		}
		for (which = 0; which < OPERATIONS; which++) {
			int outcome;
			do {
				outcome = variants[variant](rseq, slots, which, &node);
				/* The CPU has changed: its list is empty, or a word differs. */
			} while (outcome == RSEQ_RT_DIFFERS || outcome == RSEQ_RT_ABORTED);
			CHECK_IS(outcome, RSEQ_RT_COMMITTED);
		}
		CHECK_IS(total(WORD), 5);
		CHECK_IS(total(offsetof(struct slot, far)), 1);
		CHECK_IS(total(SECOND) % 77, 0);
		CHECK_IS(node.found, 1);
		CHECK_IS(total(HEAD), 0);
		for (i = 0; i < count; i++)
			copied += !strcmp((char *)storage[i].bytes, "twenty-three characters");
		CHECK_IS(copied, 1);
		/* The misses. */
		CHECK_IS(rseq_rt_percpu_compare_and_store(rseq, slots, WORD, 99, 1), RSEQ_RT_DIFFERS);
		CHECK_IS(rseq_rt_percpu_pop(rseq, slots, HEAD, NULL, 0, &popped), RSEQ_RT_DIFFERS);
		CHECK_IS(total(WORD), 5);
	}
}

static void copies_of_every_length(void)
{
	struct rseq *rseq = rseq_rt_current(&main_area);
	unsigned char source[80];
	size_t length, at;
	int i;

	if (!rseq) {
		CHECK(!live);
		return;
	}
	for (i = 0; i < 80; i++)
		source[i] = (unsigned char)(i ^ 0x5a);
	for (length = 0; length <= 64; length++) {
		for (at = 0; at < 8; at++) {
			struct slot *slot = NULL;
			int outcome;
			clear();
			do {
				unsigned id = rseq_rt_percpu_id(rseq);
				slot = &storage[id];
				outcome = rseq_rt_percpu_compare_copy_and_store(
					rseq, slots, WORD, 0, BYTES + 8 + at, source + at, length, 1);
			} while (outcome != RSEQ_RT_COMMITTED || !slot->word);
			CHECK(!memcmp(slot->bytes + 8 + at, source + at, length));
			for (i = 0; i < (int)(8 + at); i++)
				CHECK_IS(slot->bytes[i], 0);
			for (i = (int)(8 + at + length); i < 88; i++)
				CHECK_IS(slot->bytes[i], 0);
		}
	}
}

#define THREADS 8
#define TURNS 40000
static uintptr_t without;

static void interrupted(int signal)
{
	/* From a handler too, on whatever thread it runs. */
	(void)signal;
}

static void *worker(void *argument)
{
	static struct node nodes[THREADS];
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	int me = (int)(intptr_t)argument, i;
	struct node *node = &nodes[me];
	int held = 1;

	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	for (i = 0; i < TURNS; i++) {
		struct rseq *rseq = rseq_rt_current(&area);
		int outcome = once(rseq, slots, i % 5, node);
		if (outcome != RSEQ_RT_COMMITTED)
			__atomic_add_fetch(&without, 1, __ATOMIC_RELAXED);
		/* Pushes a node and pops one. */
		if (held && once_release(rseq, slots, 5, node) == RSEQ_RT_COMMITTED)
			held = 0;
		if (!held) {
			void *popped;
			uintptr_t next = offsetof(struct node, next);
			if (rseq_rt_percpu_pop(rseq, slots, HEAD, NULL, (ptrdiff_t)next, &popped) == RSEQ_RT_COMMITTED) {
				node = popped;
				node->found++;
				held = 1;
			}
		}
		if (i % 512 == 0)
			sched_yield();
	}
	node->found += held << 30;
	rseq_rt_on_thread_exit(&area, RSEQ_RT_KEEP);
	return NULL;
}

static void storm(void)
{
	struct itimerval timer = { { 0, 500 }, { 0, 500 } };
	struct sigaction action;
	pthread_t threads[THREADS];
	uintptr_t done;
	size_t i, listed = 0;

	clear();
	memset(&action, 0, sizeof action);
	action.sa_handler = interrupted;
	action.sa_flags = SA_RESTART;
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_PROF, &timer, NULL);
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_join(threads[i], NULL), 0);
	memset(&timer, 0, sizeof timer);
	setitimer(ITIMER_PROF, &timer, NULL);
	done = total(WORD) + total(offsetof(struct slot, far)) + without;
	CHECK_IS(done, (uintptr_t)THREADS * TURNS);
	CHECK(!live || without < done / 10);
	for (i = 0; i < count; i++) {
		struct node *node = (struct node *)storage[i].head;
		for (; node && listed <= THREADS; node = (struct node *)node->next)
			listed++;
	}
	CHECK(listed <= THREADS);
}

static int can_step = 1;

/*
 * A debugger that steps through an operation: each stop aborts it, so that it ends as RSEQ_RT_ABORTED without effect,
 * or commits once.
 */
static int stepped(int variant, int which)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct node node = { 0, 0 };
		struct rseq *rseq = current(variant, &main_area);
		uintptr_t before, changed;
		cpu_set_t one;
		int outcome;

		CPU_ZERO(&one);
		CPU_SET(sched_getcpu(), &one);
		sched_setaffinity(0, sizeof one, &one);
		if (which == 6)
			variants[variant](rseq, slots, 5, &node);
		before = total(WORD) + total(offsetof(struct slot, far)) + !!total(HEAD);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		outcome = variants[variant](rseq, slots, which, &node);
		/* The node was pushed or popped. */
		changed = total(WORD) + total(offsetof(struct slot, far)) + !!total(HEAD) - before;
		changed = changed == (uintptr_t)-1 ? 1 : changed;
		_exit(changed == (outcome == RSEQ_RT_COMMITTED) ? 40 + outcome : 1);
	}
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status))
		if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL)) {
			/* riscv64 cannot step. */
			can_step = 0;
			ptrace(PTRACE_CONT, child, NULL, NULL);
		}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void single_stepped(void)
{
	int variant, which, aborted = 0;

	for (variant = 0; variant < 4; variant++) {
		for (which = 0; which < OPERATIONS && current(variant, &main_area); which++) {
			int outcome;
			clear();
			outcome = stepped(variant, which);
			aborted += outcome == 40 + RSEQ_RT_ABORTED;
			CHECK(outcome == 40 + RSEQ_RT_ABORTED || outcome == 40 + RSEQ_RT_COMMITTED);
		}
	}
	CHECK(!live || !can_step || aborted);
}

int main(void)
{
	int state;

	CHECK_IS(rseq_rt_sections(), RSEQ_RT_SECTIONS_NOT_ASKED);
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK(!rseq_rt_current(&main_area));
	count = rseq_rt_cpu_bound();
	storage = mmap(NULL, count * sizeof *storage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(rseq_rt_slots_init(&slots, storage, sizeof *storage, count), 0);
	state = rseq_rt_thread_state(&main_area);
	live = rseq_rt_allow_sections() == RSEQ_RT_SECTIONS_ALLOWED
		&& (state == RSEQ_RT_REGISTERED || state == RSEQ_RT_REGISTERED_BY_LIBC);
	CHECK(rseq_rt_sections() != RSEQ_RT_SECTIONS_NOT_ASKED);
	CHECK_IS(rseq_rt_current(&main_area) != NULL, live);
#ifndef RSEQ_RT_DEBUG
	RUN(slots_are_checked);
#endif
	RUN(bound_covers_every_cpu);
	RUN(nobody_is_out_of_range);
	RUN(each_operation);
	RUN(copies_of_every_length);
	RUN(storm);
	RUN(single_stepped);
	return failures != 0;
}
