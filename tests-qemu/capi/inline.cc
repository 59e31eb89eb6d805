#include "inline.h"

static operation *const here[] = { both, Slot<long>::add };

int main()
{
	const struct rseq_rt_slots none = { NULL, 0 };

	for (int i = 0; i < 2; i++)
		if (here[i] != other_unit()[i] || here[i](NULL, none) % RSEQ_RT_OUT_OF_RANGE)
			return 1;
	return 0;
}
