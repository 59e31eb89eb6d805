// An at-exit callback that throws: the exception reaches the caller of the run.
#include "check.h"
#include "rseq_rt.h"

int failures;

static struct rseq_rt_at_exit callbacks;
static int called;

static void count(void *)
{
	called++;
}

static void throws(void *)
{
	throw 7;
}

static void exception_is_caught()
{
	int caught = 0;
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, count, 0), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, throws, 0), 0);
	try {
		rseq_rt_at_exit_run(&callbacks);
	} catch (int thrown) {
		caught = thrown;
	}
	CHECK_IS(caught, 7);
	CHECK_IS(called, 0);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(called, 1);
}

int main()
{
	RUN(exception_is_caught);
	return failures != 0;
}
