// Two instances that share MariaDB are one service, with Redis between them and without: what works on one instance works
// across both.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { startRedis } from "../services.ts";
import { login, register, type User, type Wire } from "../wire.ts";

for (const withRedis of [true, false])
  describe(withRedis ? "with Redis" : "without Redis", () => {
    /** What is not heard at once is found by the poll. */
    const patience = withRedis ? 5_000 : 8_000;
    let cluster: RunningCluster;
    let a: RunningServer;
    let b: RunningServer;

    beforeAll(async () => {
      cluster = await startCluster(withRedis);
      [a, b] = await Promise.all([cluster.start(), cluster.start()]);
    });
    afterAll(() => cluster.stop());

    const pair = async (): Promise<[User, User]> => [await register(a.port), await register(b.port)];
    const chat = (wire: Wire, toid: number, msg: string, mid?: string) =>
      wire.ask({ msgId: MsgId.chat, toid, msg, ...(mid === undefined ? {} : { mid }) });

    test("messages in both directions, in order", async () => {
      const [ann, bob] = await pair();
      const [onA, onB] = [await login(a.port, ann), await login(b.port, bob)];
      for (let i = 0; i < 20; i++) {
        expect((await chat(onA, bob.id, `to bob ${i}`)).errno).toBe(0);
        expect((await chat(onB, ann.id, `to ann ${i}`)).errno).toBe(0);
      }
      for (let i = 0; i < 20; i++) {
        expect((await onB.push(MsgId.chat, patience)).msg).toBe(`to bob ${i}`);
        expect((await onA.push(MsgId.chat, patience)).msg).toBe(`to ann ${i}`);
      }
    });

    test("a mid that is sent again on the other instance gets the first one's seq, and is not delivered again", async () => {
      const [ann, bob] = await pair();
      const [onA, receiver] = [await login(a.port, ann, { device: "one" }), await login(a.port, bob)];
      const onB = await login(b.port, ann, { device: "two" });
      const first = await chat(onA, bob.id, "once", "m1");
      const again = await chat(onB, bob.id, "once", "m1");
      expect([again.errno, again.seq, again.ts]).toEqual([0, first.seq, first.ts]);
      expect((await chat(onB, bob.id, "other", "m1")).field).toBe("mid");
      await chat(onB, bob.id, "last");
      expect((await receiver.push(MsgId.chat, patience)).msg).toBe("once");
      expect((await receiver.push(MsgId.chat, patience)).msg).toBe("last");
    });

    test("a user's other devices get what one of them sent, wherever they are", async () => {
      const [ann, bob] = await pair();
      const [phone, desk] = [
        await login(a.port, ann, { device: "phone" }),
        await login(b.port, ann, { device: "desk" }),
      ];
      await chat(phone, bob.id, "from the phone");
      expect((await desk.push(MsgId.chat, patience)).msg).toBe("from the phone");
    });

    test("groups over both instances, with members who join on either", async () => {
      const [ann, bob] = await pair();
      const [onA, onB] = [await login(a.port, ann), await login(b.port, bob)];
      const { groupid } = await onA.ask({ msgId: MsgId.createGroup, groupname: "both" });
      expect((await onB.ask({ msgId: MsgId.joinGroup, groupid: groupid as number })).errno).toBe(0);
      expect((await onA.push(MsgId.joinGroup, patience)).userid).toBe(bob.id);
      await onA.ask({ msgId: MsgId.groupChat, groupid: groupid as number, msg: "welcome" });
      expect((await onB.push(MsgId.groupChat, patience)).msg).toBe("welcome");
      await onB.ask({ msgId: MsgId.groupChat, groupid: groupid as number, msg: "thanks" });
      expect((await onA.push(MsgId.groupChat, patience)).msg).toBe("thanks");
    });

    test("friends see each other come and go across the instances, once each", async () => {
      const [ann, bob] = await pair();
      const onA = await login(a.port, ann);
      const added = await onA.ask({ msgId: MsgId.addFriend, friendId: bob.id });
      expect((added.friend as { state: string }).state).toBe("offline");
      const onB = await login(b.port, bob);
      expect((await onB.push(MsgId.addFriend, patience)).id).toBe(ann.id);
      expect(await onA.push(MsgId.presence, patience)).toMatchObject({ id: bob.id, state: "online" });
      expect((await onA.ask({ msgId: MsgId.friends })).friends).toEqual([
        { id: bob.id, name: bob.name, state: "online" },
      ]);
      const second = await login(a.port, bob, { device: "second" });
      second.close();
      onB.close();
      expect(await onA.push(MsgId.presence, 10_000)).toMatchObject({ id: bob.id, state: "offline" });
      expect(onA.received.filter((each) => each.msgId === MsgId.presence)).toEqual([]);
    });

    test("one session a device on all instances, and a takeover from any of them loses and doubles nothing", async () => {
      const [ann, bob] = await pair();
      const sender = await login(a.port, bob);
      let current = await login(a.port, ann, { confirm: true });
      const refused = await login(b.port, ann).catch((error: Error) => error.message);
      expect(refused).toContain('"errno":2');
      const texts: string[] = [];
      let sent = 0;
      const drain = async (wire: Wire, upTo: number) => {
        while (texts.length < upTo) {
          const { conv, seq, msg } = await wire.push(MsgId.chat, patience);
          if (!texts.includes(msg as string)) texts.push(msg as string);
          wire.send({ msgId: MsgId.confirm, conv, seq });
        }
      };
      for (const next of [b, a, b, b, a]) {
        for (let i = 0; i < 5; i++) await chat(sender, ann.id, `${sent++}`);
        const before = current;
        current = await login(next.port, ann, { confirm: true, takeover: true });
        await until(() => before.closed || before.ended, "the old session's end", patience);
        const notice = before.received.find((each) => each.msgId === MsgId.notice);
        expect(notice?.errno).toBe(21);
        await drain(current, sent);
      }
      expect(texts).toEqual(Array.from({ length: sent }, (_, i) => `${i}`));
    });

    test("tokens hold on every instance, until they are revoked on any", async () => {
      const ann = await register(a.port);
      const onA = await login(a.port, ann);
      const { token } = onA.answer;
      const onB = await login(b.port, { ...ann, password: undefined as never }, { token, device: "b" });
      expect((await onB.ask({ msgId: MsgId.logout, revoke: true })).errno).toBe(0);
      onA.close();
      const refused = await login(a.port, { ...ann, password: undefined as never }, { token, takeover: true }).catch(
        (error: Error) => error.message,
      );
      expect(refused).toContain('"errno":3');
    });

    test("what is written to somebody offline is there on the other instance", async () => {
      const [ann, bob] = await pair();
      const onA = await login(a.port, ann);
      for (const msg of ["1", "2", "3"]) await chat(onA, bob.id, msg);
      const onB = await login(b.port, bob);
      expect(onB.answer.offline).toBe(3);
      for (const msg of ["1", "2", "3"]) expect((await onB.push(MsgId.chat, patience)).msg).toBe(msg);
      onB.close();
      const again = await login(a.port, bob, { takeover: true });
      expect(again.answer.offline).toBe(0);
    });
  });

test("services with databases of their own do not hear each other where they share a Redis", async () => {
  const redis = await startRedis();
  const services = await Promise.all([redis, redis].map((each) => startCluster(each)));
  const talks = [];
  for (const { start } of services) {
    const { port } = await start();
    const [ann, bob] = [await register(port), await register(port)];
    talks.push({ ann, bob, onAnn: await login(port, ann), onBob: await login(port, bob) });
  }
  // The same ids everywhere.
  expect(talks.map(({ ann, bob }) => [ann.id, bob.id])).toEqual([
    [1, 2],
    [1, 2],
  ]);
  for (let i = 0; i < 3; i++)
    for (const [k, { onAnn, onBob, bob }] of talks.entries()) {
      const msg = `${i} of service ${k}`;
      await onAnn.ask({ msgId: MsgId.chat, toid: bob.id, msg });
      expect((await onBob.push(MsgId.chat)).msg).toBe(msg);
    }
  for (const service of services) await service.stop();
  await redis.stop();
}, 60_000);
