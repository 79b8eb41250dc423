/* first.h - our fork handlers before everybody else's. */
#ifndef MHI_FIRST_H
#define MHI_FIRST_H
#include <stdbool.h>

/* Moves the handlers that the caller has just registered by pthread_atfork before all earlier ones, whose order is
 * kept. False if glibc's list could not be identified beyond doubt: then nothing has changed. No other thread may fork
 * or register handlers meanwhile. Registers one more handler, which does nothing. */
bool mhi_first_move_to_front(void (*prepare)(void), void (*parent)(void), void (*child)(void));

#endif
