/*
 * An echo server on bare epoll, behind the proxies that are measured. While the peer does not read, it does not read
 * either.
 *
 *   cc -O2 -o epoll_echo epoll_echo.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_MAX = 256 * 1024, EVENTS = 256 };

struct connection {
  int fd;
  size_t from, left;
  char unsent[READ_MAX];
};

static int poll;

static void watch(struct connection *c, int operation, unsigned events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(poll, operation, c->fd, &event);
}

static void drop(struct connection *c) {
  close(c->fd);
  free(c);
}

int main(int argc, char **argv) {
  const int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0))};
  socklen_t length = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    perror("listen");
    return 1;
  }
  poll = epoll_create1(0);
  struct connection accepting = {.fd = listener};
  watch(&accepting, EPOLL_CTL_ADD, EPOLLIN);
  printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  struct epoll_event events[EVENTS];
  for (;;) {
    const int n = epoll_wait(poll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (c == &accepting) {
        const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if ((c = malloc(sizeof *c)) == NULL) return 1;
        c->fd = fd;
        c->from = c->left = 0;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        continue;
      }
      const int waited = c->left > 0;
      if (!waited) {
        const ssize_t got = recv(c->fd, c->unsent, READ_MAX, 0);
        if (got < 0 && errno == EAGAIN) continue;
        if (got <= 0) {
          drop(c);
          continue;
        }
        c->from = 0;
        c->left = (size_t)got;
      }
      const ssize_t sent = send(c->fd, c->unsent + c->from, c->left, MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) {
        drop(c);
        continue;
      }
      if (sent > 0) {
        c->from += (size_t)sent;
        c->left -= (size_t)sent;
      }
      if (waited != (c->left > 0)) watch(c, EPOLL_CTL_MOD, c->left > 0 ? EPOLLOUT : EPOLLIN);
    }
  }
}
