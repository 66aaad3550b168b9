#ifndef BENCH_SERVE_RECORD_H
#define BENCH_SERVE_RECORD_H

#include "kernels/base.h"

/* What one request brought: the client writes it, statistics read it. */

enum { FAULT_NAME_MAX = 24 };

enum record_kind { RECORD_COUNTED, RECORD_WARM, RECORD_LONG };

struct record {
    int64_t index;
    int32_t kind;               /* enum record_kind */
    char fault[FAULT_NAME_MAX]; /* "": whole, or cancelled */
    bool slow;                  /* read little by little: its times are the reader's own */
    bool cancelled;             /* hung up on purpose */
    bool no_usage;              /* the server did not say how many tokens */
    bool no_done;               /* ended without [DONE] */
    uint64_t due_ns;            /* when it should have been sent */
    uint64_t sent_ns;           /* when the client turned to it, connecting included */
    uint64_t first_ns;          /* first text; where none came, the first event; 0: nothing */
    uint64_t last_ns;           /* last event that belongs to the answer */
    uint64_t end_ns;
    int64_t prompt_tokens;
    int64_t cached_tokens;
    int64_t answer_tokens;
    int64_t events;   /* that carried text */
    int64_t bytes;    /* of it */
    uint64_t hash;    /* of the text, however it was cut into events */
    uint32_t *gap_us; /* [n_gaps] between two texts */
    size_t n_gaps;
    size_t gap_room;
    char *text; /* [text_bytes], where it is kept */
    size_t text_bytes;
};

static inline bool record_whole(const struct record *r)
{
    return !r->fault[0] && !r->cancelled;
}

#endif
