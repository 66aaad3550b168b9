#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

#include <stddef.h>

/* The bytes of openapi.json, put into the program when it is built. */
extern const unsigned char openapi_json[];
extern const size_t openapi_json_bytes;

#endif
