/*
 * The ROT13 server on libevent's bufferevents in C: what the library is compared with, as one writes it after the book.
 * evbuffer_readln() for each line, the reply added to the output; reading stops while the peer does not read.
 *
 *   cc -O2 -o libevent_rot13 libevent_rot13.c -levent_core        (Debian: libevent-dev)
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE = 16384, MAX_OUTPUT = 256 * 1024 };

static unsigned char rot13[256];

static void rotate(char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)rot13[(unsigned char)bytes[i]];
}

static void on_written(struct bufferevent *bev, void *arg);
static void on_event(struct bufferevent *bev, short what, void *arg);

static void on_read(struct bufferevent *bev, void *arg)
{
    struct evbuffer *input = bufferevent_get_input(bev);
    struct evbuffer *output = bufferevent_get_output(bev);
    char *line;
    size_t n;

    while ((line = evbuffer_readln(input, &n, EVBUFFER_EOL_LF)) != NULL) {
        rotate(line, n);
        evbuffer_add(output, line, n);
        evbuffer_add(output, "\n", 1);
        free(line);
    }
    if (evbuffer_get_length(input) >= MAX_LINE) {
        char part[MAX_LINE];
        int taken;
        while ((taken = evbuffer_remove(input, part, sizeof part)) > 0) {
            rotate(part, (size_t)taken);
            evbuffer_add(output, part, (size_t)taken);
        }
        evbuffer_add(output, "\n", 1);
    }
    if (evbuffer_get_length(output) > MAX_OUTPUT) {
        bufferevent_disable(bev, EV_READ);
        bufferevent_setcb(bev, on_read, on_written, on_event, arg);
    }
}

static void on_written(struct bufferevent *bev, void *arg)
{
    bufferevent_setcb(bev, on_read, NULL, on_event, arg);
    bufferevent_enable(bev, EV_READ);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)what;
    (void)arg;
    bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int length, void *arg)
{
    int on = 1;
    (void)address;
    (void)length;
    (void)arg;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent *bev =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
    bufferevent_setwatermark(bev, EV_READ, 0, MAX_LINE);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void on_signal(evutil_socket_t number, short what, void *base)
{
    (void)number;
    (void)what;
    event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
    for (int c = 0; c < 256; c++) {
        int letter = c | 32;
        rot13[c] = (unsigned char)(letter >= 'a' && letter <= 'z' ? (letter < 'n' ? c + 13 : c - 13) : c);
    }
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 512,
                                (struct sockaddr *)&address, sizeof address);
    if (listener == NULL) {
        perror("cannot listen");
        return 1;
    }
    socklen_t length = sizeof address;
    getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct event *stop[2] = {
        evsignal_new(base, SIGINT, on_signal, base),
        evsignal_new(base, SIGTERM, on_signal, base),
    };
    event_add(stop[0], NULL);
    event_add(stop[1], NULL);
    event_base_dispatch(base);
    event_free(stop[0]);
    event_free(stop[1]);
    evconnlistener_free(listener);
    event_base_free(base);
    return 0;
}
