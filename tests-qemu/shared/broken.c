/* Deliberate errors that replace the correct calls: each of these programs must die. At the end, another libc. */
#include <pthread.h>
#include <stdlib.h>

#include "rseq_rt.h"

int release_and_forget(rseq_rt_area *area, unsigned mode);
int keep_in_place_of_release(rseq_rt_area *area, unsigned mode);
int never_disabled(int state, int *before);
int allocating_setspecific(pthread_key_t key, const void *value);

/* In place of rseq_rt_on_thread_exit_masked: does not record that the thread is exiting. */
int release_and_forget(rseq_rt_area *area, unsigned mode)
{
	rseq_rt_on_thread_exit_masked(area, mode);
	return rseq_rt_recycle(area);
}

/* In its place too: the kernel keeps writing to memory that is freed before the thread ends. */
int keep_in_place_of_release(rseq_rt_area *area, unsigned mode)
{
	(void)mode;
	return rseq_rt_on_thread_exit_masked(area, RSEQ_RT_KEEP);
}

/* In place of pthread_setcancelstate: does not reveal that the thread is already exiting. */
int never_disabled(int state, int *before)
{
	(void)state;
	if (before)
		*before = PTHREAD_CANCEL_ENABLE;
	return 0;
}

/* In place of pthread_setspecific: allocates, as glibc does from key 32 on. */
int allocating_setspecific(pthread_key_t key, const void *value)
{
	free(malloc(1));
	return pthread_setspecific(key, value);
}
