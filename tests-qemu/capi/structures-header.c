/* Compiled as C89 and C++: the header alone, then each of its names, refused. */
#include "rseq_rt_structures.h"

static struct rseq_rt_line lines[2];
static struct rseq_rt_counter counter;
static struct rseq_rt_list list;
static struct rseq_rt_fence fence;

/* The storage is written to: what takes it must not take a const one. */
static int (*const counter_init)(struct rseq_rt_counter *, struct rseq_rt_line *, size_t) = rseq_rt_counter_init;
static int (*const list_init)(struct rseq_rt_list *, struct rseq_rt_line *, size_t) = rseq_rt_list_init;

static void each(struct rseq_rt_node *node, void *argument)
{
	(void)node;
	(void)argument;
}

int main(void)
{
	struct rseq_rt_node *node = 0;
	int right = 1;

	right &= counter_init(0, lines, 2) == -14 && rseq_rt_counter_init(&counter, 0, 2) == -14;
	right &= rseq_rt_counter_init(&counter, lines, 0) == -22 && rseq_rt_counter_add(0, 0, 1) == -14;
	right &= rseq_rt_counter_sum(0) == 0 && list_init(0, lines, 2) == -14;
	right &= rseq_rt_list_init(&list, lines, 0) == -22 && rseq_rt_list_init(&list, lines, ~0ul / 2) == -75;
	right &= rseq_rt_list_init(&list, lines, 2) == 0 && rseq_rt_list_push(&list, 0, 0) == -14;
	right &= rseq_rt_list_push(0, 0, node) == -14 && rseq_rt_list_pop(&list, 0, 0) == -14;
	right &= rseq_rt_list_pop(&list, 0, &node) == -2 && node == 0;
	right &= rseq_rt_fence_register(0) == -14 && rseq_rt_fence_abort(0, 0) == -14;
	right &= rseq_rt_fence_register(&fence) >= 0;
	right &= rseq_rt_list_drain(&list, &fence, 2, each, 0) == -22;
	right &= rseq_rt_list_drain(&list, &fence, 0, 0, 0) == -14 && rseq_rt_list_drain(&list, 0, 0, each, 0) == -14;
	right &= rseq_rt_list_drain_overflow(&list, 0, 0) == -14 && rseq_rt_list_drain_overflow(&list, each, 0) == 0;
	right &= rseq_rt_list_repair_in_fork_child(0) == -14 && rseq_rt_list_repair_in_fork_child(&list) == 0;
	return !right;
}
