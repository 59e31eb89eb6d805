/* The fuzzer's calls of the hooks, and a model of the caller's knowledge. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rseq_rt.h>
#include <rseq_rt_percpu.h>

#include "../cpus.h"
#include "fuzz.h"

enum { AREAS = 3, NONE = -1 };

/* The caller's knowledge of an area. */
struct model {
	int created, touched, exiting, kept;
	unsigned loans;		/* a bit each */
	int outcome;		/* of the registration */
};

static rseq_rt_area areas[AREAS + 1];
static struct model models[AREAS];
static int initialized, disabled;
static int registered = NONE;	/* the area that the kernel writes to */
static int usual = NONE;	/* what a registration comes to in this process */
int fuzz_broken, fuzz_quiet;
static int cpu = NONE;		/* where the thread is pinned to */

/* A pointer with the area behind it, or the errno that it is refused with. */
struct given {
	rseq_rt_area *area;
	struct model *model;
	int nth, refused;
};

void fuzz_is(long seen, long expected, const char *what)
{
	if (seen == expected)
		return;
	if (!fuzz_quiet)
		printf("%s: %ld, not %ld\n", what, seen, expected);
	fflush(stdout);
	_exit(1);
}

static struct given give(unsigned operand)
{
	struct given given = { NULL, NULL, NONE, -EFAULT };
	unsigned nth = operand % 8;
	if (nth == 0)
		return given;
	if (nth == 1) {
		given.area = (rseq_rt_area *)((char *)areas + 1 + operand / 8);
		given.refused = -EINVAL;
		return given;
	}
	given.nth = (int)nth % AREAS;
	given.area = &areas[given.nth];
	given.model = &models[given.nth];
	given.refused = 0;
	return given;
}

static int state_of(const struct model *model)
{
	if (model->exiting)
		return RSEQ_RT_EXITING;
	if (model->loans)
		return RSEQ_RT_LENT;
	return model->outcome;
}

static rseq_rt_area before[AREAS + 1];
static sigset_t mask_before;

/* Zero where the libc reports nothing. */
static void read_mask(sigset_t *mask)
{
	memset(mask, 0, sizeof *mask);
	sigprocmask(SIG_SETMASK, NULL, mask);
}

static void look(void)
{
	memcpy(before, areas, sizeof areas);
	read_mask(&mask_before);
}

/* Only the ids change by themselves, and only in a registered area. */
static void nothing_changed(void)
{
	sigset_t mask;
	int i;
	for (i = 0; i <= AREAS; i++) {
		size_t from = i == registered ? 32 : 0;
		IS(memcmp((char *)&areas[i] + from, (char *)&before[i] + from, sizeof areas[i] - from), 0);
	}
	read_mask(&mask);
	IS(memcmp(&mask, &mask_before, sizeof mask), 0);
}

static void refused(long seen, int expected)
{
	IS(seen, expected);
	nothing_changed();
}

static int all_blocked(void)
{
	sigset_t mask;
	read_mask(&mask);
	return sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGSYS);
}

static void set_mask(unsigned operand)
{
	sigset_t mask;
	sigemptyset(&mask);
	if (operand % 2) {
		sigfillset(&mask);
		sigdelset(&mask, SIGSYS);
	}
	sigprocmask(SIG_SETMASK, &mask, NULL);
}

static void init(unsigned operand)
{
	static const unsigned long sizes[] = { 0, 19, 20, 28, 32, 33, 40, 63, 64, 65, 200, 65535, 65536, 1ul << 32, ~0ul, 3 };
	static const unsigned long aligns[] = { 0, 32, 64, ~0ul };
	unsigned long auxv[9] = { 6, 4096, 27, sizes[operand % 16], 28, aligns[operand / 16 % 4], 0, 0, 0 };
	const void *at = auxv;
	unsigned flags = operand % 16;
	int answer, is_wrong = 0;
	switch (operand / 64) {
	case 0:
		flags = 0;
		break;
	case 1:
		at = NULL;
		break;
	case 3:
		is_wrong = 1;
		if (operand % 2)
			at = (char *)auxv + 4;
		else
			flags |= 16u << operand % 28;
	}
	answer = flags == 0 ? rseq_rt_init(at) : rseq_rt_init_flags(at, flags);
	if (is_wrong) {
		refused(answer, -EINVAL);
	} else if (initialized) {
		refused(answer, -EALREADY);
	} else {
		IS(answer, 0);
		initialized = 1;
		disabled = flags & RSEQ_RT_DISABLED;
	}
}

/* A registration has been attempted. */
static void tried(struct given it)
{
	int state = rseq_rt_thread_state(it.area);
	it.model->touched = 1;
	it.model->outcome = state;
	if (disabled) {
		IS(state, RSEQ_RT_UNAVAILABLE);
	} else if (registered != NONE) {
		IS(state, RSEQ_RT_UNAVAILABLE);
		IS(rseq_rt_thread_errno(it.area), EBUSY);
	} else {
		IS(state == RSEQ_RT_REGISTERED || state == RSEQ_RT_REGISTERED_BY_LIBC || state == RSEQ_RT_UNAVAILABLE, 1);
		if (usual != NONE)
			IS(state, usual);
		usual = state;
		if (state == RSEQ_RT_REGISTERED)
			registered = it.nth;
	}
}

static int call_create(rseq_rt_area *area, int masked)
{
	int answer = masked ? rseq_rt_on_thread_create_masked(area) : rseq_rt_on_thread_create(area);
	if (fuzz_broken == 1 && answer == -EALREADY)
		return 0;
	if (fuzz_broken == 2 && answer == -EALREADY)
		area->rseq_rt_opaque[64] ^= 1;
	return answer;
}

static void create(unsigned operand)
{
	struct given it = give(operand);
	int answer = call_create(it.area, all_blocked() && operand & 64);
	if (it.refused) {
		refused(answer, it.refused);
	} else if (!initialized) {
		refused(answer, -EINVAL);
	} else if (it.model->exiting) {
		refused(answer, -ESRCH);
	} else if (it.model->loans) {
		refused(answer, -EBUSY);
	} else if (it.model->created) {
		refused(answer, -EALREADY);
	} else {
		sigset_t mask;
		IS(answer, 0);
		it.model->created = 1;
		if (!it.model->touched)
			tried(it);
		read_mask(&mask);
		IS(memcmp(&mask, &mask_before, sizeof mask), 0);
	}
}

static void ensure(unsigned operand)
{
	struct given it = give(operand);
	int answer = rseq_rt_ensure_registered(it.area);
	if (it.refused) {
		refused(answer, it.refused);
	} else if (state_of(it.model) == RSEQ_RT_UNREGISTERED && !it.model->touched) {
		if (!initialized) {
			refused(answer, -EINVAL);
			return;
		}
		tried(it);
		IS(answer, it.model->outcome);
	} else {
		refused(answer, state_of(it.model));
	}
}

static int call_exit(rseq_rt_area *area, unsigned mode, int masked)
{
	if (fuzz_broken == 3 && mode > RSEQ_RT_RELEASE)
		mode = RSEQ_RT_KEEP;
	return masked ? rseq_rt_on_thread_exit_masked(area, mode) : rseq_rt_on_thread_exit(area, mode);
}

static void leave(unsigned operand)
{
	static const unsigned modes[] = { RSEQ_RT_KEEP, RSEQ_RT_RELEASE, RSEQ_RT_RELEASE, 2, ~0u, 0x80000000u };
	struct given it = give(operand);
	unsigned mode = modes[operand / 8 % 6];
	int masked = all_blocked() && operand & 64;
	int answer = call_exit(it.area, mode, masked), taken;
	if (mode > RSEQ_RT_RELEASE) {
		refused(answer, -EINVAL);
	} else if (it.refused) {
		refused(answer, it.refused);
	} else if (it.model->exiting) {
		refused(answer, -ESRCH);
	} else if (it.model->loans) {
		refused(answer, -EBUSY);
	} else if (!it.model->touched) {
		refused(answer, -EINVAL);
	} else {
		taken = it.model->outcome == RSEQ_RT_UNAVAILABLE && rseq_rt_thread_errno(it.area) == EBUSY;
		IS(answer, mode == RSEQ_RT_KEEP || taken ? RSEQ_RT_KEPT : RSEQ_RT_RELEASED);
		if (mode == RSEQ_RT_RELEASE || it.model->outcome == RSEQ_RT_REGISTERED)
			IS(all_blocked(), 1);
		it.model->exiting = 1;
		it.model->kept = answer == RSEQ_RT_KEPT;
		if (answer == RSEQ_RT_RELEASED && registered == it.nth)
			registered = NONE;
	}
}

static void recycle(unsigned operand)
{
	struct given it = give(operand);
	/* The thread lives on, so that no new thread gets its kept memory. */
	if (it.model && it.model->kept)
		return;
	if (it.refused) {
		refused(rseq_rt_recycle(it.area), it.refused);
	} else if (it.model->exiting) {
		IS(rseq_rt_recycle(it.area), 0);
		memset(it.model, 0, sizeof *it.model);
	} else {
		int is_new = !it.model->loans && !it.model->touched;
		refused(rseq_rt_recycle(it.area), is_new ? -EINVAL : -EBUSY);
	}
}

static void lend(unsigned operand)
{
	struct given it = give(operand);
	int token = rseq_rt_vfork_begin(it.area), expected;
	if (it.refused) {
		refused(token, it.refused);
		return;
	}
	for (expected = 1; it.model->loans >> (expected - 1) & 1; expected++)
		;
	IS(token, expected > 7 ? 0 : expected);
	if (token)
		it.model->loans |= 1u << (token - 1);
}

static void end_loan(unsigned operand)
{
	static const int tokens[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 256, 257, -1, 1 << 30, -2147483647 - 1 };
	struct given it = give(operand);
	int token = tokens[operand / 8 % 16], answer = rseq_rt_vfork_end(it.area, token);
	if (it.refused) {
		refused(answer, it.refused);
	} else if (token == 0) {
		refused(answer, 0);
	} else if (token < 0 || token > 7 || !(it.model->loans >> (token - 1) & 1)) {
		refused(answer, -EINVAL);
	} else {
		IS(answer, 0);
		it.model->loans &= ~(1u << (token - 1));
	}
}

/* In a child, with its parent's loans outstanding. */
static void repair(unsigned operand)
{
	struct given it = give(operand);
	int status = NONE;
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		int answer = rseq_rt_repair_in_fork_child(it.area);
		if (it.model)
			it.model->loans = 0;
		IS(answer, it.refused ? it.refused : state_of(it.model));
		_exit(0);
	}
	if (child > 0) {
		waitpid(child, &status, 0);
		IS(status, 0);
	}
	nothing_changed();
}

static void read_all(unsigned operand)
{
	static int (*const readers[])(const rseq_rt_area *) = {
		rseq_rt_thread_state, rseq_rt_thread_errno, rseq_rt_cpu, rseq_rt_registered_cpu, rseq_rt_node, rseq_rt_mm_cid,
	};
	struct given it = give(operand);
	char text[64];
	size_t i, size = operand % sizeof text;
	int live, length;
	if (it.refused) {
		for (i = 0; i < sizeof readers / sizeof *readers; i++)
			IS(readers[i](it.area), it.refused);
		IS(rseq_rt_current(it.area) != NULL || rseq_rt_current_mm_cid(it.area) != NULL, 0);
		refused(rseq_rt_report(it.area, text, sizeof text), it.refused);
		return;
	}
	live = state_of(it.model) == RSEQ_RT_REGISTERED;
	IS(rseq_rt_thread_state(it.area), state_of(it.model));
	if (live)
		IS(rseq_rt_thread_errno(it.area), 0);
	IS(rseq_rt_thread_errno(it.area) >= 0 && rseq_rt_node(it.area) >= 0 && rseq_rt_cpu(it.area) >= 0, 1);
	if (cpu != NONE)
		IS(rseq_rt_cpu(it.area), cpu);
	IS(rseq_rt_registered_cpu(it.area) >= 0, live);
	IS(rseq_rt_cpu_by_load(it.area) >= 0, live);
	if (live)
		IS(it.nth, registered);
	else
		IS(rseq_rt_registered_cpu(it.area), -ENOSYS);
	if (rseq_rt_current(it.area))
		IS(live || state_of(it.model) == RSEQ_RT_REGISTERED_BY_LIBC, 1);
	length = rseq_rt_report(it.area, NULL, 0);
	IS(length > 0, 1);
	IS(rseq_rt_report(it.area, NULL, 1 + size), -EFAULT);
	memset(text, '#', sizeof text);
	IS(rseq_rt_report(it.area, text, size), length);
	IS(text[size], '#');
	nothing_changed();
}

static void whole_process(unsigned operand)
{
	int owner = rseq_rt_owner();
	(void)operand;
	IS(owner >= RSEQ_RT_OWNER_UNDECIDED && owner <= RSEQ_RT_OWNER_RUNTIME, 1);
	if (!initialized)
		IS(owner, RSEQ_RT_OWNER_UNDECIDED);
	else if (disabled)
		IS(owner, RSEQ_RT_OWNER_NOBODY);
	else if (registered != NONE)
		IS(owner, RSEQ_RT_OWNER_RUNTIME);
	IS(rseq_rt_length() >= 32, owner == RSEQ_RT_OWNER_RUNTIME);
	IS(rseq_rt_sweep(), 0);
	rseq_rt_sections();
	if (operand % 4 == 0)
		rseq_rt_allow_sections();
	nothing_changed();
}

static struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
static int pushed, called, closed;

static void callback(void *argument)
{
	called++;
	IS((long)argument, pushed - called);
}

static void at_exit(unsigned operand)
{
	struct rseq_rt_at_exit *odd = (struct rseq_rt_at_exit *)((char *)&callbacks + 4);
	switch (operand % 16) {
	case 0:
		IS(rseq_rt_at_exit_push(NULL, callback, NULL), -EFAULT);
		IS(rseq_rt_at_exit_run(NULL), -EFAULT);
		break;
	case 1:
		IS(rseq_rt_at_exit_push(odd, callback, NULL), -EINVAL);
		IS(rseq_rt_at_exit_run(odd), -EINVAL);
		break;
	case 2:
		IS(rseq_rt_at_exit_push(&callbacks, NULL, NULL), -EFAULT);
		break;
	case 3:
		IS(rseq_rt_at_exit_run(&callbacks), 0);
		IS(called, pushed);
		closed = 1;
		break;
	default:
		IS(rseq_rt_at_exit_push(&callbacks, callback, (void *)(long)pushed),
			closed ? -ESRCH : pushed == RSEQ_RT_AT_EXIT_CAPACITY ? -ENOMEM : 0);
		if (!closed && pushed < RSEQ_RT_AT_EXIT_CAPACITY)
			pushed++;
	}
	nothing_changed();
}

static void structures(unsigned operand)
{
	struct given it = give(operand);
	/* An invalid pointer stands for a thread without an area. */
	fuzz_structures(it.area, operand / 8);
	nothing_changed();
}

static void (*const operations[])(unsigned operand) = {
	init, create, ensure, leave, recycle, lend, end_loan, repair, read_all, whole_process, at_exit, structures, set_mask,
	create, leave, recycle, end_loan, structures,
};

/* The last action of a thread; the memory is unused. */
static void end(unsigned operand)
{
	static char pages[2 * 4096] __attribute__((__aligned__(4096)));
	if (operand % 4 == 0)
		rseq_rt_unmap_and_exit(give(operand / 4).area, pages, sizeof pages);
	_exit(0);
}

void fuzz_run(const unsigned char *input, size_t length)
{
	size_t at;
	cpu = sched_getcpu();
	if (cpu < 0 || cpu >= CPUS || move_to_cpu(0, cpu) != 0)
		cpu = NONE;
	for (at = 0; at + 1 < length; at += 2) {
		look();
		operations[input[at] % (sizeof operations / sizeof *operations)](input[at + 1]);
	}
	fuzz_structures_end();
	end(length ? input[length - 1] : 1);
}
