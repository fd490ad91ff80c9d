/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

struct vgg__api;
const struct vgg__api *vgg__api_open(char *reason, size_t size);

/* Where no GPU can be used, the program is skipped with the reason. There are no forks:
 * a process that has asked CUDA for anything can't let a child ask. */
static void __attribute__((constructor)) need_a_gpu(void)
{
    char reason[256];
    setenv("CK_FORK", "no", 1);
    if (vgg__api_open(reason, sizeof reason) != NULL) return;
    printf("skipped: %s\n", reason);
    exit(77);
}
