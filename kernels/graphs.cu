/* Recording and replaying steps. A recording under way is one of kept[], whose exec is NULL. */
#include "kernels/graphs.cuh"

static bool same(const struct step_key *a, const struct step_key *b)
{
    return a->owner == b->owner && a->rows == b->rows && a->picks == b->picks &&
           a->context == b->context;
}

static void drop(struct graphs *g, struct graph *old)
{
    if (old->exec)
        (void)cudaGraphExecDestroy(old->exec);
    *old = g->kept[--g->n];
    g->kept[g->n] = {};
}

void graphs_forget(struct graphs *g)
{
    while (g->n > 0)
        drop(g, &g->kept[g->n - 1]);
}

void graphs_spoil(struct graphs *g, int error, const char *what)
{
    if (error == (int)cudaSuccess)
        return;
    (void)cudaGetLastError();
    if (!g->off)
        log_line(LOG_WARN, "cuda graphs: %s: %s; steps are launched kernel by kernel from here on",
                 what, cudaGetErrorString((cudaError_t)error));
    g->off = true;
}

static bool went(struct graphs *g, cudaError_t error, const char *what)
{
    graphs_spoil(g, (int)error, what);
    return error == cudaSuccess;
}

static struct graph *find(struct graphs *g, const struct step_key *key)
{
    for (int i = 0; i < g->n; i++) {
        if (same(&g->kept[i].key, key)) {
            g->kept[i].used = ++g->clock;
            return &g->kept[i];
        }
    }
    return NULL;
}

static struct graph *oldest(struct graphs *g)
{
    struct graph *old = &g->kept[0];
    for (int i = 1; i < g->n; i++) {
        if (g->kept[i].used < old->used)
            old = &g->kept[i];
    }
    return old;
}

static void remember(struct graphs *g, const struct step_key *key)
{
    if (g->n == CUDA_GRAPHS_MAX)
        drop(g, oldest(g));
    g->kept[g->n] = {};
    g->kept[g->n].key = *key;
    g->kept[g->n++].used = ++g->clock;
}

bool graphs_begin(struct graphs *g, const struct step_key *key)
{
    if (g->off || !key)
        return false;
    struct graph *found = find(g, key);
    if (!found) {
        remember(g, key);
        return false;
    }
    if (found->exec)
        return went(g, cudaGraphLaunch(found->exec, g->stream), "launching one");
    if (went(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal),
             "beginning a recording"))
        g->recording = found;
    return false;
}

bool graphs_end(struct graphs *g)
{
    struct graph *made = g->recording;
    cudaGraph_t graph = NULL;
    if (!made)
        return true;
    g->recording = NULL;
    bool good = went(g, cudaStreamEndCapture(g->stream, &graph), "ending a recording") && !g->off;
    good = good && went(g, cudaGraphInstantiate(&made->exec, graph, 0), "preparing one");
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (good)
        log_line(LOG_DEBUG, "recorded the step of %d rows, %d picks and a context of %d",
                 made->key.rows, made->key.picks, made->key.context);
    return good && went(g, cudaGraphLaunch(made->exec, g->stream), "launching one");
}
