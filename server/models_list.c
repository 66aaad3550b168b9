/* A model is listed once under each of its names: clients look for the name they use. */
#include "server/models_list.h"

#include "server/target.h"
#include "server/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { PARAM_MAX = 128, PER_PAGE = 50, PER_PAGE_MAX = 1000, PAGE_MAX = 1000000 };

/* Of all models that are listed: 1 is Workers AI itself. */
#define SOURCE "1"

static const char *const task_name = "Text Generation";

void models_list_one(struct buf *out, const struct served *m, const char *name)
{
    buf_text(out, "{\"id\":");
    buf_json_text(out, name);
    buf_printf(out, ",\"object\":\"model\",\"created\":%llu,\"owned_by\":\"firstlight\",\"root\":",
               (unsigned long long)m->created);
    buf_json_text(out, m->names.name[0]);
    buf_printf(out, ",\"parent\":null,\"max_model_len\":%d}", m->info.context_max);
}

void models_list_openai(struct buf *out, const struct registry *r)
{
    const char *comma = "";
    buf_text(out, "{\"object\":\"list\",\"data\":[");
    for (int32_t i = 0; i < r->n; i++) {
        for (int32_t k = 0; k < r->model[i].names.n; k++) {
            buf_text(out, comma);
            models_list_one(out, &r->model[i], r->model[i].names.name[k]);
            comma = ",";
        }
    }
    buf_text(out, "]}");
}

static long number_param(const char *query, const char *name, long otherwise, long most)
{
    char text[PARAM_MAX];
    char *end = NULL;
    if (!target_param(query, name, text, sizeof(text)))
        return otherwise;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < 1)
        return otherwise;
    return n < most ? n : most;
}

/* "@cf/meta/llama": meta; names of another form have no author. */
static bool is_by(const char *name, const char *author)
{
    const char *from = name[0] == '@' ? strchr(name, '/') : NULL;
    size_t n = from ? strcspn(from + 1, "/") : 0;
    return n > 0 && strlen(author) == n && strncasecmp(from + 1, author, n) == 0;
}

static bool wanted(const char *query, const char *name)
{
    char text[PARAM_MAX];
    if (target_param(query, "author", text, sizeof(text)) && text[0] && !is_by(name, text))
        return false;
    if (target_param(query, "source", text, sizeof(text)) && text[0] && strcmp(text, SOURCE) != 0)
        return false;
    if (target_param(query, "task", text, sizeof(text)) && text[0] &&
        strcasecmp(text, task_name) != 0)
        return false;
    return !target_param(query, "search", text, sizeof(text)) || strcasestr(name, text) != NULL;
}

/* A stable id per name, in the form of a UUID. */
static void write_id(struct buf *out, const char *name)
{
    uint64_t h = text_hash(name, strlen(name));
    uint64_t g = h * 0x9e3779b97f4a7c15u;
    buf_printf(out, "\"%08x-%04x-4%03x-8%03x-%012llx\"", (unsigned)(h >> 32),
               (unsigned)(h >> 16 & 0xffff), (unsigned)(h & 0xfff), (unsigned)(g >> 52),
               (unsigned long long)(g & 0xffffffffffffu));
}

static void write_entry(struct buf *out, const struct served *m, const char *name)
{
    char when[32];
    time_t created = (time_t)m->created;
    struct tm utc;
    gmtime_r(&created, &utc);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S.000", &utc);
    buf_text(out, "{\"id\":");
    write_id(out, name);
    buf_text(out, ",\"source\":" SOURCE ",\"name\":");
    buf_json_text(out, name);
    buf_text(out, ",\"description\":");
    buf_json_text(out, m->info.arch);
    buf_printf(out,
               ",\"task\":{\"id\":\"c329a1f9-323d-4e91-b2aa-582dd4188d34\",\"name\":\"%s\","
               "\"description\":\"Generates text from a prompt or a conversation.\"},"
               "\"created_at\":\"%s\",\"tags\":[],\"properties\":"
               "[{\"property_id\":\"context_window\",\"value\":\"%d\"}]}",
               task_name, when, m->info.context_max);
}

void models_list_workers(struct buf *out, const struct registry *r, const char *query)
{
    long page = number_param(query, "page", 1, PAGE_MAX);
    long per_page = number_param(query, "per_page", PER_PAGE, PER_PAGE_MAX);
    long first = (page - 1) * per_page;
    long total = 0;
    long shown = 0;
    buf_text(out, "{\"result\":[");
    for (int32_t i = 0; i < r->n; i++) {
        for (int32_t k = 0; k < r->model[i].names.n; k++) {
            const char *name = r->model[i].names.name[k];
            if (!wanted(query, name))
                continue;
            if (total >= first && shown < per_page) {
                buf_text(out, shown ? "," : "");
                write_entry(out, &r->model[i], name);
                shown++;
            }
            total++;
        }
    }
    buf_printf(out,
               "],\"success\":true,\"errors\":[],\"messages\":[],\"result_info\":{\"count\":%ld,"
               "\"page\":%ld,\"per_page\":%ld,\"total_count\":%ld}}",
               shown, page, per_page, total);
}
