// Tokens: what is issued is read back, for as long as it is good, and nothing else is.
import { expect, test } from "bun:test";
import { issueToken, readToken } from "../../src/service/token.ts";

const SECRET = "5ec4e7";
const NOW = 1_700_000_000_123;
const CLAIMS = { userId: 22, tokenEpoch: 3 };
const TOKEN = issueToken(SECRET, CLAIMS, NOW, 60_000);

test("a token says whose it is, and of which epoch", () => {
  for (const claims of [CLAIMS, { userId: 1, tokenEpoch: 0 }, { userId: 2 ** 53 - 1, tokenEpoch: 123_456_789_012_345 }])
    expect(readToken(SECRET, issueToken(SECRET, claims, NOW, 60_000), NOW)).toEqual(claims);
  // It goes into JSON, and into a login dialogue, as it is.
  expect(TOKEN).toMatch(/^[\w.-]+$/);
});

test("a token is good for its whole time, and not a second longer", () => {
  for (const now of [NOW, NOW + 1, NOW + 59_999, NOW + 60_000]) expect(readToken(SECRET, TOKEN, now)).toEqual(CLAIMS);
  for (const now of [NOW + 61_000, NOW + 1e12]) expect(readToken(SECRET, TOKEN, now)).toBeNull();
  const short = issueToken(SECRET, CLAIMS, 1000, 1000);
  expect([readToken(SECRET, short, 1999), readToken(SECRET, short, 2000)]).toEqual([CLAIMS, null]);
});

test("no other character may stand anywhere, none may be missing and none be added", () => {
  for (let at = 0; at <= TOKEN.length; at++) {
    const [before, after] = [TOKEN.slice(0, at), TOKEN.slice(at + 1)];
    for (const character of "0129.-_AaZz+/= \n\0é😀")
      for (const other of [before + character + after, before + character + TOKEN.slice(at)])
        if (other !== TOKEN) expect([other, readToken(SECRET, other, NOW)]).toEqual([other, null]);
    if (at < TOKEN.length) expect(readToken(SECRET, before + after, NOW)).toBeNull();
  }
});

test("the last character counts whole, though the bits of a digest end within it", () => {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const good = [...alphabet].filter((last) => readToken(SECRET, TOKEN.slice(0, -1) + last, NOW) !== null);
  expect(good).toEqual([TOKEN.at(-1)!]);
});

test("claims and signature of different tokens do not go together", () => {
  const claims = (token: string) => token.slice(0, token.lastIndexOf("."));
  const signature = (token: string) => token.slice(token.lastIndexOf("."));
  for (const other of [
    issueToken(SECRET, { ...CLAIMS, userId: 23 }, NOW, 60_000),
    issueToken(SECRET, { ...CLAIMS, tokenEpoch: 4 }, NOW, 60_000),
    issueToken(SECRET, CLAIMS, NOW, 120_000),
  ]) {
    expect(readToken(SECRET, other, NOW)).not.toBeNull();
    expect(readToken(SECRET, claims(other) + signature(TOKEN), NOW)).toBeNull();
    expect(readToken(SECRET, claims(TOKEN) + signature(other), NOW)).toBeNull();
  }
});

test("another secret's token is nothing", () => {
  for (const other of ["5ec4e8", "5ec4e7 ", "", "5EC4E7"]) {
    expect(readToken(other, TOKEN, NOW)).toBeNull();
    expect(readToken(SECRET, issueToken(other, CLAIMS, NOW, 60_000), NOW)).toBeNull();
  }
});

test("what is no token at all is nothing, and throws nothing", () => {
  for (const text of [
    "",
    ".",
    "...",
    "1.2.3.4",
    `1.2.3.${"A".repeat(43)}`,
    "x".repeat(100_000),
    `0${TOKEN}`,
    TOKEN + TOKEN,
  ])
    expect(readToken(SECRET, text, NOW)).toBeNull();
  for (const userId of [0, -1, 1.5])
    expect(readToken(SECRET, issueToken(SECRET, { ...CLAIMS, userId }, NOW, 1e6), NOW)).toBeNull();
});
