/* The allocator that queries rseq. */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

/* Whether it queries; and the maximum nesting of its calls. */
extern int allocator_asks, allocator_deepest;

/* RSEQ_RT_*, of the calling thread. */
int allocator_state(void);

#endif
