/*
 * Uses only the three names, as glibc's manual has them ("Restartable Sequences"). With -DWEAK they are optional: its
 * references then have no version, like those of dlsym(3).
 */
#include <stddef.h>
#include <stdlib.h>

#include "lib.h"

extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;
#if defined WEAK || !defined __GLIBC__
#pragma weak __rseq_offset
#pragma weak __rseq_size
#define THERE (&__rseq_offset && &__rseq_size)
#else
#define THERE 1
#endif

/* Read anew each time, since the owner may come late. */
#define NOW(variable) (*(const volatile __typeof__(variable) *)&(variable))

static unsigned size(void)
{
	return THERE ? NOW(__rseq_size) : 0;
}

static const void *area(void)
{
	return size() ? (const char *)__builtin_thread_pointer() + NOW(__rseq_offset) : NULL;
}

static int cpu(void)
{
	const int *words = area();
	return words ? ((const volatile int *)words)[1] : -3;
}

static unsigned first_size;

__attribute__((__constructor__)) static void look(void)
{
	first_size = size();
}

const struct reader reader = { size, area, cpu, &first_size };
