/* Compiled as C and C++: compatible with the libc's own declarations, whichever header comes first. */
#ifdef RSEQ_RT_FIRST
#include "rseq_rt.h"
#include <sys/rseq.h>
#else
#include <sys/rseq.h>
#include "rseq_rt.h"
#endif

typedef char same_signature[RSEQ_RT_SIG == RSEQ_SIG ? 1 : -1];
typedef char same_place[__builtin_offsetof(struct rseq, cpu_id) == RSEQ_RT_AREA_CPU_ID ? 1 : -1];
typedef char state_is_behind[sizeof(struct rseq) <= RSEQ_RT_AREA_STATE ? 1 : -1];

static rseq_rt_area area = RSEQ_RT_AREA_INIT;

int main(void)
{
	return rseq_rt_cpu_by_load(&area) == -1 ? 0 : 1;
}
