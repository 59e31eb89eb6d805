/* What the parts of the fuzzer share. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>

#include <rseq_rt.h>

/* Ends the process, as one that has failed, unless both are equal. */
void fuzz_is(long seen, long expected, const char *what);

#define FUZZ_TEXT_OF(line) #line
#define FUZZ_TEXT(line) FUZZ_TEXT_OF(line)
#define IS(seen, expected) fuzz_is((long)(seen), (long)(expected), __FILE__ ":" FUZZ_TEXT(__LINE__) ": " #seen)

/* The way in which the interface is broken, 0 for none; and whether a failure is to be silent. */
extern int fuzz_broken, fuzz_quiet;

/* Makes the calls of an input. The process ends with 0 if all was right. */
void fuzz_run(const unsigned char *input, size_t length);

/* One call of the structures, by a thread with this area, or none, or one that is none. */
void fuzz_structures(const rseq_rt_area *area, unsigned operand);

/* Whether all is there that was put in. */
void fuzz_structures_end(void);

#endif
