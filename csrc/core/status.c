#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[512];

ha_status ha_fail(ha_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return code;
}

const char *ha_error_message(void)
{
    return message;
}
