/*
 * The ROT13 server on bare epoll: the limit of what any server on this machine can reach. Level-triggered, one buffer for
 * all connections: what was read is rotated in place and sent back up to its last newline; only what the kernel does not
 * take, and the start of an unfinished line, are kept for a connection.
 *
 *   cc -O2 -o epoll_rot13 epoll_rot13.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_LINE = 16384, READ_MAX = 65536, EVENTS = 256 };

struct connection {
    int fd;
    char *carry; /* the rotated start of an unfinished line */
    size_t carried;
    char *unsent; /* what the kernel did not take */
    size_t from, left;
};

static unsigned char rot13[256];
static char buffer[MAX_LINE + READ_MAX + 1];
static int epoll;

static void watch(struct connection *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->carry);
    free(c->unsent);
    free(c);
}

/* Sends, and keeps what is not taken. Returns 0 when the connection is broken. */
static int send_or_keep(struct connection *c, const char *bytes, size_t n)
{
    ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            return 0;
        sent = 0;
    }
    if ((size_t)sent == n)
        return 1;
    c->left = n - (size_t)sent;
    c->from = 0;
    c->unsent = malloc(c->left);
    memcpy(c->unsent, bytes + sent, c->left);
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    return 1;
}

static void on_readable(struct connection *c)
{
    size_t filled = c->carried;
    if (filled > 0)
        memcpy(buffer, c->carry, filled);
    ssize_t n = recv(c->fd, buffer + filled, READ_MAX, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            return;
        drop(c);
        return;
    }
    for (ssize_t i = 0; i < n; i++)
        buffer[filled + i] = (char)rot13[(unsigned char)buffer[filled + i]];
    size_t total = filled + (size_t)n;
    char *last = memrchr(buffer + filled, '\n', (size_t)n);
    size_t whole = last == NULL ? 0 : (size_t)(last - buffer) + 1;
    size_t rest = total - whole;
    if (rest >= MAX_LINE) {
        buffer[total++] = '\n';
        whole = total;
        rest = 0;
    }
    if (rest > 0) {
        c->carry = realloc(c->carry, MAX_LINE);
        memcpy(c->carry, buffer + whole, rest);
    }
    c->carried = rest;
    if (whole > 0 && !send_or_keep(c, buffer, whole))
        drop(c);
}

static void on_writable(struct connection *c)
{
    ssize_t sent = send(c->fd, c->unsent + c->from, c->left, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(c);
        return;
    }
    c->from += (size_t)sent;
    c->left -= (size_t)sent;
    if (c->left > 0)
        return;
    free(c->unsent);
    c->unsent = NULL;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

int main(int argc, char **argv)
{
    for (int c = 0; c < 256; c++) {
        int letter = c | 32;
        rot13[c] = (unsigned char)(letter >= 'a' && letter <= 'z' ? (letter < 'n' ? c + 13 : c - 13) : c);
    }
    int on = 1;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) != 0 || listen(listening, 512) != 0) {
        perror("cannot listen");
        return 1;
    }
    socklen_t length = sizeof address;
    getsockname(listening, (struct sockaddr *)&address, &length);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);

    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                c = calloc(1, sizeof *c);
                c->fd = fd;
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
            } else if (events[i].events & EPOLLOUT) {
                on_writable(c);
            } else {
                on_readable(c);
            }
        }
    }
}
