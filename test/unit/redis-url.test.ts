// The addresses of Redis as an administrator writes them.
import { expect, test } from "bun:test";
import { describeTarget, parseRedisUrls } from "../../src/router/redis-url.ts";

const address = (host: string, port: number) => ({ host, port });

test("a single server, with and without login, TLS and database", () => {
  expect(parseRedisUrls("redis://localhost")).toEqual({
    kind: "single",
    tls: false,
    address: address("localhost", 6379),
    db: 0,
  });
  expect(parseRedisUrls("rediss://chat:p%40ss@10.0.0.1:7000/3")).toEqual({
    kind: "single",
    tls: true,
    username: "chat",
    password: "p@ss",
    address: address("10.0.0.1", 7000),
    db: 3,
  });
  expect(parseRedisUrls("redis://[::1]:6380")).toMatchObject({ address: address("::1", 6380) });
});

test("sentinels and cluster nodes, separated by commas or given several times", () => {
  const sentinels = {
    kind: "sentinel",
    tls: false,
    password: "pw",
    addresses: [address("s1", 26379), address("s2", 26380)],
    master: "mymaster",
    db: 0,
  };
  expect(parseRedisUrls("redis+sentinel://:pw@s1,s2:26380/mymaster")).toEqual(sentinels as never);
  expect(parseRedisUrls("redis+sentinel://:pw@s1,redis+sentinel://s2:26380/mymaster")).toEqual(sentinels as never);
  expect(parseRedisUrls("redis+cluster://n1:7000,n2:7001,n3")).toEqual({
    kind: "cluster",
    tls: false,
    addresses: [address("n1", 7000), address("n2", 7001), address("n3", 6379)],
  });
});

test("what is wrong is none", () => {
  for (const text of [
    "",
    ",",
    "localhost:6379",
    "http://localhost",
    "redis://",
    "redis://a,b",
    "redis://host/x",
    "redis+sentinel://s1",
    "redis+cluster://n1/2",
    "redis://a,redis+cluster://b",
    "redis://:50%off@a",
  ])
    expect(parseRedisUrls(text), text).toBeUndefined();
});

test("a description for the log has no password", () => {
  expect(describeTarget(parseRedisUrls("redis://u:secret@h:1")!)).toBe("h:1");
  expect(describeTarget(parseRedisUrls("redis://:secret@[::1]:6380")!)).toBe("[::1]:6380");
  expect(describeTarget(parseRedisUrls("redis://:secret@h:1/3")!)).toBe("h:1/3");
  expect(describeTarget(parseRedisUrls("redis+sentinel://:secret@h:1,i:2/master/3")!)).toBe("sentinel h:1, i:2/3");
  expect(describeTarget(parseRedisUrls("redis+cluster://:secret@h:1,i:2")!)).toBe("cluster h:1, i:2");
});
