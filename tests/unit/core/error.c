/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes as text, and the last error: one printable line whatever comes in, cut
 * within bounds, each thread its own. */
#include "core/error.h"

#include "core/text.h"
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

START_TEST(names_and_texts)
{
#define CHECK_ROW(name, value, text)                                                   \
    ck_assert_int_eq(name, value);                                                     \
    ck_assert_str_eq(vgg_status_name(name), #name);                                    \
    ck_assert_str_eq(vgg_status_text(name), text);
    VGG_STATUS_MAP(CHECK_ROW)
#undef CHECK_ROW
    ck_assert_str_eq(vgg_status_name((vgg_status)1), "VGG_?");
    ck_assert_str_eq(vgg_status_name((vgg_status)-15), "VGG_?");
    ck_assert_str_eq(vgg_status_text((vgg_status)-15), "unknown status");
}
END_TEST

START_TEST(empty_before_the_first)
{
    ck_assert_str_eq(vgg_last_error(), "");
}
END_TEST

START_TEST(status_comes_back)
{
    ck_assert_int_eq(vgg__fail(VGG_EIO, "%s: %d", "a", 3), VGG_EIO);
    ck_assert_str_eq(vgg_last_error(), "a: 3");
    ck_assert_int_eq(vgg__fail(VGG_ESHAPE, "b"), VGG_ESHAPE);
    ck_assert_str_eq(vgg_last_error(), "b");
}
END_TEST

START_TEST(text_with_the_last_one)
{
    vgg__fail(VGG_EIO, "inner\n");
    vgg__fail(VGG_EFORMAT, "outer: %s", vgg_last_error());
    ck_assert_str_eq(vgg_last_error(), "outer: inner\\x0a");
}
END_TEST

START_TEST(reason_of_errno)
{
    errno = EDOM;
    ck_assert_int_eq(vgg__fail_errno(VGG_EIO, ENOENT, "%s", "x.idx"), VGG_EIO);
    ck_assert_str_eq(vgg_last_error(), "x.idx: No such file or directory");
    ck_assert_int_eq(errno, EDOM);
    vgg__fail_errno(VGG_EIO, 99999, "y");
    ck_assert_str_eq(vgg_last_error(), "y: Unknown error 99999");
    vgg__fail(VGG_EIO, "%ls", L"\xd800"); /* can't be converted: errno is EILSEQ */
    ck_assert_str_eq(vgg_last_error(), "%ls");
    ck_assert_int_eq(errno, EDOM);
}
END_TEST

static vgg_status needs_both(const void *a, const void *b)
{
    VGG_REQUIRE(a != NULL);
    VGG_REQUIRE(b != NULL);
    return VGG_OK;
}

static vgg_status passes_on(const void *a)
{
    VGG_TRY(needs_both(a, ""));
    return VGG_OK;
}

START_TEST(macros)
{
    ck_ok(passes_on(""));
    ck_fails_with(passes_on(NULL), VGG_EINVAL, "needs_both: needs a != NULL");
    ck_fails_with(needs_both("", NULL), VGG_EINVAL, "needs_both: needs b != NULL");
}
END_TEST

/* What comes in, and what must be shown. */
static const struct {
    const char *in, *out;
} texts[] = {
    {"", ""},
    {"plain ~ text \\ \"'", "plain ~ text \\ \"'"},
    {"two\nlines\r\t", "two\\x0alines\\x0d\\x09"},
    {"\x1b[31mred", "\\x1b[31mred"},
    {"del\x7f", "del\\x7f"},
    {"z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80",
     "z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"nbsp\xc2\xa0", "nbsp\xc2\xa0"},
    {"c1 \xc2\x9b[m", "c1 \\xc2\\x9b[m"},
    {"lone \x80", "lone \\x80"},
    {"latin1 \xfc!", "latin1 \\xfc!"},
    {"overlong \xc0\xaf", "overlong \\xc0\\xaf"},
    {"overlong \xc1\xbf", "overlong \\xc1\\xbf"},
    {"overlong \xe0\x9f\xbf", "overlong \\xe0\\x9f\\xbf"},
    {"overlong \xf0\x8f\xbf\xbf", "overlong \\xf0\\x8f\\xbf\\xbf"},
    {"least \xe0\xa0\x80 \xf0\x90\x80\x80", "least \xe0\xa0\x80 \xf0\x90\x80\x80"},
    {"surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80"},
    {"beyond \xf4\x90\x80\x80", "beyond \\xf4\\x90\\x80\\x80"},
    {"most \xf4\x8f\xbf\xbf", "most \xf4\x8f\xbf\xbf"},
    {"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
    {"\xff\xfe", "\\xff\\xfe"},
    {"short \xe2\x82", "short \\xe2\\x82"},
    {"short \xf0\x9f\x98", "short \\xf0\\x9f\\x98"},
    {"broken \xe2\x28\xa1", "broken \\xe2(\\xa1"},
    {"line \xe2\x80\xa8 par \xe2\x80\xa9", "line \\xe2\\x80\\xa8 par \\xe2\\x80\\xa9"},
    {"turn \xe2\x80\xae \xe2\x81\xa6", "turn \\xe2\\x80\\xae \\xe2\\x81\\xa6"},
    {"dash \xe2\x80\x94 \xe2\x80\xaf\xe2\x81\xaa",
     "dash \xe2\x80\x94 \xe2\x80\xaf\xe2\x81\xaa"},
};

START_TEST(hostile_text)
{
    vgg__fail(VGG_EINVAL, "%s", texts[_i].in);
    ck_assert_str_eq(vgg_last_error(), texts[_i].out);
}
END_TEST

/* Every length around the end of the buffer: nothing lost below it, "..." above. */
START_TEST(cut_when_too_long)
{
    char in[VGG_ERROR_SIZE * 4];
    for (size_t length = VGG_ERROR_SIZE - 10; length < sizeof in; length++) {
        memset(in, 'a', length);
        in[length] = '\0';
        vgg__fail(VGG_EINVAL, "%s", in);
        const char *text = vgg_last_error();
        if (length < VGG_ERROR_SIZE) {
            ck_assert_str_eq(text, in);
        } else {
            ck_assert_uint_eq(strlen(text), VGG_ERROR_SIZE - 1);
            ck_assert_str_eq(text + VGG_ERROR_SIZE - 4, "...");
            ck_assert_mem_eq(text, in, VGG_ERROR_SIZE - 4);
        }
    }
}
END_TEST

/* A cut never splits a character or an escape. */
START_TEST(cut_between_characters)
{
    static const char *const units[] = {"\xe2\x82\xac", "\xf0\x9f\x98\x80", "\x1b"};
    static const char *const shown[] = {"\xe2\x82\xac", "\xf0\x9f\x98\x80", "\\x1b"};
    char in[64], out[32];
    for (size_t pad = 0; pad < 8; pad++) {
        memset(in, 'a', pad);
        in[pad] = '\0';
        for (int i = 0; i < 8; i++) strcat(in, units[_i]);
        memset(out, '#', sizeof out);
        vgg__text_escape(in, 0, out, 20);
        ck_assert_uint_lt(strlen(out), 20);
        ck_assert_int_eq(out[20], '#');
        const char *at = out + pad;
        while (strncmp(at, shown[_i], strlen(shown[_i])) == 0) at += strlen(shown[_i]);
        ck_assert_str_eq(at, "...");
    }
}
END_TEST

START_TEST(long_text_with_reason)
{
    char in[VGG_ERROR_SIZE * 3];
    memset(in, 'a', sizeof in);
    for (size_t length = 480; length < sizeof in; length += 13) {
        vgg__fail_errno(VGG_EIO, ENOENT, "%.*s", (int)length, in);
        ck_assert_uint_lt(strlen(vgg_last_error()), VGG_ERROR_SIZE);
        ck_assert(length + 27 < VGG_ERROR_SIZE || strstr(vgg_last_error(), "..."));
    }
}
END_TEST

static void *fail_apart(void *arg)
{
    ck_assert_str_eq(vgg_last_error(), "");
    vgg__fail(VGG_EINVAL, "of the other");
    ck_assert_str_eq(vgg_last_error(), "of the other");
    return NULL;
}

START_TEST(each_thread_its_own)
{
    vgg__fail(VGG_EINVAL, "of this one");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_apart, NULL), 0);
    pthread_join(thread, NULL);
    ck_assert_str_eq(vgg_last_error(), "of this one");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/error");
    TCase *tcase = tcase_create("error");
    tcase_add_test(tcase, names_and_texts);
    tcase_add_test(tcase, empty_before_the_first);
    tcase_add_test(tcase, status_comes_back);
    tcase_add_test(tcase, text_with_the_last_one);
    tcase_add_test(tcase, reason_of_errno);
    tcase_add_test(tcase, macros);
    tcase_add_loop_test(tcase, hostile_text, 0, sizeof texts / sizeof *texts);
    tcase_add_test(tcase, cut_when_too_long);
    tcase_add_loop_test(tcase, cut_between_characters, 0, 3);
    tcase_add_test(tcase, long_text_with_reason);
    tcase_add_test(tcase, each_thread_its_own);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
