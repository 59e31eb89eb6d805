/* Libraries by the letters that the steps of main.c use. */
#ifndef LOAD_H
#define LOAD_H

#include "lib.h"

/* The interface of a library, of the reader: ends the program if it is missing. */
const struct lib *lib(int letter);
const struct reader *the_reader(void);
int has_reader(void);

void loaded(const char *file, int how);
void refused(const char *file);

/* In its own namespace, with its own libc (dlmopen(3)). */
void namespaced(const char *file);

/* Loads PREFIX-00.so and so on, copies of lib_a, until the loader refuses. Returns their number. */
int plugins(const char *prefix);

/* Checks the state of each of them. */
void plugins_have(int expected);

void unload(int letter, const char *file);
void outlive(int letter);
void owner(int letter, const char *expected);

/* Checks that no error is left for dlerror(3). */
void quiet(void);

#endif
