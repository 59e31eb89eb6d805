/* Shared by the parts of the fuzzer. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>

#include <rseq_rt.h>

/* Ends the process as failed unless both are equal. */
void fuzz_is(long seen, long expected, const char *what);

#define FUZZ_TEXT_OF(line) #line
#define FUZZ_TEXT(line) FUZZ_TEXT_OF(line)
#define IS(seen, expected) fuzz_is((long)(seen), (long)(expected), __FILE__ ":" FUZZ_TEXT(__LINE__) ": " #seen)

/* How the interface is broken, 0: not; and whether a failure is silent. */
extern int fuzz_broken, fuzz_quiet;

/* Makes the calls of an input. The process exits with 0 if everything was right. */
void fuzz_run(const unsigned char *input, size_t length);

/* One call of the structures, by a thread with this area, without one, or with an invalid one. */
void fuzz_structures(const rseq_rt_area *area, unsigned operand);

/* Checks that everything put in is still there. */
void fuzz_structures_end(void);

#endif
