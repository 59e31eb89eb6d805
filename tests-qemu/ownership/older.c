/*
 * Linked against a libc without `__rseq_*`, run under one that may have them. It uses only functions of every libc:
 * `older_libc.c` stands in for it at link time. Exit status: 0, or the number of the failed check.
 */
#include "rseq_rt.h"

void _exit(int status) __attribute__((__noreturn__));

static rseq_rt_area area;

int main(int count, char **arguments, char **environment)
{
	int libc = count > 1 && arguments[1][0] == 'l';
	while (*environment)
		environment++;
	if (rseq_rt_init((const unsigned long *)(environment + 1)) != 0)
		_exit(1);
	if (rseq_rt_owner() != (libc ? RSEQ_RT_OWNER_LIBC : RSEQ_RT_OWNER_UNDECIDED))
		_exit(2);
	if (rseq_rt_on_thread_create(&area) != 0)
		_exit(3);
	if (rseq_rt_thread_state(&area) != (libc ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED))
		_exit(4);
	if (rseq_rt_feature_size() < 20)
		_exit(5);
	_exit(rseq_rt_cpu(&area) < 0 ? 6 : 0);
}
