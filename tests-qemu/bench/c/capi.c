/*
 * capi.c - the C interface's own calls, where this runtime owns rseq.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#include "line.h"

#include <rseq_rt.h>
#include <sys/auxv.h>

static rseq_rt_area area = RSEQ_RT_AREA_INIT;

static void cpu(unsigned long turns)
{
	for (turns = (turns + 7) / 8; turns--;)
		EIGHT_TIMES(keep(rseq_rt_cpu(&area)));
}

static void cpu_by_load(unsigned long turns)
{
	for (turns = (turns + 7) / 8; turns--;)
		EIGHT_TIMES(keep(rseq_rt_cpu_by_load(&area)));
}

int main(void)
{
	unsigned long auxv[] = { 27, getauxval(27), 28, getauxval(28), 0, 0 };

	pin();
	if (rseq_rt_init(auxv) || rseq_rt_on_thread_create(&area))
		return 1;
	if (rseq_rt_thread_state(&area) != RSEQ_RT_REGISTERED)
		return 3;
	tell("CPU number", cpu, "rseq_rt_cpu(&area) of the C archive: a call, then as current_cpu");
	tell_as("CPU number", "C interface, inline", cpu_by_load, "rseq_rt_cpu_by_load(&area) of the C header");
	return 0;
}
