/* Kept inputs: operations alternating with operands, in hex. fuzz-calls.c numbers the operations. */
static const char *const fuzz_corpus[] = {
	/* Nothing, and half an operation. */
	"",
	"01",
	/* A life: init, create, read, release, recycle, create again. */
	"00 23 01 03 08 03 03 0b 04 03 01 03 08 03",
	/* All before init. */
	"01 03 02 03 03 03 04 03 05 03 06 0b 08 03 09 00",
	/* Two areas of one thread: the second one is taken, and kept. */
	"00 23 01 03 01 04 08 04 03 0c 08 04 03 0b 08 03",
	/* Lazily first, then the create hook twice. */
	"00 20 02 03 01 03 01 03 08 03",
	/* Eight loans, ended in another order, one of them twice. */
	"00 23 01 03 05 03 05 03 05 03 05 03 05 03 05 03 05 03 05 03 03 0b 06 3b 06 0b 06 0b 06 13 06 1b 06 23 06 2b 06 33 08 03",
	/* A loan of an area after its exit, and of a recycled one. */
	"00 23 01 03 03 0b 05 03 08 03 04 03 06 0b 08 03",
	/* Repaired in a child, with a loan and without. */
	"00 23 01 03 07 03 05 03 07 03 06 0b 07 00 07 01 08 03",
	/* Every second argument null or misaligned. */
	"00 23 01 00 01 01 02 00 02 09 03 08 03 11 04 00 05 01 06 08 08 00 08 01",
	/* More callbacks than fit; run; pushed afterwards. */
	"0a 04 0a 04 0a 04 0a 04 0a 04 0a 04 0a 04 0a 04 0a 04 0a 03 0a 04 0a 03 0a 00 0a 01 0a 02",
	/* Structures with an area, without, after its end; drained. */
	"00 23 01 03 09 00 0b 10 0b 2b 0b 30 0b 18 0b 23 0b 63 0b 08 03 0b 0b 2b 0b 3b 0b 00",
	/* Disabled, by a second init that is refused, and by the first. */
	"00 23 00 42 01 03 08 03",
	"00 42 01 03 08 03 03 0b 04 03 09 00",
	/* The thread ends itself with a missing, new, lent and live area. */
	"00 23 01 03 00 00",
	"00 23 01 03 05 0c",
	"00 23 01 03 08 0c",
};
