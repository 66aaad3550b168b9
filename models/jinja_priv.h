#ifndef MODELS_JINJA_PRIV_H
#define MODELS_JINJA_PRIV_H

#include "models/jinja.h"

/* Private to jinja_*.c. Lexer -> parser -> tree of nodes -> evaluation. */

/* --- memory and failure, of a compilation or of a rendering --- */

struct jchunk;

/* The first failure stays; from then on allocations give NULL or harmless values, loops see
 * `failed` and end. */
struct jmem {
    struct jchunk *chunk;
    size_t used;
    bool failed;
    enum status status;
    uint32_t line;
    char err[256];
};

void *jmem_alloc(struct jmem *m, size_t bytes); /* zeroed; NULL: failed */
void jmem_free(struct jmem *m);
void jinja_fail(struct jmem *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- strings with provenance --- */

struct jstr {
    const char *p;       /* [n], UTF-8 */
    const uint8_t *mark; /* [n], 1: trusted; NULL: all bytes are as `trusted` says */
    size_t n;
    bool trusted;
};

struct jbuf {
    struct jmem *mem;
    char *p;       /* [max] */
    uint8_t *mark; /* [max] */
    size_t n;
    size_t max;
    bool some[2]; /* untrusted, trusted bytes are there */
};

void jbuf_add(struct jbuf *b, const char *p, size_t n, bool trusted);
void jbuf_text(struct jbuf *b, const char *text); /* untrusted */
void jbuf_str(struct jbuf *b, const struct jstr *s);
void jbuf_slice(struct jbuf *b, const struct jstr *s, size_t from, size_t to);
const struct jstr *jbuf_done(struct jbuf *b); /* never NULL */

const struct jstr *jstr_new(struct jmem *m, const char *p, size_t n, bool trusted); /* no copy */
const struct jstr *jstr_slice(struct jmem *m, const struct jstr *s, size_t from, size_t to);
bool jstr_is(const struct jstr *s, const char *text);
bool jstr_same(const struct jstr *a, const struct jstr *b);
size_t jstr_length(const struct jstr *s);               /* code points */
size_t jstr_offset(const struct jstr *s, size_t chars); /* byte of the code point */

/* --- values --- */

enum jkind {
    J_ABSENT, /* no argument given: never seen by a template */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_NAMESPACE,
    J_LOOP,
    J_FUNCTION,
};

struct jval {
    enum jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const struct jstr *s; /* J_UNDEFINED: what is not defined, or NULL */
        const struct jlist *list;
        struct jdict *dict;
        struct jloop *loop;
        const struct jfunction *fn;
    };
};

struct jlist {
    struct jval *v; /* [n] */
    size_t n;
};

struct jentry {
    struct jval key;
    struct jval value;
};

struct jdict {
    struct jentry *e; /* [n], in the order of insertion */
    size_t n;
    size_t max;
};

struct jloop {
    const struct jlist *items;
    size_t at;
    struct jval changed; /* what changed() was asked about last */
};

struct jrun;
struct jargs;
typedef struct jval (*jinja_fn)(struct jrun *r, struct jval self, const struct jargs *a);

/* A filter, method or global: parameters by name with blanks between; NULL: as they come. */
struct jbuiltin {
    const char *name;
    jinja_fn fn;
    const char *params;
};

struct jfunction {
    const struct jbuiltin *builtin; /* of self; NULL: a macro */
    struct jval self;
    const struct jnode *macro;
    struct jframe *frame; /* where the macro was defined */
    const struct jstr *name;
};

struct jargs {
    const struct jval *pos; /* [n] */
    size_t n;
    const struct jentry *kw; /* [n_kw], keys are strings */
    size_t n_kw;
    const struct jval *slot; /* by parameter, J_ABSENT: not given; when there are params */
};

enum { JINJA_ARGS_MAX = 64, JINJA_PARAMS_MAX = 8 };

struct jval jval_none(void);
struct jval jval_bool(bool b);
struct jval jval_int(int64_t i);
struct jval jval_float(double f);
struct jval jval_string(const struct jstr *s);
struct jval jval_undefined(const struct jstr *name);
struct jval jval_text(struct jrun *r, const char *text); /* untrusted; text must stay */

bool jval_is_sequence(struct jval v); /* list or tuple */
bool jval_is_number(struct jval v);   /* bool, int, float */
double jval_number(struct jval v);
const char *jval_type(struct jval v); /* as Python calls it */
bool jval_true(struct jval v);
bool jval_equal(struct jrun *r, struct jval a, struct jval b);
/* <0, 0, >0; fails for what has no order. */
int jval_compare(struct jrun *r, struct jval a, struct jval b);
void jval_print(struct jrun *r, struct jbuf *b, struct jval v); /* str() */
void jval_repr(struct jrun *r, struct jbuf *b, struct jval v);
const struct jstr *jval_str(struct jrun *r, struct jval v);
enum { JINJA_FLOAT_BYTES = 40 };
void jinja_float_text(char out[JINJA_FLOAT_BYTES], double f);

/* What a loop goes over: items, keys, characters. NULL: failed. */
const struct jlist *jval_iterate(struct jrun *r, struct jval v);
struct jlist *jlist_new(struct jrun *r, size_t n); /* of J_NONE; NULL: failed */
struct jval jval_list(struct jlist *l);            /* of NULL: an undefined value */
struct jval jval_tuple2(struct jrun *r, struct jval a, struct jval b);

struct jdict *jdict_new(struct jrun *r, size_t max);
const struct jval *jdict_get(struct jrun *r, const struct jdict *d, struct jval key);
const struct jval *jdict_text(const struct jdict *d, const char *key);
void jdict_set(struct jrun *r, struct jdict *d, struct jval key, struct jval value);

/* --- the tree --- */

enum jnode_kind {
    /* Expressions. */
    N_CONST,
    N_NAME,
    N_LIST,   /* a: first item, linked by next */
    N_TUPLE,  /* likewise */
    N_DICT,   /* a: first N_PAIR */
    N_PAIR,   /* a: key, b: value; of a call: v is the name, b the value */
    N_ATTR,   /* a . v */
    N_ITEM,   /* a [ b ] */
    N_SLICE,  /* a [ b : c : d ] */
    N_CALL,   /* a ( b: arguments, c: N_PAIRs ) */
    N_FILTER, /* a | builtin ( b, c ); a NULL: what a block brings */
    N_TEST,   /* a is [op: not] test ( b, c ) */
    N_UNARY,
    N_BINARY,
    N_COMPARE, /* a, then b: first N_PAIR-like link (op, a) */
    N_AND,
    N_OR,
    N_IF_EXPR, /* b if a else c */
    /* Statements. */
    N_TEXT,
    N_PRINT,
    N_IF,           /* a: condition or NULL, b: body, c: next branch */
    N_FOR,          /* a: target, b: iterable, c: filter, d: body, e: else */
    N_SET,          /* a: target, b: value */
    N_SET_BLOCK,    /* a: target, b: filter or NULL, d: body */
    N_MACRO,        /* v: name, a: parameters (v, a: default), d: body */
    N_CALL_BLOCK,   /* a: call, b: an N_MACRO */
    N_FILTER_BLOCK, /* b: filter, d: body */
    N_WITH,         /* a: N_SETs, d: body */
    N_BREAK,
    N_CONTINUE,
    N_DO, /* a */
};

enum jop {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR,
    OP_MOD,
    OP_POW,
    OP_CONCAT,
    OP_NEG,
    OP_POS,
    OP_NOT,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

struct jnode {
    uint8_t kind;
    uint8_t op;
    uint32_t line;
    struct jval v;                  /* N_CONST; names are interned strings */
    const struct jbuiltin *builtin; /* of a filter or test */
    struct jnode *next;
    struct jnode *a;
    struct jnode *b;
    struct jnode *c;
    struct jnode *d;
    struct jnode *e;
};

struct jinja {
    struct jmem mem;
    char *source;
    const struct jstr **name; /* [n_names], interned */
    size_t n_names;
    size_t names_max;
    size_t n_nodes;
    struct jnode *body;
};

/* --- lexer --- */

enum jtoken_kind {
    T_END, /* of the template */
    T_DATA,
    T_PRINT,     /* {{ */
    T_PRINT_END, /* }} */
    T_BLOCK,     /* {% */
    T_BLOCK_END, /* %} */
    T_NAME,
    T_STRING, /* p[n] as decoded */
    T_INT,
    T_FLOAT,
    T_OP, /* p[n] */
};

struct jtoken {
    enum jtoken_kind kind;
    uint32_t line;
    const char *p;
    size_t n;
    int64_t i;
    double f;
};

/* *out ends with T_END and is to be freed. */
enum status jinja_lex(struct jmem *m, const char *text, size_t bytes, struct jtoken **out);

/* --- parser --- */

struct jparse {
    struct jinja *t;
    const struct jtoken *at;
    int32_t nest;
    int32_t loops;      /* around here, within this macro */
    struct jnode scrap; /* what a failed allocation gives to be written to */
};

enum status jinja_parse(struct jinja *t, const struct jtoken *tokens);
struct jnode *jparse_node(struct jparse *p, enum jnode_kind kind);
/* Descends into a bracket or block; false: too deep. jparse_leave() on true. */
bool jparse_enter(struct jparse *p);
void jparse_leave(struct jparse *p);
bool jparse_is(const struct jparse *p, enum jtoken_kind kind, const char *text);
bool jparse_skip(struct jparse *p, enum jtoken_kind kind, const char *text);
void jparse_want(struct jparse *p, enum jtoken_kind kind, const char *text);
const struct jstr *jparse_name(struct jparse *p); /* an identifier; NULL: failed */
const struct jstr *jinja_intern(struct jinja *t, const char *p, size_t n);
/* Never NULL: a failed parse gives a constant. */
struct jnode *jparse_expr(struct jparse *p);
struct jnode *jparse_or(struct jparse *p);
/* Items with commas between become a tuple. plain: no `a if b else c` on the outside. */
struct jnode *jparse_tuple(struct jparse *p, bool plain);
struct jnode *jparse_filters(struct jparse *p, struct jnode *of);
struct jnode *jparse_primary(struct jparse *p);

/* --- evaluation --- */

struct jvar {
    const struct jstr *name; /* interned */
    struct jval v;
    struct jvar *next;
};

struct jframe {
    struct jframe *outer;
    struct jvar *vars;
};

enum jflow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

struct jrun {
    struct jmem mem;
    const struct jinja *t;
    struct jframe *frame;
    struct jbuf *out;
    struct jval block; /* what the filters of a block are put on */
    uint64_t steps;
    int32_t depth;
    enum jflow flow;
    int64_t now;
};

static inline bool jrun_failed(const struct jrun *r)
{
    return r->mem.failed;
}

/* Pays for work; false: out of steps. */
bool jrun_pay(struct jrun *r, size_t steps);
bool jrun_pay_bytes(struct jrun *r, size_t bytes);
bool jrun_enter(struct jrun *r); /* jrun_leave() on true */
void jrun_leave(struct jrun *r);

struct jval jinja_eval(struct jrun *r, const struct jnode *n);
void jinja_exec(struct jrun *r, const struct jnode *first);
void jframe_set(struct jrun *r, struct jframe *f, const struct jstr *name, struct jval v);
struct jframe *jframe_push(struct jrun *r, struct jframe *outer);
struct jval jinja_call(struct jrun *r, struct jval fn, const struct jargs *a);
struct jval jinja_call_builtin(struct jrun *r, const struct jbuiltin *b, struct jval self,
                               const struct jargs *a);
struct jval jinja_call_macro(struct jrun *r, const struct jfunction *f, const struct jargs *a);
struct jval jinja_binary(struct jrun *r, enum jop op, struct jval a, struct jval b);
bool jinja_compare(struct jrun *r, enum jop op, struct jval a, struct jval b);
bool jinja_contains(struct jrun *r, struct jval all, struct jval one);
struct jval jinja_attr(struct jrun *r, struct jval v, const struct jstr *name);
struct jval jinja_item(struct jrun *r, struct jval v, struct jval key);
struct jval jinja_slice(struct jrun *r, struct jval v, const struct jval bound[3]);
/* The method, or an undefined value; fails for methods that would change v. */
struct jval jinja_method(struct jrun *r, struct jval v, const struct jstr *name);

/* --- tables; NULL: no such name --- */

const struct jbuiltin *jinja_find(const struct jbuiltin *table, size_t n, const char *p,
                                  size_t len);
const struct jbuiltin *jinja_filter(const char *p, size_t n);
const struct jbuiltin *jinja_filter_list(const char *p, size_t n);
const struct jbuiltin *jinja_test(const char *p, size_t n);
const struct jbuiltin *jinja_string_method(const char *p, size_t n);
void jinja_define_globals(struct jrun *r);

/* Arguments of a builtin with params. */
int64_t jarg_int(struct jrun *r, const struct jargs *a, size_t i, int64_t otherwise);
bool jarg_bool(const struct jargs *a, size_t i, bool otherwise);
/* NULL when absent or none; fails for other than strings. */
const struct jstr *jarg_string(struct jrun *r, const struct jargs *a, size_t i);

/* Shared by filters and methods. */
enum jcase { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_TITLE_FILTER, CASE_CAPITAL };
const struct jstr *jstr_case(struct jrun *r, const struct jstr *s, enum jcase how);
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
const struct jstr *jstr_strip(struct jrun *r, const struct jstr *s, const struct jstr *chars,
                              int sides);
const struct jstr *jstr_replace(struct jrun *r, const struct jstr *s, const struct jstr *old,
                                const struct jstr *new, int64_t most);
size_t jstr_find(const struct jstr *s, const struct jstr *part, size_t from); /* SIZE_MAX: not */
struct jval jinja_format(struct jrun *r, const struct jstr *f, const struct jargs *a);
struct jval jinja_items(struct jrun *r, struct jval v);
struct jval jinja_tojson(struct jrun *r, struct jval self, const struct jargs *a);
struct jval jinja_from_json(struct jrun *r, const cJSON *v, int32_t depth);
struct jval jinja_strftime(struct jrun *r, struct jval self, const struct jargs *a);

#endif
