/* Without a libc: each function is called by a pointer, which hardened hardware allows only onto a landing pad. */
#include "rseq_rt.h"

/* Hides the target from the compiler, so that it cannot call directly. */
#define THROUGH(function) ({ \
	__typeof__(&(function)) pointer_ = (function); \
	__asm__("" : "+r"(pointer_)); \
	pointer_; \
})

static rseq_rt_area area, other;
static struct rseq_rt_at_exit callbacks;
static int called;

static void count(void *argument)
{
	(void)argument;
	called++;
}

void _start(void);

void _start(void)
{
	int token;
	THROUGH(rseq_rt_init)(0);
	THROUGH(rseq_rt_init_flags)(0, RSEQ_RT_CLAIM_RUNTIME);
	THROUGH(rseq_rt_on_thread_create)(&area);
	THROUGH(rseq_rt_on_thread_create_masked)(&area);
	THROUGH(rseq_rt_ensure_registered)(&area);
	THROUGH(rseq_rt_owner)();
	THROUGH(rseq_rt_feature_size)();
	THROUGH(rseq_rt_length)();
	THROUGH(rseq_rt_report)(&area, 0, 0);
	THROUGH(rseq_rt_remedy)(&area, RSEQ_RT_OF_THREAD);
	THROUGH(rseq_rt_thread_state)(&area);
	THROUGH(rseq_rt_thread_errno)(&area);
	THROUGH(rseq_rt_cpu)(&area);
	THROUGH(rseq_rt_node)(&area);
	THROUGH(rseq_rt_registered_cpu)(&area);
	THROUGH(rseq_rt_mm_cid)(&area);
	token = THROUGH(rseq_rt_vfork_begin)(&area);
	THROUGH(rseq_rt_vfork_end)(&area, token);
	THROUGH(rseq_rt_at_exit_push)(&callbacks, count, 0);
	THROUGH(rseq_rt_at_exit_run)(&callbacks);
	THROUGH(rseq_rt_on_thread_exit)(&other, RSEQ_RT_KEEP);
	THROUGH(rseq_rt_on_thread_exit_masked)(&other, RSEQ_RT_RELEASE);
	THROUGH(rseq_rt_repair_in_fork_child)(&area);
	THROUGH(rseq_rt_sweep)();
	THROUGH(rseq_rt_recycle)(&other);
	if (called != 1)
		__builtin_trap();
	THROUGH(rseq_rt_unmap_and_exit)(&area, 0, 0);
}
