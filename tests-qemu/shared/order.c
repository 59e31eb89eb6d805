/*
 * A library of ours and librseq in one process, in threads that query ours first, or librseq first: librseq never finds
 * a thread registered by ours. With an argument: librseq does not find the owning libc.
 */
#include <errno.h>
#include <pthread.h>

#include "../capi/check.h"
#include "lib.h"
#include "order.h"
#include "rseq_rt.h"

int failures;

extern const struct lib lib_a;

static void *ours_first(void *argument)
{
	lib_a.ensure();
	CHECK_IS(rseq_register_current_thread(), 0);
	CHECK(lib_a.cpu() >= 0);
	return argument;
}

static void *theirs_first(void *argument)
{
	CHECK_IS(rseq_register_current_thread(), 0);
	lib_a.ensure();
	CHECK(lib_a.cpu() >= 0);
	return argument;
}

int main(int count, char **words)
{
	pthread_t thread;
	int i;
	(void)words;
	if (count == 2) {
		CHECK_IS(rseq_register_current_thread(), -EINVAL);
		CHECK_IS(lib_a.ensure(), RSEQ_RT_REGISTERED_BY_LIBC);
		return failures != 0;
	}
	ours_first(NULL);
	for (i = 0; i < 8; i++) {
		CHECK_IS(pthread_create(&thread, NULL, i % 2 ? ours_first : theirs_first, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
	}
	CHECK(lib_a.state() == RSEQ_RT_UNAVAILABLE || lib_a.state() == RSEQ_RT_REGISTERED_BY_LIBC);
	return failures != 0;
}
