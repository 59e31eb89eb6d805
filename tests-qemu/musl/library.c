/* Linked into the program, or a separate shared object: a consumer of the trio, relocated by others. */
#include "rseq.h"

__attribute__((__constructor__)) static void first(void)
{
	look_from_constructor("a library's constructor");
}

struct trio trio_of_library(void)
{
	struct trio trio = { __rseq_offset, __rseq_size, __rseq_flags };
	return trio;
}

const void *trio_of_library_at(int which)
{
	const void *at[] = { &__rseq_offset, &__rseq_size, &__rseq_flags };
	return at[which];
}
