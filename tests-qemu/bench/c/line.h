/*
 * line.h - a C program's output for `cargo xtask bench`: one JSON line per value.
 *
 * BENCH_MS is the time for one value in milliseconds. A value is the median of five batches, as in the Rust program;
 * nothing is subtracted.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef LINE_H
#define LINE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../cpus.h"

#define BATCHES 5

/* For code shorter than a loop iteration. */
#define FOUR_TIMES(what) do { what; what; what; what; } while (0)
#define EIGHT_TIMES(what) do { FOUR_TIMES(what); FOUR_TIMES(what); } while (0)

/* Runs that many iterations. */
typedef void (*batch)(unsigned long turns);

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double once(batch run, unsigned long turns)
{
	double start = now();

	run(turns);
	return now() - start;
}

static inline int by_size(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* Nanoseconds per iteration. Doubling up to the batch's share of the time is the warm-up. */
static inline double nanoseconds(batch run)
{
	const char *said = getenv("BENCH_MS");
	double share = (said ? atof(said) : 10) * 1e6 / BATCHES, values[BATCHES];
	unsigned long turns = 1;
	int i;

	while (once(run, turns) < share / 2 && turns < 1ul << 40)
		turns *= 2;
	for (i = 0; i < BATCHES; i++)
		values[i] = once(run, turns) / (double)turns;
	qsort(values, BATCHES, sizeof values[0], by_size);
	return values[BATCHES / 2];
}

/* Prints a line. The variant is the one that the runner has for the program. */
static inline void tell(const char *name, batch run, const char *what)
{
	printf("{\"name\":\"%s\",\"ns\":%.6f,\"what\":\"%s\"}\n", name, nanoseconds(run), what);
	fflush(stdout);
}

/* The same with an explicit variant. */
static inline void tell_as(const char *name, const char *variant, batch run, const char *what)
{
	printf("{\"name\":\"%s\",\"variant\":\"%s\",\"ns\":%.6f,\"what\":\"%s\"}\n", name, variant, nanoseconds(run), what);
	fflush(stdout);
}

/* Consumes a result in a register: a store would be measured too. */
static inline void keep(int answer)
{
	__asm__ volatile("" : : "r"(answer));
}

/* Pins to the last CPU that the process may use: the first one often serves devices. */
static inline void pin(void)
{
	struct cpus allowed;
	int cpu;

	if (allowed_cpus(&allowed))
		abort();
	for (cpu = CPUS - 1; cpu > 0 && !has_cpu(&allowed, cpu);)
		cpu--;
	if (move_to_cpu(0, cpu))
		abort();
}

#endif
