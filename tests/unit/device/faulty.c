/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin with one thing wrong, which the build chooses. */
#include "backend.h"

enum {
    OLD_ABI,
    SHORT_TABLE,
    OTHER_NAME,
    NO_NAME,
    NO_FUNCTION,
    REFUSES,
    SAYS_WHY,
    HALF_DATA
};

/* A function in every place: none is called, since none of these plugins is taken. */
static void nothing(void)
{
}

static vgg_engine engine;

static void fill(void)
{
    void (*function)(void) = nothing;
    for (size_t at = offsetof(vgg_engine, probe); at < sizeof engine;
         at += sizeof function)
        __builtin_memcpy((char *)&engine + at, &function, sizeof function);
    engine.abi = FAULT == OLD_ABI ? VGG_ENGINE_ABI - 1 : VGG_ENGINE_ABI;
    engine.size = FAULT == SHORT_TABLE ? sizeof engine - 8 : sizeof engine;
    engine.name = FAULT == OTHER_NAME ? "tpu" : FAULT == NO_NAME ? NULL : "cudnn";
    if (FAULT == NO_FUNCTION) engine.compile = NULL;
    if (FAULT == HALF_DATA) engine.data_free = NULL;
}

const vgg_engine *ENTRY(const vgg_host *host);

const vgg_engine *ENTRY(const vgg_host *host)
{
    if (FAULT == SAYS_WHY) {
        host->fail(VGG_EDEVICE, "on strike since %s", "Monday");
        return NULL;
    }
    if (FAULT == REFUSES) return NULL;
    fill();
    return &engine;
}
