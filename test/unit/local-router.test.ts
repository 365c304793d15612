import { expect, test } from "bun:test";
import { LocalRouter } from "../../src/router/local.ts";

const at = (device: string) => ({ userId: 1, device });

test("who walks over a user's sessions may end each of them, and passes over none", () => {
  const router = new LocalRouter<ReturnType<typeof at>>();
  const sessions = ["phone", "laptop", "watch"].map(at);
  for (const session of sessions) router.add(session);
  const seen: unknown[] = [];
  const lasts: boolean[] = [];
  for (const session of router.of(1)) {
    seen.push(session);
    lasts.push(router.remove(session));
  }
  expect(seen).toEqual(sessions);
  expect(lasts).toEqual([false, false, true]);
  expect([...router.of(1)]).toEqual([]);
});

test("a device's newer session takes the older one's place, which then removes nothing", () => {
  const router = new LocalRouter<ReturnType<typeof at>>();
  const [old, fresh] = [at("phone"), at("phone")];
  router.add(old);
  router.add(fresh);
  expect(router.get(1, "phone")).toBe(fresh);
  expect(router.remove(old)).toBe(false);
  expect([...router.of(1)]).toEqual([fresh]);
});
