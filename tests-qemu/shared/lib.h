/* The interface of a test library to the program that loads it: lib_a, lib_b and so on. */
#ifndef LIB_H
#define LIB_H

struct lib {
	int (*ensure)(void);
	int (*state)(void);
	int (*cpu)(void);
	const void *(*area)(void);
	int (*owner)(void);
	const void *(*table)(void);
};

/* The interface of the reader, as reader. */
struct reader {
	unsigned (*size)(void);
	const void *(*area)(void);
	int (*cpu)(void);
	const unsigned *size_in_constructor;
};

#endif
