/* Compiled as C99, C11 and C++: the header alone, then each of its names. */
#include "rseq_rt.h"

static rseq_rt_area area = RSEQ_RT_AREA_INIT;
static struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;

typedef char area_has_its_size[sizeof(rseq_rt_area) == RSEQ_RT_AREA_SIZE ? 1 : -1];
typedef char area_has_its_alignment[__alignof__(rseq_rt_area) == RSEQ_RT_AREA_ALIGN ? 1 : -1];
typedef char at_exit_has_its_size[sizeof(struct rseq_rt_at_exit) == RSEQ_RT_AT_EXIT_SIZE ? 1 : -1];
typedef char at_exit_has_its_alignment[__alignof__(struct rseq_rt_at_exit) == RSEQ_RT_AT_EXIT_ALIGN ? 1 : -1];

static void nothing(void *argument)
{
	(void)argument;
}

int main(void)
{
	static const unsigned expected[RSEQ_RT_LAYOUT_COUNT] = RSEQ_RT_LAYOUT;
	int i, token;
	for (i = 0; i < RSEQ_RT_LAYOUT_COUNT; i++)
		if (rseq_rt_layout[i] != expected[i])
			return 10 + i;
	if (rseq_rt_init_flags(0, RSEQ_RT_DISABLED) != 0)
		return 1;
	if (rseq_rt_on_thread_create(&area) != 0 || rseq_rt_thread_state(&area) != RSEQ_RT_UNAVAILABLE)
		return 2;
	if (rseq_rt_cpu(&area) < 0 || rseq_rt_registered_cpu(&area) >= 0 || rseq_rt_cpu_by_load(&area) >= 0
	    || rseq_rt_node(&area) < 0 || rseq_rt_mm_cid(&area) >= 0)
		return 3;
	token = rseq_rt_vfork_begin(&area);
	if (token < 0 || rseq_rt_vfork_end(&area, token) != 0)
		return 4;
	if (rseq_rt_at_exit_push(&callbacks, nothing, 0) != 0 || rseq_rt_at_exit_run(&callbacks) != 0)
		return 5;
	if (rseq_rt_owner() != RSEQ_RT_OWNER_NOBODY || rseq_rt_feature_size() != 0 || rseq_rt_length() != 0)
		return 6;
	if (rseq_rt_report(&area, 0, 0) <= 0)
		return 7;
	if (rseq_rt_remedy(&area, RSEQ_RT_OF_THREAD) != RSEQ_RT_REMEDY_LIFT_POLICY)
		return 8;
	if (rseq_rt_slice_set(0, 1) != -14 || rseq_rt_slice_get(0) != -14 || rseq_rt_slice(0)
	    || rseq_rt_slice_set(&area, 1) != -38 || rseq_rt_slice_get(&area) != -38 || rseq_rt_slice(&area)
	    || rseq_rt_slice_yield(0, rseq_rt_slice_request(0)) != RSEQ_RT_SLICE_OFF)
		return 9;
	return 0;
}
