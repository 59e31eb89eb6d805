/* Operations in inline functions that both units of a program contain; the linker keeps one copy. */
#include "rseq_rt_percpu.h"

inline int both(struct rseq *rseq, struct rseq_rt_slots slots)
{
	return rseq_rt_percpu_add(rseq, slots, 0, 1) + rseq_rt_percpu_compare_and_store(rseq, slots, 0, 1, 2);
}

template <class Word> struct Slot {
	static int add(struct rseq *rseq, struct rseq_rt_slots slots)
	{
		return rseq_rt_percpu_add_release(rseq, slots, sizeof(Word), 1);
	}
};

typedef int operation(struct rseq *, struct rseq_rt_slots);
operation *const *other_unit();
