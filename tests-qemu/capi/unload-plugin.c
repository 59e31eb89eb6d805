/* A shared object with a critical section, for unload.c to unload. */
#include "rseq_rt_percpu.h"

int plugin_add(struct rseq *rseq, struct rseq_rt_slots slots);

int plugin_add(struct rseq *rseq, struct rseq_rt_slots slots)
{
	return rseq_rt_percpu_add(rseq, slots, 0, 1);
}
