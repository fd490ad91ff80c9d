/* SPDX-License-Identifier: Apache-2.0 */
/* The run directory itself: made, found, locked, closed. */
#include "run.h"
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *run_path(const struct run *run, const char *name)
{
    static char buffers[4][2 * TEXT_SIZE];
    static unsigned turn;
    char *path = buffers[turn++ % 4];
    snprintf(path, sizeof buffers[0], "%s/%s", run->dir, name);
    return path;
}

/* Does a file hold what a lock does, a process number on a line, or nothing yet? */
static bool holds_number(FILE *file, long *number)
{
    char text[32] = "";
    struct stat st;
    *number = 0;
    if (fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode)) return false;
    const size_t length = fread(text, 1, sizeof text - 1, file);
    rewind(file);
    if (length == 0) return true;
    char *end;
    *number = strtol(text, &end, 10);
    return text[0] >= '1' && text[0] <= '9' && strcmp(end, "\n") == 0;
}

/* The lock goes with the process, however it ends. A file of that name that is somebody
 * else's stays as it is. */
static int take_lock(struct run *run, const char *instead)
{
    long owner = 0;
    const char *path = run_path(run, "lock");
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    run->lock = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!run->lock) {
        const int reason = errno;
        if (fd >= 0) close(fd);
        if (reason != ELOOP && reason != EISDIR)
            return fail("can't write in %s: %s", run->dir, strerror(reason));
    }
    if (!run->lock || !holds_number(run->lock, &owner))
        return fail("%s is not a lock of vgg train: move it away, or take another "
                    "--out",
                    path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return fail("%s is in use by another vgg train (process %ld): wait for it%s",
                    run->dir, owner, instead);
    if (ftruncate(fd, 0) != 0 || fprintf(run->lock, "%ld\n", (long)getpid()) < 0 ||
        fflush(run->lock) != 0)
        return fail("can't write %s: %s", path, strerror(errno));
    return 0;
}

/* Is there something in a folder but a lock and the beginning of args.json? */
static bool occupied(const char *dir)
{
    DIR *folder = opendir(dir);
    bool found = false;
    const struct dirent *entry;
    while (folder && !found && (entry = readdir(folder)))
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                strcmp(entry->d_name, "lock") != 0 &&
                strcmp(entry->d_name, "args.json.new") != 0;
    if (folder) closedir(folder);
    return found;
}

/* Refuse a folder that a new run can't have, before anything is written to it. */
static int check_empty(const struct run *run)
{
    if (!occupied(run->dir)) return 0;
    if (is_file(run_path(run, "args.json")))
        return fail("%s holds a run: go on with it by --resume %s, or take another "
                    "--out",
                    run->dir, shell_word(run->dir));
    return fail("%s is not empty: take another --out", run->dir);
}

/* runs/NAME-20250131-235959, with a number behind when that is taken. */
static int default_dir(char dir[TEXT_SIZE], const char *name)
{
    char stamp[32], plain[64];
    struct tm local;
    const time_t now = time(NULL);
    localtime_r(&now, &local);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
    snprintf(plain, sizeof plain, "%.60s", name);
    for (char *at = plain; *at; at++)
        if (*at == '/' || *at == '.') *at = '_';
    const int status = make_folders("runs");
    for (unsigned turn = 1; status == 0 && turn < 1000; turn++) {
        snprintf(dir, TEXT_SIZE, turn == 1 ? "runs/%s-%s" : "runs/%s-%s-%u", plain,
                 stamp, turn);
        if (mkdir(dir, 0777) == 0) return 0;
        if (errno != EEXIST) return fail("can't make %s: %s", dir, strerror(errno));
    }
    return status != 0 ? status : fail("runs/ is full");
}

int run_create(struct run *run, const char *out, const char *name)
{
    int status = 0;
    if (out[0]) {
        snprintf(run->dir, sizeof run->dir, "%s", out);
        status = make_folders(out);
    } else {
        status = default_dir(run->dir, name);
    }
    if (status == 0) status = check_empty(run);
    if (status == 0) status = take_lock(run, ", or take another --out");
    return status == 0 ? check_empty(run) : status; /* nobody was faster */
}

/* The run in runs/ whose log was written to last. */
static int latest_dir(char dir[TEXT_SIZE])
{
    DIR *folder = opendir("runs");
    const struct dirent *entry;
    time_t newest = 0;
    dir[0] = '\0';
    while (folder && (entry = readdir(folder))) {
        char path[TEXT_SIZE];
        struct stat st;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "runs/%.255s/args.json", entry->d_name);
        if (stat(path, &st) != 0) continue;
        snprintf(path, sizeof path, "runs/%.255s/log.jsonl", entry->d_name);
        if (stat(path, &st) != 0) st.st_mtime = 1;
        if (st.st_mtime < newest) continue;
        newest = st.st_mtime;
        snprintf(dir, TEXT_SIZE, "runs/%.255s", entry->d_name);
    }
    if (folder) closedir(folder);
    return dir[0] ? 0 : fail("no run in runs/: say which one with --resume DIR");
}

int run_find(struct run *run, const char *dir)
{
    if (dir[0])
        snprintf(run->dir, sizeof run->dir, "%s", dir);
    else if (latest_dir(run->dir) != 0)
        return STATUS_RUN;
    const char *reason = why_no_folder(run->dir);
    if (reason)
        return fail("can't resume %s: %s; name the run directory of an earlier "
                    "vgg train",
                    run->dir, reason);
    if (!is_file(run_path(run, "args.json")))
        return fail("%s is not a run directory (no args.json): name one, or start a "
                    "new run%s%s",
                    run->dir, occupied(run->dir) ? "" : " there with --out ",
                    occupied(run->dir) ? "" : shell_word(run->dir));
    return take_lock(run, "");
}

const char *run_remedy(const struct run *run)
{
    static char text[5 * TEXT_SIZE];
    if (!is_folder(run_path(run, "last"))) return "";
    snprintf(text, sizeof text, "; mend that and go on with: vgg train --resume %s",
             shell_word(run->dir));
    return text;
}

void run_close(struct run *run)
{
    if (run->log) fclose(run->log);
    if (run->csv) fclose(run->csv);
    if (run->lock) fclose(run->lock);
    curves_free(&run->curves);
    memset(run, 0, sizeof *run);
}
