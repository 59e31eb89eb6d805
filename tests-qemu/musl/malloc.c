/*
 * The promises of malloc and related functions, in a program with threads: the same with and without per-CPU caches.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cpus.h"
#include "rseq.h"
#include "test.h"

/* Only with `--malloc percpu`. */
int malloc_trim(size_t) __attribute__((__weak__));

/* Hides the use of a block from the compiler. */
static void *volatile kept;

static void *hidden(void *block)
{
	kept = block;
	return kept;
}

static void *nothing(void *argument)
{
	return argument;
}

/* The caches are used from the first thread on. */
static void one_thread(void)
{
	pthread_t thread;
	CHECK_IS(pthread_create(&thread, NULL, nothing, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

/* ---- promises ---- */

static void contents(void)
{
	static unsigned char *blocks[64];
	for (size_t size = 1; size < 40000; size += size / 4 + 1) {
		for (int i = 0; i < 64; i++) {
			blocks[i] = hidden(malloc(size));
			CHECK((uintptr_t)blocks[i] % 16 == 0 && malloc_usable_size(blocks[i]) >= size);
			memset(blocks[i], i + 1, malloc_usable_size(blocks[i]));
		}
		for (int i = 0; i < 64; i++) {
			CHECK_IS(blocks[i][0], i + 1);
			CHECK_IS(blocks[i][size - 1], i + 1);
			errno = 77;
			free(blocks[i]);
			CHECK_IS(errno, 77);
		}
		unsigned char *zero = calloc(size, 1);
		for (size_t i = 0; i < size; i++)
			CHECK_IS(zero[i], 0);
		free(zero);
	}
	unsigned char *grown = NULL;
	for (size_t size = 1; size < 400000; size += size / 8 + 1) {
		grown = realloc(grown, size);
		grown[size - 1] = size & 255;
		for (size_t was = 1; was <= size; was += was / 8 + 1)
			CHECK_IS(grown[was - 1], was & 255);
	}
	free(grown);
	for (size_t align = 8; align <= 1 << 16; align *= 2)
		for (size_t size = 1; size < 5000; size = 3 * size + 1) {
			void *made = NULL;
			CHECK_IS(posix_memalign(&made, align, size), 0);
			CHECK((uintptr_t)made % align == 0);
			memset(made, 0xee, size);
			free(hidden(made));
		}
	free(NULL);
	void *empty = hidden(malloc(0));
	CHECK(empty != NULL);
	free(empty);
	CHECK(!hidden(malloc(SIZE_MAX / 2)));
	CHECK_IS(errno, ENOMEM);
}

static void malloc_promises(void)
{
	contents();
	one_thread();
	contents();
}

/* The cache of each CPU in turn, by one thread: blocks freed on one CPU are allocated and freed on another. */
static void *carried[100];

static void carry(const char *where, int cpu)
{
	(void)where;
	for (int i = 0; i < 100; i++) {
		CHECK(!carried[i] || *(int *)carried[i] == i);
		free(carried[i]);
		*(int *)(carried[i] = malloc(16 + 8 * i)) = i;
	}
	(void)cpu;
}

static void malloc_on_each_cpu(void)
{
	one_thread();
	for (int round = 0; round < 20; round++)
		on_each_cpu(carry, "a thread with blocks");
}

/*
 * Of one size, more than two caches hold: what is freed fills the cache and the depot, and the rest is given back; what is
 * then allocated empties them. Each block is told from all others, so that one that is handed out twice is seen.
 */
static int *many[1200];

static void allocate_many(void)
{
	for (int i = 0; i < 1200; i++) {
		many[i] = hidden(malloc(48));
		many[i][0] = many[i][11] = i;
	}
}

static void free_many(void)
{
	for (int i = 0; i < 1200; i++) {
		CHECK(many[i][0] == i && many[i][11] == i);
		free(many[i]);
	}
}

static void many_on(const char *where, int cpu)
{
	(void)where;
	(void)cpu;
	free_many();
	allocate_many();
}

static void many_after_trim(void)
{
	allocate_many();
	free_many();
	if (malloc_trim) {
		malloc_trim(0);
		CHECK_IS(malloc_trim(0), 0);
	}
	allocate_many();
	free_many();
}

static void malloc_beyond_a_cache(void)
{
	one_thread();
	allocate_many();
	for (int round = 0; round < 4; round++)
		on_each_cpu(many_on, "a thread with many blocks");
	/* The child has them as well, and then the caches and the depot as they are. */
	CHECK_IS(in_child(free_many), DONE);
	free_many();
	CHECK_IS(in_child(many_after_trim), DONE);
	many_after_trim();
}

/* ---- what is caught ---- */

static void twice(void)
{
	kept = malloc(100);
	free(kept);
	free(kept);
}

static void twice_with_others_between(void)
{
	void *blocks[50];
	for (int i = 0; i < 50; i++)
		blocks[i] = hidden(malloc(100));
	for (int i = 0; i < 50; i++)
		free(blocks[i]);
	free(hidden(blocks[7]));
}

static void *freeing(void *block)
{
	free(block);
	return NULL;
}

static void twice_by_another(void)
{
	void *block = hidden(malloc(100));
	pthread_t thread;
	free(block);
	pthread_create(&thread, NULL, freeing, kept);
	pthread_join(thread, NULL);
}

static void twice_after_trim(void)
{
	void *other = hidden(malloc(100));
	kept = malloc(100);
	free(kept);
	if (malloc_trim)
		malloc_trim(0);
	free(kept);
	free(other);
}

static void in_the_middle(void)
{
	char *block = hidden(malloc(100));
	memset(block, 0, 100);
	free(hidden(block + 16));
}

static void not_aligned(void)
{
	char *block = hidden(malloc(100));
	free(hidden(block + 8));
}

/*
 * On other CPUs GCC 12 removes the check from musl's free, with or without caches: a_crash is a store to a null pointer
 * there, which does not keep a call with an unused result.
 */
#ifdef __x86_64__
static void beyond_the_end(void)
{
	volatile char *block = hidden(malloc(100));
	block[malloc_usable_size(kept)] = 1;
	free(kept);
}
#endif

/* A thread that stays on its CPU is given the slot that it has just freed. */
static void written_to_before_a_free_slot(void)
{
	volatile unsigned char *block = hidden(malloc(100));
	free(kept);
	block[-4] = 1;
	hidden(malloc(100));
}

static void header_of_a_free_slot_overwritten(void)
{
	volatile unsigned char *block = hidden(malloc(100));
	free(kept);
	block[-3] &= 31;
	hidden(malloc(100));
}

/* As two threads leave it that free it at the same moment. aligned_alloc leaves a mark of mallocng's at the start of the slot. */
static void in_a_cache_twice(void)
{
	volatile uint32_t *block;
	uint32_t header;
	do
		block = hidden(malloc(100));
	while ((uintptr_t)block % 64 == 0);
	header = block[-1];
	free(kept);
	block[-1] = header;
	free(kept);
	hidden(aligned_alloc(64, 52));
	hidden(malloc(100));
}

/* It would mark another slot free, which is in use. */
static void index_overwritten_and_given_back(void)
{
	unsigned char *blocks[64];
	for (int i = 0; i < 64; i++)
		blocks[i] = hidden(malloc(100));
	free(hidden(blocks[32]));
	((volatile unsigned char *)kept)[-3] ^= 1;
	malloc_trim(0);
}

static void resized_after_free(void)
{
	void *block = hidden(malloc(100));
	free(block);
	kept = realloc(kept, 200);
}

static void of_the_stack(void)
{
	char room[256] __attribute__((__aligned__(16))) = { 0 };
	free(hidden(room + 128));
}

struct wrong { const char *what; void (*run)(void); };

static size_t all_die(const struct wrong *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int status = in_child(rows[i].run);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
			fail(__FILE__, __LINE__, "a block %s: status %#x", rows[i].what, status);
	}
	return count;
}

static void malloc_catches(void)
{
	static const struct wrong rows[] = {
		{ "freed twice", twice },
		{ "freed twice, others between", twice_with_others_between },
		{ "freed twice, by another thread", twice_by_another },
		{ "freed twice, after the cache was given back", twice_after_trim },
		{ "freed in the middle", in_the_middle },
		{ "freed, misaligned", not_aligned },
#ifdef __x86_64__
		{ "written to beyond the end", beyond_the_end },
#endif
		{ "resized after it was freed", resized_after_free },
		{ "of the stack", of_the_stack },
	}, of_caches[] = {
		{ "freed, and the byte before it written to", written_to_before_a_free_slot },
		{ "freed, and its header overwritten", header_of_a_free_slot_overwritten },
		{ "in a cache twice", in_a_cache_twice },
		{ "freed, its index overwritten, and given back", index_overwritten_and_given_back },
	};
	struct rlimit none = { 0, 0 };
	struct cpus all;
	size_t count;
	setrlimit(RLIMIT_CORE, &none);
	one_thread();
	count = all_die(rows, sizeof rows / sizeof *rows);
	CHECK_IS(allowed_cpus(&all), 0);
	CHECK_IS(move_to_cpu(0, sched_getcpu()), 0);
	free(hidden(malloc(100)));
	if (malloc_trim && malloc_trim(0))
		count += all_die(of_caches, sizeof of_caches / sizeof *of_caches);
	CHECK_IS(allow_cpus(0, &all), 0);
	tell("%zu ways to free wrongly", count);
}

/* ---- contexts that allocate ---- */

/* It shares the memory, and its parent's area is lent: neither may touch a cache. */
static void malloc_in_vfork_child(void)
{
	one_thread();
	for (int round = 0; round < 50; round++) {
		char *before = hidden(malloc(64)), *block;
		int status = -1;
		memset(before, 1, 64);
		pid_t child = vfork();
		if (child == 0) {
			for (int i = 0; i < 40; i++) {
				free(hidden(malloc(64)));
				memset(hidden(malloc(64)), 2, 64);
			}
			_exit(DONE);
		}
		CHECK(child > 0 && waitpid(child, &status, 0) == child);
		CHECK_IS(status, DONE);
		block = hidden(malloc(64));
		memset(block, 3, 64);
		CHECK_IS(before[63], 1);
		free(before);
		free(block);
	}
}

#define HELD 64

static volatile int is_wrong;

/* Whoever else gets one of the blocks writes another mark to it. */
static void hold_blocks(unsigned who)
{
	unsigned *held[HELD] = { NULL };
	unsigned times = scaled(2000000, 20000, 20000);
	for (unsigned i = 0; i < times && !is_wrong; i++) {
		unsigned k = (i * 7 + who) % HELD, mark = who << 28 | k;
		if (held[k] && (held[k][0] != mark || held[k][5] != mark))
			is_wrong = 1;
		free(held[k]);
		held[k] = malloc(24);
		held[k][0] = held[k][5] = mark;
	}
	for (int k = 0; k < HELD; k++)
		free(held[k]);
}

static int holding(void *who)
{
	hold_blocks((uintptr_t)who);
	_exit(DONE);
}

static void *waiting(void *gate)
{
	sem_wait(gate);
	return NULL;
}

/* It shares the memory and its parent's area, and runs beside its parent: the kernel would not abort its sections. */
static void malloc_beside_a_clone_child(void)
{
	static char stack[1 << 16] __attribute__((__aligned__(64)));
	int status = -1;
	pthread_t thread;
	sem_t gate;
	/* With one thread musl takes no locks, and no child may allocate beside it. */
	CHECK_IS(sem_init(&gate, 0, 0), 0);
	CHECK_IS(pthread_create(&thread, NULL, waiting, &gate), 0);
	pid_t child = clone(holding, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)2);
	int refused = child < 0 && errno == EINVAL;
	if (!refused) {
		CHECK(child > 0);
		hold_blocks(1);
		CHECK(waitpid(child, &status, 0) == child);
		CHECK_IS(status, DONE);
		CHECK(!is_wrong);
		if (malloc_trim)
			malloc_trim(0);
	}
	CHECK_IS(sem_post(&gate), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	if (refused)
		skip("an emulator without children that share the memory");
}

/* ---- cached memory ---- */

#define MANY (32 << 20)

static long resident(void)
{
	long pages = -1;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file) {
		if (fscanf(file, "%*d %ld", &pages) != 1)
			pages = -1;
		fclose(file);
	}
	return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

/* Much is freed: the amount in the caches is bounded, and can be returned. */
static void malloc_gives_back(void)
{
	long start, full, freed = 0, last;
	one_thread();
	start = resident();
	if (start < 0)
		return skip("there is no /proc");
	for (size_t size = 32; size < 8000; size *= 3) {
		size_t count = MANY / size;
		void **blocks = mmap(NULL, count * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t i = 0; i < count; i++)
			memset(blocks[i] = malloc(size), 1, size);
		full = resident();
		for (size_t i = 0; i < count; i++)
			free(blocks[i]);
		munmap(blocks, count * sizeof *blocks);
		freed = resident();
		CHECK(full - start > MANY);
		if (freed - start > MANY / 4)
			fail(__FILE__, __LINE__, "blocks of %zu bytes: %ld bytes stay of %ld", size, freed - start, full - start);
	}
	if (!malloc_trim)
		return tell("%ld KiB are held back of 32 MiB", (freed - start) / 1024);
	malloc_trim(0);
	CHECK_IS(malloc_trim(0), 0);
	last = resident();
	CHECK(last <= freed);
	tell("%ld KiB are held back of 32 MiB, %ld after malloc_trim", (freed - start) / 1024, (last - start) / 1024);
}

const struct test malloc_tests[] = {
	{ "malloc_promises", malloc_promises },
	{ "malloc_on_each_cpu", malloc_on_each_cpu },
	{ "malloc_beyond_a_cache", malloc_beyond_a_cache },
	{ "malloc_catches", malloc_catches },
	{ "malloc_in_vfork_child", malloc_in_vfork_child },
	{ "malloc_beside_a_clone_child", malloc_beside_a_clone_child },
	{ "malloc_gives_back", malloc_gives_back },
	{ NULL, NULL },
};
