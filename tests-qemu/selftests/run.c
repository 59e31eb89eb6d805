/*
 * Runs the programs of a list, and is PID 1 where it boots. A line of the list is one run:
 *
 *     TEST [dies] [VARIABLE=VALUE ...] PROGRAM [ARGUMENT ...]
 *
 * Lines of one test are consecutive, and all must exit with 0; with `dies` by SIGABRT, which assert(3) raises, or by
 * SIGSEGV. The output is "@test NAME start", "@test NAME passed|failed" and "@done PASSED FAILED 0". The programs lie
 * beside the list.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { WORDS = 32, LENGTH = 400 };

/* Seconds: many times the longest run on a busy machine. */
enum { PATIENCE = 300 };

struct run {
	char test[LENGTH], text[LENGTH];
	char *words[WORDS];
	int dies;
};

struct test {
	char name[LENGTH], why[LENGTH];
	int runs, failed;
};

static int read_run(FILE *list, struct run *run)
{
	char line[LENGTH], *word;
	int count = 0;
	memset(run, 0, sizeof *run);
	if (!fgets(line, sizeof line, list))
		return 0;
	line[strcspn(line, "\n")] = 0;
	strcpy(run->text, line);
	for (word = strtok(line, " "); word && count < WORDS - 1; word = strtok(NULL, " ")) {
		if (!run->test[0])
			strcpy(run->test, word);
		else if (!count && !strcmp(word, "dies"))
			run->dies = 1;
		else
			run->words[count++] = strdup(word);
	}
	return count > 0;
}

/* Its waitpid status. */
static int status_of(struct run *run)
{
	int status = -1;
	pid_t child = fork();
	if (child == 0) {
		char **words = run->words;
		for (; strchr(*words, '='); words++)
			putenv(*words);
		alarm(PATIENCE);
		execv(*words, words);
		perror(*words);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	return status;
}

static void judge(struct run *run, struct test *test)
{
	int status = status_of(run);
	test->runs++;
	if (!run->dies && status == 0)
		return;
	if (run->dies && WIFSIGNALED(status) && (WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGSEGV))
		return;
	if (test->failed++)
		return;
	if (WIFSIGNALED(status))
		snprintf(test->why, LENGTH, "%s: killed by signal %d", run->text, WTERMSIG(status));
	else
		snprintf(test->why, LENGTH, "%s: exit code %d", run->text, WEXITSTATUS(status));
}

static void begin(struct test *test, const char *name)
{
	memset(test, 0, sizeof *test);
	strcpy(test->name, name);
	printf("@test %s start\n", name);
	fflush(stdout);
}

/* Whether it failed. */
static int end(const struct test *test)
{
	if (test->failed)
		printf("@test %s failed: %d of %d runs, first %s\n", test->name, test->failed, test->runs, test->why);
	else
		printf("@test %s passed %d runs\n", test->name, test->runs);
	return test->failed != 0;
}

int main(int count, char **arguments)
{
	char *path = count > 1 ? arguments[1] : "/list", *name = strrchr(path, '/');
	int ends[2] = { 0 };
	struct test test = { 0 };
	struct run run;
	FILE *list = fopen(path, "r");
	if (!list || !name)
		return perror(path), 1;
	if (count > 1) {
		*name = 0;
		if (chdir(path))
			return perror(path), 1;
	}
	while (read_run(list, &run)) {
		if (strcmp(run.test, test.name)) {
			if (test.runs)
				ends[end(&test)]++;
			begin(&test, run.test);
		}
		judge(&run, &test);
	}
	if (test.runs)
		ends[end(&test)]++;
	printf("@done %d %d 0\n", ends[0], ends[1]);
	fflush(stdout);
	if (getpid() == 1) {
		/* The machine does not wait for unsent console output. */
		tcdrain(1);
		reboot(RB_POWER_OFF);
	}
	return ends[1] != 0;
}
