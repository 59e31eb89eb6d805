/* The allocator queries rseq, on the first thread and on others: allocates registered|libc KEYS, those already used. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../capi/check.h"
#include "allocator.h"
#include "rseq_rt.h"

int failures;

static int expected;
/* Hidden from the compiler, which could remove the call. */
static void *(*volatile allocate)(size_t) = malloc;

static void *life(void *argument)
{
	free(allocate(10));
	CHECK_IS(allocator_state(), expected);
	return argument;
}

int main(int count, char **words)
{
	pthread_t thread;
	pthread_key_t key;
	int i;
	if (count != 3)
		return 2;
	expected = strcmp(words[1], "libc") == 0 ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED;
	for (i = atoi(words[2]); i > 0; i--)
		CHECK_IS(pthread_key_create(&key, NULL), 0);
	allocator_asks = 1;
	life(NULL);
	for (i = 0; i < 8; i++) {
		CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
	}
	/* One nested call: where setting a value allocates, once. */
	CHECK(allocator_deepest > 0 && allocator_deepest <= 2);
	return failures != 0;
}
