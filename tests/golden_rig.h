#ifndef TESTS_GOLDEN_RIG_H
#define TESTS_GOLDEN_RIG_H

#include "models/jsonfile.h"
#include "tests/model_rig.h"

/* Stored logits and answers of trained models, and how a loaded model is held against
 * them: position by position in f32, teacher-forced in int8. */

static inline const char *shared(char *out, size_t size, const char *name)
{
    const char *root = getenv("FIRSTLIGHT_SHARED");
    snprintf(out, size, "%s/models/%s", root && *root ? root : REPO_DIR "/../shared", name);
    return out;
}

static inline bool have_shared(void)
{
    char path[512];
    if (access(shared(path, sizeof(path), "README.md"), R_OK) == 0)
        return true;
    print_message("skipped: no shared test data\n");
    return false;
}

/* [rows][cols] of little-endian float32, version 1 of the format. */
static inline float *npy_load(const char *path, size_t *rows, size_t *cols)
{
    FILE *f = fopen(path, "rb");
    unsigned char head[10];
    char text[1024] = "";
    if (!f || fread(head, 1, sizeof(head), f) != sizeof(head))
        fail_msg("%s: cannot be read", path);
    size_t n = (size_t)head[8] | (size_t)head[9] << 8;
    assert_memory_equal(head, "\x93NUMPY\x01", 7);
    assert_true(n < sizeof(text));
    assert_int_equal(fread(text, 1, n, f), n);
    assert_non_null(strstr(text, "'<f4'"));
    assert_non_null(strstr(text, "'fortran_order': False"));
    const char *shape = strchr(text, '(');
    assert_non_null(shape);
    assert_int_equal(sscanf(shape, "(%zu, %zu)", rows, cols), 2);
    float *data = malloc(*rows * *cols * sizeof(*data));
    assert_non_null(data);
    assert_int_equal(fread(data, sizeof(*data), *rows * *cols, f), *rows * *cols);
    fclose(f);
    return data;
}

struct golden {
    const char *model; /* directory of the checkpoint */
    const char *folder;
    const char *quant;
    const char *all; /* prompt whose logits are stored for all positions */
    double noise;    /* int8: what is decided by twice as much stays decided */
    double bound;    /* f32 */
};

static const double exact = 1e-4;

struct prompt {
    const char *name;
    int32_t ids[SEQ_MAX];   /* prompt, then the reference's answer */
    double margin[SEQ_MAX]; /* of the answer's tokens, at their place */
    int32_t n_prompt;
    int32_t n;
};

static inline int32_t read_ids(const cJSON *list, int32_t *ids, int32_t n)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, list)
    {
        int64_t id = -1;
        assert_true(n < SEQ_MAX && json_as_int(v, 0, 1 << 20, &id));
        ids[n++] = (int32_t)id;
    }
    return n;
}

static inline cJSON *greedy_load(const struct golden *g)
{
    char dir[512];
    char file[64];
    char name[128];
    char err[256];
    cJSON *root = NULL;
    snprintf(file, sizeof(file), "greedy-%s.json", g->quant);
    snprintf(name, sizeof(name), "%s/golden", g->folder);
    const struct complaint c = {.file = file, .text = err, .size = sizeof(err)};
    if (json_load(&root, shared(dir, sizeof(dir), name), 1 << 20, 100000, &c))
        fail_msg("%s", err);
    return root;
}

static inline void read_prompt(struct prompt *p, const cJSON *o)
{
    p->name = json_get(o, "name")->valuestring;
    p->n_prompt = read_ids(json_get(o, "prompt_ids"), p->ids, 0);
    p->n = read_ids(json_get(o, "ref_gen_ids"), p->ids, p->n_prompt);
    int32_t i = p->n_prompt;
    const cJSON *v;
    cJSON_ArrayForEach(v, json_get(o, "ref_margin")) p->margin[i++] = v->valuedouble;
    assert_int_equal(i, p->n);
}

/* The answer is the reference's, token by token, each fed from the step before. */
static inline void check_greedy(struct rig *r, const struct golden *g, const struct prompt *p,
                                const int32_t *table)
{
    float *logits = malloc((size_t)r->info->vocab * sizeof(*logits));
    feed(r, p->ids, 0, p->n_prompt, ROWS, table, logits);
    int32_t handed = ~0;
    for (int32_t i = p->n_prompt; i < p->n && i < r->info->context_max; i++) {
        add(r, &handed, i, 1, table, PICK_LAST);
        run(r);
        if (i + 1 < p->n && r->out[0].token != p->ids[i + 1])
            fail_msg("%s %s %s: token %d is %d, not %d", g->model, g->quant, p->name,
                     i + 1 - p->n_prompt, r->out[0].token, p->ids[i + 1]);
    }
    free(logits);
}

static inline void golden_path(char *out, size_t size, const struct golden *g, const char *what)
{
    char name[256];
    snprintf(name, sizeof(name), "%s/golden/ref-logits-%s-%s.npy", g->folder, what, g->quant);
    (void)shared(out, size, name);
}

static inline void check_last(struct rig *r, const struct golden *g, const cJSON *list,
                              const int32_t *table)
{
    char path[512];
    size_t rows;
    size_t cols;
    golden_path(path, sizeof(path), g, "last");
    float *want = npy_load(path, &rows, &cols);
    float *got = malloc(cols * sizeof(*got));
    assert_int_equal(cols, r->info->vocab);
    size_t i = 0;
    const cJSON *o;
    cJSON_ArrayForEach(o, list)
    {
        struct prompt *p = calloc(1, sizeof(*p));
        read_prompt(p, o);
        assert_true(i < rows);
        feed(r, p->ids, 0, p->n_prompt, 7, table, got);
        double d = worst(got, want + i++ * cols, cols);
        if (!(d <= g->bound))
            fail_msg("%s %s: last logits differ by %g", g->model, p->name, d);
        if (g->bound <= exact)
            check_greedy(r, g, p, table);
        free(p);
    }
    assert_int_equal(i, rows);
    free(got);
    free(want);
}

static inline void check_all(struct rig *r, const struct golden *g, const cJSON *list,
                             const int32_t *table)
{
    char path[512];
    char what[32];
    size_t rows;
    size_t cols;
    snprintf(what, sizeof(what), "all-%s", g->all);
    golden_path(path, sizeof(path), g, what);
    float *want = npy_load(path, &rows, &cols);
    float *got = malloc(cols * sizeof(*got));
    const cJSON *o;
    int found = 0;
    cJSON_ArrayForEach(o, list)
    {
        struct prompt p = {.n = 0};
        read_prompt(&p, o);
        if (strcmp(p.name, g->all) != 0)
            continue;
        found++;
        assert_int_equal(p.n_prompt, rows);
        add(r, p.ids, 0, p.n_prompt, table, PICK_ALL);
        run(r);
        for (size_t i = 0; i < rows; i++) {
            assert_int_equal(model_logits(r->m, (int32_t)i, got), OK);
            double d = worst(got, want + i * cols, cols);
            if (!(d <= g->bound))
                fail_msg("%s %s: logits of position %zu differ by %g", g->model, p.name, i, d);
        }
    }
    assert_int_equal(found, 1);
    free(got);
    free(want);
}

/* In f32: logits of all positions and of last ones, and answers where the bound is exact. */
static inline void follow_reference(const struct golden *g)
{
    char path[512];
    int32_t table[STRIDE];
    struct rig *r = rig_open(
        &(struct setup){.path = shared(path, sizeof(path), g->model), .f32 = true, .kv = KV_F32});
    table_up(table, 0);
    cJSON *list = greedy_load(g);
    check_all(r, g, list, table);
    check_last(r, g, list, table);
    cJSON_Delete(list);
    rig_close(r);
}

/* sum p log(p / q) of the two softmaxes */
static inline double divergence(const float *ref, const float *got, int32_t n)
{
    double p_sum = 0;
    double q_sum = 0;
    double sum = 0;
    double p_max = (double)ref[argmax(ref, n)];
    double q_max = (double)got[argmax(got, n)];
    for (int32_t i = 0; i < n; i++) {
        p_sum += exp((double)ref[i] - p_max);
        q_sum += exp((double)got[i] - q_max);
    }
    for (int32_t i = 0; i < n; i++) {
        double p = (double)ref[i] - p_max - log(p_sum);
        double q = (double)got[i] - q_max - log(q_sum);
        sum += exp(p) * (p - q);
    }
    return sum;
}

struct judged {
    double divergence;
    double worst;
    int32_t n;
};

/* Feeds the reference's own answer and compares what each model would say next. */
static inline void judge(struct rig *ref, struct rig *r, const struct golden *g,
                         const struct prompt *p, struct judged *j)
{
    int32_t vocab = r->info->vocab;
    float *want = malloc((size_t)vocab * sizeof(*want));
    float *got = malloc((size_t)vocab * sizeof(*got));
    int32_t table[STRIDE];
    table_up(table, 0);
    for (int32_t i = p->n_prompt; i < p->n && i < r->info->context_max; i++) {
        int32_t from = i == p->n_prompt ? 0 : i - 1;
        feed(ref, p->ids, from, i, ROWS, table, want);
        feed(r, p->ids, from, i, ROWS, table, got);
        double d = worst(got, want, (size_t)vocab);
        j->worst = d > j->worst || isnan(d) ? d : j->worst;
        j->divergence += divergence(want, got, vocab);
        j->n++;
        if (p->margin[i] > 2 * g->noise && argmax(got, vocab) != p->ids[i])
            fail_msg("%s %s: %d instead of %d at %d with a margin of %g", g->model, p->name,
                     argmax(got, vocab), p->ids[i], i, p->margin[i]);
    }
    free(want);
    free(got);
}

/* In int8, against the same file in f32. */
static inline void stay_near(const struct golden *g)
{
    char path[512];
    struct judged j = {.n = 0};
    shared(path, sizeof(path), g->model);
    struct rig *ref = rig_open(&(struct setup){.path = path, .f32 = true, .kv = KV_F32});
    struct rig *r = rig_open(&(struct setup){.path = path});
    cJSON *list = greedy_load(g);
    const cJSON *o;
    cJSON_ArrayForEach(o, list)
    {
        struct prompt *p = calloc(1, sizeof(*p));
        read_prompt(p, o);
        judge(ref, r, g, p, &j);
        free(p);
    }
    print_message("%s int8: mean KL %.5f, worst logit %.3f over %d tokens\n", g->model,
                  j.divergence / j.n, j.worst, j.n);
    assert_true(j.divergence / j.n < 0.01);
    cJSON_Delete(list);
    rig_close(r);
    rig_close(ref);
}

#endif
