/* The effect of a filter on rseq(2) on each hook, by its answer: installed before the first hook, or after it. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "filter.h"
#include "raw.h"

int failures;

enum { CREATE, CREATE_BLOCKED, CREATE_MASKED, ENSURE, RELEASE, HOOKS };

static const char *const hooks[HOOKS] = {
	"create", "create, all signals blocked", "create masked", "ensure", "release",
};

static const struct row {
	const char *name;
	unsigned action;
	/* rseq_rt_thread_errno after a create hook, and after the exit hook; RSEQ_RT_OWNER_* after the former. */
	int create, release, owner;
	int remedy; /* after a create hook */
	int traps, dies;
} rows[] = {
	{ "trap", SECCOMP_RET_TRAP, ENOSYS, ENOSYS, RSEQ_RT_OWNER_NOBODY, RSEQ_RT_REMEDY_KERNEL_OR_FILTER, 1, 0 },
	{ "ENOSYS", REFUSE(ENOSYS), ENOSYS, ENOSYS, RSEQ_RT_OWNER_NOBODY, RSEQ_RT_REMEDY_KERNEL_OR_FILTER, 0, 0 },
	{ "trace, no tracer", SECCOMP_RET_TRACE, ENOSYS, ENOSYS, RSEQ_RT_OWNER_NOBODY, RSEQ_RT_REMEDY_KERNEL_OR_FILTER, 0, 0 },
	{ "notify, no listener", SECCOMP_RET_USER_NOTIF, ENOSYS, ENOSYS, RSEQ_RT_OWNER_NOBODY, RSEQ_RT_REMEDY_KERNEL_OR_FILTER, 0, 0 },
	/* A refusal concerns one thread: it decides nothing for the others. */
	{ "EPERM", REFUSE(EPERM), EPERM, EPERM, RSEQ_RT_OWNER_UNDECIDED, RSEQ_RT_REMEDY_ALLOW_SYSCALL, 0, 0 },
	/* The kernel's answer to a thread with another registered area. */
	{ "EINVAL", REFUSE(EINVAL), EBUSY, EINVAL, RSEQ_RT_OWNER_UNDECIDED, RSEQ_RT_REMEDY_FIND_OTHER, 0, 0 },
	{ "EBUSY", REFUSE(EBUSY), EBUSY, EBUSY, RSEQ_RT_OWNER_UNDECIDED, RSEQ_RT_REMEDY_UNKNOWN, 0, 0 },
	/* Success without effect. */
	{ "0", REFUSE(0), 0, ENOSYS, RSEQ_RT_OWNER_UNDECIDED, RSEQ_RT_REMEDY_ALLOW_SYSCALL, 0, 0 },
	{ "kill", SECCOMP_RET_KILL_THREAD, 0, 0, 0, 0, 0, 1 },
};

static rseq_rt_area area;

static void refused(const struct row *row)
{
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_UNAVAILABLE);
	CHECK_IS(rseq_rt_thread_errno(&area), row->create);
	CHECK_IS(rseq_rt_owner(), row->owner);
	CHECK_IS(rseq_rt_remedy(&area, RSEQ_RT_OF_THREAD), row->remedy);
	CHECK_IS(rseq_rt_registered_cpu(&area), -ENOSYS);
	CHECK(rseq_rt_cpu(&area) >= 0);
}

static void run(const struct row *row, int hook)
{
	unsigned long mask;
	answer_traps();
	CHECK_IS(rseq_rt_init(NULL), 0);
	if (hook == RELEASE) {
		CHECK_IS(rseq_rt_on_thread_create(&area), 0);
		CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_REGISTERED);
	}
	if (hook == CREATE_BLOCKED)
		mask_set(~0UL);
	CHECK_IS(filter_call(SYS_rseq, row->action), 0);
	switch (hook) {
	case CREATE:
	case CREATE_BLOCKED:
		CHECK_IS(rseq_rt_on_thread_create(&area), 0);
		break;
	case CREATE_MASKED:
		CHECK_IS(rseq_rt_on_thread_create_masked(&area), 0);
		break;
	case ENSURE:
		CHECK_IS(rseq_rt_ensure_registered(&area), RSEQ_RT_UNAVAILABLE);
		break;
	case RELEASE:
		CHECK_IS(rseq_rt_on_thread_exit(&area, RSEQ_RT_RELEASE), RSEQ_RT_KEPT);
		CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_EXITING);
		CHECK_IS(rseq_rt_thread_errno(&area), row->release);
		CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_RUNTIME);
	}
	if (hook != RELEASE)
		refused(row);
	CHECK_IS(trapped, row->traps);
	/* Create keeps the mask; the exit hook leaves only SIGSYS open. Signals 9 and 19 cannot be blocked. */
	mask = mask_set(0);
	CHECK_IS(mask, hook == RELEASE ? ~0x40040100UL : hook == CREATE_BLOCKED ? ~0x40100UL : 0UL);
}

static void filtered(const struct row *row, int hook)
{
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(60);
		failures = 0;
		run(row, hook);
		_exit(failures != 0);
	}
	CHECK_ENDS(child, row->dies ? SIGSYS : 0);
}

/* One thread in a sandbox, and the next one not. */
static int raw_refused(struct raw *thread)
{
	CHECK_IS(filter_call(SYS_rseq, REFUSE(EPERM)), 0);
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_UNAVAILABLE);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_RELEASED);
	return 7;
}

static void refusal_is_the_threads_own(void)
{
	struct raw *thread;
	CHECK_IS(rseq_rt_init(NULL), 0);
	thread = raw_start(raw_refused, NULL);
	raw_join(thread);
	CHECK_IS(thread->outcome, 7);
	CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_UNDECIDED);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_REGISTERED);
	CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_RUNTIME);
	raw_free(thread);
}

int main(void)
{
	const struct row *row;
	int hook;
	for (row = rows; row < rows + sizeof rows / sizeof *rows; row++)
		for (hook = 0; hook < HOOKS; hook++) {
			int before = failures;
			filtered(row, hook);
			printf("%s, %s: %s\n", row->name, hooks[hook], failures == before ? "passed" : "failed");
		}
	RUN(refusal_is_the_threads_own);
	return failures != 0;
}
