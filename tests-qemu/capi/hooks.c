/*
 * The hooks from C, under a glibc whose own registration is off ("runtime") or on ("libc").
 * Each test prints its name and verdict; the status is 1 if one failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cpus.h"
#include "auxv.h"
#include "check.h"
#include "hooks.h"

int failures;

rseq_rt_area main_area = RSEQ_RT_AREA_INIT;
int owner, live;

static void layout_agrees(void)
{
	static const unsigned expected[RSEQ_RT_LAYOUT_COUNT] = RSEQ_RT_LAYOUT;
	CHECK_IS(memcmp(expected, rseq_rt_layout, sizeof expected), 0);
}

static void before_init(void)
{
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_UNDECIDED);
	CHECK_IS(rseq_rt_on_thread_create(&area), -EINVAL);
	CHECK_IS(rseq_rt_ensure_registered(&area), -EINVAL);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_UNREGISTERED);
	CHECK_IS(rseq_rt_init_flags(NULL, 0x80000000u), -EINVAL);
	CHECK_IS(rseq_rt_init((const unsigned long *)((const char *)auxv() + 1)), -EINVAL);
}

static void init_and_main_thread(void)
{
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_init(auxv()), -EALREADY);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), -EALREADY);
	CHECK_IS(rseq_rt_owner(), owner);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_IS(rseq_rt_ensure_registered(&main_area), live);
	CHECK_IS(rseq_rt_thread_errno(&main_area), 0);
	CHECK(rseq_rt_feature_size() >= 20);
	CHECK_IS(rseq_rt_length() >= 32, owner == RSEQ_RT_OWNER_RUNTIME);
}

/* Buffers of every size: the output is a prefix of the whole text, and nothing behind it is touched. */
static void report_is_cut_to_the_buffer(void)
{
	static const char *const owners[] = { "undecided", "nobody", "libc", "this runtime" };
	char whole[1024], part[sizeof whole], line[64];
	int length = rseq_rt_report(&main_area, whole, sizeof whole);
	size_t size, i;
	CHECK(length > 0 && (size_t)length < sizeof whole);
	CHECK_IS(strlen(whole), length);
	snprintf(line, sizeof line, "owner: %s\n", owners[owner]);
	CHECK_IS(strncmp(whole, line, strlen(line)), 0);
	snprintf(line, sizeof line, "thread: registered by %s\n", owner == RSEQ_RT_OWNER_LIBC ? "the libc" : "this runtime");
	CHECK(strstr(whole, line));
	snprintf(line, sizeof line, "feature size %u ", rseq_rt_feature_size());
	CHECK(strstr(whole, line));
	snprintf(line, sizeof line, "length %u,", rseq_rt_length());
	CHECK_IS(strstr(whole, line) != NULL, owner == RSEQ_RT_OWNER_RUNTIME);
	for (size = 0; size <= (size_t)length + 2; size++) {
		size_t room = size > (size_t)length ? (size_t)length : size ? size - 1 : 0;
		memset(part, '#', sizeof part);
		CHECK_IS(rseq_rt_report(&main_area, part, size), length);
		CHECK_IS(memcmp(part, whole, room), 0);
		CHECK_IS(part[room], size ? 0 : '#');
		for (i = room + 1; i < sizeof part; i++)
			CHECK_IS(part[i], '#');
	}
	CHECK_IS(rseq_rt_report(&main_area, NULL, 0), length);
	CHECK_IS(rseq_rt_remedy(&main_area, RSEQ_RT_OF_THREAD), RSEQ_RT_REMEDY_NONE);
	CHECK_IS(rseq_rt_remedy(&main_area, RSEQ_RT_OF_SLICE),
		 owner == RSEQ_RT_OWNER_LIBC ? RSEQ_RT_REMEDY_LIBC_OFF : RSEQ_RT_REMEDY_ASK_FOR_SLICE);
	CHECK_IS(rseq_rt_remedy(&main_area, RSEQ_RT_OF_SLICE + 1), -EINVAL);
	CHECK_IS(rseq_rt_remedy(NULL, RSEQ_RT_OF_THREAD), -EFAULT);
	CHECK_IS(rseq_rt_report(&main_area, NULL, 1), -EFAULT);
	CHECK_IS(rseq_rt_report(NULL, whole, sizeof whole), -EFAULT);
	CHECK_IS(rseq_rt_report((rseq_rt_area *)((char *)&main_area + 1), whole, sizeof whole), -EINVAL);
}

static int keep(rseq_rt_area *area)
{
	return rseq_rt_on_thread_exit(area, RSEQ_RT_KEEP);
}

static int keep_masked(rseq_rt_area *area)
{
	return rseq_rt_on_thread_exit_masked(area, RSEQ_RT_KEEP);
}

static int release(rseq_rt_area *area)
{
	return rseq_rt_on_thread_exit(area, RSEQ_RT_RELEASE);
}

static int release_masked(rseq_rt_area *area)
{
	return rseq_rt_on_thread_exit_masked(area, RSEQ_RT_RELEASE);
}

/* Every function with every invalid pointer, and with areas in the wrong state. */
static void bad_input(void)
{
	static int (*const functions[])(rseq_rt_area *) = {
		rseq_rt_on_thread_create, rseq_rt_on_thread_create_masked, rseq_rt_ensure_registered, rseq_rt_vfork_begin,
		rseq_rt_repair_in_fork_child, keep, keep_masked, release, release_masked, rseq_rt_recycle,
	};
	static int (*const readers[])(const rseq_rt_area *) = {
		rseq_rt_thread_state, rseq_rt_thread_errno, rseq_rt_cpu, rseq_rt_registered_cpu, rseq_rt_node, rseq_rt_mm_cid,
	};
	static rseq_rt_area two[2], zero;
	struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
	size_t i, off;
	int token;
	for (i = 0; i < sizeof functions / sizeof *functions; i++) {
		CHECK_IS(functions[i](NULL), -EFAULT);
		for (off = 1; off < 64; off++)
			CHECK_IS(functions[i]((rseq_rt_area *)((char *)two + off)), -EINVAL);
	}
	for (i = 0; i < sizeof readers / sizeof *readers; i++) {
		CHECK_IS(readers[i](NULL), -EFAULT);
		for (off = 1; off < 64; off++)
			CHECK_IS(readers[i]((rseq_rt_area *)((char *)two + off)), -EINVAL);
	}
	/* Never created. */
	for (i = 5; i < 10; i++)
		CHECK_IS(functions[i](&two[0]), -EINVAL);
	CHECK_IS(rseq_rt_on_thread_exit(&main_area, 2), -EINVAL);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&main_area, ~0u), -EINVAL);
	/* A child must not register it, so it can be lent all the same. */
	token = rseq_rt_vfork_begin(&two[0]);
	CHECK_IS(token, 1);
	CHECK_IS(rseq_rt_ensure_registered(&two[0]), RSEQ_RT_LENT);
	CHECK_IS(rseq_rt_on_thread_create(&two[0]), -EBUSY);
	CHECK_IS(keep(&two[0]), -EBUSY);
	CHECK_IS(rseq_rt_recycle(&two[0]), -EBUSY);
	CHECK_IS(rseq_rt_vfork_end(&two[0], token), 0);
	CHECK_IS(rseq_rt_vfork_end(NULL, 0), -EFAULT);
	CHECK_IS(memcmp(two, &zero, sizeof zero), 0);
	CHECK_IS(memcmp(two + 1, &zero, sizeof zero), 0);
	/* Bytes written by other code are not touched. */
	memset(&two[1], 0xff, sizeof two[1]);
	CHECK(rseq_rt_on_thread_create(&two[1]) < 0);
	CHECK(release(&two[1]) < 0);
	for (i = 0; i < sizeof zero; i++)
		CHECK_IS(two[1].rseq_rt_opaque[i], 0xff);
	/* A live area is not recycled, whoever has registered it. */
	CHECK_IS(rseq_rt_recycle(&main_area), -EBUSY);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_IS(rseq_rt_at_exit_push(NULL, NULL, NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, NULL, NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_run(NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_run((struct rseq_rt_at_exit *)((char *)&callbacks + 4)), -EINVAL);
}

void agrees_with_getcpu(rseq_rt_area *area)
{
	struct cpus all;
	int number;
	allowed_cpus(&all);
	for (number = 0; number < CPUS; number++) {
		unsigned cpu, node;
		if (!has_cpu(&all, number))
			continue;
		CHECK_IS(move_to_cpu(0, number), 0);
		syscall(SYS_getcpu, &cpu, &node, NULL);
		CHECK_IS(cpu, number);
		CHECK_IS(rseq_rt_cpu(area), cpu);
		CHECK_IS(rseq_rt_registered_cpu(area), rseq_rt_thread_state(area) == RSEQ_RT_REGISTERED ? (int)cpu : -ENOSYS);
		CHECK_IS(rseq_rt_cpu_by_load(area), rseq_rt_thread_state(area) == RSEQ_RT_REGISTERED ? (int)cpu : -1);
		CHECK_IS(rseq_rt_node(area), node);
		CHECK_IS(rseq_rt_mm_cid(area) >= 0, rseq_rt_feature_size() >= 28);
	}
	allow_cpus(0, &all);
}

static void cpu_after_moves(void)
{
	agrees_with_getcpu(&main_area);
}

static struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
static char order[16];

static void note(void *letter)
{
	order[strlen(order)] = *(char *)letter;
	if (*(char *)letter == 'h')
		CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, (void *)"x"), 0);
}

static void at_exit_order(void)
{
	static char letters[] = "abcdefgh";
	int i;
	for (i = 0; i < RSEQ_RT_AT_EXIT_CAPACITY; i++)
		CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters + i), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters), -ENOMEM);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(strcmp(order, "hxgfedcba"), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters), -ESRCH);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(strlen(order), 9);
}

static void main_thread_leaves(void)
{
	CHECK_IS(release(&main_area), RSEQ_RT_RELEASED);
	CHECK_IS(rseq_rt_thread_state(&main_area), RSEQ_RT_EXITING);
	CHECK(rseq_rt_cpu(&main_area) >= 0);
	CHECK_IS(rseq_rt_registered_cpu(&main_area), -ENOSYS);
	CHECK_IS(rseq_rt_cpu_by_load(&main_area), -1);
}

int main(int count, char **arguments)
{
	int libc = count == 2 && strcmp(arguments[1], "libc") == 0;
	owner = libc ? RSEQ_RT_OWNER_LIBC : RSEQ_RT_OWNER_RUNTIME;
	live = libc ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED;
	RUN(layout_agrees);
	RUN(before_init);
	RUN(init_and_main_thread);
	RUN(report_is_cut_to_the_buffer);
	RUN(bad_input);
	RUN(cpu_after_moves);
	RUN(raw_threads_keep);
	RUN(raw_threads_release);
	RUN(raw_threads_unmap_themselves);
	RUN(unmap_without_proof_leaks);
	RUN(pthreads_keep);
	RUN(vfork_loop);
	RUN(loans_nest_and_end_in_any_order);
	RUN(more_loans_than_can_be_told_apart);
	RUN(fork_child_repairs);
	RUN(at_exit_order);
	if (!libc)
		RUN(unmap_while_registered_dies);
	RUN(main_thread_leaves);
	return failures != 0;
}
