/* SPDX-License-Identifier: Apache-2.0 */
/* The logs of a run: rows out, and back in when it is resumed. */
#include "files.h"
#include "json.h"
#include "run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char csv_head[] = "epoch,step,train_loss,train_accuracy,test_loss,"
                               "test_accuracy,macro_f1,lr,images_per_s,seconds\n";

/* Hand a row to the system at once: what a killed process has written stays. */
static int put_row(struct run *run, FILE *file, const char *name)
{
    if (fflush(file) == 0 && !ferror(file)) return 0;
    const int reason = errno;
    return fail("can't write %s: %s%s", run_path(run, name), strerror(reason),
                run_remedy(run));
}

int run_log_step(struct run *run, const struct step_row *row)
{
    struct json j = {.file = run->log};
    json_object(&j, NULL);
    json_text(&j, "row", "step");
    json_count(&j, "epoch", row->epoch);
    json_count(&j, "batch", row->batch);
    json_count(&j, "step", row->step);
    json_real(&j, "loss", row->loss);
    json_real(&j, "lr", row->lr);
    json_real(&j, "mean_loss", row->mean_loss);
    json_real(&j, "accuracy", row->accuracy);
    json_real(&j, "images_per_s", round(row->images_per_s * 100) / 100);
    json_real(&j, "seconds", round(row->seconds * 1e6) / 1e6);
    json_end(&j);
    return put_row(run, run->log, "log.jsonl");
}

static void epoch_json(struct json *j, const struct epoch_row *row)
{
    json_object(j, NULL);
    json_text(j, "row", "epoch");
    json_count(j, "epoch", row->epoch);
    json_count(j, "step", row->step);
    json_real(j, "train_loss", row->loss);
    json_real(j, "train_accuracy", row->accuracy);
    json_real(j, "test_loss", row->test_loss);
    json_real(j, "test_accuracy", row->test_accuracy);
    json_real(j, "macro_f1", row->macro_f1);
    json_real(j, "lr", row->lr);
    json_real(j, "images_per_s", round(row->images_per_s * 100) / 100);
    json_real(j, "seconds", round(row->seconds * 1e3) / 1e3);
    json_end(j);
}

int run_log_epoch(struct run *run, const struct epoch_row *row)
{
    struct json j = {.file = run->log};
    epoch_json(&j, row);
    fprintf(run->csv, "%llu,%llu,%.6f,%.6f,%.6f,%.6f,%.6f,%.9g,%.2f,%.3f\n",
            (unsigned long long)row->epoch, (unsigned long long)row->step, row->loss,
            row->accuracy, row->test_loss, row->test_accuracy, row->macro_f1, row->lr,
            row->images_per_s, row->seconds);
    run->last_epoch = *row;
    const int status = put_row(run, run->csv, "metrics.csv");
    return status ? status : put_row(run, run->log, "log.jsonl");
}

int run_flush(struct run *run)
{
    const bool good =
        fdatasync(fileno(run->log)) == 0 && fdatasync(fileno(run->csv)) == 0;
    const int reason = errno;
    return good ? 0
                : fail("can't write the logs in %s: %s%s", run->dir, strerror(reason),
                       run_remedy(run));
}

/* A position in a run: epochs done, and batches of the next one. */
struct position {
    uint64_t epoch, batch;
};

static uint64_t whole(const char *row, const char *key)
{
    const double number = json_find_number(row, key, 0.0);
    return number > 0.0 && number < 1e18 ? (uint64_t)number : 0;
}

/* Is a row of log.jsonl whole, and not past a position? Takes its point for the
 * curves. */
static bool keep_json(struct run *run, const char *line, const struct position *end)
{
    const char *at = line;
    struct json_member member;
    if (json_next(&at, &member) != 1 || strcmp(member.key, "row") != 0) return false;
    const bool is_epoch = strcmp(member.text, "epoch") == 0;
    const uint64_t epoch = whole(line, "epoch"), batch = whole(line, "batch");
    if (epoch == 0) return false;
    if (is_epoch
            ? epoch > end->epoch
            : epoch > end->epoch + 1 || (epoch == end->epoch + 1 && batch > end->batch))
        return false;
    if (!is_epoch) {
        curves_step(&run->curves, epoch, batch,
                    json_find_number(line, "mean_loss", NAN),
                    json_find_number(line, "accuracy", NAN));
        return true;
    }
    run->last_epoch = (struct epoch_row){
        .epoch = epoch,
        .step = whole(line, "step"),
        .loss = json_find_number(line, "train_loss", NAN),
        .accuracy = json_find_number(line, "train_accuracy", NAN),
        .test_loss = json_find_number(line, "test_loss", NAN),
        .test_accuracy = json_find_number(line, "test_accuracy", NAN),
        .macro_f1 = json_find_number(line, "macro_f1", NAN),
        .lr = json_find_number(line, "lr", NAN),
        .images_per_s = json_find_number(line, "images_per_s", NAN),
        .seconds = json_find_number(line, "seconds", NAN),
    };
    curves_test(&run->curves, epoch, run->last_epoch.test_accuracy);
    return true;
}

static bool keep_csv(struct run *run, const char *line, const struct position *end)
{
    (void)run;
    const unsigned long long epoch = strtoull(line, NULL, 10);
    return epoch >= 1 && epoch <= end->epoch;
}

/* Copy the rows of a log that stay to a new file, and put it in the old one's place. */
static int filter(struct run *run, const char *name, const char *head,
                  bool (*keep)(struct run *, const char *, const struct position *),
                  const struct position *end)
{
    struct new_file file;
    char *text = NULL;
    const char *path = run_path(run, name);
    if (is_file(path) && !(text = file_read(path, NULL))) return STATUS_RUN;
    if (!text && (end->epoch > 0 || end->batch > 0))
        fail("%s is gone; a new one begins here", path); /* a warning: it goes on */
    const int status = file_begin(&file, path);
    if (status != 0) {
        free(text);
        return status;
    }
    fputs(head, file.file);
    char *line = text;
    for (char *stop; line && (stop = strchr(line, '\n')); line = stop + 1) {
        *stop = '\0'; /* a row without its end was cut by a kill, and goes */
        if (keep(run, line, end)) fprintf(file.file, "%s\n", line);
    }
    free(text);
    return file_commit(&file);
}

int run_logs(struct run *run, uint64_t epoch, uint64_t batch)
{
    const struct position end = {epoch, batch};
    int status = filter(run, "log.jsonl", "", keep_json, &end);
    if (status == 0) status = filter(run, "metrics.csv", csv_head, keep_csv, &end);
    if (status != 0) return status;
    run->log = fopen(run_path(run, "log.jsonl"), "ae");
    run->csv = fopen(run_path(run, "metrics.csv"), "ae");
    if (run->log && run->csv) return 0;
    return fail("can't write the logs in %s: %s", run->dir, strerror(errno));
}
