/* Tokens -> statements. Invariant: a parse function leaves `at` on the first token that is
 * not its own, and T_END is never passed; after a failure nodes are whole enough to be walked
 * by the parser itself and the tree is thrown away. */

#include "models/jinja_priv.h"

#include <stdlib.h>
#include <string.h>

struct jnode *jparse_node(struct jparse *p, enum jnode_kind kind)
{
    struct jinja *t = p->t;
    struct jnode *n = jmem_alloc(&t->mem, sizeof(*n));
    t->mem.line = p->at->line;
    if (++t->n_nodes > JINJA_NODES_MAX)
        jinja_fail(&t->mem, "the template is too large");
    if (!n)
        return &p->scrap;
    n->kind = (uint8_t)kind;
    n->line = p->at->line;
    return n;
}

bool jparse_enter(struct jparse *p)
{
    if (p->nest >= JINJA_NEST_MAX) {
        p->t->mem.line = p->at->line;
        jinja_fail(&p->t->mem, "nested deeper than %d", JINJA_NEST_MAX);
        return false;
    }
    p->nest++;
    return true;
}

void jparse_leave(struct jparse *p)
{
    p->nest--;
}

bool jparse_is(const struct jparse *p, enum jtoken_kind kind, const char *text)
{
    const struct jtoken *t = p->at;
    return t->kind == kind && (!text || (strlen(text) == t->n && memcmp(t->p, text, t->n) == 0));
}

bool jparse_skip(struct jparse *p, enum jtoken_kind kind, const char *text)
{
    if (p->t->mem.failed || !jparse_is(p, kind, text) || kind == T_END)
        return false;
    p->at++;
    return true;
}

void jparse_want(struct jparse *p, enum jtoken_kind kind, const char *text)
{
    if (jparse_skip(p, kind, text))
        return;
    p->t->mem.line = p->at->line;
    jinja_fail(&p->t->mem, "expected %s",
               text                  ? text
               : kind == T_BLOCK_END ? "the end of the tag, %}"
               : kind == T_PRINT_END ? "the end of the tag, }}"
                                     : "a name");
}

const struct jstr *jinja_intern(struct jinja *t, const char *p, size_t n)
{
    for (size_t i = 0; i < t->n_names; i++) {
        if (t->name[i]->n == n && memcmp(t->name[i]->p, p, n) == 0)
            return t->name[i];
    }
    if (t->n_names == t->names_max) {
        size_t max = t->names_max * 2 + 64;
        const struct jstr **more = realloc(t->name, max * sizeof(*more));
        if (!more) {
            jinja_fail(&t->mem, "out of memory");
            return NULL;
        }
        t->name = more;
        t->names_max = max;
    }
    const struct jstr *s = jstr_new(&t->mem, p, n, true);
    if (t->mem.failed)
        return NULL;
    return t->name[t->n_names++] = s;
}

const struct jstr *jparse_name(struct jparse *p)
{
    const struct jtoken *t = p->at;
    jparse_want(p, T_NAME, NULL);
    return p->t->mem.failed ? NULL : jinja_intern(p->t, t->p, t->n);
}

/* --- statements --- */

static struct jnode *parse_body(struct jparse *p, const char *const *ends);
static struct jnode *parse_statement(struct jparse *p);

static struct jnode *end_tag(struct jparse *p, struct jnode *n, const char *name)
{
    jparse_want(p, T_BLOCK, NULL);
    jparse_want(p, T_NAME, name);
    jparse_want(p, T_BLOCK_END, NULL);
    return n;
}

/* After the tag's own words: its end, the body and the tag that closes it. */
static struct jnode *body_until(struct jparse *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    jparse_want(p, T_BLOCK_END, NULL);
    struct jnode *body = parse_body(p, ends);
    return end_tag(p, body, end);
}

static struct jnode *parse_if(struct jparse *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct jnode *first = jparse_node(p, N_IF);
    struct jnode *n = first;
    n->a = jparse_tuple(p, true);
    for (;;) {
        jparse_want(p, T_BLOCK_END, NULL);
        n->b = parse_body(p, ends);
        jparse_want(p, T_BLOCK, NULL);
        if (p->t->mem.failed || jparse_skip(p, T_NAME, "endif"))
            break;
        bool condition = jparse_is(p, T_NAME, "elif");
        /* Nothing but endif can stand behind else. */
        if (!n->a)
            jparse_want(p, T_NAME, "endif");
        if (p->t->mem.failed)
            return first;
        p->at++;
        n->c = jparse_node(p, N_IF);
        n = n->c;
        if (condition)
            n->a = jparse_tuple(p, true);
        if (p->t->mem.failed)
            return first;
    }
    jparse_want(p, T_BLOCK_END, NULL);
    return first;
}

static struct jnode *parse_name_node(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_NAME);
    const struct jstr *name = jparse_name(p);
    if (name)
        n->v = jval_string(name);
    return n;
}

static bool is_reserved(const struct jparse *p)
{
    static const char *const word[] = {"true", "True", "false", "False", "none", "None",
                                       "and",  "or",   "not",   "in",    "if",   "else"};
    for (size_t i = 0; i < ARRAY_LEN(word); i++) {
        if (jparse_is(p, T_NAME, word[i]))
            return true;
    }
    return false;
}

/* One name, name.attribute, or several in a row, possibly in brackets. */
static struct jnode *parse_target(struct jparse *p, bool attribute)
{
    if (!jparse_enter(p))
        return jparse_node(p, N_NAME);
    bool bracket = jparse_skip(p, T_OP, "(");
    struct jnode *tuple = jparse_node(p, N_TUPLE);
    struct jnode **tail = &tuple->a;
    bool several = false;
    do {
        if (jparse_is(p, T_NAME, "in") || jparse_is(p, T_OP, ")") || jparse_is(p, T_OP, "="))
            break; /* a comma behind the last */
        if (is_reserved(p))
            jparse_want(p, T_OP, "a name that can be set");
        *tail = jparse_is(p, T_OP, "(") ? parse_target(p, false) : parse_name_node(p);
        if (attribute && !several && (*tail)->kind == N_NAME && jparse_skip(p, T_OP, ".")) {
            struct jnode *dot = jparse_node(p, N_ATTR);
            dot->a = *tail;
            *tail = dot;
            const struct jstr *name = jparse_name(p);
            if (name)
                dot->v = jval_string(name);
        }
        tail = &(*tail)->next;
    } while (!p->t->mem.failed && jparse_skip(p, T_OP, ",") && (several = true));
    if (bracket)
        jparse_want(p, T_OP, ")");
    jparse_leave(p);
    if (!tuple->a)
        jparse_want(p, T_NAME, NULL);
    return several || !tuple->a ? tuple : tuple->a;
}

static struct jnode *parse_for(struct jparse *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct jnode *n = jparse_node(p, N_FOR);
    n->a = parse_target(p, false);
    jparse_want(p, T_NAME, "in");
    n->b = jparse_tuple(p, true);
    if (jparse_skip(p, T_NAME, "if"))
        n->c = jparse_expr(p);
    if (jparse_is(p, T_NAME, "recursive"))
        jinja_fail(&p->t->mem, "recursive loops are not supported");
    jparse_want(p, T_BLOCK_END, NULL);
    p->loops++;
    n->d = parse_body(p, ends);
    p->loops--;
    jparse_want(p, T_BLOCK, NULL);
    if (jparse_skip(p, T_NAME, "else")) {
        jparse_want(p, T_BLOCK_END, NULL);
        n->e = parse_body(p, ends + 1);
        jparse_want(p, T_BLOCK, NULL);
    }
    jparse_want(p, T_NAME, "endfor");
    jparse_want(p, T_BLOCK_END, NULL);
    return n;
}

static struct jnode *parse_set(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_SET);
    n->a = parse_target(p, true);
    if (jparse_skip(p, T_OP, "=")) {
        n->b = jparse_tuple(p, false);
        jparse_want(p, T_BLOCK_END, NULL);
        return n;
    }
    n->kind = N_SET_BLOCK;
    if (jparse_is(p, T_OP, "|"))
        n->b = jparse_filters(p, NULL);
    n->d = body_until(p, "endset");
    return n;
}

/* ( a, b=1 ) */
static struct jnode *parse_params(struct jparse *p)
{
    struct jnode *first = NULL;
    struct jnode **tail = &first;
    size_t n = 0;
    jparse_want(p, T_OP, "(");
    while (!p->t->mem.failed && !jparse_is(p, T_OP, ")")) {
        if (n)
            jparse_want(p, T_OP, ",");
        if (jparse_is(p, T_OP, ")"))
            break;
        *tail = parse_name_node(p);
        if (jparse_skip(p, T_OP, "="))
            (*tail)->a = jparse_expr(p);
        tail = &(*tail)->next;
        if (++n > JINJA_ARGS_MAX)
            jinja_fail(&p->t->mem, "more than %d parameters", JINJA_ARGS_MAX);
        if (p->t->mem.failed)
            return NULL;
    }
    jparse_want(p, T_OP, ")");
    return first;
}

/* A loop around a macro is not around its body. */
static struct jnode *macro_body(struct jparse *p, const char *end)
{
    int32_t loops = p->loops;
    p->loops = 0;
    struct jnode *body = body_until(p, end);
    p->loops = loops;
    return body;
}

static struct jnode *parse_macro(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_MACRO);
    const struct jstr *name = jparse_name(p);
    if (name)
        n->v = jval_string(name);
    n->a = parse_params(p);
    n->d = macro_body(p, "endmacro");
    return n;
}

static struct jnode *parse_call_block(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_CALL_BLOCK);
    struct jnode *caller = jparse_node(p, N_MACRO);
    const struct jstr *name = jinja_intern(p->t, "caller", 6);
    if (name)
        caller->v = jval_string(name);
    if (jparse_is(p, T_OP, "("))
        caller->a = parse_params(p);
    n->a = jparse_expr(p);
    if (n->a->kind != N_CALL)
        jinja_fail(&p->t->mem, "call needs a call");
    n->b = caller;
    caller->d = macro_body(p, "endcall");
    return n;
}

static struct jnode *parse_filter_block(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_FILTER_BLOCK);
    n->b = jparse_filters(p, NULL);
    n->d = body_until(p, "endfilter");
    return n;
}

static struct jnode *parse_with(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_WITH);
    struct jnode **tail = &n->a;
    while (!p->t->mem.failed && !jparse_is(p, T_BLOCK_END, NULL)) {
        if (n->a)
            jparse_want(p, T_OP, ",");
        *tail = jparse_node(p, N_SET);
        (*tail)->a = parse_name_node(p);
        jparse_want(p, T_OP, "=");
        (*tail)->b = jparse_expr(p);
        tail = &(*tail)->next;
        if (p->t->mem.failed)
            return n;
    }
    n->d = body_until(p, "endwith");
    return n;
}

/* Marks what a model is trained on; for rendering a scope like any other. */
static struct jnode *parse_generation(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_WITH);
    n->d = body_until(p, "endgeneration");
    return n;
}

static struct jnode *parse_jump(struct jparse *p, enum jnode_kind kind)
{
    struct jnode *n = jparse_node(p, kind);
    if (p->loops == 0)
        jinja_fail(&p->t->mem, "break or continue outside of a loop");
    jparse_want(p, T_BLOCK_END, NULL);
    return n;
}

static struct jnode *parse_break(struct jparse *p)
{
    return parse_jump(p, N_BREAK);
}

static struct jnode *parse_continue(struct jparse *p)
{
    return parse_jump(p, N_CONTINUE);
}

static struct jnode *parse_do(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_DO);
    n->a = jparse_tuple(p, false);
    jparse_want(p, T_BLOCK_END, NULL);
    return n;
}

static const struct tag {
    const char *name;
    struct jnode *(*parse)(struct jparse *p);
} tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"break", parse_break},
    {"continue", parse_continue},
    {"filter", parse_filter_block},
    {"call", parse_call_block},
    {"generation", parse_generation},
    {"with", parse_with},
    {"do", parse_do},
};

static struct jnode *parse_tag(struct jparse *p)
{
    const struct jtoken *name = p->at;
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (jparse_skip(p, T_NAME, tags[i].name))
            return tags[i].parse(p);
    }
    p->t->mem.line = name->line;
    jinja_fail(&p->t->mem, "unknown tag '%.*s'", name->n > 40 ? 40 : (int)name->n,
               name->kind == T_NAME ? name->p : "");
    return NULL;
}

static struct jnode *parse_statement(struct jparse *p)
{
    struct jnode *n = NULL;
    if (jparse_is(p, T_DATA, NULL)) {
        n = jparse_node(p, N_TEXT);
        n->v = jval_string(jstr_new(&p->t->mem, p->at->p, p->at->n, true));
        p->at++;
    } else if (jparse_skip(p, T_PRINT, NULL)) {
        n = jparse_node(p, N_PRINT);
        n->a = jparse_tuple(p, false);
        jparse_want(p, T_PRINT_END, NULL);
    } else if (jparse_skip(p, T_BLOCK, NULL)) {
        n = parse_tag(p);
    }
    return n;
}

static bool at_end(const struct jparse *p, const char *const *ends)
{
    const struct jtoken *name = p->at + 1;
    if (p->at->kind == T_END)
        return true;
    if (p->at->kind != T_BLOCK || name->kind != T_NAME)
        return false;
    for (; *ends; ends++) {
        if (strlen(*ends) == name->n && memcmp(*ends, name->p, name->n) == 0)
            return true;
    }
    return false;
}

static struct jnode *parse_body(struct jparse *p, const char *const *ends)
{
    struct jnode *first = NULL;
    struct jnode **tail = &first;
    if (p->t->mem.failed || !jparse_enter(p))
        return NULL;
    while (!p->t->mem.failed && !at_end(p, ends)) {
        struct jnode *n = parse_statement(p);
        if (!n)
            break;
        *tail = n;
        tail = &n->next;
    }
    if (p->at->kind == T_END && *ends && !p->t->mem.failed) {
        p->t->mem.line = p->at->line;
        jinja_fail(&p->t->mem, "the template ends where '%s' is missing", *ends);
    }
    jparse_leave(p);
    return first;
}

enum status jinja_parse(struct jinja *t, const struct jtoken *tokens)
{
    static const char *const never[] = {NULL};
    struct jparse p = {.t = t, .at = tokens};
    t->body = parse_body(&p, never);
    return t->mem.failed ? t->mem.status : OK;
}
