// The address of a database as an administrator writes it.
import { expect, test } from "bun:test";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";

test("addresses are read as they are written", () => {
  expect(parseMysqlUrl("mysql://u%40x:p%3A%2F@[::1]:3307/chat?tls=1")).toEqual({
    host: "::1",
    port: 3307,
    user: "u@x",
    password: "p:/",
    database: "chat",
    tls: true,
  });
  expect(parseMysqlUrl("mariadb://db/chat")).toEqual({
    host: "db",
    port: 3306,
    user: "root",
    password: "",
    database: "chat",
    tls: false,
  });
});

test("TLS is asked for by the words of the other flags", () => {
  const tls = (text: string) => parseMysqlUrl(`mysql://u:p@host/chat${text}`)?.tls;
  for (const yes of ["?tls=1", "?tls=true", "?tls=yes", "?tls=YES"]) expect([yes, tls(yes)]).toEqual([yes, true]);
  for (const no of ["", "?", "?tls=0", "?tls=false", "?tls=no"]) expect([no, tls(no)]).toEqual([no, false]);
});

test("what is wrong is none, also where it is no more than not known", () => {
  for (const text of [
    "",
    "host",
    "postgres://u:p@host/chat",
    "mysql://u:p@host",
    "mysql://u:p@host/",
    "mysql:///chat",
    "mysql://u:p@host:99999/chat",
    "mysql://u:p@host:0/chat",
    "mysql://u:p%zz@host/chat",
    "mysql://u:p@host/a%2Fb",
    "mysql://u:p@host/chat?tls",
    "mysql://u:p@host/chat?tls=on",
    "mysql://u:p@host/chat?ssl=true",
    "mysql://u:p@host/chat?ssl-mode=REQUIRED",
    "mysql://u:p@host/chat?tls=yes&ssl-mode=REQUIRED",
    "mysql://u:p@host/chat?tls=yes&tls=no",
    "mysql://u:p@host/chat#tls=yes",
    "mysql://u:p#w@host/chat",
  ])
    expect(parseMysqlUrl(text), text).toBeUndefined();
});
