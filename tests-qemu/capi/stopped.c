/*
 * stops.h on the sections of examples/c/sections.c, on the eight operations of rseq_rt_percpu.h, and on sections that are
 * wrong, each of which must be found.
 */
#define _GNU_SOURCE
/* Its structures and sections, and the size of a slot. */
#define main example_main
#include "../../examples/c/sections.c"
#undef main

#include <termios.h>

#include "auxv.h"
#include "check.h"
#include "stops.h"

#include "stopped.h"

int failures;

struct slot *storage;
struct rseq *rseq;
struct rseq_rt_slots slots;
size_t count;
uintptr_t batch[BATCH];

void fill(uintptr_t head)
{
	size_t i, item;

	for (i = 0; i < count; i++) {
		storage[i].head = head;
		for (item = 0; item < ROOM; item++)
			storage[i].items[item] = 1000 + item;
		memset(storage[i].unused, 0, sizeof storage[i].unused);
	}
	for (item = 0; item < BATCH; item++)
		batch[item] = 77 + item;
}

/* ---- the sections of the example ---- */

static uintptr_t taken;

static uint64_t slab_view(size_t slot)
{
	uint64_t hash = stops_hash(0, &storage[slot].head, sizeof(uintptr_t));

	return stops_hash(hash, storage[slot].items, storage[slot].head * sizeof(uintptr_t));
}

static uint64_t log_view(size_t slot)
{
	uint64_t hash = stops_hash(0, &storage[slot].head, sizeof(uintptr_t));

	return stops_hash(hash, storage[slot].items, storage[slot].head);
}

static uint64_t pop_answer(void)
{
	return stops_hash(taken, batch, taken * sizeof *batch);
}

static void empty(void)
{
	fill(0);
	taken = 0;
}

static void five(void)
{
	fill(5);
	taken = 0;
}

static void two(void)
{
	fill(2);
	taken = 0;
}

static void full_slab(void)
{
	fill(ROOM - 1);
}

static void two_events(void)
{
	fill(64);
}

static void full_log(void)
{
	fill(ROOM * sizeof(uintptr_t) - 24);
}

STOPS_CALL(push_three, slab_push(rseq, slots, batch, 3))
STOPS_CALL(pop_three, slab_pop(rseq, slots, batch, 3, &taken))
STOPS_CALL(append_two, append(rseq, slots, 1, 2, batch, 16))

static void example(void)
{
	static const struct stops_case push_cases[] = {
		{ "empty", empty, push_three }, { "five", five, push_three }, { "full", full_slab, push_three }
	};
	static const struct stops_case pop_cases[] = {
		{ "three of five", five, pop_three }, { "three of two", two, pop_three }, { "empty", empty, pop_three }
	};
	static const struct stops_case append_cases[] = {
		{ "empty", empty, append_two }, { "two events", two_events, append_two }, { "full", full_log, append_two }
	};
	const struct stops_section sections[] = {
		{ "slab_push", count, slab_view, NULL, push_cases, 3, 0 },
		{ "slab_pop", count, slab_view, pop_answer, pop_cases, 3, 0 },
		{ "append", count, log_view, NULL, append_cases, 3, 0 },
	};
	size_t i;

	for (i = 0; i < 3; i++)
		stops_run(&sections[i]);
}

/* ---- the operations ---- */

#define WORD offsetof(struct slot, head)
#define SECOND offsetof(struct slot, unused[0])
#define POINTER offsetof(struct slot, unused[1])
#define FAR ((ptrdiff_t)offsetof(struct slot, unused[2]))
#define BYTES offsetof(struct slot, items)

static struct node {
	uintptr_t next;
} nodes[2];
static uintptr_t expected;
static size_t from, length;
static unsigned char source[64] __attribute__((__aligned__(8)));
static void *found;

/* The words and bytes that are published by the first word; the pointer is another one in each slot. */
static uint64_t word_view(size_t slot)
{
	uint64_t hash = stops_hash(0, &storage[slot].head, sizeof(uintptr_t));

	hash = stops_hash(hash, &storage[slot].unused[2], sizeof(uintptr_t));
	return storage[slot].head ? stops_hash(hash, storage[slot].items, sizeof source) : hash;
}

static uint64_t popped_answer(void)
{
	return (uintptr_t)found;
}

static void equal(void)
{
	size_t i;

	fill(0);
	for (i = 0; i < count; i++)
		storage[i].unused[1] = (uintptr_t)&storage[i];
	for (i = 0; i < sizeof source; i++)
		source[i] = (unsigned char)(i + 1);
	expected = 0;
	from = 0;
	length = 63;
	nodes[0].next = (uintptr_t)&nodes[1];
	nodes[1].next = 0;
	found = NULL;
}

static void unequal(void)
{
	equal();
	expected = 9;
}

static void misaligned(void)
{
	equal();
	from = 1;
	length = 3;
}

static void listed(void)
{
	size_t i;

	equal();
	for (i = 0; i < count; i++)
		storage[i].head = (uintptr_t)&nodes[0];
}

#define VARIANT(v) \
STOPS_CALL(call_add##v, rseq_rt_percpu_add##v(rseq, slots, WORD, 3)) \
STOPS_CALL(call_through##v, rseq_rt_percpu_add_through##v(rseq, slots, POINTER, FAR, 3)) \
STOPS_CALL(call_compare##v, rseq_rt_percpu_compare_and_store##v(rseq, slots, WORD, expected, 5)) \
STOPS_CALL(call_two##v, rseq_rt_percpu_compare_two_and_store##v(rseq, slots, WORD, expected, SECOND, 0, 5)) \
STOPS_CALL(call_store##v, rseq_rt_percpu_compare_store_and_store##v(rseq, slots, WORD, expected, SECOND, 7, 5)) \
STOPS_CALL(call_link##v, rseq_rt_percpu_compare_link_and_store##v( \
	rseq, slots, WORD, expected, &nodes[1].next, (uintptr_t)&nodes[1])) \
STOPS_CALL(call_pop##v, rseq_rt_percpu_pop##v(rseq, slots, WORD, NULL, 0, &found)) \
STOPS_CALL(call_copy##v, rseq_rt_percpu_compare_copy_and_store##v(rseq, slots, WORD, expected, BYTES, source + from, length, 5)) \
static void operations##v(void) \
{ \
	static const struct stops_case cases[] = { \
		{ "add", equal, call_add##v }, { "add_through", equal, call_through##v }, \
		{ "compare_and_store", equal, call_compare##v }, { "compare_and_store, unequal", unequal, call_compare##v }, \
		{ "compare_two_and_store", equal, call_two##v }, { "compare_two_and_store, unequal", unequal, call_two##v }, \
		{ "compare_store_and_store", equal, call_store##v }, { "compare_link_and_store", equal, call_link##v }, \
		{ "pop", listed, call_pop##v }, { "pop, empty", equal, call_pop##v }, \
		{ "compare_copy_and_store", equal, call_copy##v }, { "compare_copy_and_store, misaligned", misaligned, call_copy##v }, \
	}; \
	const struct stops_section all = { \
		"operations" #v, count, word_view, popped_answer, cases, sizeof cases / sizeof *cases, 1 \
	}; \
	stops_run(&all); \
}

VARIANT()
VARIANT(_release)
VARIANT(_mm_cid_release)

/* ---- the sections that are wrong ---- */

static void one_item(void)
{
	fill(1);
}

static void broken(void)
{
	size_t i;

	for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const struct stops_case alone = { wrong[i].name, one_item, wrong[i].call };
		const struct stops_section section = { "broken", count, slab_view, NULL, &alone, 1, 1 };
		pid_t child = fork();
		int status = 0;

		if (!child) {
			stops_run(&section);
			_exit(0);
		}
		CHECK_IS(waitpid(child, &status, 0), child);
		if (wrong[i].finding == ANY)
			CHECK(status);
		else
			CHECK_IS(status, wrong[i].finding << 8);
	}
}

static rseq_rt_area area = RSEQ_RT_AREA_INIT;

static void run(void)
{
	RUN(example);
	RUN(operations);
	RUN(broken);
	/* The two others have no instruction that these do not have. */
	if (rseq_rt_current_mm_cid(&area))
		RUN(operations_mm_cid_release);
	else
		RUN(operations_release);
}

int main(void)
{
	cpu_set_t allowed;
	size_t cpu;

	/* No more slots than are needed, since all are compared at each stop. */
	CHECK_IS(sched_getaffinity(0, sizeof allowed, &allowed), 0);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			count = cpu + 1;
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	storage = mmap(NULL, count * sizeof *storage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(rseq_rt_slots_init(&slots, storage, sizeof *storage, count), 0);
	rseq_rt_allow_sections();
	rseq = rseq_rt_current(&area);
	if (rseq)
		run();
	else
		SKIP(run, "this thread may run no section");
	/* The end of PID 1 is the end of the machine, and the console is slower. */
	tcdrain(STDOUT_FILENO);
	return failures != 0;
}
