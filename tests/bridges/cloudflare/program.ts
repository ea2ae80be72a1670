// A program for Workers. A test compiles it against the types of Cloudflare, and against socketsConnect().

import { connect } from "cloudflare:sockets";

export async function talk(): Promise<string> {
  const plain = connect("example.com:70");
  const socket = connect({ hostname: "example.com", port: 70 }, {
    secureTransport: "starttls",
    allowHalfOpen: false,
    highWaterMark: 16_384n,
  });
  const { remoteAddress, localAddress } = await socket.opened;
  const writer = socket.writable.getWriter();
  await writer.write(new TextEncoder().encode("hello\r\n"));
  await writer.ready;
  writer.releaseLock();
  const secure = socket.startTls({ expectedServerHostname: "example.com" });
  const upgraded: boolean = socket.upgraded;
  const transport: "on" | "off" | "starttls" = secure.secureTransport;
  const reader = secure.readable.getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += new TextDecoder().decode(value);
  }
  secure.closed.then(() => {}, (error: unknown) => console.error(error));
  await secure.close();
  const over: Promise<void> = plain.close();
  await over;
  await plain.readable.pipeTo(plain.writable);
  return `${remoteAddress} ${localAddress} ${upgraded} ${transport} ${text}`;
}
