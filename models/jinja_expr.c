/* Tokens -> expressions, one function for each level of precedence of Jinja: a if b else c,
 * or, and, not, comparisons, + -, ~, * / floor %, **, signs, then filters and tests. Left-hand
 * chains are built by loops, so only brackets, signs and `not` descend; jparse_enter() counts
 * them. */

#include "models/jinja_priv.h"

#include <string.h>

static struct jnode *two(struct jparse *p, enum jnode_kind kind, enum jop op, struct jnode *a,
                         struct jnode *b)
{
    struct jnode *n = jparse_node(p, kind);
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    return n;
}

static struct jnode *constant(struct jparse *p, struct jval v)
{
    struct jnode *n = jparse_node(p, N_CONST);
    n->v = v;
    return n;
}

/* --- literals --- */

/* Neighbouring strings are one. */
static struct jnode *parse_string(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_CONST);
    struct jbuf b = {.mem = &p->t->mem};
    const struct jtoken *first = p->at;
    while (jparse_is(p, T_STRING, NULL)) {
        if (p->at != first)
            jbuf_add(&b, p->at->p, p->at->n, true);
        else if (p->at[1].kind == T_STRING)
            jbuf_add(&b, first->p, first->n, true);
        p->at++;
    }
    n->v = jval_string(p->at == first + 1 ? jstr_new(&p->t->mem, first->p, first->n, true)
                                          : jbuf_done(&b));
    return n;
}

/* Items up to the bracket that closes. */
static struct jnode *parse_items(struct jparse *p, struct jnode *list, const char *close)
{
    struct jnode **tail = &list->a;
    while (!p->t->mem.failed && !jparse_is(p, T_OP, close)) {
        if (list->a)
            jparse_want(p, T_OP, ",");
        if (jparse_is(p, T_OP, close))
            break;
        *tail = jparse_expr(p);
        tail = &(*tail)->next;
    }
    jparse_want(p, T_OP, close);
    return list;
}

static struct jnode *parse_dict(struct jparse *p)
{
    struct jnode *n = jparse_node(p, N_DICT);
    struct jnode **tail = &n->a;
    while (!p->t->mem.failed && !jparse_is(p, T_OP, "}")) {
        if (n->a)
            jparse_want(p, T_OP, ",");
        if (jparse_is(p, T_OP, "}"))
            break;
        *tail = jparse_node(p, N_PAIR);
        (*tail)->a = jparse_expr(p);
        jparse_want(p, T_OP, ":");
        (*tail)->b = jparse_expr(p);
        tail = &(*tail)->next;
    }
    jparse_want(p, T_OP, "}");
    return n;
}

static struct jnode *parse_bracket(struct jparse *p)
{
    if (jparse_skip(p, T_OP, ")"))
        return jparse_node(p, N_TUPLE);
    struct jnode *n = jparse_tuple(p, false);
    jparse_want(p, T_OP, ")");
    return n;
}

static bool word(struct jparse *p, const char *low, const char *high)
{
    return jparse_skip(p, T_NAME, low) || jparse_skip(p, T_NAME, high);
}

static struct jnode *parse_word(struct jparse *p)
{
    if (word(p, "true", "True"))
        return constant(p, jval_bool(true));
    if (word(p, "false", "False"))
        return constant(p, jval_bool(false));
    if (word(p, "none", "None"))
        return constant(p, jval_none());
    struct jnode *n = jparse_node(p, N_NAME);
    const struct jstr *name = jparse_name(p);
    if (name)
        n->v = jval_string(name);
    return n;
}

struct jnode *jparse_primary(struct jparse *p)
{
    const struct jtoken *t = p->at;
    struct jnode *n = NULL;
    if (p->t->mem.failed || !jparse_enter(p))
        return jparse_node(p, N_CONST);
    if (t->kind == T_STRING)
        n = parse_string(p);
    else if (t->kind == T_NAME)
        n = parse_word(p);
    else if (jparse_skip(p, T_INT, NULL))
        n = constant(p, jval_int(t->i));
    else if (jparse_skip(p, T_FLOAT, NULL))
        n = constant(p, jval_float(t->f));
    else if (jparse_skip(p, T_OP, "("))
        n = parse_bracket(p);
    else if (jparse_skip(p, T_OP, "["))
        n = parse_items(p, jparse_node(p, N_LIST), "]");
    else if (jparse_skip(p, T_OP, "{"))
        n = parse_dict(p);
    jparse_leave(p);
    if (n)
        return n;
    p->t->mem.line = t->line;
    jinja_fail(&p->t->mem, "expected an expression");
    return jparse_node(p, N_CONST);
}

/* --- behind a primary --- */

static struct jnode *parse_attribute(struct jparse *p, struct jnode *of)
{
    struct jnode *n = two(p, N_ATTR, OP_ADD, of, NULL);
    if (jparse_is(p, T_INT, NULL)) {
        n->kind = N_ITEM;
        n->b = constant(p, jval_int(p->at->i));
        p->at++;
        return n;
    }
    const struct jstr *name = jparse_name(p);
    if (name)
        n->v = jval_string(name);
    return n;
}

static struct jnode *parse_bound(struct jparse *p)
{
    if (jparse_is(p, T_OP, ":") || jparse_is(p, T_OP, "]"))
        return NULL;
    return jparse_expr(p);
}

static struct jnode *parse_subscript(struct jparse *p, struct jnode *of)
{
    struct jnode *n = two(p, N_ITEM, OP_ADD, of, parse_bound(p));
    if (jparse_skip(p, T_OP, ":")) {
        n->kind = N_SLICE;
        n->c = parse_bound(p);
        if (jparse_skip(p, T_OP, ":"))
            n->d = parse_bound(p);
    } else if (!n->b) {
        jinja_fail(&p->t->mem, "expected an expression");
    }
    jparse_want(p, T_OP, "]");
    return n;
}

static void too_many(struct jparse *p, size_t n)
{
    if (n > JINJA_ARGS_MAX)
        jinja_fail(&p->t->mem, "more than %d arguments", JINJA_ARGS_MAX);
}

/* Behind "(": into b and c of n. */
static struct jnode *parse_args(struct jparse *p, struct jnode *n)
{
    struct jnode **pos = &n->b;
    struct jnode **kw = &n->c;
    size_t count = 0;
    while (!p->t->mem.failed && !jparse_is(p, T_OP, ")")) {
        if (count)
            jparse_want(p, T_OP, ",");
        if (jparse_is(p, T_OP, ")"))
            break;
        if (jparse_is(p, T_OP, "*") || jparse_is(p, T_OP, "**"))
            jinja_fail(&p->t->mem, "* and ** in calls are not supported");
        if (p->at->kind == T_NAME && p->at[1].kind == T_OP && p->at[1].n == 1 &&
            *p->at[1].p == '=') {
            *kw = jparse_node(p, N_PAIR);
            (*kw)->v = jval_string(jparse_name(p));
            p->at++;
            (*kw)->b = jparse_expr(p);
            kw = &(*kw)->next;
        } else if (n->c) {
            jinja_fail(&p->t->mem, "an argument without a name behind one with");
        } else {
            *pos = jparse_expr(p);
            pos = &(*pos)->next;
        }
        too_many(p, ++count);
    }
    jparse_want(p, T_OP, ")");
    return n;
}

static struct jnode *parse_call(struct jparse *p, struct jnode *of)
{
    return parse_args(p, two(p, N_CALL, OP_ADD, of, NULL));
}

static struct jnode *parse_postfix(struct jparse *p, struct jnode *n)
{
    while (!p->t->mem.failed) {
        if (jparse_skip(p, T_OP, "."))
            n = parse_attribute(p, n);
        else if (jparse_skip(p, T_OP, "["))
            n = parse_subscript(p, n);
        else if (jparse_skip(p, T_OP, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

static struct jnode *parse_filter(struct jparse *p, struct jnode *of)
{
    struct jnode *n = two(p, N_FILTER, OP_ADD, of, NULL);
    const struct jtoken *name = p->at;
    jparse_want(p, T_NAME, NULL);
    n->builtin = name->kind == T_NAME ? jinja_filter(name->p, name->n) : NULL;
    if (!n->builtin)
        jinja_fail(&p->t->mem, "no filter named '%.*s'", name->n > 40 ? 40 : (int)name->n, name->p);
    return jparse_skip(p, T_OP, "(") ? parse_args(p, n) : n;
}

struct jnode *jparse_filters(struct jparse *p, struct jnode *of)
{
    /* {% filter a | b %} leaves out the first bar, {% set x | a | b %} does not. */
    if (!of && !jparse_is(p, T_OP, "|"))
        of = parse_filter(p, NULL);
    while (!p->t->mem.failed && jparse_skip(p, T_OP, "|"))
        of = parse_filter(p, of);
    return of;
}

/* What can begin the argument of a test without brackets: `x is divisibleby 3`. */
static bool begins_argument(const struct jparse *p)
{
    static const char *const not_these[] = {"else", "or", "and", "if", "is", "in", "not"};
    const struct jtoken *t = p->at;
    if (t->kind == T_OP)
        return t->n == 1 && (*t->p == '[' || *t->p == '{');
    if (t->kind != T_NAME)
        return t->kind == T_STRING || t->kind == T_INT || t->kind == T_FLOAT;
    for (size_t i = 0; i < ARRAY_LEN(not_these); i++) {
        if (jparse_is(p, T_NAME, not_these[i]))
            return false;
    }
    return true;
}

static struct jnode *parse_test(struct jparse *p, struct jnode *of)
{
    struct jnode *n = two(p, N_TEST, OP_ADD, of, NULL);
    n->op = jparse_skip(p, T_NAME, "not") ? OP_NOT : OP_ADD;
    const struct jtoken *name = p->at;
    jparse_want(p, T_NAME, NULL);
    n->builtin = name->kind == T_NAME ? jinja_test(name->p, name->n) : NULL;
    if (!n->builtin)
        jinja_fail(&p->t->mem, "no test named '%.*s'", name->n > 40 ? 40 : (int)name->n, name->p);
    if (jparse_skip(p, T_OP, "("))
        return parse_args(p, n);
    if (begins_argument(p))
        n->b = parse_postfix(p, jparse_primary(p));
    return n;
}

/* A sign takes what is behind it without its filters; those go on the signed. */
static struct jnode *parse_unary(struct jparse *p, bool filters)
{
    struct jnode *n;
    bool minus = jparse_is(p, T_OP, "-");
    if (minus || jparse_is(p, T_OP, "+")) {
        if (!jparse_enter(p))
            return jparse_node(p, N_CONST);
        p->at++;
        n = two(p, N_UNARY, minus ? OP_NEG : OP_POS, parse_unary(p, false), NULL);
        jparse_leave(p);
    } else {
        n = jparse_primary(p);
    }
    n = parse_postfix(p, n);
    while (filters && !p->t->mem.failed) {
        if (jparse_skip(p, T_OP, "|"))
            n = parse_filter(p, n);
        else if (jparse_skip(p, T_NAME, "is"))
            n = parse_test(p, n);
        else if (jparse_skip(p, T_OP, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* --- chains of operators --- */

static const struct level {
    struct {
        const char *text;
        enum jop op;
    } row[4];
} levels[] = {
    {{{"+", OP_ADD}, {"-", OP_SUB}}},
    {{{"~", OP_CONCAT}}},
    {{{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR}, {"%", OP_MOD}}},
    {{{"**", OP_POW}}},
};

static struct jnode *parse_level(struct jparse *p, size_t level)
{
    if (level == ARRAY_LEN(levels))
        return parse_unary(p, true);
    struct jnode *n = parse_level(p, level + 1);
    for (size_t i = 0; i < ARRAY_LEN(levels[level].row);) {
        const char *text = levels[level].row[i].text;
        if (text && jparse_skip(p, T_OP, text)) {
            n = two(p, N_BINARY, levels[level].row[i].op, n, NULL);
            n->b = parse_level(p, level + 1);
            i = 0;
        } else {
            i++;
        }
    }
    return n;
}

static bool comparison(struct jparse *p, enum jop *op)
{
    static const struct {
        const char *text;
        enum jop op;
    } ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
               {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        *op = ops[i].op;
        if (jparse_skip(p, T_OP, ops[i].text))
            return true;
    }
    *op = OP_IN;
    if (jparse_skip(p, T_NAME, "in"))
        return true;
    *op = OP_NOT_IN;
    if (!jparse_is(p, T_NAME, "not") || p->at[1].kind != T_NAME || p->at[1].n != 2 ||
        memcmp(p->at[1].p, "in", 2) != 0)
        return false;
    p->at += 2;
    return true;
}

static struct jnode *parse_compare(struct jparse *p)
{
    struct jnode *first = parse_level(p, 0);
    struct jnode *chain = NULL;
    struct jnode **tail = &chain;
    enum jop op;
    while (!p->t->mem.failed && comparison(p, &op)) {
        *tail = two(p, N_PAIR, op, NULL, NULL);
        (*tail)->a = parse_level(p, 0);
        tail = &(*tail)->next;
    }
    return chain ? two(p, N_COMPARE, OP_ADD, first, chain) : first;
}

static struct jnode *parse_not(struct jparse *p)
{
    if (!jparse_skip(p, T_NAME, "not"))
        return parse_compare(p);
    if (!jparse_enter(p))
        return jparse_node(p, N_CONST);
    struct jnode *n = two(p, N_UNARY, OP_NOT, NULL, NULL);
    n->a = parse_not(p);
    jparse_leave(p);
    return n;
}

static struct jnode *parse_and(struct jparse *p)
{
    struct jnode *n = parse_not(p);
    while (jparse_skip(p, T_NAME, "and")) {
        n = two(p, N_AND, OP_ADD, n, NULL);
        n->b = parse_not(p);
    }
    return n;
}

struct jnode *jparse_or(struct jparse *p)
{
    struct jnode *n = parse_and(p);
    while (jparse_skip(p, T_NAME, "or")) {
        n = two(p, N_OR, OP_ADD, n, NULL);
        n->b = parse_and(p);
    }
    return n;
}

struct jnode *jparse_expr(struct jparse *p)
{
    if (p->t->mem.failed || !jparse_enter(p))
        return jparse_node(p, N_CONST);
    struct jnode *n = jparse_or(p);
    if (jparse_skip(p, T_NAME, "if")) {
        struct jnode *choice = jparse_node(p, N_IF_EXPR);
        choice->b = n;
        choice->a = jparse_or(p);
        if (jparse_skip(p, T_NAME, "else"))
            choice->c = jparse_expr(p);
        n = choice;
    }
    jparse_leave(p);
    return n;
}

static bool ends_tuple(const struct jparse *p)
{
    return p->at->kind == T_BLOCK_END || p->at->kind == T_PRINT_END || p->at->kind == T_END ||
           jparse_is(p, T_OP, ")");
}

struct jnode *jparse_tuple(struct jparse *p, bool plain)
{
    struct jnode *first = plain ? jparse_or(p) : jparse_expr(p);
    if (!jparse_is(p, T_OP, ","))
        return first;
    struct jnode *tuple = jparse_node(p, N_TUPLE);
    tuple->a = first;
    while (jparse_skip(p, T_OP, ",") && !ends_tuple(p)) {
        first->next = plain ? jparse_or(p) : jparse_expr(p);
        first = first->next;
    }
    return tuple;
}
