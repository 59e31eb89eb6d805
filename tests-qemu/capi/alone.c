/* Linked with only the archive: it needs no libc. */
#include "rseq_rt.h"

static rseq_rt_area area;

void _start(void);

void _start(void)
{
	rseq_rt_init_flags(0, RSEQ_RT_CLAIM_RUNTIME);
	rseq_rt_on_thread_create(&area);
	rseq_rt_unmap_and_exit(&area, 0, 0);
}
