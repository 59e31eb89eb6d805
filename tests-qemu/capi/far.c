/* More text behind an operation than a conditional branch of aarch64 reaches; the abort handlers lie behind it. */
#include "rseq_rt_percpu.h"

int near(struct rseq *rseq, struct rseq_rt_slots slots)
{
	return rseq_rt_percpu_add(rseq, slots, 0, 1);
}

void far(void)
{
	__asm__ __volatile__ (".rept 700000\n\tnop\n\t.endr");
}
