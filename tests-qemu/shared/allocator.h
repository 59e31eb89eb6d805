/* The allocator that asks for rseq. */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

/* Whether it asks; and how many of its calls were made inside one another at most. */
extern int allocator_asks, allocator_deepest;

/* RSEQ_RT_*, of the calling thread. */
int allocator_state(void);

#endif
