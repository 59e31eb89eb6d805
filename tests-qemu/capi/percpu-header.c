/* Compiled as C99, C17 and C++: the header alone, then each of its names, in a process without registration. */
#include "rseq_rt_percpu.h"

static rseq_rt_area area = RSEQ_RT_AREA_INIT;
static uintptr_t storage[16] __attribute__((__aligned__(128)));
static uintptr_t node[2];

#define EACH(variant, current) do { \
	struct rseq *rseq = current(&area); \
	void *popped = NULL; \
	wrong |= rseq_rt_percpu_add##variant(rseq, slots, 0, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_add_through##variant(rseq, slots, 0, 8, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_compare_and_store##variant(rseq, slots, 0, 0, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_compare_two_and_store##variant(rseq, slots, 0, 0, 8, 0, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_compare_store_and_store##variant(rseq, slots, 0, 0, 8, 5, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_compare_link_and_store##variant(rseq, slots, 0, 0, node, 1) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_pop##variant(rseq, slots, 0, NULL, 8, &popped) != RSEQ_RT_OUT_OF_RANGE; \
	wrong |= rseq_rt_percpu_compare_copy_and_store##variant( \
		rseq, slots, 0, 0, 8, node, sizeof node, 1) != RSEQ_RT_OUT_OF_RANGE; \
} while (0)

int main(void)
{
	struct rseq_rt_slots slots = { NULL, 0 };
	int wrong = 0, i;

	wrong |= rseq_rt_slots_init(&slots, storage, sizeof storage, 1);
	wrong |= rseq_rt_init_flags(NULL, RSEQ_RT_DISABLED);
	wrong |= rseq_rt_allow_sections() == RSEQ_RT_SECTIONS_NOT_ASKED || !rseq_rt_sections();
	wrong |= rseq_rt_on_thread_create(&area);
	EACH(, rseq_rt_current);
	EACH(_release, rseq_rt_current);
	EACH(_mm_cid, rseq_rt_current_mm_cid);
	EACH(_mm_cid_release, rseq_rt_current_mm_cid);
	for (i = 0; i < 16; i++)
		wrong |= storage[i] != 0;
	wrong |= rseq_rt_prepare_unload(NULL) != -14 || rseq_rt_prepare_unload(&area) != 0;
	wrong |= rseq_rt_possible_cpu_bound() > rseq_rt_cpu_bound();
	return wrong || !rseq_rt_cpu_bound();
}
