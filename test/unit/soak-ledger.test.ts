// The soak's accounts see everything that must never happen: a soak that could not fail would prove nothing.
import { beforeEach, expect, test } from "bun:test";
import { Account, type Conversation, Findings, type Flow, Ledger, midOf, textOf } from "../soak/ledger.ts";
import { compareStore, type StoredRow } from "../soak/store-check.ts";

const BASE = 5;
let ledger: Ledger;
let conversation: Conversation;
let [ann, bob]: Account[] = [];
let flow: Flow;

beforeEach(() => {
  ledger = new Ledger(new Findings());
  conversation = ledger.addConversation("u:1-2", BASE);
  [ann, bob] = ["ann", "bob"].map((name) => {
    const account = new Account(conversation, { name, confirms: true });
    conversation.accounts.push(account);
    return account;
  });
  flow = ledger.addFlow(ann!, 1);
});

/** Ann sends so many, which are acknowledged in order. */
function send(count: number): void {
  for (let sent = 0; sent < count; sent++) {
    const number = ledger.send(flow);
    ledger.ack(flow, number, BASE + 1 + number);
  }
}

const tell = (number: number, seq = BASE + 1 + number, account = bob!) =>
  ledger.tell(account, seq, textOf(flow, number));

/** What was found, by its kind. */
const found = () => Object.fromEntries(Object.entries(ledger.findings.counts).filter(([, count]) => count > 0));

/** What the store is said to hold of Ann's messages. */
const rows = (numbers: number[]): StoredRow[] =>
  numbers.map((number, i) => ({
    conv: conversation.name,
    seq: BASE + 1 + i,
    mid: midOf(flow, number),
    body: textOf(flow, number),
  }));

const compare = (stored: StoredRow[]) =>
  compareStore(ledger, async (_, above) => stored.filter(({ seq }) => seq > above));

test("what is sent, acknowledged, told and stored once, in order, is well", async () => {
  send(3);
  for (const number of [0, 1, 2]) tell(number);
  ledger.close();
  expect(await compare(rows([0, 1, 2]))).toEqual({ rows: 3, missing: 0 });
  expect(found()).toEqual({});
  expect([ledger.sent, ledger.acked, ledger.told]).toEqual([3, 3, 3]);
});

test("a message that is skipped is lost, and so is the last one", () => {
  send(3);
  tell(0);
  tell(2);
  ledger.check();
  expect(found()).toEqual({ lost: 1 });
  send(1);
  expect(ledger.isComplete).toBe(false);
  ledger.close();
  expect(found()).toEqual({ lost: 2 });
});

test("a device's own message is no gap, also where its acknowledgement comes late", () => {
  const own = ledger.addFlow(bob!, 1);
  ledger.send(own);
  send(1);
  tell(0);
  ledger.send(flow);
  ledger.ack(flow, 1, BASE + 3);
  tell(1, BASE + 3);
  ledger.check();
  ledger.ack(own, 0, BASE + 2);
  ledger.tell(ann!, BASE + 2, textOf(own, 0));
  ledger.close();
  expect(found()).toEqual({});
});

test("what a device without confirm did not get at the end of a connection is counted apart", () => {
  send(3);
  tell(0);
  bob!.mayHaveMissed = true;
  tell(2);
  ledger.close();
  expect([found(), ledger.missed]).toEqual([{}, 1]);
});

test("one message at two places is doubled", () => {
  send(1);
  tell(0);
  tell(0, BASE + 2);
  expect(found()).toEqual({ doubled: 1 });
});

test("a place with two messages, and a flow that is stored backwards, are disorder", () => {
  send(1);
  ledger.send(flow);
  tell(1, BASE + 1);
  expect(found()).toEqual({ disorder: 1 });
  ledger.ack(flow, 1, BASE);
  expect(found().disorder).toBe(2);
});

test("what nobody has sent, or sent otherwise, is invented", () => {
  send(1);
  ledger.tell(bob!, BASE + 1, "hello");
  ledger.tell(bob!, BASE + 1, `${textOf(flow, 0)}!`);
  tell(1);
  expect(found()).toEqual({ invented: 3 });
});

test("the store is found out where it lacks, doubles, swaps or invents", async () => {
  send(3);
  await compare(rows([0, 1]));
  expect(found()).toEqual({ lost: 1 });
  await compare(rows([0, 2, 1]));
  expect(ledger.findings.counts.doubled).toBeGreaterThan(0);
  await compare([rows([0])[0]!, { ...rows([0, 1, 2])[2]! }]);
  expect(ledger.findings.counts.gaps).toBe(1);
  await compare([{ ...rows([0])[0]!, body: "hello" }]);
  expect(ledger.findings.counts.invented).toBe(1);
});
