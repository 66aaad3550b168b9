#ifndef BENCH_WORDS_H
#define BENCH_WORDS_H

#include <stdio.h>

/* A vocabulary of words that say nothing, in the order SentencePiece has its own, so that what a
 * model of random numbers draws has text: marks, bytes, letters (prompts are then not spelled in
 * bytes), words of four letters. Kinds are numbered as SentencePiece and GGUF do. */

enum {
    WORD_ORDINARY = 1,
    WORD_UNKNOWN = 2,
    WORD_CONTROL = 3,
    WORD_BYTE = 6,
    WORD_BYTES = 256,
    WORD_LETTERS = 26,
    WORD_ROOM = 32,
};

struct word {
    char text[WORD_ROOM];
    float score;
    int kind;
};

static inline struct word word_at(int id)
{
    static const char *const marks[] = {"<unk>", "<s>", "</s>"};
    enum { MARKS = 3, A = WORD_LETTERS };
    struct word w = {.kind = WORD_ORDINARY};
    int i = id - MARKS - WORD_BYTES;
    if (id < MARKS) {
        w.kind = id == 0 ? WORD_UNKNOWN : WORD_CONTROL;
        (void)snprintf(w.text, sizeof(w.text), "%s", marks[id]);
    } else if (i < 0) {
        w.kind = WORD_BYTE;
        (void)snprintf(w.text, sizeof(w.text), "<0x%02X>", (unsigned)(id - MARKS));
    } else if (i < A) {
        (void)snprintf(w.text, sizeof(w.text), "%c", 'a' + i);
    } else {
        (void)snprintf(w.text, sizeof(w.text), "\xe2\x96\x81%c%c%c%c", 'a' + i / (A * A * A) % A,
                       'a' + i / (A * A) % A, 'a' + i / A % A, 'a' + i % A);
    }
    w.score = i > 0 ? (float)-i : 0.0f;
    return w;
}

#endif
