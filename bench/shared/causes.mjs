/**
 * The causes behind each goal, for `docs/performance.md`: a paragraph appears there for each missed
 * goal, with the text for all runtimes, and the texts for those that missed it. No figure of a run
 * belongs here, because the next run makes it wrong.
 *
 * @type {Record<string, { title: string, all?: string, node?: string, deno?: string, bun?: string }>}
 */
export const CAUSES = {
  natural: {
    title: "Natural code, one line in flight",
    all:
      "Most of a line is the kernel: a read and a write, in both servers. The rest counts against a server that has almost no code " +
      "of its own. A turn of the loop touches about ten objects of a connection, the server by hand two. In memory the same turn is " +
      "twice as fast: after each system call, code and objects have left the first-level caches. Smaller and fewer objects helped " +
      "with many connections; a shared buffer for small reads helped everywhere.",
    deno:
      "A line waits for two promises of Deno in both servers, and makes a quarter more garbage: a chunk, a view for the copy, and the " +
      "promise that each `then()` returns.",
  },
  "natural-700": {
    title: "Natural code, 300 connections",
    all:
      "As for one line in flight. With 300 connections the objects of a connection are not in the second-level cache either, so the " +
      "size of a connection counts. Sharing settings and making rare state when it is needed helped.",
  },
  "natural-many": {
    title: "Natural code, many lines in a read",
    all:
      "The server by hand rotates a whole read in place and sends it, however many lines it has. `readln()` makes a view of each " +
      "line, and two calls of `add()` copy the line and its newline into the output. Profiles show the search, the view, and the " +
      "copies, in that order. Views by the constructor in place of `subarray()` helped on V8; searching by the runtime's `indexOf()` " +
      "did not help.",
  },
  "natural-c": {
    title: "Natural code against C libevent",
    all:
      "Both copy each line. The runtime's own read and write cost more than C's, and a view of a line costs as much as C's whole copy. " +
      "`eachLine` makes no view.",
  },
  "natural-large": {
    title: "Natural code, long lines",
    all:
      "The rotation itself is most of the time, and the same in both servers. What is left are copies: the server by hand reads into " +
      "one buffer and sends from it; `readln()` keeps the bytes that it shows, because the program may keep them too, and `add()` " +
      "copies them into the output. `addReference(line)` saves that copy. Replies in one system call, and output memory that is used " +
      "again, helped most.",
    node:
      "V8 compiles `read` of the example together with the rotation, and optimizes it fully only after some seconds; the rival's " +
      "rotation is a function of its own.",
  },
  "natural-mixed": {
    title: "Natural code, mixed sizes",
    all:
      "Bulk decides: batches of some hundred kilobytes. Each byte is copied once more than in the server by hand, and a line that spans " +
      "reads is put together in new memory. With a longest line of 64 KiB the example also stops reading at 64 KiB of input, so it makes more, smaller " +
      "reads than the server by hand.",
    node:
      "Some starts of the same program are a fifth slower than others for as long as they run, and the server by hand is not. The rotation " +
      "takes as long in both; the rest is twice as much. V8 throws away more compiled code there, most of it after a moment without any " +
      "connection.",
  },
  "each-line": {
    title: "`eachLine`",
    all:
      "`eachLine` makes no view of a line, but the answer is a copy, which the server by hand does not make: it rotates in place. A loop " +
      "that reads one array and writes another takes an engine about twice as long as a loop in place; on Node 20 it is three times as long " +
      "as `set()` of a view, which the server uses there. With one line in flight the turn counts, as for natural code.",
  },
  echo: {
    title: "Echo",
    all:
      "`addBuffer()` moves chunks and copies nothing. For 64 B and a few KB the turn of the loop is the difference: about a microsecond.",
    deno:
      "The adapter lends the memory that it reads into and gets it back after the write; the server by hand reads into one buffer " +
      "a connection, and awaits two promises where the library needs a third for the turn. Loans have four sizes, from 4 to 256 KiB, and " +
      "a connection takes the size that its messages need, so a large message takes as many reads as by hand.",
    bun:
      "Bun copies each chunk into new memory in both servers, and makes as many system calls in both. For large messages the ratio " +
      "moves much from round to round.",
  },
  "echo-net": {
    title: "Echo against `node:net`",
    all: "As for echo. `node:net` is fast on this workload because it copies nothing either.",
    node: "On Node this is the same server as the one by hand.",
    bun: "For 64 B, the turn of the loop. For large messages both wait for the same copies of Bun.",
  },
  proxy: {
    title: "Proxy by `pipe()`",
    all:
      "A message crosses two connections, so it costs two turns: the read end's and the write end's. `pipe()` moves chunks and copies " +
      "nothing. It also counts bytes, passes on ends, and watches both outputs; the proxy by hand does less.",
    deno:
      "In bulk, a message takes as many reads and writes as by hand, and a part of a chunk waits for the next write.",
    bun:
      "In bulk, a message takes as many system calls as by hand: `pipe()` passes on a chunk of Bun whole, and holds 256 KiB before it " +
      "pauses the source ([decision](decisions/a-pipe-holds-256-kib.md)).",
  },
  fanout: {
    title: "A line to 1,000 clients",
    all:
      "A thousand system calls are most of it, in both servers. The clients share the bytes of the line: it is added to a buffer by " +
      "`addReference()`, which goes to each connection by `writeBuffer()`. The library has an output for each connection, puts the " +
      "connection on the list of the turn, and writes it at the end of the turn; so it touches each connection twice, with system calls in " +
      "between. The loop by hand writes at once. In exchange, several lines in a turn leave in one write.",
  },
  tls: {
    title: "TLS",
    all: "The cipher and the handshake are the runtime's, in both servers.",
    node:
      "`onread` has no effect on a TLS socket, so bytes come through Node's stream in both; the library's socket, transport and turn " +
      "come on top. The handshake pays for a connection's objects, for the time limit of the handshake, and for the address.",
    deno:
      "`Deno.listenTls` is native. The library uses `node:tls` over a stream instead, because that alone tells the peer's " +
      "certificate, ALPN, SNI, and half-closes ([decision](decisions/tls-comes-from-the-runtime.md)). Each record crosses the stream " +
      "of `node:tls`, and the adapter carries it between that and the connection. Decrypted bytes are not copied any more, and memory for " +
      "encrypted ones is used again. An echo by hand over `node:tls` on a socket of `node:net` takes twice the time of `Deno.listenTls` for " +
      "64 B, so the goal cannot be reached with it. A native path for plain servers would be faster, with fewer features.",
    bun:
      "The echo pays for the turn, as without TLS. `serve()` begins TLS with `upgradeTLS()`, so that certificates can change while " +
      "the server runs. Bun then reports the encrypted bytes too, in new memory: almost half of what 16 KiB take more. A handshake " +
      "pays for a connection's objects, its time limit and its address, and for the compiler: each connection runs its code once or twice, " +
      "so JavaScriptCore still compiles after thousands of handshakes.",
  },
  "view-readline": {
    title: "`lines()` against `node:readline`",
    all:
      "`for await` costs a promise and a turn of the microtask queue for each line. `readline` pays that too, but decodes a whole chunk " +
      "at once and cuts text, and its answers are joined to one text before they are written; ours are two `write()` of bytes for each line. " +
      "`batches()` has one promise for all lines that have arrived.",
  },
  "view-split2": {
    title: "Views against split2",
    all:
      "split2 has no promise for a line: it decodes a whole chunk at once and cuts text, which costs less than a view of bytes. Our " +
      "answers are two writes of bytes for each line, as a user writes them.",
  },
  "view-hand": {
    title: "Views against a parser by hand",
    all:
      "The parser makes a view of each message and copies it into one reply buffer, by offsets. A view of the library pays for an item: " +
      "the check whether it may go on (flow control, time limits, end), `readln()` or the codec with its checks, an iterator's result, and " +
      "one or two calls of `write()`, each with its checks. No single one of them dominates the profile. `frames()` also has a promise " +
      "for each item, which alone is 70 ns on Node and 40 on Deno and Bun: with callbacks, the same codec costs what the parser costs on " +
      "Node. Outputs that are filled in turn have a chunk each now, which saved a fifth of a frame.",
  },
  "view-streams": {
    title: "Web streams",
    all:
      "A web stream costs several promises for each chunk, in both servers, and `TextDecoderStream` as many again. The library's stream " +
      "is made of the view, so each chunk passes through its queue too.",
  },
  "view-callback": {
    title: "Views against callbacks",
    all:
      "Each item of a view is a promise. For web streams it is several, and those of `TextDecoderStream`, which belong to the runtime. " +
      "`batches()` has one promise for all that has arrived. In memory and warm, an answer through the streams of Deno costs twice as much " +
      "as with callbacks, and several times as much before they are compiled.",
  },
  limits: {
    title: "Every limit and timeout",
    all:
      "Switched on one by one, `idleTimeoutMs` and `readTimeoutMs` are the difference; the other limits cost nothing that could be " +
      "measured. Each line restarts three deadlines, which is a comparison and a number in a typed array each. It reads the clock " +
      "twice, when the turn begins and when the answer leaves: 50 ns each on Node and Bun, 90 on Deno.",
  },
  cold: {
    title: "The first lines",
    all:
      "A line passes through more functions than in the server by hand, and each of them runs in the interpreter until it is compiled. Warm, " +
      "the same lines cost what the first row says; the rest is interpreter and compiler.",
    deno: "Half of it is V8's compiler threads, which optimize more than thirty functions, each with what it calls.",
    bun:
      "Almost half of it is JavaScriptCore's compiler threads, which optimize each function of a chain of calls. Shorter chains helped.",
  },
  latency: {
    title: "Latency",
    all:
      "The rate is a share of the other's throughput. Our server is busier at it than the other, since a line costs it more; its queue is longer for that " +
      "reason alone. Collections of the engine and other work of the machine, which hit both, " +
      "make the far end move much from round to round.",
  },
  memory: {
    title: "Idle connections",
    all:
      "Beside the runtime's socket a connection has about one KiB of objects: two buffers with their chains, the engine, the connection, its " +
      "transport, the objects of the program, and the address. The server by hand has one object. " +
      "[A connection is small](decisions/small-connections.md) has what was saved.",
    deno: "The server by hand keeps a read buffer for each connection; ours lends memory only while bytes arrive.",
  },
  churn: {
    title: "Connect, one line, close",
    all:
      "The system calls are the same, except `getpeername()`, because callbacks get the address. The rest is making and collecting the " +
      "objects of a connection, and closing in a way that waits for the peer.",
  },
  "size-line-server": {
    title: "Bundle",
    all:
      "`bench/results/size.json` names the heaviest files. The rest are methods of the classes that a line server uses, which no bundler can " +
      "drop, and the messages of errors. What an option or a method needs cannot be left out until something is imported, because the method " +
      "would throw. `EvBuffer` is about a fifth of it, and the adapter a sixth.",
  },
  import: {
    title: "Import time",
    all:
      "It is the time to parse: a module has to be parsed whole to give its names. No module of the runtime is loaded on import. " +
      "Each runtime loads three files, without the adapters of others, and the simulator when it is asked for.",
    node: "Newer versions keep compiled code between processes if `NODE_COMPILE_CACHE` is set. It is not set here.",
    deno: "Deno keeps compiled code between processes.",
    bun: "JavaScriptCore parses twice, and methods of classes with private names too.",
  },
  connections: {
    title: "Many connections",
    all:
      "Ten active connections give the loop fewer lines in a turn than fifty, whatever else is open. `againstSameActiveWithoutIdle` in " +
      "`bench/results/connections.json` compares with the same number of active connections and no idle ones.",
  },
  workers: {
    title: "Two workers",
    all:
      "On two CPUs the load needs one of them. `ceiling` in `bench/results/workers.json` is what two programs reach that share nothing.",
  },
  "timers-host": {
    title: "Timers against `setTimeout`",
    node:
      "`setTimeout` keeps a list for each whole millisecond, and `test-time` has only fifty. No heap reaches a fifth of that.",
    all: "Adding a timer makes an event, reads the clock and enters a heap in typed arrays.",
  },
  "timers-c": {
    title: "Timers against C libevent",
    all: "A round in which the engine collects the whole heap costs twice as much; C collects nothing.",
  },
  "loop-c": {
    title: "Hops in memory",
    all: "C hops over socket pairs, ours in memory, so only a machine under load misses this.",
  },
  "sim-sync": {
    title: "The simulator",
    all: "A quarter of an event is the copy of its bytes, which the earlier simulator made too.",
  },
  "sim-promises": {
    title: "The simulator with promises",
    all: "After each callback the runtime drains its queue of promise reactions.",
  },
  "sim-connections": {
    title: "100,000 simulated connections",
    all: "Making and collecting the objects of the connections.",
  },
};
