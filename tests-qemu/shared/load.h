/* Libraries by their letter, as the steps of main.c name them. */
#ifndef LOAD_H
#define LOAD_H

#include "lib.h"

/* What a library offers, what the reader does: ends the program if nobody is there. */
const struct lib *lib(int letter);
const struct reader *the_reader(void);
int has_reader(void);

void loaded(const char *file, int how);
void refused(const char *file);

/* In a namespace of its own, with a libc of its own (dlmopen(3)). */
void namespaced(const char *file);

/* Loads PREFIX-00.so and so on, each of them a copy of lib_a, as long as the loader takes them. Returns how many. */
int plugins(const char *prefix);

/* Each of them has the state. */
void plugins_have(int expected);

void unload(int letter, const char *file);
void outlive(int letter);
void owner(int letter, const char *expected);

/* Nobody has left an error that dlerror(3) tells. */
void quiet(void);

#endif
