/* Statements. Variables live in frames that form a tree: the body of a loop, a macro or a
 * `with` has a frame of its own, `if` has none, and a new frame for every pass of a loop is
 * what makes a `set` inside forgotten at its end. Invariant: output and frame are the same
 * behind a statement as before it. */

#include "models/jinja_priv.h"

#include <string.h>

struct jframe *jframe_push(struct jrun *r, struct jframe *outer)
{
    struct jframe *f = jmem_alloc(&r->mem, sizeof(*f));
    if (f)
        f->outer = outer;
    return f;
}

void jframe_set(struct jrun *r, struct jframe *f, const struct jstr *name, struct jval v)
{
    if (!f || !name || jrun_failed(r))
        return;
    for (struct jvar *old = f->vars; old; old = old->next) {
        if (old->name == name) {
            old->v = v;
            return;
        }
    }
    struct jvar *var = jmem_alloc(&r->mem, sizeof(*var));
    if (!var)
        return;
    *var = (struct jvar){.name = name, .v = v, .next = f->vars};
    f->vars = var;
}

static const struct jstr *find_name(const struct jrun *r, const char *text)
{
    for (size_t i = 0; i < r->t->n_names; i++) {
        if (jstr_is(r->t->name[i], text))
            return r->t->name[i];
    }
    return NULL;
}

/* --- targets of set and for --- */

static void assign(struct jrun *r, const struct jnode *target, struct jval v)
{
    if (target->kind == N_NAME) {
        jframe_set(r, r->frame, target->v.s, v);
        return;
    }
    if (target->kind == N_ATTR) {
        struct jval of = jinja_eval(r, target->a);
        if (of.kind == J_NAMESPACE)
            jdict_set(r, of.dict, target->v, v);
        else
            jinja_fail(&r->mem, "cannot assign an attribute of a non-namespace object");
        return;
    }
    const struct jlist *l = jval_iterate(r, v);
    size_t i = 0;
    for (const struct jnode *t = target->a; t && l && !jrun_failed(r); t = t->next, i++) {
        if (i < l->n)
            assign(r, t, l->v[i]);
    }
    if (l && i != l->n)
        jinja_fail(&r->mem, "%zu values for %zu names", l->n, i);
}

/* --- bodies with an output of their own --- */

static const struct jstr *capture(struct jrun *r, const struct jnode *body)
{
    struct jbuf b = {.mem = &r->mem};
    struct jbuf *out = r->out;
    r->out = &b;
    jinja_exec(r, body);
    r->out = out;
    return jbuf_done(&b);
}

static struct jval filtered(struct jrun *r, const struct jnode *filter, const struct jstr *text)
{
    struct jval block = r->block;
    struct jval v = jval_string(text);
    if (filter) {
        r->block = v;
        v = jinja_eval(r, filter);
        r->block = block;
    }
    return v;
}

/* --- loops --- */

/* Those of the items that the condition behind `if` lets through. */
static const struct jlist *select_items(struct jrun *r, const struct jnode *n,
                                        const struct jlist *all)
{
    struct jlist *some = jlist_new(r, all->n);
    struct jframe *outer = r->frame;
    size_t kept = 0;
    for (size_t i = 0; some && i < all->n && !jrun_failed(r); i++) {
        r->frame = jframe_push(r, outer);
        assign(r, n->a, all->v[i]);
        if (jval_true(jinja_eval(r, n->c)))
            some->v[kept++] = all->v[i];
    }
    r->frame = outer;
    if (some)
        some->n = kept;
    return some;
}

static void run_loop(struct jrun *r, const struct jnode *n, struct jloop *loop)
{
    const struct jstr *name = find_name(r, "loop");
    struct jframe *outer = r->frame;
    for (loop->at = 0; loop->at < loop->items->n && jrun_pay(r, 1); loop->at++) {
        r->frame = jframe_push(r, outer);
        jframe_set(r, r->frame, name, (struct jval){.kind = J_LOOP, .loop = loop});
        assign(r, n->a, loop->items->v[loop->at]);
        jinja_exec(r, n->d);
        enum jflow flow = r->flow;
        r->flow = FLOW_ON;
        if (flow == FLOW_BREAK)
            break;
    }
    r->frame = outer;
}

static void exec_for(struct jrun *r, const struct jnode *n)
{
    struct jval over = jinja_eval(r, n->b);
    const struct jlist *items = jrun_failed(r) ? NULL : jval_iterate(r, over);
    if (items && n->c)
        items = select_items(r, n, items);
    if (!items)
        return;
    if (items->n == 0) {
        jinja_exec(r, n->e);
        return;
    }
    struct jloop *loop = jmem_alloc(&r->mem, sizeof(*loop));
    if (!loop)
        return;
    loop->items = items;
    run_loop(r, n, loop);
}

/* --- macros --- */

static struct jval make_macro(struct jrun *r, const struct jnode *n)
{
    struct jfunction *f = jmem_alloc(&r->mem, sizeof(*f));
    if (!f)
        return jval_undefined(NULL);
    *f = (struct jfunction){.macro = n, .frame = r->frame, .name = n->v.s};
    return (struct jval){.kind = J_FUNCTION, .fn = f};
}

static const struct jval *keyword(const struct jargs *a, const struct jstr *name)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (jstr_same(a->kw[i].key.s, name))
            return &a->kw[i].value;
    }
    return NULL;
}

/* Arguments by place, by name, by default; the rest of a macro's call is an error unless it
 * looks at varargs or kwargs. */
static void bind_params(struct jrun *r, const struct jfunction *f, const struct jargs *a)
{
    size_t i = 0;
    size_t named = 0;
    for (const struct jnode *p = f->macro->a; p && !jrun_failed(r); p = p->next, i++) {
        const struct jval *kw = keyword(a, p->v.s);
        struct jval v = jval_undefined(p->v.s);
        if (i < a->n)
            v = a->pos[i];
        else if (kw)
            v = *kw;
        else if (p->a)
            v = jinja_eval(r, p->a);
        named += kw ? 1 : 0;
        if (kw && i < a->n)
            jinja_fail(&r->mem, "an argument is given twice");
        jframe_set(r, r->frame, p->v.s, v);
    }
    const struct jstr *caller = find_name(r, "caller");
    const struct jval *block = caller ? keyword(a, caller) : NULL;
    if (block)
        jframe_set(r, r->frame, caller, *block);
    if (a->n > i)
        jinja_fail(&r->mem, "macro '%.*s' takes not more than %zu arguments", (int)f->name->n,
                   f->name->p, i);
    if (a->n_kw > named + (block ? 1 : 0))
        jinja_fail(&r->mem, "macro '%.*s' does not know an argument it is given", (int)f->name->n,
                   f->name->p);
}

struct jval jinja_call_macro(struct jrun *r, const struct jfunction *f, const struct jargs *a)
{
    struct jframe *frame = r->frame;
    struct jval v = jval_undefined(NULL);
    if (!jrun_enter(r))
        return v;
    r->frame = jframe_push(r, f->frame);
    bind_params(r, f, a);
    if (!jrun_failed(r))
        v = jval_string(capture(r, f->macro->d));
    r->frame = frame;
    jrun_leave(r);
    return v;
}

/* {% call m(x) %}: the body becomes the macro's `caller`. */
static void exec_call_block(struct jrun *r, const struct jnode *n)
{
    struct jargs args = {.n = 0};
    struct jval pos[JINJA_ARGS_MAX];
    struct jentry kw[JINJA_ARGS_MAX + 1];
    struct jval fn = jinja_eval(r, n->a->a);
    for (const struct jnode *i = n->a->b; i && !jrun_failed(r); i = i->next)
        pos[args.n++] = jinja_eval(r, i);
    for (const struct jnode *i = n->a->c; i && !jrun_failed(r); i = i->next)
        kw[args.n_kw++] = (struct jentry){i->v, jinja_eval(r, i->b)};
    kw[args.n_kw++] = (struct jentry){n->b->v, make_macro(r, n->b)};
    args.pos = pos;
    args.kw = kw;
    if (jrun_failed(r))
        return;
    jval_print(r, r->out, jinja_call(r, fn, &args));
}

/* --- functions of our own --- */

/* Into slot by the names in params; false: something does not fit. */
static bool fill_slots(struct jrun *r, const struct jbuiltin *b, const struct jargs *a,
                       struct jval slot[JINJA_PARAMS_MAX])
{
    size_t n = 0;
    size_t named = 0;
    for (const char *p = b->params; *p; n++) {
        struct jstr name = {.p = p, .n = strcspn(p, " ")};
        const struct jval *kw = keyword(a, &name);
        slot[n] = n < a->n ? a->pos[n] : kw ? *kw : (struct jval){.kind = J_ABSENT};
        named += kw && n >= a->n ? 1 : 0;
        p += name.n + (p[name.n] == ' ');
    }
    if (a->n <= n && named == a->n_kw)
        return true;
    jinja_fail(&r->mem, "%s() does not take these arguments", b->name);
    return false;
}

struct jval jinja_call_builtin(struct jrun *r, const struct jbuiltin *b, struct jval self,
                               const struct jargs *a)
{
    struct jval slot[JINJA_PARAMS_MAX];
    struct jargs args = *a;
    struct jval v = jval_undefined(NULL);
    if (b->params && !fill_slots(r, b, a, slot))
        return v;
    args.slot = slot;
    if (!jrun_pay(r, 1) || !jrun_enter(r))
        return v;
    v = b->fn(r, self, &args);
    jrun_leave(r);
    return v;
}

int64_t jarg_int(struct jrun *r, const struct jargs *a, size_t i, int64_t otherwise)
{
    struct jval v = a->slot[i];
    if (v.kind == J_ABSENT || v.kind == J_NONE)
        return otherwise;
    if (v.kind == J_INT || v.kind == J_BOOL)
        return v.kind == J_INT ? v.i : v.b;
    jinja_fail(&r->mem, "an argument is %s instead of an integer", jval_type(v));
    return otherwise;
}

bool jarg_bool(const struct jargs *a, size_t i, bool otherwise)
{
    return a->slot[i].kind == J_ABSENT ? otherwise : jval_true(a->slot[i]);
}

const struct jstr *jarg_string(struct jrun *r, const struct jargs *a, size_t i)
{
    struct jval v = a->slot[i];
    if (v.kind == J_STRING)
        return v.s;
    if (v.kind != J_ABSENT && v.kind != J_NONE)
        jinja_fail(&r->mem, "an argument is %s instead of a string", jval_type(v));
    return NULL;
}

/* --- statements --- */

static void exec_with(struct jrun *r, const struct jnode *n)
{
    struct jframe *outer = r->frame;
    struct jframe *inner = jframe_push(r, outer);
    for (const struct jnode *s = n->a; s && !jrun_failed(r); s = s->next)
        jframe_set(r, inner, s->a->v.s, jinja_eval(r, s->b));
    r->frame = inner;
    jinja_exec(r, n->d);
    r->frame = outer;
}

static void exec_if(struct jrun *r, const struct jnode *n)
{
    for (; n && !jrun_failed(r); n = n->c) {
        if (!n->a || jval_true(jinja_eval(r, n->a))) {
            if (!jrun_failed(r))
                jinja_exec(r, n->b);
            return;
        }
    }
}

static void exec_set_block(struct jrun *r, const struct jnode *n)
{
    struct jframe *outer = r->frame;
    r->frame = jframe_push(r, outer);
    const struct jstr *text = capture(r, n->d);
    r->frame = outer;
    struct jval v = filtered(r, n->b, text);
    if (!jrun_failed(r))
        assign(r, n->a, v);
}

static void exec_one(struct jrun *r, const struct jnode *n)
{
    struct jval v;
    r->mem.line = n->line;
    switch ((enum jnode_kind)n->kind) {
    case N_TEXT:
        jbuf_str(r->out, n->v.s);
        break;
    case N_PRINT:
        v = jinja_eval(r, n->a);
        jval_print(r, r->out, v);
        break;
    case N_IF:
        exec_if(r, n);
        break;
    case N_FOR:
        exec_for(r, n);
        break;
    case N_SET:
        v = jinja_eval(r, n->b);
        if (!jrun_failed(r))
            assign(r, n->a, v);
        break;
    case N_SET_BLOCK:
        exec_set_block(r, n);
        break;
    case N_MACRO:
        jframe_set(r, r->frame, n->v.s, make_macro(r, n));
        break;
    case N_CALL_BLOCK:
        exec_call_block(r, n);
        break;
    case N_FILTER_BLOCK:
        jval_print(r, r->out, filtered(r, n->b, capture(r, n->d)));
        break;
    case N_WITH:
        exec_with(r, n);
        break;
    case N_BREAK:
        r->flow = FLOW_BREAK;
        break;
    case N_CONTINUE:
        r->flow = FLOW_CONTINUE;
        break;
    case N_DO:
        (void)jinja_eval(r, n->a);
        break;
    default:
        break;
    }
    if (r->out->n > JINJA_OUTPUT_MAX)
        jinja_fail(&r->mem, "writes more than %d MiB", JINJA_OUTPUT_MAX >> 20);
}

void jinja_exec(struct jrun *r, const struct jnode *first)
{
    if (!jrun_enter(r))
        return;
    for (const struct jnode *n = first; n && r->flow == FLOW_ON && jrun_pay(r, 1); n = n->next)
        exec_one(r, n);
    jrun_leave(r);
}
