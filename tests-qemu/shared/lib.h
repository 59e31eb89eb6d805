/* What a library of the tests offers to the program that loaded it: lib_a, lib_b and so on. */
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

/* What the reader offers, as reader. */
struct reader {
	unsigned (*size)(void);
	const void *(*area)(void);
	int (*cpu)(void);
	const unsigned *size_in_constructor;
};

#endif
