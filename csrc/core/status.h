/* Status codes and the message that goes with the last failure on this thread. */
#ifndef HA_CORE_STATUS_H
#define HA_CORE_STATUS_H

typedef enum {
    HA_OK = 0,
    HA_NO_MEMORY,
    HA_BAD_VALUE,
    HA_INTERRUPTED,
} ha_status;

/* Records a printf-style message for this thread and returns `code`, so that a caller can write
 * `return ha_fail(...)`. */
ha_status ha_fail(ha_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message of the last ha_fail on this thread, never NULL. */
const char *ha_error_message(void);

#define HA_TRY(expr)                       \
    do {                                   \
        ha_status ha_try_status_ = (expr); \
        if (ha_try_status_ != HA_OK)       \
            return ha_try_status_;         \
    } while (0)

#endif
