/* files.h - notes which files libraries open. */
#ifndef MHI_ROUTE_FILES_H
#define MHI_ROUTE_FILES_H
#include <stdio.h>

/* Replacements of the open family. */
int mhi_routed_open(const char *path, int flags, ...);
int mhi_routed_openat(int directory, const char *path, int flags, ...);
int mhi_routed_open_2(const char *path, int flags);
int mhi_routed_openat_2(int directory, const char *path, int flags);
FILE *mhi_routed_fopen(const char *path, const char *mode);
FILE *mhi_routed_freopen(const char *path, const char *mode, FILE *old);

extern int (*mhi_real_open)(const char *path, int flags, ...);
extern int (*mhi_real_openat)(int directory, const char *path, int flags, ...);
extern FILE *(*mhi_real_fopen)(const char *path, const char *mode);
extern FILE *(*mhi_real_freopen)(const char *, const char *, FILE *);

#endif
