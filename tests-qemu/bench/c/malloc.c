/*
 * malloc.c - an allocator under small blocks of several threads: the time of a pair of malloc and free, as wall clock
 * and for all threads together, and the peak resident memory.
 *
 *     malloc malloc [ROW]
 *
 *   alone   no thread is ever made: 1000 blocks, one of which is replaced by another at random
 *   own     the same in each thread
 *   pair    every other thread allocates, and hands blocks over in batches of 100 to its neighbour, which frees them
 *   larson  as own, but one block in 64 is swapped with another thread's and freed there
 *   phases  each thread fills 8 MiB with blocks of one size and frees them, then of the next size
 *
 * Sizes are 16 to 512 bytes, small ones more often. The first word and the last byte of a block are written.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#include "line.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_THREADS = 64, BLOCKS = 1000, BATCH = 100, RING = 16, PHASE = 8 << 20 };

/* The data of one thread, on separate cache lines. */
struct part {
	pthread_t thread;
	uint64_t random, pairs;
	void *blocks[BLOCKS];
	/* In a pair: batches from `made` to `taken`. */
	void **ring[RING];
	size_t made, taken;
} __attribute__((__aligned__(256)));

static struct part parts[MOST_THREADS];
static int threads, stop;
static double until;
static void *swapped[MOST_THREADS];

static uint64_t next(struct part *part)
{
	uint64_t x = part->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return part->random = x;
}

static void *block(uint64_t random, size_t size)
{
	char *made = malloc(size);

	if (!made)
		abort();
	*(uint64_t *)made = random;
	made[size - 1] = 1;
	return made;
}

static void *any_block(struct part *part)
{
	uint64_t random = next(part);

	return block(random, 16 + random % (random & 1 << 20 ? 64 : random & 1 << 21 ? 192 : 497));
}

static int is_over(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void replace(struct part *part, int swaps)
{
	size_t at = (next(part) >> 20) % BLOCKS;

	if (swaps && !(next(part) & 63 << 8)) {
		void **other = &swapped[(next(part) >> 30) % threads];

		part->blocks[at] = __atomic_exchange_n(other, part->blocks[at], __ATOMIC_ACQ_REL);
	}
	free(part->blocks[at]);
	part->blocks[at] = any_block(part);
	part->pairs++;
}

static void *own(void *part)
{
	int i;

	while (!is_over())
		for (i = 0; i < 100; i++)
			replace(part, 0);
	return NULL;
}

static void *larson(void *part)
{
	int i;

	while (!is_over())
		for (i = 0; i < 100; i++)
			replace(part, 1);
	return NULL;
}

static void produce(struct part *part)
{
	void **batch;
	int i;

	if (part->made - __atomic_load_n(&part->taken, __ATOMIC_ACQUIRE) == RING) {
		sched_yield();
		return;
	}
	batch = malloc(BATCH * sizeof *batch);
	for (i = 0; i < BATCH; i++)
		batch[i] = any_block(part);
	part->ring[part->made % RING] = batch;
	__atomic_store_n(&part->made, part->made + 1, __ATOMIC_RELEASE);
}

static void consume(struct part *part)
{
	void **batch;
	int i;

	if (part->taken == __atomic_load_n(&part->made, __ATOMIC_ACQUIRE)) {
		sched_yield();
		return;
	}
	batch = part->ring[part->taken % RING];
	for (i = 0; i < BATCH; i++)
		free(batch[i]);
	free(batch);
	__atomic_store_n(&part->taken, part->taken + 1, __ATOMIC_RELEASE);
	part->pairs += BATCH + 1;
}

static void *pair(void *part)
{
	size_t number = (struct part *)part - parts;

	while (!is_over()) {
		if (number % 2)
			consume((struct part *)part - 1);
		else
			produce(part);
	}
	return NULL;
}

/* Ends after a full round of sizes, so that the peak covers a whole one. */
static void *phases(void *argument)
{
	struct part *part = argument;
	size_t size, i;

	do {
		for (size = 24; size < 2000; size = 2 * size + 8) {
			size_t count = PHASE / size;
			void **blocks = malloc(count * sizeof *blocks);

			for (i = 0; i < count; i++)
				blocks[i] = block(i, size);
			for (i = 0; i < count; i++)
				free(blocks[i]);
			free(blocks);
			part->pairs += count;
		}
	} while (!is_over());
	return NULL;
}

static void *alone(void *part)
{
	int i;

	while (now() < until)
		for (i = 0; i < 100; i++)
			replace(part, 0);
	return NULL;
}

static const struct row {
	const char *name;
	int threads;
	void *(*run)(void *);
} rows[] = {
	{ "alone", 0, alone },
	{ "own, threads: 1", 1, own },
	{ "own, threads: 2", 2, own },
	{ "pair, threads: 2", 2, pair },
	{ "larson, threads: 2", 2, larson },
	{ "larson, threads: 8", 8, larson },
	{ "phases, threads: 2", 2, phases },
};

static void measure(const struct row *row)
{
	const char *said = getenv("BENCH_MS");
	double milliseconds = said ? atof(said) : 1000, begin = now();
	struct timespec pause = { (time_t)(milliseconds / 1000), (long)(milliseconds * 1e6) % 1000000000 };
	struct rusage usage;
	uint64_t pairs = 0;
	int i;

	threads = row->threads;
	until = begin + milliseconds * 1e6;
	for (i = 0; i < MOST_THREADS; i++)
		parts[i].random = 0x9e3779b97f4a7c15u * (i + 1);
	if (!threads)
		row->run(&parts[0]);
	for (i = 0; i < threads; i++)
		if (pthread_create(&parts[i].thread, NULL, row->run, &parts[i]))
			abort();
	if (threads)
		nanosleep(&pause, NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < threads; i++)
		pthread_join(parts[i].thread, NULL);
	for (i = 0; i < MOST_THREADS; i++)
		pairs += parts[i].pairs;
	printf("{\"name\":\"%s\",\"ns\":%.6f,\"what\":\"malloc and free\"}\n", row->name, (now() - begin) / pairs);
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"name\":\"CPU, %s\",\"ns\":%.6f,\"what\":\"CPU time of malloc and free\"}\n", row->name,
	       ((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9
		+ (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3) / pairs);
	if (row->run == phases)
		printf("{\"name\":\"peak, %s\",\"value\":%ld,\"unit\":\"KiB\",\"what\":\"most memory\"}\n", row->name,
		       usage.ru_maxrss);
}

int main(int count, char **words)
{
	size_t i;

	if (count < 2 || strcmp(words[1], "malloc"))
		return 0;
	/* In a separate process, since its memory is measured. */
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		int status = -1;
		pid_t child;

		if (count > 2 && !strstr(rows[i].name, words[2]))
			continue;
		child = fork();
		if (child == 0) {
			measure(&rows[i]);
			fflush(stdout);
			_exit(0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
	}
	return 0;
}
