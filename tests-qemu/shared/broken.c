/* What must not be done, to be put in the place of what is: each of these programs has to die. At the end, another libc. */
#include <pthread.h>
#include <stdlib.h>

#include "rseq_rt.h"

int release_and_forget(rseq_rt_area *area, unsigned mode);
int keep_in_place_of_release(rseq_rt_area *area, unsigned mode);
int never_disabled(int state, int *before);
int allocating_setspecific(pthread_key_t key, const void *value);

/* For rseq_rt_on_thread_exit_masked: nothing remembers that the thread is leaving. */
int release_and_forget(rseq_rt_area *area, unsigned mode)
{
	rseq_rt_on_thread_exit_masked(area, mode);
	return rseq_rt_recycle(area);
}

/* For the same: the kernel goes on writing to memory that goes before the thread does. */
int keep_in_place_of_release(rseq_rt_area *area, unsigned mode)
{
	(void)mode;
	return rseq_rt_on_thread_exit_masked(area, RSEQ_RT_KEEP);
}

/* For pthread_setcancelstate: nothing tells that the thread is leaving already. */
int never_disabled(int state, int *before)
{
	(void)state;
	if (before)
		*before = PTHREAD_CANCEL_ENABLE;
	return 0;
}

/* For pthread_setspecific: a libc that allocates for it, as glibc does from key 32 on. */
int allocating_setspecific(pthread_key_t key, const void *value)
{
	free(malloc(1));
	return pthread_setspecific(key, value);
}
