/* proc_dirs.h - the directories of /proc whose entries are numbers: descriptors, threads. */
#ifndef MHI_PROC_DIRS_H
#define MHI_PROC_DIRS_H

/* Calls `take` for each number in `directory`, in no order, with the descriptor that reads it. Returns 0, the first
 * result of `take` that is not 0, or -errno. Allocates nothing and takes no lock, so it may run between the handlers of
 * a fork. */
int mhi_each_number(const char *directory, int (*take)(void *context, int reader, int number), void *context);

#endif
