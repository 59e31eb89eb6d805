/* A library that uses the interface. Compiled once for each name: -DNAME=lib_a. With -DEARLY it does so in its constructor. */
#include "lib.h"
#include "rseq_rt_library.h"

static int ensure(void)
{
	return rseq_rt_library_ensure();
}

static int state(void)
{
	return rseq_rt_library_state();
}

static int cpu(void)
{
	return rseq_rt_library_cpu();
}

static const void *area(void)
{
	return rseq_rt_library_area();
}

static int owner(void)
{
	return rseq_rt_library_owner();
}

static const void *table(void)
{
	return rseq_rt_library_v2;
}

#ifdef EARLY
__attribute__((__constructor__)) static void early(void)
{
	ensure();
}
#endif

const struct lib NAME = { ensure, state, cpu, area, owner, table };
