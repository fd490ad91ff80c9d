/* SPDX-License-Identifier: Apache-2.0 */
/* How the GPU engine finds the libraries that it opens, on libraries of this folder: no
 * CUDA is needed. Each test is a process of its own, since nothing is unloaded. */
#include "cudnn/libraries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

/* STUBS has stub-0.so to stub-7.so of versions 90200 to 90207, stub-old.so of 90000 and
 * stub-broken.so; and libvggstub.so.1, 90100, where this program's loader looks. */
#define OWN   "libvggstub.so.1"
#define OTHER "libvggstub.so.2" /* is nowhere until a test puts it there */

static int (*call)(int x);
static const struct vgg__symbol symbols[] = {{"stub_call", &call}};
static const struct vgg__library stub = {.title = "Stub",
                                         .sonames = {OWN},
                                         .package = "nvidia-stub",
                                         .version = "stub_version",
                                         .least = 90100,
                                         .symbols = symbols,
                                         .symbol_count = 1};

static char folder[64];

static void set_up(void)
{
    static const char *const variables[] = {"VGG_CUDA_LIBRARIES", "CUDA_HOME",
                                            "CUDA_PATH", "VIRTUAL_ENV", "HOME"};
    harness_mkdtemp(folder);
    ck_assert_int_eq(chdir(folder), 0);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    setenv("PATH", "/none", 1);
}

static void tear_down(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    harness_rmdir(folder);
}

static void make_folder(const char *path)
{
    char part[256];
    for (const char *at = path; at != NULL; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(at - path), path);
        if (part[0] != '\0') mkdir(part, 0700);
    }
    mkdir(path, 0700);
}

/* Put a built library where it is looked for. */
static void put(const char *built, const char *where, const char *soname)
{
    char from[512], to[256];
    make_folder(where);
    snprintf(from, sizeof from, STUBS "/%s", built);
    snprintf(to, sizeof to, "%s/%s", where, soname);
    ck_assert_int_eq(symlink(from, to), 0);
}

static void put_text(const char *where, const char *soname)
{
    char path[256];
    make_folder(where);
    snprintf(path, sizeof path, "%s/%s", where, soname);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 100; i++) fputs("no library, and long enough for one\n", file);
    fclose(file);
}

static void set(const char *variable, const char *inside)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", folder, inside);
    setenv(variable, path, 1);
}

/* The version of what is found. */
static size_t found(const struct vgg__library *library)
{
    char reason[VGG__REASON];
    void *handle = vgg__library_open(library, reason, sizeof reason);
    ck_assert_msg(handle != NULL, "%s", reason);
    ck_assert_str_eq(reason, "");
    ck_assert_int_eq(call(4), 5);
    struct vgg__symbol version = {"stub_version", NULL};
    size_t (*tell)(void) = NULL;
    struct vgg__library again = *library;
    version.place = &tell;
    again.symbols = &version;
    ck_assert_ptr_eq(vgg__library_open(&again, reason, sizeof reason), handle);
    return tell();
}

/* Parts of the reason; each must be there. */
static void refused(const struct vgg__library *library, const char *const parts[])
{
    char reason[VGG__REASON];
    ck_assert_ptr_null(vgg__library_open(library, reason, sizeof reason));
    ck_assert_ptr_null(strchr(reason, '\n'));
    ck_assert_uint_lt(strlen(reason), sizeof reason - 1);
    for (int i = 0; parts[i] != NULL; i++)
        ck_assert_msg(strstr(reason, parts[i]) != NULL, "no \"%s\": %s", parts[i],
                      reason);
}
#define REFUSED(library, ...) refused(library, (const char *const[]){__VA_ARGS__, NULL})

/* ---- Places ---------------------------------------------------------------------- */

/* The variables in the order of the places behind the loader's own. */
static const struct {
    const char *variable, *inside, *where;
} places[] = {
    {"VGG_CUDA_LIBRARIES", "/named", "named"},
    {"CUDA_HOME", "/home", "home/lib64"},
    {"CUDA_HOME", "/home", "home/lib"},
    {"CUDA_PATH", "/path", "path/lib64"},
    {"CUDA_PATH", "/path", "path/lib"},
    {"VIRTUAL_ENV", "/env", "env/lib/python3.9/site-packages/nvidia/cu13/lib"},
    {"PATH", "/a:/none::/none", "lib/python3.11/site-packages/nvidia/stub/lib"},
    {"HOME", "/user", "user/.local/lib/python3.12/site-packages/nvidia/stub/lib"},
};
enum { PLACES = sizeof places / sizeof *places };

/* With the first `_i` places empty, the next one's is taken. (What is in /usr/local is
 * nobody's to change: another name is looked for.) */
START_TEST(order)
{
    struct vgg__library other = stub;
    other.sonames[0] = OTHER;
    make_folder("bin");
    for (int i = _i; i < PLACES; i++) {
        char built[32];
        snprintf(built, sizeof built, "stub-%d.so", i);
        set(places[i].variable, places[i].inside);
        put(built, places[i].where, OTHER);
    }
    char path[256]; /* what comes before it in PATH has no python3 */
    snprintf(path, sizeof path, "%s/home::/none:%s/bin", folder, folder);
    put("stub-0.so", "bin", "python3");
    put("stub-0.so", "home", "python");
    if (_i <= 6) setenv("PATH", path, 1);
    ck_assert_uint_eq(found(&other), 90200 + (size_t)_i);
}
END_TEST

/* The loader's own come behind the folder that is named, and before all others. */
START_TEST(loaders_own)
{
    set("VGG_CUDA_LIBRARIES", "/named");
    set("CUDA_HOME", "/home");
    put("stub-1.so", "home/lib", OWN);
    if (_i == 1) put("stub-2.so", "named", OWN);
    ck_assert_uint_eq(found(&stub), _i == 1 ? 90202 : 90100);
}
END_TEST

/* The better name first, but nothing before what was named. */
START_TEST(two_names)
{
    struct vgg__library other = stub;
    other.sonames[0] = OTHER;
    other.sonames[1] = OWN;
    set("CUDA_HOME", "/home");
    set("VGG_CUDA_LIBRARIES", "/named");
    if (_i >= 1) put("stub-1.so", "home/lib", OTHER);
    if (_i >= 2) put("stub-2.so", "named", OWN);
    if (_i >= 3) put("stub-3.so", "named", OTHER);
    ck_assert_uint_eq(found(&other), _i == 0 ? 90100 : 90200 + (size_t)_i);
}
END_TEST

/* ---- Reasons --------------------------------------------------------------------- */

START_TEST(missing)
{
    struct vgg__library other = stub;
    other.sonames[0] = OTHER;
    set("VGG_CUDA_LIBRARIES", "/named");
    REFUSED(&other, "Stub (" OTHER ") was not found", "pip install nvidia-stub",
            "VGG_CUDA_LIBRARIES");
    other.sonames[1] = "libvggstub.so.3";
    REFUSED(&other, "(" OTHER " or libvggstub.so.3) was not found");
}
END_TEST

START_TEST(too_old)
{
    set("VGG_CUDA_LIBRARIES", "/named");
    put("stub-old.so", "named", OWN);
    REFUSED(&stub, "Stub is too old", "/named/" OWN " is 9.0.0",
            "expected 9.1 or newer", "pip install -U nvidia-stub",
            "VGG_CUDA_LIBRARIES");
}
END_TEST

START_TEST(lacks_a_function)
{
    int (*more)(void) = NULL;
    const struct vgg__symbol wanted[] = {{"stub_call", &call}, {"stub_more", &more}};
    struct vgg__library other = stub;
    other.symbols = wanted;
    other.symbol_count = 2;
    REFUSED(&other, "Stub is too old", "/" OWN " has no stub_more",
            "pip install -U nvidia-stub", "VGG_CUDA_LIBRARIES");
}
END_TEST

/* What is there and can't be loaded: the loader's words. The search goes on, but not
 * past a folder that was named. */
START_TEST(broken)
{
    static const char *const words[] = {"invalid ELF header",
                                        "undefined symbol: stub_nowhere"};
    struct vgg__library other = stub;
    other.sonames[0] = OTHER;
    set("CUDA_HOME", "/home");
    if (_i == 0)
        put_text("home/lib64", OTHER);
    else
        put("stub-broken.so", "home/lib64", OTHER);
    REFUSED(&other, "Stub can't be loaded: ", "/home/lib64/" OTHER ": ", words[_i],
            "pip install nvidia-stub", "VGG_CUDA_LIBRARIES");
    put("stub-1.so", "home/lib", OTHER);
    ck_assert_uint_eq(found(&other), 90201);
    set("VGG_CUDA_LIBRARIES", "/home/lib64");
    REFUSED(&other, "Stub can't be loaded: ", "/home/lib64/" OTHER ": ", words[_i]);
}
END_TEST

/* A link to nothing is there, too. */
START_TEST(dangling)
{
    struct vgg__library other = stub;
    other.sonames[0] = OTHER;
    set("VGG_CUDA_LIBRARIES", "/named");
    put("stub-none.so", "named", OTHER);
    REFUSED(&other, "Stub can't be loaded: ", "/named/" OTHER ": cannot open");
}
END_TEST

/* One that the loader finds by itself. */
START_TEST(loaders_broken)
{
    struct vgg__library other = stub;
    other.sonames[0] = "libvggbroken.so.1";
    REFUSED(&other, "Stub can't be loaded: ", "/libvggbroken.so.1: ",
            "undefined symbol: stub_nowhere");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libraries");
    TCase *tcase = tcase_create("search");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, order, 0, PLACES);
    tcase_add_loop_test(tcase, loaders_own, 0, 2);
    tcase_add_loop_test(tcase, two_names, 0, 4);
    tcase_add_test(tcase, missing);
    tcase_add_test(tcase, too_old);
    tcase_add_test(tcase, lacks_a_function);
    tcase_add_loop_test(tcase, broken, 0, 2);
    tcase_add_test(tcase, dangling);
    tcase_add_test(tcase, loaders_broken);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
