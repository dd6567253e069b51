/* The functions of libsystemd that systemd-python's _daemon calls, empty and under the version they have had since 209:
   to link against, never shipped. So the build needs no libsystemd, and every node's own is new enough. */
#define STUB(name) void name(void) {}
STUB(sd_booted)
STUB(sd_is_fifo)
STUB(sd_is_mq)
STUB(sd_is_socket)
STUB(sd_is_socket_inet)
STUB(sd_is_socket_unix)
STUB(sd_listen_fds)
STUB(sd_notify)
