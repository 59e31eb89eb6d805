/* One program of many tests: each in a process of its own, so that a death is that test's alone. */
#ifndef TEST_H
#define TEST_H

#include <errno.h>

struct test {
	const char *name;
	void (*run)(void);
};

/* One list a file, closed by a null name. */
extern const struct test everywhere_tests[], exits_tests[], storm_tests[], sandbox_tests[],
	spawn_tests[], halfway_tests[], handlers_tests[], malloc_tests[], malloc_storm_tests[], sealed_tests[], off_tests[];

/* The first failure is kept; the test goes on. On any thread, in any process below the test's. */
void fail(const char *file, int line, const char *format, ...) __attribute__((__format__(__printf__, 3, 4)));

/* Not run, because ... */
void skip(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* Worth telling of a test that passed. */
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

/* How often: a machine, a machine in software, a process in software. */
int scaled(int native, int emulated, int user);

/* The program's path, or null where it cannot be executed anew. */
extern const char *program;

/* Address space for some more stacks, and no more. */
void little_room(void);

/* Memory that the test's processes share. */
void *shared(unsigned long size);

/* Runs it in a child. Returns what waitpid says of that. */
int in_child(void (*run)(void));

/* main of a program that ends in that way, and tells the descriptor what it saw on the way. */
int end_so(const char *way, int to, const int *failures, const char *text);

/* main of a program without rseq; of one that starts that program where rseq(2) kills; of a secure one. */
int off(void);
int off_where_killed(char *self);
int on_where_secure(void);

/* In the environment: the constructors look at nothing. */
#define QUIET "NO_RSEQ_EXPECTED"

/* The child's end: the checks have been told, exit 0. */
#define DONE 0

#endif
