// What is taken from a connection, and when its socket is read: never more than the limits allow, and a barrier alone.
import { expect, test } from "bun:test";
import type { Socket } from "bun";
import type { ConnectionEvents } from "../../src/net/callbacks.ts";
import { Connection } from "../../src/net/connection.ts";
import { bytes, frame } from "./streams.ts";

const BARRIER = 1;
const request = (msgId: number) => frame(`{"msgId":${msgId}}`);

function connect(maxInFlight: number) {
  let reading = true;
  let room = Number.POSITIVE_INFINITY;
  let written = "";
  const socket = {
    pause: () => (reading = false),
    resume: () => (reading = true),
    write: (data: Uint8Array, offset: number, length: number) => {
      const some = Math.min(length, room);
      written += Buffer.from(data.subarray(offset, offset + some)).toString();
      return some;
    },
    shutdown: () => undefined,
    end: () => undefined,
  } as unknown as Socket<Connection>;
  const taken: [msgId: number, slot: number][] = [];
  const events: ConnectionEvents = {
    isBarrier: ({ msgId }) => msgId === BARRIER,
    onMessage: (_, slot, { msgId }) => void taken.push([msgId, slot]),
    onFault: () => undefined,
    onHalfClose: () => undefined,
    onWritable: () => undefined,
    onClose: () => undefined,
  };
  const limits = { maxFrameBytes: 4_096, maxInFlight, highWaterBytes: 1_000, writeTimeoutMs: 1_000, proxy: null };
  const connection = new Connection(socket, events, limits);
  return {
    connection,
    send: (...msgIds: number[]) => connection.handleData(bytes(...msgIds.map(request))),
    /** Answers the request taken as the nth, and waits for the end of the turn. */
    answer: async (nth: number, text = "{}") => {
      connection.answer(taken[nth]![1], text);
      await new Promise(setImmediate);
    },
    block: (bytes: number) => (room = bytes),
    seen: () => [taken.map(([msgId]) => msgId), reading],
    written: () => written,
  };
}

test("so many unanswered requests are taken and no more, until one is answered", async () => {
  const { send, answer, seen } = connect(3);
  send(5, 6);
  expect(seen()).toEqual([[5, 6], true]);
  send(7, 8, 9);
  expect(seen()).toEqual([[5, 6, 7], false]);
  await answer(0);
  expect(seen()).toEqual([[5, 6, 7, 8], false]);
  await answer(1);
  await answer(2);
  expect(seen()).toEqual([[5, 6, 7, 8, 9], true]);
});

test("during a barrier nothing is taken, and the socket is read only until something arrives", async () => {
  const { send, answer, seen } = connect(100);
  send(BARRIER);
  expect(seen()).toEqual([[BARRIER], true]);
  send(5);
  expect(seen()).toEqual([[BARRIER], false]);
  await answer(0);
  expect(seen()).toEqual([[BARRIER, 5], true]);
  send(BARRIER, 6);
  expect(seen()).toEqual([[BARRIER, 5], false]);
  await answer(1);
  expect(seen()).toEqual([[BARRIER, 5, BARRIER], false]);
  await answer(2);
  expect(seen()).toEqual([[BARRIER, 5, BARRIER, 6], true]);
});

test("who does not read answers is not read, during a barrier neither", async () => {
  const { connection, send, answer, block, seen } = connect(100);
  block(0);
  send(5, BARRIER);
  await answer(0, `{"s":"${"x".repeat(2_000)}"}`);
  // The barrier was taken already, and waited.
  expect(seen()).toEqual([[5, BARRIER], false]);
  send(6);
  await answer(1);
  expect(seen()).toEqual([[5, BARRIER], false]);
  block(Number.POSITIVE_INFINITY);
  connection.flush();
  expect(seen()).toEqual([[5, BARRIER, 6], true]);
});

test("who retires is answered what was taken, and then told the last", async () => {
  const { connection, send, answer, seen, written } = connect(100);
  send(5, BARRIER, 6);
  connection.retire('{"last":1}');
  send(7);
  expect(seen()).toEqual([[5], false]);
  await answer(0, '{"first":1}');
  expect(written().replace(/[^!-~]/g, "")).toBe('{"first":1}{"last":1}');
  expect(seen()).toEqual([[5], true]);
  // With nothing unanswered at once.
  const idle = connect(100);
  idle.connection.retire("{}");
  expect(idle.connection.state).toBe("ending");
});
