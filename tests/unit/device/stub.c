/* SPDX-License-Identifier: Apache-2.0 */
/* A library to be found, of version VERSION; NEEDS: a function that is nowhere. */
#include <stddef.h>

size_t stub_version(void);
int stub_call(int x);

size_t stub_version(void)
{
    return VERSION;
}

#ifdef NEEDS
int NEEDS(int x);
#else
#define NEEDS(x) ((x) + 1)
#endif

int stub_call(int x)
{
    return NEEDS(x);
}
