/* One program of many tests: each in its own process, so that a death affects only that test. */
#ifndef TEST_H
#define TEST_H

#include <errno.h>

struct test {
	const char *name;
	void (*run)(void);
};

/* One list per file, terminated by a null name. */
extern const struct test everywhere_tests[], exits_tests[], storm_tests[], sandbox_tests[],
	spawn_tests[], halfway_tests[], handlers_tests[], malloc_tests[], malloc_one_cpu_tests[], malloc_storm_tests[],
	sealed_tests[], off_tests[];

/* Records the first failure; the test continues. On any thread, in any process below the test's. */
void fail(const char *file, int line, const char *format, ...) __attribute__((__format__(__printf__, 3, 4)));

/* Not run, with the reason. */
void skip(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* A detail about a passed test. */
void tell(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#define CHECK_IS(actual, expected) do { \
	long actual_ = (long)(actual), expected_ = (long)(expected); \
	if (actual_ != expected_) \
		fail(__FILE__, __LINE__, "%s is %ld, not %ld", #actual, actual_, expected_); \
} while (0)

#define CHECK(condition) do { \
	if (!(condition)) \
		fail(__FILE__, __LINE__, "not so: %s", #condition); \
} while (0)

/* A number by kind of machine: real, emulated, process under qemu-user. */
int scaled(int native, int emulated, int user);

/* The program's path, or null where it cannot be executed anew. */
extern const char *program;

/* Limits address space to a few more stacks. */
void little_room(void);

/* Memory that the test's processes share. */
void *shared(unsigned long size);

/* Runs it in a child. Returns its waitpid status. */
int in_child(void (*run)(void));

/* main of a program that ends in that way, and writes what it saw to the descriptor. */
int end_so(const char *way, int to, const int *failures, const char *text);

/* main of a program without rseq; of one that starts it where rseq(2) kills; of a secure one. */
int off(void);
int off_where_killed(char *self);
int on_where_secure(void);

/* In the environment: makes the constructors check nothing. */
#define QUIET "NO_RSEQ_EXPECTED"

/* The child's end: the checks have been reported, exit 0. */
#define DONE 0

#endif
