/* lock.h - the interpreter's lock (GIL). */
#ifndef MHI_LOCK_H
#define MHI_LOCK_H

/* Takes the lock, for a thread that may have it already, and returns a token; without Python does nothing. */
int mhi_python_hold(void);
void mhi_python_let(int token);

#endif
