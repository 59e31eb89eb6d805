/*
 * Calls of the C interface in any order, with any argument that may be refused: nothing crashes, misuse returns its
 * errno and changes nothing, and all other calls answer as the header says.
 *
 * An input is a string of bytes, operations alternating with operands, and runs in its own process. Those of
 * fuzz-corpus.h come first, then RSEQ_RT_FUZZ_INPUTS of RSEQ_RT_FUZZ_SEED. A failing one is printed, for the corpus.
 * Finally the interface is broken in each way counted by BREAKS, which must be detected.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz-corpus.h"
#include "fuzz.h"

enum { LENGTH = 96 };

/* Returns its wait(2) status. */
static int in_a_child(const unsigned char *input, size_t length)
{
	int status = -1;
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0)
		fuzz_run(input, length);
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("a child");
		exit(2);
	}
	return status;
}

static unsigned long long next(unsigned long long *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Most begin with a valid initialization, without which all later calls are refused. */
static size_t make(unsigned char *input, unsigned long long *seed)
{
	size_t length = 2 + next(seed) % (LENGTH - 2), at;
	for (at = 0; at < length; at++)
		input[at] = next(seed) >> 24;
	if (next(seed) % 8) {
		static const unsigned char right[] = { 0x03, 0x25, 0x26, 0x40, 0x41, 0x44, 0x48 };
		input[0] = 0;
		input[1] = right[next(seed) % sizeof right];
	}
	return length;
}

static size_t from_hex(unsigned char *input, const char *text)
{
	size_t length = 0;
	unsigned byte;
	int used;
	while (length < LENGTH && sscanf(text, "%x%n", &byte, &used) == 1) {
		input[length++] = byte;
		text += used;
	}
	return length;
}

static unsigned long long number(const char *name, unsigned long long otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* The number of inputs that passed; the first failing one is printed. */
static unsigned long long all(unsigned long long inputs, unsigned long long seed, int *failed)
{
	const unsigned long long kept = sizeof fuzz_corpus / sizeof *fuzz_corpus;
	unsigned char input[LENGTH];
	unsigned long long nth;
	*failed = 0;
	for (nth = 0; nth < kept + inputs; nth++) {
		size_t at, length = nth < kept ? from_hex(input, fuzz_corpus[nth]) : make(input, &seed);
		int status = in_a_child(input, length);
		if (status == 0)
			continue;
		*failed = 1;
		if (!fuzz_quiet) {
			printf("wait status %#x of:", status);
			for (at = 0; at < length; at++)
				printf(" %02x", input[at]);
			printf("\n");
		}
		break;
	}
	return nth;
}

int main(void)
{
	enum { BREAKS = 3 };
	unsigned long long inputs = number("RSEQ_RT_FUZZ_INPUTS", 500), seed = number("RSEQ_RT_FUZZ_SEED", 0x5eed);
	int failed;
	printf("seed %#llx: %llu inputs\n", seed, all(inputs, seed ? seed : 1, &failed));
	if (failed)
		return 1;
	printf("inputs: passed\n");
	fuzz_quiet = 1;
	for (fuzz_broken = 1; fuzz_broken <= BREAKS; fuzz_broken++) {
		all(500, 0x5eed, &failed);
		if (!failed) {
			printf("broken in way %d, and not found\n", fuzz_broken);
			return 1;
		}
		printf("broken in way %d: passed\n", fuzz_broken);
	}
	return 0;
}
