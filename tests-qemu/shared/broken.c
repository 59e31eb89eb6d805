/* What must not be done, to be put in the place of what is: each of these programs has to die. At the end, a place to stop at. */
#include <pthread.h>
#include <sys/auxv.h>

#include "rseq_rt.h"

int release_and_forget(rseq_rt_area *area);
int never_disabled(int state, int *before);
unsigned long halfway(unsigned long type);
extern void (*at_halfway)(void);

/* For rseq_rt_on_thread_exit_release_masked: nothing remembers that the thread is leaving. */
int release_and_forget(rseq_rt_area *area)
{
	rseq_rt_on_thread_exit_release_masked(area);
	return rseq_rt_recycle(area);
}

/* For pthread_setcancelstate: nothing tells that the thread is leaving already. */
int never_disabled(int state, int *before)
{
	(void)state;
	if (before)
		*before = PTHREAD_CANCEL_ENABLE;
	return 0;
}

void (*at_halfway)(void);

/* For getauxval: a thread is preparing the process. */
unsigned long halfway(unsigned long type)
{
	if (at_halfway)
		at_halfway();
	return getauxval(type);
}
