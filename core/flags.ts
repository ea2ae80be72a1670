/**
 * The constants of libevent, with its names and its values.
 *
 * @module
 */

// Conditions of events (event2/event.h).

/** The timeout of an event has passed. libevent: `EV_TIMEOUT`. */
export const EV_TIMEOUT = 0x01;
/** A source has bytes, a connection, an end of file or an error to read. libevent: `EV_READ`. */
export const EV_READ = 0x02;
/** A source can take bytes, or a connection attempt has ended. libevent: `EV_WRITE`. */
export const EV_WRITE = 0x04;
/** A signal was raised. libevent: `EV_SIGNAL`. */
export const EV_SIGNAL = 0x08;
/** The event stays added when its callback runs, and re-arms its timeout. libevent: `EV_PERSIST`. */
export const EV_PERSIST = 0x10;
/** The event is edge-triggered: reported once for each change, not while the condition holds. libevent: `EV_ET`. */
export const EV_ET = 0x20;
/** Accepted without effect: there is one thread. libevent: `EV_FINALIZE`. */
export const EV_FINALIZE = 0x40;
/** The peer has closed. It is reported even if earlier bytes have not been read. libevent: `EV_CLOSED`. */
export const EV_CLOSED = 0x80;

// Flags of EventBase.loop() (event2/event.h).

/** Wait for events, run them, and return once none is active. libevent: `EVLOOP_ONCE`. */
export const EVLOOP_ONCE = 0x01;
/** Run what is ready now and do not wait. libevent: `EVLOOP_NONBLOCK`. */
export const EVLOOP_NONBLOCK = 0x02;
/** Go on waiting when there are no events left. libevent: `EVLOOP_NO_EXIT_ON_EMPTY`. */
export const EVLOOP_NO_EXIT_ON_EMPTY = 0x04;

// Kinds for EventBase.numEvents() and maxEvents() (event2/event.h).

/** Count active events. libevent: `EVENT_BASE_COUNT_ACTIVE`. */
export const EVENT_BASE_COUNT_ACTIVE = 1;
/** Count internal keep-alives. libevent: `EVENT_BASE_COUNT_VIRTUAL`. */
export const EVENT_BASE_COUNT_VIRTUAL = 2;
/** Count added events. libevent: `EVENT_BASE_COUNT_ADDED`. */
export const EVENT_BASE_COUNT_ADDED = 4;

/** The largest number of priorities that a base can have. libevent: `EVENT_MAX_PRIORITIES` less one (rule P1). */
export const EVENT_MAX_PRIORITIES = 255;

// Bits of a bufferevent's event callback (event2/bufferevent.h).

/** It happened while reading. libevent: `BEV_EVENT_READING`. */
export const BEV_EVENT_READING = 0x01;
/** It happened while writing. libevent: `BEV_EVENT_WRITING`. */
export const BEV_EVENT_WRITING = 0x02;
/** The peer has finished sending. libevent: `BEV_EVENT_EOF`. */
export const BEV_EVENT_EOF = 0x10;
/** The connection failed; the error is the third argument of the callback. libevent: `BEV_EVENT_ERROR`. */
export const BEV_EVENT_ERROR = 0x20;
/** A timeout passed. libevent: `BEV_EVENT_TIMEOUT`. */
export const BEV_EVENT_TIMEOUT = 0x40;
/** The connection is established. libevent: `BEV_EVENT_CONNECTED`. */
export const BEV_EVENT_CONNECTED = 0x80;

// Options of a new bufferevent (event2/bufferevent.h).

/** Freeing the bufferevent closes its socket, or frees the bufferevent under it. libevent: `BEV_OPT_CLOSE_ON_FREE`. */
export const BEV_OPT_CLOSE_ON_FREE = 0x01;
/** Accepted without effect: there is one thread. libevent: `BEV_OPT_THREADSAFE`. */
export const BEV_OPT_THREADSAFE = 0x02;
/** The callbacks of one pass are merged and run from the loop. libevent: `BEV_OPT_DEFER_CALLBACKS`. */
export const BEV_OPT_DEFER_CALLBACKS = 0x04;
/** Accepted with `BEV_OPT_DEFER_CALLBACKS`, without effect. libevent: `BEV_OPT_UNLOCK_CALLBACKS`. */
export const BEV_OPT_UNLOCK_CALLBACKS = 0x08;

// Flush modes (event2/bufferevent.h).

/** Process as usual. libevent: `BEV_NORMAL`. */
export const BEV_NORMAL = 0;
/** Process as much as possible, beyond watermarks. libevent: `BEV_FLUSH`. */
export const BEV_FLUSH = 1;
/** As `BEV_FLUSH`, and there is no more to come. libevent: `BEV_FINISHED`. */
export const BEV_FINISHED = 2;

// Results of a filter (event2/bufferevent.h).

/** The filter has made progress. libevent: `BEV_OK`. */
export const BEV_OK = 0;
/** The filter needs more bytes before it can go on. libevent: `BEV_NEED_MORE`. */
export const BEV_NEED_MORE = 1;
/** The filter got bytes that it cannot process. libevent: `BEV_ERROR`. */
export const BEV_ERROR = 2;

/** `trigger()` ignores the watermarks. libevent: `BEV_TRIG_IGNORE_WATERMARKS`. */
export const BEV_TRIG_IGNORE_WATERMARKS = 0x10000;
/** `trigger()` runs the callback from the loop, as it always does here. libevent: `BEV_TRIG_DEFER_CALLBACKS`. */
export const BEV_TRIG_DEFER_CALLBACKS = 0x04;

// Flags of a connection listener (event2/listener.h).

/** Accepted without effect: sockets never block. libevent: `LEV_OPT_LEAVE_SOCKETS_BLOCKING`. */
export const LEV_OPT_LEAVE_SOCKETS_BLOCKING: number = 1 << 0;
/** Freeing the listener closes its listening socket. libevent: `LEV_OPT_CLOSE_ON_FREE`. */
export const LEV_OPT_CLOSE_ON_FREE: number = 1 << 1;
/** Accepted without effect: every runtime does it. libevent: `LEV_OPT_CLOSE_ON_EXEC`. */
export const LEV_OPT_CLOSE_ON_EXEC: number = 1 << 2;
/** Accepted without effect: every runtime sets `SO_REUSEADDR` where it is safe. libevent: `LEV_OPT_REUSEABLE`. */
export const LEV_OPT_REUSEABLE: number = 1 << 3;
/** Accepted without effect: there is one thread. libevent: `LEV_OPT_THREADSAFE`. */
export const LEV_OPT_THREADSAFE: number = 1 << 4;
/** The listener begins disabled. libevent: `LEV_OPT_DISABLED`. */
export const LEV_OPT_DISABLED: number = 1 << 5;
/** No runtime offers it: `EV_UNSUPPORTED`. libevent: `LEV_OPT_DEFERRED_ACCEPT`. */
export const LEV_OPT_DEFERRED_ACCEPT: number = 1 << 6;
/**
 * Several processes or threads may listen on the port, if the runtime supports it. libevent: `LEV_OPT_REUSEABLE_PORT`.
 */
export const LEV_OPT_REUSEABLE_PORT: number = 1 << 7;
/** An IPv6 listener takes no IPv4 connections, if the runtime supports it. libevent: `LEV_OPT_BIND_IPV6ONLY`. */
export const LEV_OPT_BIND_IPV6ONLY: number = 1 << 8;
/** An IPv6 listener takes IPv4 connections too. libevent: `LEV_OPT_BIND_IPV4_AND_IPV6`. */
export const LEV_OPT_BIND_IPV4_AND_IPV6: number = 1 << 9;

// End-of-line styles of EvBuffer.readln() (event2/buffer.h).

/** Any run of CR and LF bytes ends a line. libevent: `EVBUFFER_EOL_ANY`. */
export const EVBUFFER_EOL_ANY = 0;
/** LF, or CR LF, ends a line. libevent: `EVBUFFER_EOL_CRLF`. */
export const EVBUFFER_EOL_CRLF = 1;
/** Exactly CR LF ends a line. libevent: `EVBUFFER_EOL_CRLF_STRICT`. */
export const EVBUFFER_EOL_CRLF_STRICT = 2;
/** LF ends a line. libevent: `EVBUFFER_EOL_LF`. */
export const EVBUFFER_EOL_LF = 3;
/** A zero byte ends a line. libevent: `EVBUFFER_EOL_NUL`. */
export const EVBUFFER_EOL_NUL = 4;

// Results of the non-blocking calls of a socket.

/** Nothing can be received or sent now: wait for the event. The value is Linux's, negated. */
export const EAGAIN: -11 = -11;
/** The connection attempt is still under way. The value is Linux's, negated. */
export const ENOTCONN: -107 = -107;
