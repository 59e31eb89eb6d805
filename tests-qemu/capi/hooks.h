/* Shared by the test files. */
#ifndef HOOKS_H
#define HOOKS_H

#include "raw.h"

#define ROUNDS 200

/* The expected owner of rseq, and the state of a live thread under it. */
extern int owner, live;

extern rseq_rt_area main_area;

/* The calling thread moves to every CPU and compares. */
void agrees_with_getcpu(rseq_rt_area *area);

void raw_threads_keep(void);
void raw_threads_release(void);
void raw_threads_unmap_themselves(void);
void unmap_without_proof_leaks(void);
void unmap_while_registered_dies(void);
void pthreads_keep(void);

void vfork_loop(void);
void loans_nest_and_end_in_any_order(void);
void more_loans_than_can_be_told_apart(void);
void fork_child_repairs(void);

#endif
