/* The part of libsystemd's interface, as of version 209, that systemd-python's _daemon uses. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SD_LISTEN_FDS_START 3

int sd_booted(void);
int sd_is_fifo(int fd, const char *path);
int sd_is_mq(int fd, const char *path);
int sd_is_socket(int fd, int family, int type, int listening);
int sd_is_socket_inet(int fd, int family, int type, int listening, uint16_t port);
int sd_is_socket_unix(int fd, int type, int listening, const char *path, size_t length);
int sd_listen_fds(int unset_environment);
int sd_notify(int unset_environment, const char *state);
