#ifndef BENCH_SERVE_DATA_H
#define BENCH_SERVE_DATA_H

#include "bench/serve_words.h"

/* Where prompts come from. Made up ones are a function of seed, run and index, so there is no end
 * of them; those of a file are shuffled once and come again when they are used up. */

struct dataset;

/* Tokens of a text; NULL stands for an estimate. */
typedef int64_t (*count_tokens)(void *arg, const char *text, size_t bytes);

struct sample {
    int64_t prompt_tokens; /* as far as known before the server has counted; 0: unknown */
    int64_t output_tokens; /* 0: the server's own limit */
};

/* words is borrowed. E_FORMAT, E_IO, E_NOMEM with a line in err. */
enum status dataset_open(struct dataset **out, const struct serve_options *o,
                         const struct words *words, count_tokens count, void *arg,
                         char err[OPTION_ERROR_BYTES]) MUST_CHECK;
/* The same from memory, which is copied where it is kept. */
enum status dataset_read(struct dataset **out, const struct serve_options *o, const char *text,
                         size_t bytes, count_tokens count, void *arg,
                         char err[OPTION_ERROR_BYTES]) MUST_CHECK;
void dataset_close(struct dataset *d);

/* Prompts of the file, INT64_MAX when they are made up; how many entries could not be used. */
int64_t dataset_size(const struct dataset *d);
int64_t dataset_skipped(const struct dataset *d);

/* The prompt of request `index` as a JSON value; run tells the runs of a sweep apart. */
void dataset_write(struct buf *prompt, struct sample *out, const struct dataset *d, uint64_t run,
                   int64_t index);

/* Random words as a prompt that no dataset has, to warm up with. */
void dataset_write_random(struct buf *prompt, const struct words *words, uint64_t seed,
                          int64_t tokens);

#endif
