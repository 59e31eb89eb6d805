/* With RSEQ_RT_DEBUG each argument that is wrong is named: by the assertion of a child that ends with it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#undef NDEBUG
#include "rseq_rt_percpu.h"

static uintptr_t storage[2][16] __attribute__((__aligned__(128)));
static rseq_rt_area area;
static int wrong;

/* Runs the operation in a child, which is to say the name. Nobody is registered: an assertion comes before that matters. */
#define NAMES(name, operation) do { \
	char text[1024] = ""; \
	int ends[2], status = 0; \
	size_t length = 0; \
	ssize_t got; \
	pid_t child; \
	if (pipe(ends)) \
		return 2; \
	child = fork(); \
	if (!child) { \
		dup2(ends[1], 2); \
		_exit((operation) == RSEQ_RT_OUT_OF_RANGE ? 0 : 1); \
	} \
	close(ends[1]); \
	while ((got = read(ends[0], text + length, sizeof text - 1 - length)) > 0) \
		length += (size_t)got; \
	close(ends[0]); \
	waitpid(child, &status, 0); \
	if (*name ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(text, "ssertion") || !strstr(text, name) : status) { \
		printf("line %d: \"%s\", status %x: %s\n", __LINE__, name, (unsigned)status, text); \
		wrong = 1; \
	} \
} while (0)

static void *misaligned(void *pointer)
{
	return (char *)pointer + 1;
}

int main(void)
{
	struct rseq_rt_slots none = { NULL, 0 }, slots, null = { NULL, 1 }, odd = { NULL, 1 }, many = { NULL, 0x80000000 };
	struct rseq *rseq = NULL, *odd_rseq = (struct rseq *)misaligned(&area);
	uintptr_t link;
	void *popped;

	if (rseq_rt_slots_init(&slots, storage, sizeof *storage, 2))
		return 2;
	odd.base = misaligned(storage);
	many.base = storage;

	NAMES("slots", rseq_rt_slots_init(NULL, storage, sizeof *storage, 2));
	NAMES("base", rseq_rt_slots_init(&slots, null.base, sizeof *storage, 2));
	NAMES("base", rseq_rt_slots_init(&slots, odd.base, sizeof *storage, 2));
	NAMES("stride", rseq_rt_slots_init(&slots, storage, 96, 2));
	NAMES("count", rseq_rt_slots_init(&slots, storage, sizeof *storage, 0));
	NAMES("count", rseq_rt_slots_init(&slots, storage, sizeof *storage, 0x80000000));
	NAMES("", rseq_rt_percpu_add(rseq, slots, 120, 1));
	NAMES("", rseq_rt_percpu_add(rseq, none, 120, 1));
	NAMES("rseq", rseq_rt_percpu_add(odd_rseq, slots, 0, 1));
	NAMES("slots.base", rseq_rt_percpu_add(rseq, null, 0, 1));
	NAMES("slots.base", rseq_rt_percpu_add(rseq, odd, 0, 1));
	NAMES("slots.count", rseq_rt_percpu_add(rseq, many, 0, 1));
	NAMES("word", rseq_rt_percpu_add(rseq, slots, 4, 1));
	NAMES("word", rseq_rt_percpu_add_through(rseq, slots, 128, 0, 1));
	NAMES("word", rseq_rt_percpu_compare_and_store(rseq, slots, (size_t)-8, 0, 1));
	NAMES("second", rseq_rt_percpu_compare_two_and_store(rseq, slots, 0, 0, 12, 0, 1));
	NAMES("second", rseq_rt_percpu_compare_two_and_store(rseq, slots, 0, 0, 128, 0, 1));
	NAMES("", rseq_rt_percpu_compare_store_and_store(rseq, slots, 0, 0, 8, 0, 1));
	NAMES("second", rseq_rt_percpu_compare_store_and_store(rseq, slots, 8, 0, 8, 0, 1));
	NAMES("link", rseq_rt_percpu_compare_link_and_store(rseq, slots, 0, 0, NULL, 1));
	NAMES("link", rseq_rt_percpu_compare_link_and_store(rseq, slots, 0, 0, (uintptr_t *)misaligned(&link), 1));
	NAMES("", rseq_rt_percpu_pop(rseq, slots, 0, NULL, 0, &popped));
	NAMES("popped", rseq_rt_percpu_pop(rseq, slots, 0, NULL, 0, NULL));
	NAMES("popped", rseq_rt_percpu_pop(rseq, slots, 0, NULL, 0, (void **)misaligned(&popped)));
	NAMES("", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 8, storage, 120, 1));
	NAMES("", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 120, 0, 0, storage, 120, 1));
	NAMES("", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 0, NULL, 0, 1));
	NAMES("offset", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 129, storage, 0, 1));
	NAMES("source", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 8, NULL, 1, 1));
	NAMES("length", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 120, storage, 9, 1));
	NAMES("word", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 0, 0, 7, storage, 1, 1));
	NAMES("word", rseq_rt_percpu_compare_copy_and_store(rseq, slots, 16, 0, 8, storage, 9, 1));
	return wrong;
}
