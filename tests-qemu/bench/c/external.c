/*
 * external.c - a program for `cargo xtask bench --with NAME=PROGRAM`: copy it, and insert another library's calls.
 *
 * The runner starts PROGRAM with the name of a group as its only argument, once a round, between its own programs, and
 * reads the lines on standard output:
 *
 *     {"name":"add","ns":2.3,"what":"what one value is"}
 *
 * A line whose name is one of the group's rows stands beside it, and its ratio is taken in the same round; other names
 * become new rows. Lines that are not JSON are ignored. For an unknown group the program prints nothing and exits with
 * 0. Measure on the CPU that pin() chooses, for BENCH_MS milliseconds.
 *
 * The code below measures a locked add, as an example.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#include "line.h"

#include <string.h>

static unsigned long word __attribute__((__aligned__(128)));

static void add(unsigned long turns)
{
	while (turns--)
		__atomic_add_fetch(&word, 1, __ATOMIC_RELAXED);
}

int main(int count, char **words)
{
	pin();
	if (count > 1 && !strcmp(words[1], "ops"))
		tell("add", add, "a locked add in C");
	return 0;
}
