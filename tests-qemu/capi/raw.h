/* Threads as a libc makes them: clone(2), a mapping with area and stack, clear-tid. */
#ifndef RAW_H
#define RAW_H

#include <stddef.h>
#include "rseq_rt.h"

#define RAW_SIZE (64 * 1024)

struct raw {
	rseq_rt_area area;
	/* An area registered by other code. */
	unsigned char other[32] __attribute__((__aligned__(32)));
	struct rseq_rt_at_exit callbacks;
	int clear_tid;
	int (*body)(struct raw *);
	void *argument;
	int outcome;
};

/* Starts body in a new mapping, with all signals blocked. With detached, clear-tid is left to body's end. */
struct raw *raw_start(int (*body)(struct raw *), void *argument);

/* Waits for clear-tid; the mapping stays. */
void raw_join(struct raw *thread);

void raw_free(struct raw *thread);

/* The kernel's count of threads in this process. */
int tasks(void);

/* rt_sigprocmask(2) on all 64 signals. Returns the previous mask. */
unsigned long mask_set(unsigned long mask);

#endif
