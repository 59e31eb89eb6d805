/* Thread keys that the program has for itself. */
#ifndef KEYS_H
#define KEYS_H

/* Takes every key that is left. */
void exhaust_keys(void);

/* The first time sets a value for this thread; it must be there ever after. */
void keep_value(void);

#endif
