/**
 * The meaning of each error code: what happened, and what to do. The build compares the list with
 * the codes in the source.
 */

/** @type {[title: string, about: string, codes: Record<string, [happened: string, todo: string]>][]} */
export const ERRORS = [
  [
    "A connection ended",
    "`close(bev, reason)`, `event` and views get these. The other connections go on.",
    {
      ECONNRESET: [
        "The peer reset the connection, or its process was killed. Bytes on their way in either direction may be lost.",
        "Nothing, for a server: the connection is freed. A client that must go on uses [`reconnect()`](/guide/reconnect).",
      ],
      EPIPE: [
        "Your program wrote to a connection whose peer does not read any more, or whose writing was finished.",
        "Stop writing when `close` was called. Do not write after `shutdown()`.",
      ],
      ETIMEDOUT: [
        "A timeout has passed: of connecting, reading, writing, idleness or a message. Or TCP got no answer from the peer.",
        "The message says which timeout. See [time limits](/guide/time) and [vanished peers](/guide/vanished-peers).",
      ],
      ECANCELED: [
        "You ended it: a `signal` was aborted, a link was closed, or the server was closed and its grace was over.",
        "Nothing. Give `close({ graceMs })` more time if connections should finish.",
      ],
      ENOBUFS: [
        "The output reached `maxOutputBytes`: the program writes faster than the peer reads.",
        "Wait for `drained()` when `write()` returns false. See [memory](/guide/memory).",
      ],
      EV_INPUT_FULL: [
        "The input stayed full for `stallTimeoutMs`, and your program took nothing from it: it waits for a message that does not fit.",
        "Raise `readHigh` or the watermark for this message, or use `frames()`. See [messages](/guide/messages).",
      ],
      EV_HANDLER_FAILED: [
        "One of your callbacks threw, or its promise rejected. `cause` is its exception.",
        "Correct the callback. The server resets that connection and goes on serving the others.",
      ],
      EV_LINE_TOO_LONG: [
        "A line is longer than `maxLine`, or than `maxBytes` of `lines()` or `readln()`.",
        "Raise the limit if such lines are valid. Otherwise nothing: the peer does not speak your protocol.",
      ],
      EV_FRAME_TOO_LONG: [
        "A frame is longer than `maxBytes` of the codec or of `frames()`.",
        "Raise the limit if such frames are valid.",
      ],
      EV_FRAME_INVALID: [
        "The peer sent bytes that are not a message of this codec, such as a line that is not JSON.",
        "Catch it in the loop to answer the peer, or let the connection end.",
      ],
      EV_FRAME_TRUNCATED: [
        "The connection ended in the middle of a frame.",
        "Treat the last frame as not received.",
      ],
      EV_DETACHED: [
        "The memory that was to be sent was transferred to another thread or resized before it was sent.",
        "Transfer a copy, or wait for `drained()` first.",
      ],
      EV_FILTER: [
        "A function of a filter failed, so the filter cannot go on.",
        "Read `cause`. Free the filter and the bufferevent below it.",
      ],
      EV_COMPRESSED_INVALID: [
        "The compressed input is corrupt, or has another format.",
        "End the connection.",
      ],
      EV_COMPRESSED_TRUNCATED: [
        "The compressed stream ended before its end mark.",
        "Treat the data as incomplete.",
      ],
      EV_DECOMPRESSED_TOO_LONG: [
        "The decompressed data is longer than `maxDecompressedBytes`.",
        "Raise the limit if the data is valid. It may be a decompression bomb.",
      ],
    },
  ],
  [
    "Connecting",
    "`connect()`, `connectNow()`, `reconnect()` and `bev.connect()` give these.",
    {
      ECONNREFUSED: [
        "Nobody listens at this address and port, or a firewall refuses.",
        "Check the address, and whether the server runs and listens on that interface (`0.0.0.0`, not `127.0.0.1`).",
      ],
      ENOTFOUND: [
        "The name has no address.",
        "Check the name. `errors` has a failure for each address that was tried.",
      ],
      EHOSTUNREACH: [
        "No route leads to the host.",
        "Check the network and the address.",
      ],
      ENETUNREACH: [
        "No route leads to the network, for example IPv6 on a machine without it.",
        "Check the network.",
      ],
      EHOSTDOWN: [
        "The host is down. The simulator gives it after `crash()`.",
        "Call `restart()` on the host first.",
      ],
      EADDRNOTAVAIL: [
        "The local address is not one of this machine, or no local port is free.",
        "Check `hostname` or `localAddress`. With many short connections, reuse them.",
      ],
      EALREADY: [
        "The connection is being made, or has TLS already.",
        "Call `connect()` or `startTls()` once.",
      ],
      EISCONN: [
        "The bufferevent has a connection.",
        "Make another bufferevent.",
      ],
      ENOTCONN: [
        "There is no open connection.",
        "Wait for `open` before `startTls()`.",
      ],
      EV_PROXY_REFUSED: [
        "The SOCKS or HTTP proxy refused, or its answer is not valid. The message has the proxy's own code.",
        "Check the proxy's rules and credentials. See [proxies](/guide/through-a-proxy).",
      ],
    },
  ],
  [
    "Listening and accepting",
    "`serve()`, `listen()` and the `error` callback get these.",
    {
      EADDRINUSE: [
        "Another socket has the port or the path.",
        "Stop the other program, choose port 0, or share the port with `reusePort` where the runtime can.",
      ],
      EACCES: [
        "The system or the runtime does not permit it: a port below 1024, a path, or a missing permission flag.",
        "The message names the flag. See [permissions](/guide/permissions).",
      ],
      EPERM: [
        "The system does not permit the operation.",
        "Run the program with the right it needs, or choose another port.",
      ],
      EMFILE: [
        "The process has no file descriptor left. Clients wait, and accepting goes on when there is one again.",
        "Raise `ulimit -n`, or set `maxConnections` below it.",
      ],
      ENFILE: [
        "The whole system has no file descriptor left.",
        "Raise the system's limit, or close what is not needed.",
      ],
      ENOMEM: [
        "The system has no memory left for a connection.",
        "Set `maxConnections`, or use a larger machine.",
      ],
      ECONNABORTED: [
        "A client left before it was accepted.",
        "Nothing: the listener goes on.",
      ],
      EINTR: [
        "A signal interrupted accepting.",
        "Nothing: the listener goes on.",
      ],
      EPROTO: [
        "A client broke the handshake of TCP.",
        "Nothing: the listener goes on.",
      ],
      EV_BACKLOG_FULL: [
        "The server is full and the runtime cannot leave clients in the kernel. As many as the backlog says wait, further ones are refused.",
        'Raise `maxConnections` or `backlog`, or set `whenFull: "reject"`.',
      ],
      EV_PROXY_INVALID: [
        "The beginning of the connection is not a header of the PROXY protocol.",
        'Let the proxy send it (`send-proxy-v2`), or use `mode: "optional"`. See [behind a proxy](/guide/behind-a-proxy).',
      ],
      EV_PROXY_UNTRUSTED: [
        'A warning, once: `proxyProtocol: "optional"` without `trusted` believes anybody\'s header.',
        "Set `trusted` to the addresses of your proxies.",
      ],
    },
  ],
  ["TLS", "See [TLS and certificates](/guide/tls).", {
    ERR_TLS_CERT: [
      "The peer's certificate is not accepted: it has expired, is for another name, or its authority is not known.",
      "Set `ca` for your own authority, and `serverName` for the name in the certificate.",
    ],
    ERR_TLS_HANDSHAKE: [
      "The handshake failed: no common version or cipher, or the peer left during it.",
      "Compare `minVersion`, `maxVersion` and `ciphers` of both ends.",
    ],
    ERR_TLS_OPTIONS: [
      "Your certificate or key cannot be read, or the two do not match.",
      "Give PEM texts, the certificate first and then its chain, and the key of that certificate.",
    ],
    ERR_TLS_PLAINTEXT: [
      "`startTls()` found input that was received before: an attacker could have put it there.",
      "Read the input first. Use `unread: true` only if the input is the beginning of the handshake.",
    ],
    ERR_TLS_PROTOCOL: [
      "The peer ended TLS with an alert, or sent bytes that are not TLS.",
      "The message has the alert.",
    ],
    ERR_TLS_TRUNCATED: [
      "The TLS stream was cut: it ended without a close_notify. Only some runtimes can tell.",
      "Treat the data as incomplete if the protocol does not say where it ends.",
    ],
  }],
  [
    "Wrong calls",
    "A call throws these at once, and the object stays usable. They are mistakes of the program.",
    {
      EV_FREED: [
        "The object was freed.",
        "Do not use it after `free()`. In callbacks of others, look at `bev.signal.aborted` first.",
      ],
      EV_UNSUPPORTED: [
        "This runtime, or this version of it, lacks the feature.",
        "See [capabilities](/reference/capabilities) and [supported versions](/reference/versions).",
      ],
      EV_BUSY: [
        "Something else uses the object: a view is open, a pipe runs, an operation or `advance()` is in progress.",
        "Leave the view first, or wait for the other operation.",
      ],
      EV_FROZEN: [
        "That end of the buffer belongs to the bufferevent.",
        "Write to `output`, read from `input`.",
      ],
      EV_ACTIVE: [
        "The event is pending or active.",
        "Remove it with `del()` first.",
      ],
      EV_FINALIZED: ["The event was finalized.", "Make another event."],
      EV_LIMIT: [
        "The base has as many common timeouts as it can have.",
        "Use one common timeout for many events.",
      ],
      EV_MULTICAST: [
        "A buffer cannot be shared with itself, or holds shared bytes or a file segment itself.",
        "Share a buffer that has plain bytes only.",
      ],
      EV_STALE: [
        "The reserved space is not valid any more: the buffer has changed.",
        "Reserve again, and commit at once.",
      ],
      EINVAL: [
        "A value is out of range, or an operation was not begun.",
        "The message says which value was received.",
      ],
      EBADF: ["The socket was closed.", "Do not use it after `close()`."],
      EEXIST: [
        "The socket is in the poller or port already, or the file exists.",
        "Add it once.",
      ],
      ENOENT: [
        "The file, the path or the socket in a poller is not there.",
        "Check the path, or add the socket first.",
      ],
      ENOTDIR: ["A part of the path is not a directory.", "Check the path."],
      EINPROGRESS: ["The operation is pending.", "Wait for it to complete."],
      ENOTSOCK: [
        "The descriptor that was to be listened on is not a socket.",
        "Check the number that the parent process gave.",
      ],
      ENODEV: [
        "There is no network interface with this name or address.",
        "Check the interface of the multicast group.",
      ],
      EFAULT: [
        "The memory of the operation was detached.",
        "Do not transfer memory that an operation uses.",
      ],
      EAFNOSUPPORT: [
        "A datagram socket cannot send to an address of the other family.",
        "Bind a socket of that family.",
      ],
      EMSGSIZE: ["The datagram is too large.", "Send less at once."],
    },
  ],
  ["The simulator", "See [test with the simulator](/guide/simulator).", {
    SIM_DEADLOCK: [
      "`run()` waits for a promise, and nothing is scheduled that could settle it.",
      "Look for an answer that never comes. A promise of real timers or I/O needs `sim.install()`, or cannot be waited for.",
    ],
    SIM_LEFTOVER: [
      "Something was left open or scheduled when the scenario of `explore()` was over. The message says what.",
      "Close it in the scenario, or set `leftovers: false`.",
    ],
    SIM_UNREPEATABLE: [
      "A scenario of `explore()` failed, and did not fail in the same way with the same seed. `cause` is the failure.",
      "Look for real time, `Math.random()`, I/O of the real runtime, and state that is kept from one run to the next.",
    ],
    SIM_LIVELOCK: [
      "One `advance()` or `run()` made more than `maxSteps` callbacks.",
      "Look for a timer or a loop that repeats without end.",
    ],
  }],
];

/**
 * Codes in the source that a program never gets: they come from the system and are replaced by
 * others.
 */
export const INTERNAL = ["ENODATA", "EAI_NONAME", "EAI_NODATA"];
