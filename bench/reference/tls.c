/*
 * The load of servers with TLS: messages on connections that stay, or handshakes. Every byte of every reply is compared.
 *
 *   tls PORT CONNECTIONS BYTES WARMUP_MS MEASURE_MS SERVER_PID[,PID] echo
 *   tls PORT AT_A_TIME BYTES WARMUP_COUNT COUNT SERVER_PID[,PID] handshake
 *
 * With `handshake` each connection makes a full handshake (no session is resumed), has one message of BYTES answered, and
 * is closed. The certificate is not checked: what that costs is the client's.
 *
 *   cc -O2 -o tls tls.c -lssl -lcrypto
 */

#define _GNU_SOURCE
#include "load.h"
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>

#define DISTINCT_MAX 97

struct connection {
  int fd, shaken, waits_to_write;
  SSL *ssl;
  size_t line, sent, received;
  uint64_t sent_at;
};

static size_t bytes, distinct;
static int poll;
static SSL_CTX *context;
static const char *port;

static void watch(struct connection *c, int result) {
  const int why = SSL_get_error(c->ssl, result);
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
    fprintf(stderr, "load: TLS failed: %d\n", why);
    exit(1);
  }
  const int to_write = why == SSL_ERROR_WANT_WRITE;
  if (to_write == c->waits_to_write) return;
  struct epoll_event event = {.events = to_write ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event) != 0) die("epoll_ctl");
  c->waits_to_write = to_write;
}

static void open_one(struct connection *c, size_t line, uint64_t now) {
  memset(c, 0, sizeof *c);
  c->fd = connect_to(port);
  c->line = line;
  c->sent_at = now;
  c->ssl = SSL_new(context);
  if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1) die("SSL_new");
  SSL_set_connect_state(c->ssl);
  if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
}

static void close_one(struct connection *c) {
  SSL_shutdown(c->ssl);
  SSL_free(c->ssl);
  close(c->fd);
}

/* Goes on as far as it can. Returns whether the message is answered. */
static int go_on(struct connection *c) {
  static char reply[256 * 1024];
  if (!c->shaken) {
    const int result = SSL_do_handshake(c->ssl);
    if (result != 1) return watch(c, result), 0;
    c->shaken = 1;
  }
  while (c->sent < bytes) {
    const int n = SSL_write(c->ssl, text + c->line * bytes + c->sent, (int)(bytes - c->sent));
    if (n <= 0) {
      watch(c, n);
      break;
    }
    c->sent += (size_t)n;
  }
  while (c->received < bytes) {
    const int n = SSL_read(c->ssl, reply, sizeof reply);
    if (n <= 0) return watch(c, n), 0;
    if (c->received + (size_t)n > bytes || memcmp(reply, expected + c->line * bytes + c->received, (size_t)n) != 0) {
      fprintf(stderr, "load: a reply differs from what was expected\n");
      exit(1);
    }
    c->received += (size_t)n;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: tls PORT CONNECTIONS BYTES WARMUP MEASURE PID[,PID] echo|handshake\n");
    return 2;
  }
  port = argv[1];
  bytes = strtoul(argv[3], NULL, 10);
  const size_t connections = strtoul(argv[2], NULL, 10);
  const int shaking = strcmp(argv[7], "handshake") == 0;
  const uint64_t unit = shaking ? 1 : 1000000u;
  const uint64_t warmup = strtoull(argv[4], NULL, 10) * unit, measure = strtoull(argv[5], NULL, 10) * unit;
  distinct = make_text(bytes, bytes, DISTINCT_MAX, (size_t)16 << 20, 1, "echo");
  name_servers(argv[6]);
  context = SSL_CTX_new(TLS_client_method());
  if (context == NULL) die("SSL_CTX_new");
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);

  poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  uint64_t now = nanoseconds(CLOCK_MONOTONIC), begin = now, begin_cpu = 0, done = 0, measured = 0;
  for (size_t i = 0; i < connections; i++) {
    open_one(&all[i], i * 17 % distinct, now);
    go_on(&all[i]);
  }
  const uint64_t started = now;
  struct epoll_event events[256];
  int measuring = 0;
  for (;;) {
    const int n = epoll_wait(poll, events, 256, 5000);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      errno = n == 0 ? ETIMEDOUT : errno;
      die("no reply");
    }
    now = nanoseconds(CLOCK_MONOTONIC);
    if (!measuring && (shaking ? done >= warmup : now - started >= warmup)) {
      measuring = 1;
      begin = now;
      begin_cpu = server_cpu();
    } else if (measuring && (shaking ? measured >= measure : now - begin >= measure)) break;
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (!go_on(c)) continue;
      done++;
      if (measuring) {
        count_latency(now - c->sent_at);
        measured++;
      }
      const size_t next = (c->line + 1) % distinct;
      if (shaking) {
        close_one(c);
        open_one(c, next, now);
      } else {
        c->line = next;
        c->sent = c->received = 0;
        c->sent_at = now;
      }
      go_on(c);
    }
  }
  report(measured, measured, now - begin, server_cpu() - begin_cpu);
  return 0;
}
