/**
 * Shows a receiver that is slower than its sender: `slow_reader`.
 *
 * After "what happens when the receive buffer is full" of the chapter on socket programming: over TCP nothing is lost
 * and no connection ends, because the sender is slowed down until it is as fast as the reader; over UDP datagrams are
 * lost.
 */

import {
  type DatagramSocket,
  EAGAIN,
  EventBase,
  EventError,
  type InetAddress,
  select,
  sleep,
  type Socket,
} from "trivent";
import { main, refuse } from "./_common.ts";

const STEPS = 16;
const STEP_MS = 50;
/** The bytes that the reader takes in each step. */
const READ = 256 * 1024;
const DATAGRAM = 1024;
const SENT_PER_STEP = 100;
const TAKEN_PER_STEP = 10;

await main("slow_reader", async (args) => {
  if (args.length > 0) refuse(`Cannot take ${args.length} arguments`);
  const base = new EventBase();
  await tcp(base);
  try {
    await udp(base);
  } catch (error) {
    if (!(error instanceof EventError) || error.code !== "EV_UNSUPPORTED") throw error;
    console.log(`UDP: ${error.message}`);
  }
});

async function tcp(base: EventBase): Promise<void> {
  const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
  const sender = base.connect({ port: (listening.address as InetAddress).port });
  await select({ read: [listening] });
  const reader = listening.accept() as Socket;
  await select({ write: [sender] });
  await listening.close();

  let sent = 0;
  let received = 0;
  let sending = true;
  /** Sends as fast as it may. */
  const send = async (): Promise<void> => {
    const data = new Uint8Array(16 * 1024);
    while (sending) {
      const n = sender.send(data);
      if (n === EAGAIN) await select({ write: [sender] }, STEP_MS);
      else sent += n;
    }
    sender.shutdown();
  };
  /** Receives up to a number of bytes. @returns Whether there may be more */
  const read = async (most: number): Promise<boolean> => {
    const buffer = new Uint8Array(64 * 1024);
    for (let rest = most; rest > 0;) {
      const n = reader.recv(buffer.subarray(0, Math.min(rest, buffer.length)));
      if (n === 0) return false;
      if (n === EAGAIN) await select({ read: [reader] });
      else {
        received += n;
        rest -= n;
      }
    }
    return true;
  };

  console.log(`TCP: the reader takes ${READ / 1024} KiB every ${STEP_MS} ms, the sender sends as fast as it may`);
  console.log("     step     sent received  on the way (KiB)");
  const done = send();
  const sentIn: number[] = [];
  for (let step = 1, sentBefore = 0; step <= STEPS; step++, sentBefore = sent) {
    await sleep(STEP_MS);
    await read(READ);
    sentIn.push(sent - sentBefore);
    const columns = [sent - sentBefore, received / step, sent - received];
    console.log([step, ...columns.map((bytes) => Math.round(bytes / 1024))].map((n) => String(n).padStart(9)).join(""));
  }
  sending = false;
  while (await read(READ));
  await done;
  const [first = 0, ...others] = sentIn.map((bytes) => bytes / 1024);
  const later = others.reduce((sum, n) => sum + n, 0) / others.length;
  console.log(`TCP: the sender was slowed down from ${first.toFixed(0)} to ${later.toFixed(0)} KiB in a step`);
  console.log(`TCP: sent ${sent} bytes, received ${received}, lost ${sent - received}`);
  sender.close();
  reader.close();
}

async function udp(base: EventBase): Promise<void> {
  const sender = await base.datagram({ hostname: "127.0.0.1" });
  const reader = await base.datagram({ hostname: "127.0.0.1" });
  let sent = 0;
  let received = 0;
  const read = (socket: DatagramSocket, most: number): void => {
    while (most-- > 0 && socket.recvFrom() !== EAGAIN) received++;
  };

  console.log(
    `UDP: the reader takes ${TAKEN_PER_STEP} datagrams every ${STEP_MS} ms, the sender sends ${SENT_PER_STEP}`,
  );
  console.log("     step     sent received  lost for want of room (datagrams, in all)");
  for (let step = 1; step <= STEPS; step++) {
    for (let i = 0; i < SENT_PER_STEP; i++) {
      if (sender.sendTo(new Uint8Array(DATAGRAM), reader.address) !== EAGAIN) sent++;
    }
    await sleep(STEP_MS);
    read(reader, TAKEN_PER_STEP);
    console.log([step, sent, received, reader.dropped].map((n) => String(n).padStart(9)).join(""));
  }
  await sleep(STEP_MS);
  read(reader, Infinity);
  console.log(`UDP: sent ${sent} datagrams, received ${received}, lost ${sent - received}`);
  sender.close();
  reader.close();
}
