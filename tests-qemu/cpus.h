#ifndef CPUS_H
#define CPUS_H

#include <sched.h>
#include <string.h>

/* The maximum number of CPUs of a kernel: a cpu_set_t has room for 1024, which a kernel with more refuses. */
#define CPUS 8192

struct cpus {
	unsigned long words[CPUS / 8 / sizeof(long)];
};

static inline int has_cpu(const struct cpus *set, int cpu)
{
	return set->words[cpu / 64] >> cpu % 64 & 1;
}

/* Whether it has more than one. */
static inline int several_cpus(const struct cpus *set)
{
	int cpu, count = 0;
	for (cpu = 0; cpu < CPUS; cpu++)
		count += has_cpu(set, cpu);
	return count > 1;
}

/* sched_getaffinity of the calling thread. */
static inline int allowed_cpus(struct cpus *set)
{
	memset(set, 0, sizeof *set);
	return sched_getaffinity(0, sizeof *set, (cpu_set_t *)set);
}

/* sched_setaffinity of a thread, 0 for the calling one. */
static inline int allow_cpus(int tid, const struct cpus *set)
{
	return sched_setaffinity(tid, sizeof *set, (const cpu_set_t *)set);
}

static inline int move_to_cpu(int tid, int cpu)
{
	struct cpus one;
	memset(&one, 0, sizeof one);
	one.words[cpu / 64] = 1UL << cpu % 64;
	return allow_cpus(tid, &one);
}

#endif
