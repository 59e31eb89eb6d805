/* Named tests that print their verdict. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <sys/wait.h>

extern int failures;

/* Reports a failed check, and continues the test. */
#define CHECK_IS(actual, expected) do { \
	long actual_ = (long)(actual), expected_ = (long)(expected); \
	if (actual_ != expected_) { \
		__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED); \
		fprintf(stderr, "%s:%d: %s is %ld, not %ld\n", __FILE__, __LINE__, #actual, actual_, expected_); \
	} \
} while (0)

#define CHECK(condition) CHECK_IS(!!(condition), 1)

/* The child ends with this status of waitpid(2). */
#define CHECK_ENDS(child, expected) do { \
	int status_ = -1; \
	CHECK_IS(waitpid(child, &status_, 0), child); \
	CHECK_IS(status_, expected); \
} while (0)

/* Runs one test: a name on the left of its verdict. */
#define RUN(test) do { \
	int before_ = failures; \
	test(); \
	printf("%s: %s\n", #test, failures == before_ ? "passed" : "failed"); \
	fflush(stdout); \
} while (0)

/* A test that cannot run here, and why. */
#define SKIP(test, why) do { \
	printf("%s: skipped: %s\n", #test, why); \
	fflush(stdout); \
} while (0)

#endif
