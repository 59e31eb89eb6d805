/* The program's own thread keys. */
#ifndef KEYS_H
#define KEYS_H

/* Takes every remaining key. */
void exhaust_keys(void);

/* The first call sets a value for this thread; later ones check it. */
void keep_value(void);

#endif
