/* Children that share the memory, and their children that do not. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "hooks.h"

static void is_lent(void)
{
	CHECK_IS(rseq_rt_thread_state(&main_area), RSEQ_RT_LENT);
	CHECK_IS(rseq_rt_ensure_registered(&main_area), RSEQ_RT_LENT);
	CHECK_IS(rseq_rt_registered_cpu(&main_area), -ENOSYS);
	CHECK_IS(rseq_rt_cpu_by_load(&main_area), -1);
	CHECK(rseq_rt_cpu(&main_area) >= 0);
}

static void vfork_once(void)
{
	int token = rseq_rt_vfork_begin(&main_area);
	pid_t child;
	CHECK_IS(token, 1);
	child = vfork();
	if (child == 0) {
		rseq_rt_ensure_registered(&main_area);
		_exit(rseq_rt_thread_state(&main_area) == RSEQ_RT_LENT && rseq_rt_cpu(&main_area) >= 0 ? 0 : 1);
	}
	is_lent();
	CHECK_IS(rseq_rt_vfork_end(&main_area, 2), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, 8), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, -1), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, 256 + 1), -EINVAL);
	is_lent();
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), 0);
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), -EINVAL);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_ENDS(child, 0);
}

void vfork_loop(void)
{
	int i;
	for (i = 0; i < ROUNDS; i++)
		vfork_once();
	agrees_with_getcpu(&main_area);
}

/* A handler lends a lent area: its loan ends first. The other two end out of order. */
void loans_nest_and_end_in_any_order(void)
{
	static const int orders[][3] = { { 3, 2, 1 }, { 1, 2, 3 }, { 2, 3, 1 } };
	size_t i, j;
	for (i = 0; i < sizeof orders / sizeof *orders; i++) {
		for (j = 1; j <= 3; j++)
			CHECK_IS(rseq_rt_vfork_begin(&main_area), j);
		for (j = 0; j < 3; j++) {
			is_lent();
			CHECK_IS(rseq_rt_vfork_end(&main_area, orders[i][j]), 0);
			CHECK_IS(rseq_rt_vfork_end(&main_area, orders[i][j]), -EINVAL);
		}
		CHECK_IS(rseq_rt_thread_state(&main_area), live);
	}
	agrees_with_getcpu(&main_area);
}

/* The eighth changes nothing, nor does its end: the seven others protect the area. */
void more_loans_than_can_be_told_apart(void)
{
	int i;
	for (i = 1; i <= 7; i++)
		CHECK_IS(rseq_rt_vfork_begin(&main_area), i);
	CHECK_IS(rseq_rt_vfork_begin(&main_area), 0);
	CHECK_IS(rseq_rt_vfork_end(&main_area, 0), 0);
	for (i = 7; i >= 1; i--) {
		is_lent();
		CHECK_IS(rseq_rt_vfork_end(&main_area, i), 0);
	}
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
}

/* fork(2) without the libc, whose handlers a vfork child should not run. */
static pid_t plain_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int repaired(int token)
{
	int before = failures;
	CHECK_IS(rseq_rt_repair_in_fork_child(&main_area), live);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	agrees_with_getcpu(&main_area);
	if (token)
		CHECK_IS(rseq_rt_vfork_end(&main_area, token), -EINVAL);
	return failures != before;
}

void fork_child_repairs(void)
{
	int token;
	pid_t child;
	/* Nothing to repair. */
	child = plain_fork();
	if (child == 0)
		_exit(repaired(0));
	CHECK_ENDS(child, 0);
	/* A handler that forks in the parent: the child is registered, and does not know it. */
	token = rseq_rt_vfork_begin(&main_area);
	child = plain_fork();
	if (child == 0)
		_exit(repaired(token));
	CHECK_ENDS(child, 0);
	/* One that forks in the vfork child: the child of that is not registered. A libc's area is the libc's to repair. */
	if (owner == RSEQ_RT_OWNER_RUNTIME) {
		child = vfork();
		if (child == 0) {
			int status = -1;
			pid_t grandchild = plain_fork();
			if (grandchild == 0)
				_exit(repaired(token));
			waitpid(grandchild, &status, 0);
			_exit(status != 0);
		}
		CHECK_ENDS(child, 0);
	}
	is_lent();
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), 0);
	CHECK_IS(rseq_rt_repair_in_fork_child(NULL), -EFAULT);
	agrees_with_getcpu(&main_area);
}
