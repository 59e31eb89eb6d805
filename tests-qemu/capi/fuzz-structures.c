/* The fuzzer's calls of the counter, the list and the fence. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdint.h>

#include <rseq_rt_structures.h>

#include "fuzz.h"

enum { LINES = 64, NODES = 5 };

static struct rseq_rt_line counter_lines[LINES], list_lines[LINES];
static struct rseq_rt_counter counter;
static struct rseq_rt_list list;
static struct rseq_rt_fence fence;
static struct rseq_rt_node nodes[NODES];
static int has_counter, has_list, has_fence;
static int is_in[NODES];	/* the list */
static size_t sum;

/* Invalid storage, of which no structure can be made. */
static void no_storage(void)
{
	struct rseq_rt_line *odd = (struct rseq_rt_line *)((char *)counter_lines + 8);
	IS(rseq_rt_counter_init(NULL, counter_lines, LINES), -EFAULT);
	IS(rseq_rt_counter_init((struct rseq_rt_counter *)((char *)&counter + 8), counter_lines, LINES), -EINVAL);
	IS(rseq_rt_counter_init(&counter, NULL, LINES), -EFAULT);
	IS(rseq_rt_counter_init(&counter, odd, LINES), -EINVAL);
	IS(rseq_rt_counter_init(&counter, counter_lines, 0), -EINVAL);
	IS(rseq_rt_counter_init(&counter, counter_lines, SIZE_MAX), -EOVERFLOW);
	IS(rseq_rt_list_init(NULL, list_lines, LINES), -EFAULT);
	IS(rseq_rt_list_init((struct rseq_rt_list *)((char *)&list + 1), list_lines, LINES), -EINVAL);
	IS(rseq_rt_list_init(&list, NULL, LINES), -EFAULT);
	IS(rseq_rt_list_init(&list, odd, LINES), -EINVAL);
	IS(rseq_rt_list_init(&list, list_lines, 0), -EINVAL);
	IS(rseq_rt_list_init(&list, list_lines, SIZE_MAX), -EOVERFLOW);
	IS(rseq_rt_fence_register(NULL), -EFAULT);
}

static void back(struct rseq_rt_node *node, void *argument)
{
	long nth = node - nodes;
	IS(argument == &list, 1);
	IS(nth >= 0 && nth < NODES && is_in[nth], 1);
	is_in[nth] = 0;
}

static void nothing_given(const rseq_rt_area *area)
{
	struct rseq_rt_node *node;
	IS(rseq_rt_counter_add(NULL, area, 1), -EFAULT);
	IS(rseq_rt_counter_add((struct rseq_rt_counter *)((char *)&counter + 4), area, 1), -EINVAL);
	IS(rseq_rt_counter_sum(NULL), 0);
	IS(rseq_rt_list_push(NULL, area, nodes), -EFAULT);
	IS(rseq_rt_list_pop(NULL, area, &node), -EFAULT);
	IS(rseq_rt_list_drain(NULL, &fence, 0, back, &list), -EFAULT);
	IS(rseq_rt_list_drain_overflow(NULL, back, &list), -EFAULT);
	IS(rseq_rt_list_repair_in_fork_child(NULL), -EFAULT);
	IS(rseq_rt_fence_abort(NULL, 0), -EFAULT);
	if (!has_list)
		return;
	IS(rseq_rt_list_push(&list, area, NULL), -EFAULT);
	IS(rseq_rt_list_push(&list, area, (struct rseq_rt_node *)((char *)nodes + 1)), -EINVAL);
	IS(rseq_rt_list_pop(&list, area, NULL), -EFAULT);
	IS(rseq_rt_list_drain(&list, NULL, 0, back, &list), -EFAULT);
	IS(rseq_rt_list_drain_overflow(&list, NULL, &list), -EFAULT);
	if (has_fence) {
		IS(rseq_rt_list_drain(&list, &fence, 0, NULL, &list), -EFAULT);
		IS(rseq_rt_list_drain(&list, &fence, LINES, back, &list), -EINVAL);
		IS(rseq_rt_list_drain(&list, &fence, SIZE_MAX, back, &list), -EINVAL);
	}
}

static void begin(void)
{
	if (!has_counter)
		IS(rseq_rt_counter_init(&counter, counter_lines, LINES), 0);
	if (!has_list)
		IS(rseq_rt_list_init(&list, list_lines, LINES), 0);
	has_counter = has_list = 1;
}

static int how_many(void)
{
	int nth, count = 0;
	for (nth = 0; nth < NODES; nth++)
		count += is_in[nth];
	return count;
}

static void push_or_pop(const rseq_rt_area *area, unsigned nth)
{
	struct rseq_rt_node *node = NULL;
	int answer;
	if (!is_in[nth]) {
		is_in[nth] = 1;
		IS(rseq_rt_list_push(&list, area, &nodes[nth]), 0);
		return;
	}
	answer = rseq_rt_list_pop(&list, area, &node);
	if (answer == 0)
		back(node, &list);
	else
		IS(answer, -ENOENT);
}

static void drain(size_t slot)
{
	int before = how_many(), answer = rseq_rt_list_drain(&list, &fence, slot, back, &list);
	/* Refused by the kernel, or the returned number. */
	IS(before - how_many(), answer < 0 ? 0 : answer);
}

void fuzz_structures(const rseq_rt_area *area, unsigned operand)
{
	switch (operand % 8) {
	case 0:
		no_storage();
		break;
	case 1:
		nothing_given(area);
		break;
	case 2:
		begin();
		break;
	case 3:
		IS(rseq_rt_fence_register(&fence) >= 0, 1);
		has_fence = 1;
		break;
	case 4:
		if (has_list && has_fence)
			drain(operand / 8);
		break;
	default:
		begin();
		push_or_pop(area, operand % NODES);
		IS(rseq_rt_counter_add(&counter, area, operand), 0);
		sum += operand;
		IS(rseq_rt_counter_sum(&counter), sum);
	}
}

void fuzz_structures_end(void)
{
	struct rseq_rt_node *node;
	if (!has_list)
		return;
	rseq_rt_list_drain_overflow(&list, back, &list);
	while (rseq_rt_list_pop(&list, NULL, &node) == 0)
		back(node, &list);
	IS(rseq_rt_counter_sum(&counter), sum);
}
